"""A site's store against itself: the rows of each election must be what its events make, and its place the one that they end in.

What comes from the log beside the events (outcomes of commands, timers) has nothing to be compared with here; the other sites have it too.
"""

import anyio.lowlevel

from overseer.memory.rows import MemoryRows
from overseer.runner.verify import Verdict
from overseer.sites.tables import election_tables, table_names
from overseer.tables import Overlay, Rows, Tables, View, after
from subsystems.elections.projection import COUNTS, PROJECTIONS, ProjectionRow
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash, load_event
from subsystems.elections.runtime.rows import COMMANDS, COPIES, TIMERS, CopyRow
from subsystems.elections.subsystem import Elections

__all__ = ["verify_site"]


async def verify_site(name: str, rows: Rows, elections: Elections) -> Verdict:
    """Replay every election that the store holds a copy of. `records` of the verdict counts their events. Raises StoreError."""
    verdict = Verdict(subsystem=name)
    for (key,), copy in View(rows).scan(COPIES):
        # One that was being replaced when the site ended is none: it goes when the election is next looked at.
        if copy.stream:
            _verify(key, copy, rows, elections, verdict)
        await anyio.lowlevel.checkpoint()
    verdict.to_index = verdict.records
    return verdict


def _verify(key: str, copy: CopyRow, rows: Rows, elections: Elections, verdict: Verdict) -> None:
    row = View(rows).get(ELECTIONS, (key,))
    sequence, digest = (0, bytes(32)) if row is None else (row.sequence, row.digest)
    archived = row is not None and row.archived
    if sequence != copy.applied.sequence or (not archived and digest != copy.applied.digest):
        verdict.fault(f"{key}: its place is event {copy.applied.sequence}, its rows are those of event {sequence}, or of others")
    made = Overlay(MemoryRows(table_names(elections)))
    for (_, number), data in View(rows).scan(EVENTS, prefix=(key_hash(key),)):
        try:
            elections.evolve(Tables(made), load_event(data))
        except Exception as error:
            verdict.fault(f"{key}: event {number} cannot be applied: {error!r}"[:300])
            return
        verdict.records += 1
    if not archived and View(made).get(ELECTIONS, (key,)) != row:
        verdict.fault(f"{key}: its head is {row}, by its events it is {View(made).get(ELECTIONS, (key,))}")
    _compare(key, rows, made, elections, verdict)


def _compare(key: str, rows: Rows, made: Rows, elections: Elections, verdict: Verdict) -> None:
    election = key_hash(key)
    old = _of_another_version(election, rows, made)
    for table in election_tables(elections):
        if table.name in (COMMANDS.name, TIMERS.name):
            continue
        found, wanted = (_rows_of(table.name, election, each) for each in (rows, made))
        verdict.rows += len(found)
        for place in sorted(found.keys() | wanted.keys()):
            # A projection is counted anew with the election's next event.
            name = place[len(election) :].partition(b"\0")[0]
            counted_otherwise = table.name in (COUNTS.name, PROJECTIONS.name) and name in old
            if found.get(place) != wanted.get(place) and not counted_otherwise:
                verdict.fault(f"{key}: the row {place[len(election) :].hex()[:40]} of {table.name} is not what the events make")


def _rows_of(table: str, election: bytes, rows: Rows) -> dict[bytes, bytes]:
    return dict(rows.scan(table, election, after(election)))


def _of_another_version(election: bytes, rows: Rows, made: Rows) -> set[bytes]:
    """Projections that were counted by another version than the present one."""

    def versions(of: Rows) -> dict[str, ProjectionRow]:
        return {name: row for (_, name), row in View(of).scan(PROJECTIONS, prefix=(election,))}

    found, wanted = versions(rows), versions(made)
    return {name.encode() for name in found.keys() | wanted.keys() if _version(found, name) != _version(wanted, name)}


def _version(of: dict[str, ProjectionRow], name: str) -> int:
    return of[name].version if name in of else -1
