"""What the world is told of each recorded event."""

from collections.abc import Iterable, Sequence

from messages.chain_api import (
    BlockFinalizedFact,
    BlockImported,
    BlocksBlacklistedFact,
    BlocksReverted,
    FinalizedBlocksBlacklisted,
    GovernanceModeEntered,
    GovernanceModeLeft,
    OrphanDropped,
    RevertLifted,
    SessionStarted,
    TransactionIncluded,
    TransactionQueued,
    TransactionReturned,
)
from messages.chain_events import (
    BestChainMoved,
    BlacklistRecorded,
    BlockRecorded,
    BlocksMarked,
    ChainStarted,
    DescendantsTold,
    FinalityMoved,
    GovernanceEntry,
    GovernanceExited,
    GroupRecorded,
    LeavesMoved,
    LeavesRevived,
    TransactionsSubmitted,
)
from messages.dispute_conclusion import DescendantsAnswer
from messages.message import Message
from messages.signals import (
    ActiveLeaves,
    BestChain,
    BlockFinalized,
    BlockRef,
    BlocksBlacklisted,
    GovernanceMode,
    GovernanceState,
    SessionChange,
)
from messages.transaction import transaction_id
from subsystems.chain_api.tables import hashes_in, refs_in

__all__ = ["SENDS", "react"]

SENDS = (
    ActiveLeaves,
    BestChain,
    BlockFinalized,
    BlockFinalizedFact,
    BlockImported,
    BlocksBlacklisted,
    BlocksBlacklistedFact,
    BlocksReverted,
    DescendantsAnswer,
    FinalizedBlocksBlacklisted,
    GovernanceMode,
    GovernanceModeEntered,
    GovernanceModeLeft,
    OrphanDropped,
    RevertLifted,
    SessionChange,
    SessionStarted,
    TransactionIncluded,
    TransactionQueued,
    TransactionReturned,
)


def react(event: Message) -> Iterable[Message]:
    """The messages that follow from one event."""
    match event:
        case BlocksReverted() | RevertLifted() | OrphanDropped():
            return [event]
        case SessionStarted():
            return [event, SessionChange(index=event.index, validators=event.validators)]
        case ChainStarted() if event.validators is not None:
            return react(SessionStarted(index=0, block=event.genesis, validators=event.validators))
        case BlockRecorded():
            return [_imported(event)]
        case LeavesMoved() if event.activated or event.covered or event.put_off:
            return [ActiveLeaves(activated=refs_in(event.activated), deactivated=refs_in(event.covered + event.put_off))]
        case LeavesRevived() if event.activated:
            return [ActiveLeaves(activated=refs_in(event.activated), deactivated=[])]
        case BestChainMoved():
            return _best_chain(event)
        case FinalityMoved():
            ref = event.block
            advance = [BlockFinalizedFact(hash=ref.hash, number=ref.number), BlockFinalized(hash=ref.hash, number=ref.number)]
            return [*advance, *_governance(event.bad, event.governance)]
        case BlacklistRecorded():
            return _governance(event.final, event.governance)
        case BlocksMarked() if event.page is not None:
            return _cascade_page(event, event.page)
        case GovernanceExited():
            return _governance_left(event)
        case TransactionsSubmitted():
            return [TransactionQueued(id=transaction_id(t), transaction=t) for t in event.pooled]
        case GroupRecorded() if event.included is not None and event.included.told:
            return [TransactionIncluded(id=event.transaction, block=event.block)]
        case DescendantsTold():
            hashes = [event.hashes[at : at + 32] for at in range(0, len(event.hashes), 32)]
            return [DescendantsAnswer(block=event.block, hashes=hashes, page=event.page, last=event.last, known=event.known)]
        case _:
            return []


def _imported(event: BlockRecorded) -> BlockImported:
    block = event.block
    return BlockImported(
        hash=block.hash,
        parent=block.parent,
        number=block.number,
        session=block.session,
        backed=block.backed,
        included=block.included,
        blacklisted=event.convicted_by is not None,
        epoch=block.epoch,
        epoch_start=block.epoch_start,
        round=block.round,
        group_transactions=block.group_transactions,
        epoch_signature=block.epoch_signature,
        sync=block.sync,
        target_height=block.target_height,
    )


def _best_chain(event: BestChainMoved) -> list[Message]:
    told: list[Message] = []
    if event.reverted or event.applied:
        told.append(BestChain(reverted=refs_in(event.reverted), applied=refs_in(event.applied), page=event.page, last=event.last))
    told += [TransactionReturned(id=move.id, block=move.block) for move in event.returned if move.told]
    told += [TransactionIncluded(id=move.id, block=move.block) for move in event.included if move.told]
    return told


def _governance(bad: Sequence[BlockRef], entry: GovernanceEntry | None) -> list[Message]:
    told: list[Message] = [FinalizedBlocksBlacklisted(blocks=list(bad))] if bad else []
    if entry is not None:
        told.append(GovernanceModeEntered(entry=entry.entry, frozen_at=entry.frozen_at, blocks=[ref.hash for ref in bad]))
        told.append(GovernanceMode(state=GovernanceState.ENTERED, entry=entry.entry, frozen_at=entry.frozen_at))
    return told


def _governance_left(event: GovernanceExited) -> list[Message]:
    return [
        GovernanceModeLeft(
            entry=event.entry,
            mode=event.mode,
            roots=[root.hash for root in event.pardoned],
            author=event.author,
            finalized=event.finalized,
        ),
        GovernanceMode(state=GovernanceState.LEFT, entry=event.entry, frozen_at=event.frozen_at),
    ]


def _cascade_page(event: BlocksMarked, page: int) -> list[Message]:
    hashes = [found for run in event.runs for found in hashes_in(run.keys)]
    count, digest = (event.count, event.digest) if event.last else (None, None)
    return [
        kind(
            cascade=event.cascade_id,
            roots=event.roots,
            hashes=hashes,
            cause=event.cause,
            page=page,
            last=event.last,
            count=count,
            digest=digest,
        )
        for kind in (BlocksBlacklistedFact, BlocksBlacklisted)
    ]
