"""Answers to queries, from committed state."""

from messages.consensus_blocks import BlockSignature, NextBlock
from messages.consensus_manager import (
    AttemptReport,
    Attempts,
    AttemptsReport,
    AttemptState,
    Epoch,
    EpochReport,
    Group,
    GroupReport,
    GroupsOnDisk,
    GroupsReport,
    UnknownGroup,
)
from messages.message import Message, Rejection
from subsystems.consensus_manager.draft import Draft
from subsystems.consensus_manager.electing import now_planned
from subsystems.consensus_manager.handover import Acceptance, Serving
from subsystems.consensus_manager.progress import Progress
from subsystems.consensus_manager.schedule import due_height
from subsystems.consensus_manager.signing import next_block, signature_report
from subsystems.consensus_manager.tables import ACCEPTED, MINE, PROGRESS, AttemptRow

__all__ = ["answer"]


def answer(draft: Draft, query: Message) -> Message | Rejection:
    best = draft.best()
    now = best.serving()
    match query:
        case Epoch():
            if now is None:
                return draft.epoch_unknown
            due = due_height(now.epoch_start, draft.config.parameters)
            group = None if now.group is None else _group(draft, now.group, now)
            return EpochReport(epoch=now.epoch, epoch_start=now.epoch_start, due=due, group=group)
        case Group():
            for _, group in draft.tables.scan(ACCEPTED):
                if group.epoch == query.epoch and best.hash_at(group.number) == group.block:
                    return _group(draft, group, now)
            return UnknownGroup(epoch=query.epoch)
        case GroupsOnDisk():
            held = {group.epoch for _, group in draft.tables.scan(ACCEPTED) if _is_held(draft, group.session)}
            return GroupsReport(epochs=sorted(held, reverse=True))
        case Attempts():
            alive = set(now_planned(draft, best, now).finish)
            start = None if now is None else now.epoch_start
            rows = [(row, session) for session, row in draft.attempts() if row.attempt.epoch_start == start]
            rows.sort(key=lambda item: (item[0].attempt.delay, item[0].attempt.round, item[1]))
            return AttemptsReport(attempts=[_attempt(draft, session, row, session in alive) for row, session in rows])
        case NextBlock():
            return next_block(draft) or draft.epoch_unknown
        case BlockSignature():
            return signature_report(draft, query.block)
        case _:
            raise TypeError(f"{query.spec.key} is not a query of consensus_manager")


def _is_held(draft: Draft, session: bytes) -> bool:
    mine = draft.tables.get(MINE, (session,))
    return mine is not None and mine.share is not None


def _group(draft: Draft, group: Acceptance, now: Serving | None) -> GroupReport:
    return GroupReport(
        epoch=group.epoch,
        block=group.block,
        number=group.number,
        attempt=group.attempt,
        members=list(group.members),
        key=group.key,
        serving=now is not None and now.group == group,
        held=_is_held(draft, group.session),
    )


def _attempt(draft: Draft, session: bytes, row: AttemptRow, alive: bool) -> AttemptReport:
    progress = draft.tables.get(PROGRESS, (session,)) or Progress(session=session)
    mine = draft.tables.get(MINE, (session,))
    return AttemptReport(
        session=session,
        attempt=row.attempt,
        state=_state(progress, alive),
        phase=progress.phase,
        members=len(row.members),
        place=None if mine is None else mine.place,
        dealt=len(progress.deals),
        confirmed=len(progress.confirms),
    )


def _state(progress: Progress, alive: bool) -> AttemptState:
    if progress.transaction is not None:
        return AttemptState.COMPLETE
    if progress.failed:
        return AttemptState.FAILED
    return AttemptState.RUNNING if alive else AttemptState.STOPPED
