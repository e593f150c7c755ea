"""What blocks say: their group transactions are judged, and who serves follows from the best chain."""

from messages.chain_api import BlockImported
from messages.consensus_journal import (
    AttemptsForgotten,
    BlockSeen,
    ChainEntered,
    ChainForgotten,
    GovernanceHeard,
    GroupAccepted,
    GroupRefused,
    HeadMoved,
    Penalty,
    ValidatorsSeen,
)
from messages.consensus_manager import Attempt
from messages.signals import BestChain, GovernanceMode, GovernanceState, SessionChange
from subsystems.consensus_manager.draft import Branch, Draft
from subsystems.consensus_manager.forgetting import is_forgotten
from subsystems.consensus_manager.handover import acceptance_of
from subsystems.consensus_manager.judging import Ground, judge_block
from subsystems.consensus_manager.schedule import begins
from subsystems.consensus_manager.signing import forget_blocks
from subsystems.consensus_manager.tables import ACCEPTED, ATTEMPTS, BLOCKS, FLOOR, HELD, JUDGED, BlockRow
from subsystems.consensus_manager.terms import Terms

__all__ = ["on_best_chain", "on_block", "on_governance", "on_session"]


def on_session(draft: Draft, message: SessionChange) -> None:
    draft.record(ValidatorsSeen(session=message.index, validators=message.validators))


def on_governance(draft: Draft, message: GovernanceMode) -> None:
    draft.record(GovernanceHeard(entered=message.state is GovernanceState.ENTERED))


def on_block(draft: Draft, message: BlockImported) -> None:
    """Noted; it is judged when it joins the best chain, as only then its session's validators are sure to be known."""
    if message.number > 1 and not draft.tables.has(FLOOR, (0,)) and next(iter(draft.tables.scan_packed(BLOCKS)), None) is None:
        draft.record(ChainEntered(number=message.number, epoch=message.epoch))
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
    if is_forgotten(draft, row.number):
        return
    behind = draft.branch(row.parent, row.number - 1)
    now = behind.serving()
    if now is None:
        _stay_out(draft)
        return
    asked: list[Attempt] = []

    def derived(attempt: Attempt) -> Terms | None:
        asked.append(attempt)
        return behind.derive(now, attempt)

    ground = Ground(number=row.number, epoch_start=now.epoch_start, parameters=draft.config.parameters, derive=derived)
    verdicts = judge_block(row.group_transactions, ground, draft.context.verify)
    if any(_is_before(draft, behind, attempt) for attempt in asked):
        _stay_out(draft)
        return
    for verdict in verdicts:
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


def _stay_out(draft: Draft) -> None:
    """A group may have been accepted, and this node cannot judge it: from here on it cannot tell who serves, and says so."""
    if not draft.floor.rootless:
        groups = [block for (block,), _ in draft.tables.scan(ACCEPTED)]
        draft.record(ChainForgotten(below=0, blocks=[], groups=groups, sessions=[], rootless=True))


def _is_before(draft: Draft, chain: Branch, attempt: Attempt) -> bool:
    """Whether an attempt began before this node's chain does."""
    return draft.tables.has(FLOOR, (0,)) and chain.validators_at(begins(attempt)) is None


def _forget_strangers(draft: Draft) -> None:
    """What was held for attempts that never came to be known. Of a node whose blocks come late they are of its future: it waits long."""
    oldest = draft.head.number - draft.config.held_blocks
    held = {row.session for _, row in draft.tables.scan(HELD) if row.height < oldest}
    over = sorted(session for session in held if not draft.tables.has(ATTEMPTS, (session,)))
    if over:
        draft.record(AttemptsForgotten(sessions=over))
