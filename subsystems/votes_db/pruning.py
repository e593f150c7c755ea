"""Sessions that left the window are forgotten, a bounded number of rows at a time (D18, D19).

Each step is a timer's work: it plans which keys go, the event names them, and the next step goes on from what is still
there. A kill between steps loses nothing: the timer and the watermark are rows like any other.
"""

from itertools import islice
from typing import Any

from messages.message import Message
from messages.votes_db import SessionsPruned
from messages.votes_db_journal import PrunedRange, RowsPruned
from overseer.tables import Table, View
from subsystems.votes_db.tables import CURSOR, NUMBERS, SESSION_FIRST, SESSIONS, VALIDATOR_BYTES, window

__all__ = ["next_session", "prune_step"]


def next_session(view: View, oldest: int) -> int | None:
    """The lowest session below `oldest` of which anything is left."""
    first = [int.from_bytes(key[:4], "big") for table in SESSION_FIRST for key, _ in islice(view.scan_packed(table), 1)]
    lowest = min(first, default=None)
    return lowest if lowest is not None and lowest < oldest else None


def prune_step(view: View, rows_max: int) -> list[Message]:
    """What goes in this step: one event, or at the end the fact that all is done."""
    kept = window(view)
    if kept is None:
        return []
    session = next_session(view, kept.oldest)
    if session is None:
        return [SessionsPruned(through=kept.oldest - 1)] if kept.oldest else []
    # The ids go first: the session's validator set, by which they are found, is among the rows that follow.
    ids_from, ids_to = _ids(view, session, rows_max)
    room = rows_max - (ids_to - ids_from)
    ranges: list[PrunedRange] = []
    for table in SESSION_FIRST:
        if room <= 0:
            break
        pruned, taken = _range(view, table, session, room)
        room -= taken
        if pruned is not None:
            ranges.append(pruned)
            if pruned.end:
                break
    return [RowsPruned(session=session, ranges=ranges, ids_from=ids_from, ids_to=ids_to)]


def _validators(view: View, session: int) -> int:
    return len(view.get(SESSIONS, (session,)) or b"") // VALIDATOR_BYTES


def _ids(view: View, session: int, rows_max: int) -> tuple[int, int]:
    """The validator indices whose ids are forgotten now."""
    data = view.get(CURSOR, (0,))
    at_session, done = NUMBERS.unpack(data) if data is not None else (session, 0)
    start = done if at_session == session else 0
    return start, min(start + rows_max, max(start, _validators(view, session)))


def _range(view: View, table: Table[Any], session: int, room: int) -> tuple[PrunedRange | None, int]:
    """The table's next rows of the session, `room` at most, and how many; None when there are none."""
    keys = [key for key, _ in islice(view.scan_packed(table, (session,)), room + 1)]
    if not keys:
        return None, 0
    if len(keys) > room:
        return PrunedRange(table.name, keys[-1]), room
    return PrunedRange(table.name, b""), len(keys)
