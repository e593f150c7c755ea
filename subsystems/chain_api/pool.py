"""Transactions to be taken to the chain, and the verdicts on group transactions."""

from messages.chain_api import (
    GovernanceModeRefusal,
    GroupJudged,
    GroupVerdict,
    SubmitTransaction,
    TooManyPending,
    UnknownBlock,
)
from messages.chain_events import GroupRecorded, TransactionMove, TransactionsSubmitted
from messages.message import Rejection
from messages.polkadot import Transaction
from messages.transaction import transaction_id
from overseer.subsystem import Decision
from subsystems.chain_api.chain import Draft
from subsystems.chain_api.tables import INCLUSIONS, JUDGED, TRANSACTIONS
from subsystems.chain_api.tree import is_ancestor

__all__ = ["group_judged", "submit"]


def _is_included(draft: Draft, identity: bytes) -> bool:
    return next(draft.tables.scan_packed(INCLUSIONS, (identity,)), None) is not None


def submit(draft: Draft, message: SubmitTransaction) -> Decision | Rejection:
    """Pool what is new by its identity (C15)."""
    new: dict[bytes, Transaction] = {}
    for transaction in message.transactions:
        identity = transaction_id(transaction)
        if identity not in new and not draft.tables.has(TRANSACTIONS, (identity,)):
            new[identity] = transaction
    executed = [identity for identity in new if _is_included(draft, identity)]
    pooled = [transaction for identity, transaction in new.items() if identity not in executed]
    if draft.state.pooled + len(pooled) > draft.config.pool_max:
        return TooManyPending(what="transactions", limit=draft.config.pool_max)
    if new:
        draft.record(TransactionsSubmitted(pooled=pooled, executed=[new[identity] for identity in executed]))
    return draft.decision()


def group_judged(draft: Draft, message: GroupJudged) -> Decision | Rejection:
    """Record the verdict, once; an accepted transaction of a block of the best chain is included."""
    if draft.state.governance:
        return GovernanceModeRefusal(frozen_at=draft.state.frozen_at)
    key = draft.key(message.block)
    if key is None:
        return UnknownBlock(hash=message.block)
    if draft.tables.has(JUDGED, (message.block, message.transaction)):
        return draft.decision()
    accepted = message.verdict is GroupVerdict.ACCEPTED
    included = None
    if accepted and is_ancestor(draft.tables, key, draft.state.told):
        included = TransactionMove(message.transaction, message.block, not _is_included(draft, message.transaction))
    draft.record(
        GroupRecorded(block=message.block, transaction=message.transaction, verdict=message.verdict, error=message.error, included=included)
    )
    return draft.decision()
