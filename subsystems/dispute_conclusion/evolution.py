"""How each recorded event changes the tables. Nothing here looks at anything but the event and the tables."""

import msgspec

from messages.dispute_conclusion import (
    BlacklistedBlocksRecorded,
    BlacklistRequested,
    BlacklistSeen,
    ChallengeLiftRecorded,
    ChallengeRecorded,
    ConclusionConcluded,
    ConclusionStep,
    DescendantsAsked,
    DescendantsPageRecorded,
    DescendantsSeen,
    DetectionRecorded,
    InclusionsRecorded,
    ResolutionRecorded,
    RevertAsked,
    SessionRecorded,
)
from messages.message import Message
from overseer.tables import Tables
from subsystems.dispute_conclusion.tables import (
    ANSWERS,
    ASKED,
    AWAITED,
    BLACKLISTED,
    BLOCKS,
    CONCLUSIONS,
    DETECTIONS,
    INCLUSIONS,
    NEWEST,
    PAGES,
    ROUNDS,
    SESSIONS,
    STEPS,
    VOTERS,
    WATCHED,
    AnswerRow,
    ConclusionRow,
    DetectionRow,
    InclusionRow,
    Key,
    Phase,
    RoundRow,
    block_row,
    conclusion_row,
)

__all__ = ["apply"]


def apply(tables: Tables, event: Message) -> None:
    """Apply one event; events of others change nothing."""
    match event:
        case DetectionRecorded():
            _detected(tables, event)
        case ChallengeRecorded():
            tables.put(WATCHED, (event.candidate, event.session), b"")
            _step(tables, event, "challenged", challenged=True)
        case ChallengeLiftRecorded():
            _set_reverted(tables, (event.session, event.candidate), event.blocks, False)
            _step(tables, event, f"challenge lifted, revert of {len(event.blocks)} blocks with it", lifted=True)
        case RevertAsked():
            _set_reverted(tables, (event.session, event.candidate), event.blocks, True)
            _step(tables, event, f"revert of {len(event.blocks)} blocks asked")
        case ResolutionRecorded():
            _resolved(tables, event)
        case DescendantsAsked():
            _asked(tables, event)
        case DescendantsPageRecorded():
            _page(tables, event)
        case DescendantsSeen():
            _seen(tables, event)
        case BlacklistRequested():
            _requested(tables, event)
        case BlacklistSeen():
            _blacklisted(tables, event)
        case ConclusionConcluded():
            against = {} if event.valid else {"concluded_against": True}
            _step(tables, event, "concluded for" if event.valid else "blacklisted: concluded", **against)
        case InclusionsRecorded():
            _included(tables, event)
        case BlacklistedBlocksRecorded():
            tables.put(SESSIONS, (event.session,), b"")
            for block in event.hashes:
                tables.put(BLACKLISTED, (event.session, block), b"")
        case SessionRecorded():
            _session(tables, event)
        case _:
            pass


_Stepped = (
    DetectionRecorded
    | ChallengeRecorded
    | ChallengeLiftRecorded
    | RevertAsked
    | ResolutionRecorded
    | DescendantsAsked
    | DescendantsSeen
    | BlacklistRequested
    | BlacklistSeen
    | ConclusionConcluded
)


def _step(tables: Tables, event: _Stepped, what: str, **changes: object) -> None:
    """Write the conclusion's row with `changes`, and its next step."""
    key = (event.session, event.candidate)
    row = conclusion_row(tables, key)
    tables.put(STEPS, (*key, row.steps), ConclusionStep(event.at_ms, event.position, what))
    changed: ConclusionRow = msgspec.structs.replace(row, steps=row.steps + 1, **changes)
    tables.put(CONCLUSIONS, key, changed)


def _detected(tables: Tables, event: DetectionRecorded) -> None:
    row = DetectionRow(block_number=event.block_number, voted_candidates=event.voted_candidates, voters=event.voters)
    tables.put(DETECTIONS, (event.session, event.candidate), row)
    _step(tables, event, f"detected: validator {event.contradicting} contradicts", contradicting=event.contradicting)


def _set_reverted(tables: Tables, key: Key, blocks: list[bytes], reverted: bool) -> None:
    for block in blocks:
        tables.put(BLOCKS, (*key, block), msgspec.structs.replace(block_row(tables, key, block), reverted=reverted))


def _resolved(tables: Tables, event: ResolutionRecorded) -> None:
    tables.put(VOTERS, (event.session, event.candidate, int(event.valid)), event.voters)
    if not event.valid:
        tables.put(WATCHED, (event.candidate, event.session), b"")
    _step(tables, event, "resolved: valid wins" if event.valid else "resolved: invalid wins", valid=event.valid)


