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
from subsystems.consensus_manager.handover import acceptance_of
from subsystems.consensus_manager.judging import Ground, judge_block
from subsystems.consensus_manager.tables import ACCEPTED

__all__ = ["on_best_chain", "on_block", "on_finalized", "on_governance", "on_session"]


def on_session(draft: Draft, message: SessionChange) -> None:
    draft.record(ValidatorsSeen(session=message.index, validators=message.validators))


def on_governance(draft: Draft, message: GovernanceMode) -> None:
    draft.record(GovernanceHeard(entered=message.state is GovernanceState.ENTERED))


def on_block(draft: Draft, message: BlockImported) -> None:
    """Every block is judged on its own chain, whether or not that is the best one: it may become so."""
    seen = BlockSeen(
        hash=message.hash,
        parent=message.parent,
        number=message.number,
        session=message.session,
        round=message.round,
        target=message.target_height if message.sync else 0,
    )
    draft.record(seen)
    if not message.group_transactions:
        return
    behind = draft.branch(message.parent, message.number - 1)
    now = behind.serving()
    ground = Ground(number=message.number, epoch_start=now.epoch_start, parameters=draft.config.parameters, derive=behind.deriving())
    for verdict in judge_block(message.group_transactions, ground, draft.context.verify):
        if verdict.error is not None:
            draft.record(GroupRefused(block=message.hash, transaction=verdict.name, error=verdict.error.code))
            continue
        group = acceptance_of(verdict, block=message.hash, number=message.number, before=now)
        accepted = GroupAccepted(
            block=message.hash,
            number=message.number,
            transaction=verdict.name,
            epoch=group.epoch,
            session=group.session,
            attempt=group.attempt,
            key=group.key,
            members=list(group.members),
            penalties=[Penalty(signing, count) for signing, count in group.penalties],
        )
        draft.record(accepted)


def on_best_chain(draft: Draft, message: BestChain) -> None:
    """A page of a reorganisation; the head is where it ends."""
    draft.record(HeadMoved(reverted=message.reverted, applied=message.applied))


def on_finalized(draft: Draft, message: BlockFinalized) -> None:
    """Attempts at elections that a final block has decided are forgotten, but for those whose groups may still serve."""
    behind = draft.branch(message.hash, message.number).serving()
    kept = {acceptance.session for _, acceptance in draft.tables.scan(ACCEPTED) if acceptance.epoch >= behind.epoch}
    over = [session for session, row in draft.attempts() if row.attempt.epoch_start < behind.epoch_start and session not in kept]
    if over:
        draft.record(AttemptsForgotten(sessions=over))
