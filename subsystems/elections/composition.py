"""The subsystem's declaration, made of those of its kinds."""

from collections.abc import Iterable, Sequence
from typing import Any

from blake3 import blake3

from messages.elections import (
    Archived,
    ArchiveDue,
    ArchiveElection,
    ChainDue,
    ChainSeen,
    ElectionArchived,
    GetElection,
    GovernanceHeld,
    GovernanceSeen,
    ListElections,
    QueryHistory,
    QueryProjection,
    Retained,
    SessionSeen,
    UnknownElection,
    UnknownProjection,
)
from messages.signals import BestChain, GovernanceMode, SessionChange
from overseer.subsystem import Declaration
from overseer.tables import Table
from subsystems.elections.chain import BEST, CHAIN, FOLLOWING, SESSION
from subsystems.elections.kind import KindDeclaration
from subsystems.elections.projection import COUNTS, PROJECTIONS, Projection
from subsystems.elections.rows import ELECTIONS, EVENTS, GOVERNANCE

__all__ = ["Clash", "composed"]

# Raised when the rows of an election are made otherwise from the same events, and when there are other tables.
_EVOLVE_VERSION = 4
_TABLES: tuple[Table[Any], ...] = (ELECTIONS, EVENTS, GOVERNANCE, CHAIN, BEST, SESSION, FOLLOWING, PROJECTIONS, COUNTS)


class Clash(Exception):
    """Two kinds, two tables or two projections want the same name."""


def composed(kinds: Sequence[KindDeclaration], projections: Sequence[Projection]) -> Declaration:
    """What the subsystem is with these kinds. Raises Clash."""
    tables = (*_TABLES, *(table for kind in kinds for table in kind.tables))
    _distinct("kind", (kind.name for kind in kinds))
    _distinct("table", (table.name for table in tables))
    for kind in kinds:
        _distinct("projection", (projection.name for projection in (*kind.projections, *projections)))
    return Declaration(
        name="elections",
        description="Long-lived elections of every kind: commands decided, events kept and numbered, counted along, retained",
        consumes=_each((ArchiveElection, GovernanceMode, BestChain, SessionChange), *(kind.consumes for kind in kinds)),
        sends=_each((ElectionArchived,), *(kind.sends for kind in kinds)),
        answers=_each((GetElection, ListElections, QueryHistory, QueryProjection), *(kind.answers for kind in kinds)),
        requests=_each((ArchiveElection,), *(kind.requests for kind in kinds)),
        events=_each((GovernanceSeen, ChainSeen, SessionSeen), *(kind.events for kind in kinds)),
        timers=_each((ArchiveDue, ChainDue), *(kind.timers for kind in kinds)),
        rejections=_each((UnknownElection, UnknownProjection, Archived, Retained, GovernanceHeld), *(kind.rejections for kind in kinds)),
        tables=tables,
        evolve_version=_version(kinds, projections),
    )


def _each(*groups: Iterable[Any]) -> tuple[Any, ...]:
    """All of them, each once."""
    return tuple(dict.fromkeys(each for group in groups for each in group))


def _distinct(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Clash(f"there are two {what}s called {name!r}")
        seen.add(name)


def _version(kinds: Sequence[KindDeclaration], projections: Sequence[Projection]) -> int:
    """Another one whenever a projection comes, goes or changes: the rows are then made anew from the journal (B24)."""
    named = sorted((p.name, p.version) for p in (*(p for kind in kinds for p in kind.projections), *projections))
    return int.from_bytes(blake3(repr((_EVOLVE_VERSION, named)).encode()).digest()[:4], "big")
