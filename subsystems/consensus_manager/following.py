"""What blocks say: their group transactions are judged, and who serves follows from the best chain."""

from messages.chain_api import BlockImported
from messages.consensus_journal import (
    AttemptsForgotten,
    BlockSeen,
    GovernanceHeard,
    GroupAccepted,
    GroupRefused,
    HeadMoved,
    Penalty,
    ValidatorsSeen,
)
from messages.signals import BestChain, BlockFinalized, GovernanceMode, GovernanceState, SessionChange
from subsystems.consensus_manager.draft import Draft
from subsystems.consensus_manager.handover import acceptance_of, kept
from subsystems.consensus_manager.judging import Ground, judge_block
from subsystems.consensus_manager.signing import forget_blocks
from subsystems.consensus_manager.tables import ACCEPTED, ATTEMPTS, BLOCKS, HELD, JUDGED, MUTED, BlockRow

__all__ = ["on_best_chain", "on_block", "on_finalized", "on_governance", "on_session"]


def on_session(draft: Draft, message: SessionChange) -> None:
    draft.record(ValidatorsSeen(session=message.index, validators=message.validators))


def on_governance(draft: Draft, message: GovernanceMode) -> None:
    draft.record(GovernanceHeard(entered=message.state is GovernanceState.ENTERED))


def on_block(draft: Draft, message: BlockImported) -> None:
    """Noted; it is judged when it joins the best chain, as only then its session's validators are sure to be known."""
    seen = BlockSeen(
        hash=message.hash,
        parent=message.parent,
        number=message.number,
        session=message.session,
        round=message.round,
        target=message.target_height if message.sync else 0,
        group_transactions=message.group_transactions,
    )
    draft.record(seen)


def on_best_chain(draft: Draft, message: BestChain) -> None:
    """A page of a reorganisation: what joins the best chain is judged, the lowest first."""
    draft.record(HeadMoved(reverted=message.reverted, applied=message.applied))
    for ref in message.applied:
        row = draft.tables.get(BLOCKS, (ref.hash,))
        if row is not None and row.group_transactions:
            _judge(draft, ref.hash, row)
    _forget_strangers(draft)
    forget_blocks(draft)


def _judge(draft: Draft, block: bytes, row: BlockRow) -> None:
    """The verdicts on a block's group transactions, each recorded once however often the block comes back."""
    behind = draft.branch(row.parent, row.number - 1)
    now = behind.serving()
    ground = Ground(number=row.number, epoch_start=now.epoch_start, parameters=draft.config.parameters, derive=behind.deriving())
    for verdict in judge_block(row.group_transactions, ground, draft.context.verify):
        if draft.tables.has(JUDGED, (block, verdict.name)):
            continue
        if verdict.error is not None:
            draft.record(GroupRefused(block=block, transaction=verdict.name, error=verdict.error.code))
            continue
        group = acceptance_of(verdict, block=block, number=row.number, before=now)
        accepted = GroupAccepted(
            block=block,
            number=row.number,
            transaction=verdict.name,
            epoch=group.epoch,
            session=group.session,
            attempt=group.attempt,
            key=group.key,
            members=list(group.members),
            penalties=[Penalty(signing, count) for signing, count in group.penalties],
        )
        draft.record(accepted)


def _forget_strangers(draft: Draft) -> None:
    """What was held for attempts that never came to be known. Of a node whose blocks come late they are of its future: it waits long."""
    oldest = draft.head.number - draft.config.held_blocks
    held = {row.session for _, row in draft.tables.scan(HELD) if row.height < oldest}
    held |= {session for (session,), height in draft.tables.scan(MUTED) if height < oldest}
    over = sorted(session for session in held if not draft.tables.has(ATTEMPTS, (session,)))
    if over:
        draft.record(AttemptsForgotten(sessions=over))


def on_finalized(draft: Draft, message: BlockFinalized) -> None:
    """Attempts at elections that a final block has decided are forgotten, but for those whose groups may still serve."""
    chain = draft.branch(message.hash, message.number)
    accepted = [acceptance for _, acceptance in draft.tables.scan(ACCEPTED)]
    numbers = {acceptance.block: acceptance.number for acceptance in accepted}
    may_serve = kept(accepted, final=message.number, is_on_chain=lambda block: chain.hash_at(numbers[block]) == block)
    sessions = {acceptance.session for acceptance in may_serve}
    epoch_start = chain.serving().epoch_start
    over = [session for session, row in draft.attempts() if row.attempt.epoch_start < epoch_start and session not in sessions]
    if over:
        draft.record(AttemptsForgotten(sessions=over))
