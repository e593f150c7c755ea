"""The rows of a ballot election: where it is, its rounds, its ballots."""

import msgspec

from messages.ballots import BallotPhase, Verdict
from overseer.tables import HASH, TAIL, U32, Table, View

__all__ = ["BALLOTS", "ROUNDS", "STATES", "Ballot", "Round", "State", "ballot_of", "phase_of"]


class State(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A ballot election; its choices are those of the present round."""

    phase: BallotPhase
    round: int
    title: str
    choices: list[str]
    electorate: int | None
    closes_at: int | None


class Round(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The counters of one round; those of earlier rounds stay as they were."""

    phase: BallotPhase
    opened_ms: int
    closed_ms: int = 0
    cast: int = 0
    valid: int = 0
    invalid: int = 0


class Ballot(msgspec.Struct, frozen=True, array_like=True):
    choice: str
    verdict: Verdict | None = None


# (election)
STATES = Table("ballot_states", key=(HASH,), value=State)
# (election, round)
ROUNDS = Table("ballot_rounds", key=(HASH, U32), value=Round)
# (election, round, voter signature)
BALLOTS = Table("ballots", key=(HASH, U32, TAIL), value=Ballot)


def phase_of(view: View, election: bytes) -> BallotPhase:
    """Idle where it was never opened."""
    state = view.get(STATES, (election,))
    return BallotPhase.IDLE if state is None else state.phase


def ballot_of(view: View, election: bytes, round: int, voter: bytes) -> Ballot | None:
    return view.get(BALLOTS, (election, round, voter))
