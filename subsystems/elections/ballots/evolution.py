"""Applying the events of ballot elections to their rows."""

from collections.abc import Callable
from typing import Any

import msgspec

from messages.ballots import (
    BallotCast,
    BallotInvalidated,
    BallotPhase,
    BallotValidated,
    ElectionClosed,
    ElectionInvalidated,
    ElectionOpened,
    ElectionValidated,
    Verdict,
)
from messages.elections import ElectionEvent
from overseer.tables import Tables
from subsystems.elections.ballots.rows import BALLOTS, ROUNDS, STATES, Ballot, Round, State
from subsystems.elections.rows import key_hash

__all__ = ["apply"]


def apply(tables: Tables, event: ElectionEvent) -> None:
    """One event: the phase it leads to, and what is counted of it."""
    _APPLY[type(event)](tables, key_hash(event.election), event)


def _opened(tables: Tables, election: bytes, event: ElectionOpened) -> None:
    state = State(
        phase=BallotPhase.OPEN,
        round=event.round,
        title=event.title,
        choices=event.choices,
        electorate=event.electorate,
        closes_at=event.closes_at,
    )
    tables.put(STATES, (election,), state)
    tables.put(ROUNDS, (election, event.round), Round(phase=BallotPhase.OPEN, opened_ms=event.at_ms))


def _closed(tables: Tables, election: bytes, event: ElectionClosed) -> None:
    _enter(tables, election, event.round, BallotPhase.CLOSED, closed_ms=event.at_ms)


def _validated(tables: Tables, election: bytes, event: ElectionValidated) -> None:
    _enter(tables, election, event.round, BallotPhase.VALID)


def _invalidated(tables: Tables, election: bytes, event: ElectionInvalidated) -> None:
    _enter(tables, election, event.round, BallotPhase.INVALID)


def _enter(tables: Tables, election: bytes, round: int, phase: BallotPhase, **changed: int) -> None:
    state, row = tables.get(STATES, (election,)), tables.get(ROUNDS, (election, round))
    assert state is not None
    assert row is not None
    tables.put(STATES, (election,), msgspec.structs.replace(state, phase=phase))
    tables.put(ROUNDS, (election, round), msgspec.structs.replace(row, phase=phase, **changed))


def _cast(tables: Tables, election: bytes, event: BallotCast) -> None:
    tables.put(BALLOTS, (election, event.round, event.voter), Ballot(event.choice))
    _count(tables, election, event.round, cast=1)


def _ballot_validated(tables: Tables, election: bytes, event: BallotValidated) -> None:
    tables.put(BALLOTS, (election, event.round, event.voter), Ballot(event.choice, Verdict.VALID))
    _count(tables, election, event.round, valid=1)


def _ballot_invalidated(tables: Tables, election: bytes, event: BallotInvalidated) -> None:
    tables.put(BALLOTS, (election, event.round, event.voter), Ballot(event.choice, Verdict.INVALID))
    _count(tables, election, event.round, invalid=1)


def _count(tables: Tables, election: bytes, round: int, *, cast: int = 0, valid: int = 0, invalid: int = 0) -> None:
    row = tables.get(ROUNDS, (election, round))
    assert row is not None
    counted = msgspec.structs.replace(row, cast=row.cast + cast, valid=row.valid + valid, invalid=row.invalid + invalid)
    tables.put(ROUNDS, (election, round), counted)


_APPLY: dict[type[ElectionEvent], Callable[[Tables, bytes, Any], None]] = {
    ElectionOpened: _opened,
    ElectionClosed: _closed,
    ElectionValidated: _validated,
    ElectionInvalidated: _invalidated,
    BallotCast: _cast,
    BallotValidated: _ballot_validated,
    BallotInvalidated: _ballot_invalidated,
}