def _asked(tables: Tables, event: DescendantsAsked) -> None:
    key = (event.session, event.candidate)
    for block in event.blocks:
        if next(tables.scan(ASKED, (block,)), None) is None:
            # Nobody waits for this block: what an earlier answer left behind makes room for the new one.
            tables.delete(ANSWERS, (block,))
            tables.delete_range(PAGES, (block,))
        tables.put(ASKED, (block, *key), b"")
        row = msgspec.structs.replace(block_row(tables, key, block), phase=Phase.ASKED, round=event.round)
        tables.put(BLOCKS, (*key, block), row)
    tables.put(ROUNDS, (*key, event.round), RoundRow(pending=len(event.blocks)))
    asked = conclusion_row(tables, key).asked + len(event.blocks)
    _step(tables, event, f"descendants of {len(event.blocks)} including blocks asked", asked=asked, rounds=event.round + 1)


def _page(tables: Tables, event: DescendantsPageRecorded) -> None:
    row = tables.get(ANSWERS, (event.block,)) or AnswerRow()
    tables.put(PAGES, (event.block, event.page), b"".join(event.hashes[: event.listed]))
    changed = AnswerRow(
        pages=row.pages + 1,
        count=row.count + len(event.hashes),
        listed=row.listed + event.listed,
        last=event.page if event.last else row.last,
    )
    tables.put(ANSWERS, (event.block,), changed)


def _seen(tables: Tables, event: DescendantsSeen) -> None:
    key = (event.session, event.candidate)
    row = block_row(tables, key, event.block)
    phase = Phase.ANSWERED if event.known else Phase.NONE
    tables.put(BLOCKS, (*key, event.block), msgspec.structs.replace(row, phase=phase))
    tables.delete(ASKED, (event.block, *key))
    pending = tables.get(ROUNDS, (*key, row.round))
    if pending is not None and pending.pending > 1:
        tables.put(ROUNDS, (*key, row.round), RoundRow(pending=pending.pending - 1))
    else:
        tables.delete(ROUNDS, (*key, row.round))
    what = f"{event.count} descendants seen" if event.known else "the chain does not know the including block"
    _step(tables, event, what, asked=conclusion_row(tables, key).asked - 1)


def _requested(tables: Tables, event: BlacklistRequested) -> None:
    key = (event.session, event.candidate)
    for root in event.roots:
        row = msgspec.structs.replace(block_row(tables, key, root), phase=Phase.REQUESTED)
        tables.put(BLOCKS, (*key, root), row)
        tables.put(AWAITED, (root, *key), b"")
    requested = conclusion_row(tables, key).requested + len(event.roots)
    _step(tables, event, f"blacklist asked with {len(event.roots)} roots", requested=requested)


def _blacklisted(tables: Tables, event: BlacklistSeen) -> None:
    key = (event.session, event.candidate)
    for block in event.blocks:
        row = msgspec.structs.replace(block_row(tables, key, block), phase=Phase.BLACKLISTED)
        tables.put(BLOCKS, (*key, block), row)
        tables.delete(AWAITED, (block, *key))
    row = conclusion_row(tables, key)
    count = len(event.blocks)
    _step(tables, event, f"{count} roots blacklisted", requested=row.requested - count, blacklisted=row.blacklisted + count)


def _included(tables: Tables, event: InclusionsRecorded) -> None:
    tables.put(SESSIONS, (event.session,), b"")
    row = InclusionRow(number=event.number, blacklisted=event.blacklisted)
    for candidate in event.candidates:
        tables.put(INCLUSIONS, (event.session, candidate, event.block), row)


def _session(tables: Tables, event: SessionRecorded) -> None:
    """The newer session, and what goes with the oldest ones: range deletes, and the few rows keyed otherwise."""
    tables.put(NEWEST, (0,), event.session)
    if event.inclusions_through is not None:
        end = (event.inclusions_through + 1,)
        for table in (INCLUSIONS, SESSIONS, BLACKLISTED):
            tables.delete_range(table, end=end)
    if event.conclusions_through is None:
        return
    through = event.conclusions_through
    for (candidate, session), _ in list(tables.scan(WATCHED)):
        if session > through:
            continue
        tables.delete(WATCHED, (candidate, session))
        for (_, _, block), _ in list(tables.scan(BLOCKS, (session, candidate))):
            tables.delete(ASKED, (block, session, candidate))
            tables.delete(AWAITED, (block, session, candidate))
            tables.delete(ANSWERS, (block,))
            tables.delete_range(PAGES, (block,))
    for table in (CONCLUSIONS, DETECTIONS, VOTERS, STEPS, BLOCKS, ROUNDS):
        tables.delete_range(table, end=(through + 1,))
