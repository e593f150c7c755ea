"""Projections: what is counted along with an election's events, kept beside them (B24).

A projection is a pure, versioned function of the events; what it keeps is a map from text to whole numbers. It never blocks
a commit: one that fails is stale from that event on, and is right again after a replay with a mended version of it.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from messages.elections import ElectionEvent
from overseer.tables import HASH, TAIL, TEXT, Table, Tables, View
from subsystems.elections.rows import EVENTS, load_event

__all__ = ["COUNTS", "PROJECTIONS", "Counts", "Projection", "ProjectionRow", "advance", "counts_of"]


class ProjectionRow(msgspec.Struct, frozen=True, array_like=True):
    """Where a projection of one election is. `stale`: why it stopped ("" while it goes on)."""

    version: int
    applied: int
    stale: str


# (election, projection)
PROJECTIONS = Table("projections", key=(HASH, TEXT), value=ProjectionRow)
# (election, projection, 0, key) -> number
COUNTS = Table("counts", key=(HASH, TAIL), value=int)

_REASON_CHARS_MAX = 200


class Counts:
    """The numbers of one projection while one event is applied: nothing is kept unless `apply` returns."""

    def __init__(self, view: View, election: bytes, name: str) -> None:
        self._view = view
        self._place = (election, f"{name}\0".encode())
        self._changed: dict[str, int] = {}

    def get(self, key: str) -> int:
        """0 where nothing was counted."""
        if key in self._changed:
            return self._changed[key]
        return self._view.get(COUNTS, self._key(key)) or 0

    def put(self, key: str, count: int) -> None:
        """Raises ValueError for a number below 0."""
        if count < 0:
            raise ValueError(f"{key}: {count} is no count")
        self._changed[key] = count

    def add(self, key: str, count: int = 1) -> None:
        self.put(key, self.get(key) + count)

    def keep(self, tables: Tables) -> None:
        for key, count in self._changed.items():
            tables.put(COUNTS, self._key(key), count)

    def _key(self, key: str) -> tuple[bytes, bytes]:
        return self._place[0], self._place[1] + key.encode()


class Projection(Protocol):
    """One plug-in. Raise `version` when it would count otherwise: everything is then counted anew."""

    @property
    def name(self) -> str:
        """Lower snake case; unique among all projections."""
        ...

    @property
    def version(self) -> int: ...

    def apply(self, counts: Counts, event: ElectionEvent) -> None:
        """Count one event. May look at nothing but `counts` and the event."""
        ...


def counts_of(view: View, election: bytes, name: str, after: str) -> Iterator[tuple[str, int]]:
    """The counts of a projection in order of their keys, behind `after`."""
    place = f"{name}\0".encode()
    start = place + after.encode() + b"\0" if after else place
    for (_, tail), count in view.scan(COUNTS, prefix=(election,), start=(election, start), end=(election, place[:-1] + b"\1")):
        yield tail[len(place) :].decode(), count


def advance(tables: Tables, projections: Iterable[Projection], election: bytes, sequence: int, event: ElectionEvent) -> None:
    """Apply event number `sequence` to all of them. One of another version is first counted anew from the events before."""
    for projection in projections:
        row = tables.get(PROJECTIONS, (election, projection.name))
        if row is not None and row.version == projection.version:
            if not row.stale:
                _apply(tables, projection, election, sequence, event)
            continue
        tables.delete_range(
            COUNTS, (election,), start=(election, f"{projection.name}\0".encode()), end=(election, f"{projection.name}\1".encode())
        )
        if all(_apply(tables, projection, election, number, earlier) for number, earlier in _before(tables, election, sequence)):
            _apply(tables, projection, election, sequence, event)


def _before(view: View, election: bytes, sequence: int) -> Iterator[tuple[int, ElectionEvent]]:
    for (_, number), data in view.scan(EVENTS, prefix=(election,), end=(election, sequence)):
        yield number, load_event(data)


def _apply(tables: Tables, projection: Projection, election: bytes, sequence: int, event: ElectionEvent) -> bool:
    counts = Counts(tables, election, projection.name)
    stale, applied = "", sequence
    try:
        projection.apply(counts, event)
    except Exception as error:
        stale, applied = f"event {sequence}: {error!r}"[:_REASON_CHARS_MAX], sequence - 1
    else:
        counts.keep(tables)
    tables.put(PROJECTIONS, (election, projection.name), ProjectionRow(projection.version, applied, stale))
    return not stale
