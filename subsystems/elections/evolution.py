"""Applying an election's event: its head, its log, its kind's rows, its projections."""

from blake3 import blake3

from messages.elections import ElectionArchived, ElectionEvent
from overseer.tables import Tables
from subsystems.elections.chain import FOLLOWING
from subsystems.elections.kind import Kind, KindDeclaration
from subsystems.elections.projection import COUNTS, PROJECTIONS, Projection, advance
from subsystems.elections.rows import ELECTIONS, EVENTS, ElectionRow, key_hash

__all__ = ["apply", "archived"]

_BEGIN = bytes(32)


def apply(tables: Tables, kind: Kind, event: ElectionEvent, data: bytes, projections: tuple[Projection, ...]) -> None:
    """One event of a kind: it gets the next number, and the head is chained to it. `data`: as it is kept (`rows.dump_event`)."""
    declared = kind.declaration
    row = tables.get(ELECTIONS, (event.election,))
    if row is None:
        row = ElectionRow(kind=declared.name, sequence=0, digest=_BEGIN, created_ms=event.at_ms, last_ms=event.at_ms)
        if declared.follows_chain:
            tables.put(FOLLOWING, (key_hash(event.election),), event.election)
    election, sequence = key_hash(event.election), row.sequence + 1
    tables.put(EVENTS, (election, sequence), data)
    kind.evolve(tables, event)
    advance(tables, (*declared.projections, *projections), election, sequence, event)
    head = ElectionRow(
        kind=row.kind,
        sequence=sequence,
        digest=blake3(row.digest + data).digest(),
        created_ms=row.created_ms,
        last_ms=event.at_ms,
        terminal_ms=event.at_ms if isinstance(event, declared.terminal) else row.terminal_ms,
    )
    tables.put(ELECTIONS, (event.election,), head)


def archived(tables: Tables, declared: KindDeclaration, event: ElectionArchived) -> None:
    """Its rows go, in constant work; its head stays, so that its key is never used again."""
    row = tables.get(ELECTIONS, (event.election,))
    assert row is not None
    election = key_hash(event.election)
    for table in (EVENTS, PROJECTIONS, COUNTS, FOLLOWING, *declared.tables):
        tables.delete_range(table, (election,))
    head = ElectionRow(
        kind=row.kind,
        sequence=event.sequence,
        digest=event.head,
        created_ms=row.created_ms,
        last_ms=event.at_ms,
        terminal_ms=row.terminal_ms,
        archived=True,
    )
    tables.put(ELECTIONS, (event.election,), head)
