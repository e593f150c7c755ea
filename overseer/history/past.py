"""Past states: the tables of a subsystem as they were behind a record of its journal, rebuilt in memory, and asked."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import msgspec

from messages.message import Message, Rejection
from overseer.history.journals import Place, StoredJournal
from overseer.runner import journal
from overseer.runner.errors import JournalBroken
from overseer.runner.schema import HEAD, Head
from overseer.runner.verify import rebuild
from overseer.subsystem import Context, Declaration, Subsystem
from overseer.tables import Rows, View
from overseer.verification import verify_check

__all__ = ["PastState", "answer_from", "rebuilt", "row_counts", "stored_state"]

# As whom the past is asked: who can read the stores is the operator.
_CALLER = "operator"


class PastState(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of `place`: made of `records` records behind record `from_index` (0: from nothing) in `seconds`."""

    place: Place
    rows: Rows
    from_index: int
    records: int
    seconds: float


async def rebuilt(subsystem: Subsystem, stored: StoredJournal, place: Place, *, start: PastState | None = None) -> PastState:
    """The tables at `place`, from the nearest checkpoint before it, or on from the state `start` where that is nearer.

    Memory: the tables, and one record. Raises BadMoment, JournalBroken, EvolveFailed, StoreError.
    """
    began = time.monotonic()
    with _beginning(stored, place, start) as base:
        head = None if base is None else journal.read_head(base)
        first = 0 if head is None else head.index
        last = first

        def each(record: object, _: object) -> None:
            nonlocal last
            last += 1

        rows = await rebuild(subsystem, stored.store, base, until=place.index, each=each)
    if last != place.index:
        raise JournalBroken(last + 1, "missing")
    return PastState(place=place, rows=rows, from_index=first, records=last - first, seconds=time.monotonic() - began)


def stored_state(stored: StoredJournal, place: Place) -> PastState:
    """The tables as they are committed: those of the last record. Nothing is rebuilt."""
    return PastState(place=place, rows=stored.store, from_index=place.index, records=0, seconds=0.0)


def answer_from(subsystem: Subsystem, state: PastState, query: Message) -> Message | Rejection:
    """What the subsystem answers to `query` from that state, at its time."""
    place = state.place
    context = Context(now_ms=place.now_ms, sender="", caller=_CALLER, position=place.position, verify=verify_check)
    return subsystem.answer(View(state.rows), query, context)


def row_counts(declaration: Declaration, rows: Rows) -> dict[str, int]:
    """Rows of each table that has any."""
    counts = {table.name: sum(1 for _ in rows.scan(table.name, b"", None)) for table in declaration.tables}
    return {name: count for name, count in counts.items() if count}


@contextmanager
def _beginning(stored: StoredJournal, place: Place, start: PastState | None) -> Generator[Rows | None, None, None]:
    """The nearer of the two states that the tables can be made from."""
    with stored.base(place.index) as base:
        head = None if base is None else journal.read_head(base)
        if start is not None and (head is None or head.index <= start.place.index) and start.place.index <= place.index:
            yield _Continued(start, stored)
        else:
            yield base


class _Continued:
    """A rebuilt state as a checkpoint: its tables, and the head from which the journal goes on."""

    def __init__(self, state: PastState, stored: StoredJournal) -> None:
        index = state.place.index
        self._rows = state.rows
        self._head = HEAD.dump(Head(incarnation=b"", index=index, hash=stored.hash(index)))

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._head if table == HEAD.name else self._rows.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._rows.scan(table, start, end, reverse=reverse)
