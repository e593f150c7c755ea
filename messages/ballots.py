"""The contract of ballot elections: seven commands, one event each (docs/elections.md, B01 to B11)."""

import enum
from typing import Annotated

import msgspec

from messages.elections import ElectionEvent, ElectionFact, OfElection, Recorded, WrongPhase
from messages.message import Rejection, Row, command, event, fact, query, rejection, reply, timer
from messages.primitives import U32, TimeMs

__all__ = [
    "AlreadyCast",
    "AlreadyJudged",
    "BallotCast",
    "BallotElection",
    "BallotInvalidated",
    "BallotNotCast",
    "BallotPhase",
    "BallotValidated",
    "CastBallot",
    "CloseDue",
    "CloseElection",
    "ElectionClosed",
    "ElectionInvalidated",
    "ElectionOpened",
    "ElectionValidated",
    "ElectorateExhausted",
    "GetBallotElection",
    "InvalidateBallot",
    "InvalidateElection",
    "MalformedElection",
    "OpenElection",
    "PollsClosed",
    "RoundReport",
    "UnknownChoice",
    "Unreviewed",
    "ValidateBallot",
    "ValidateElection",
    "Verdict",
    "VoterSignature",
    "WrongPhase",
]

# What a voter is known by in one election: the signature on the ballot, or a token made of it. Not interpreted here.
VoterSignature = Annotated[bytes, msgspec.Meta(min_length=1, max_length=128)]
Choice = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Reason = Annotated[str, msgspec.Meta(max_length=500)]


class BallotPhase(enum.StrEnum):
    """Where a ballot election is. Idle: never opened."""

    IDLE = "idle"
    OPEN = "open"
    CLOSED = "closed"
    INVALID = "invalid"
    VALID = "valid"


class Verdict(enum.StrEnum):
    VALID = "valid"
    INVALID = "invalid"


# ------------------------------------------------------------------------------------------------ commands


@command(to="elections", reply=Recorded)
class OpenElection(OfElection, frozen=True, kw_only=True):
    """Open a new election, or an invalid one again as its next round. Choices are distinct."""

    title: Title
    choices: Annotated[list[Choice], msgspec.Meta(min_length=1, max_length=256)]
    # How many may vote, where that is known.
    electorate: U32 | None = None
    # When the polls close by themselves.
    closes_at: TimeMs | None = None


@command(to="elections", reply=Recorded)
class CloseElection(OfElection, frozen=True, kw_only=True):
    """No ballots any more in this round; verdicts begin."""


@command(to="elections", reply=Recorded)
class ValidateElection(OfElection, frozen=True, kw_only=True):
    """The result stands. Refused while ballots are unreviewed, unless the node is configured otherwise."""


@command(to="elections", reply=Recorded)
class InvalidateElection(OfElection, frozen=True, kw_only=True):
    """This round does not count."""

    reason: Reason = ""


@command(to="elections", reply=Recorded)
class CastBallot(OfElection, frozen=True, kw_only=True):
    """`at`: when the voter says it was cast; information only."""

    voter: VoterSignature
    choice: Choice
    at: TimeMs = 0


@command(to="elections", reply=Recorded)
class ValidateBallot(OfElection, frozen=True, kw_only=True):
    """The verdict for one ballot of a closed election: it counts."""

    voter: VoterSignature
    reason: Reason = ""


@command(to="elections", reply=Recorded)
class InvalidateBallot(OfElection, frozen=True, kw_only=True):
    """The verdict against one ballot of a closed election: it does not count."""

    voter: VoterSignature
    reason: Reason = ""


@timer(by="elections")
class CloseDue(OfElection, frozen=True, kw_only=True):
    """The polls of this round close now, if they are still open."""

    round: U32


# ------------------------------------------------------------------------------------------------ events


@fact(by="elections")
class ElectionOpened(ElectionFact, frozen=True, kw_only=True):
    """Rounds count from 1."""

    round: U32
    title: Title
    choices: list[Choice]
    electorate: U32 | None = None
    closes_at: TimeMs | None = None


@fact(by="elections")
class ElectionClosed(ElectionFact, frozen=True, kw_only=True):
    """`cast`: ballots of this round."""

    round: U32
    cast: U32


@fact(by="elections")
class ElectionValidated(ElectionFact, frozen=True, kw_only=True):
    """The result of the round stands: ballots cast, judged valid and judged invalid."""

    round: U32
    cast: U32
    valid: U32
    invalid: U32


@fact(by="elections")
class ElectionInvalidated(ElectionFact, frozen=True, kw_only=True):
    """The whole round does not count; the election may be opened again."""

    round: U32
    reason: Reason


@event(by="elections")
class BallotCast(ElectionEvent, frozen=True, kw_only=True):
    """A voter's one ballot of this round."""

    round: U32
    voter: VoterSignature
    choice: Choice
    at: TimeMs


@event(by="elections")
class BallotValidated(ElectionEvent, frozen=True, kw_only=True):
    """`choice` is the ballot's: counting needs nothing else."""

    round: U32
    voter: VoterSignature
    choice: Choice
    reason: Reason


@event(by="elections")
class BallotInvalidated(ElectionEvent, frozen=True, kw_only=True):
    """A ballot was judged not to count; its choice, so that projections can take it off."""

    round: U32
    voter: VoterSignature
    choice: Choice
    reason: Reason


# ------------------------------------------------------------------------------------------------ queries


class RoundReport(Row, frozen=True):
    """The counters of one round. `phase` is how it ended, or where it is."""

    round: U32
    phase: BallotPhase
    opened_ms: TimeMs
    closed_ms: TimeMs | None
    cast: U32
    valid: U32
    invalid: U32


@reply(by="elections")
class BallotElection(OfElection, frozen=True, kw_only=True):
    """A ballot election, with all its rounds, the present one last."""

    title: Title
    choices: list[Choice]
    phase: BallotPhase
    electorate: U32 | None
    closes_at: TimeMs | None
    rounds: list[RoundReport]


@query(to="elections", reply=BallotElection)
class GetBallotElection(OfElection, frozen=True, kw_only=True):
    """Where a ballot election is."""


# ------------------------------------------------------------------------------------------------ refusals


@rejection(by="elections")
class MalformedElection(Rejection, frozen=True, kw_only=True):
    """The definition contradicts itself; `detail` says in what."""

    detail: str


@rejection(by="elections")
class AlreadyCast(Rejection, frozen=True, kw_only=True):
    """A ballot with this signature was cast in this round before."""

    round: U32


@rejection(by="elections")
class UnknownChoice(Rejection, frozen=True, kw_only=True):
    """The ballot names none of the election's choices, which are given."""

    choices: list[Choice]


@rejection(by="elections")
class ElectorateExhausted(Rejection, frozen=True, kw_only=True):
    """As many ballots as there are voters were cast."""

    electorate: U32


@rejection(by="elections")
class PollsClosed(Rejection, frozen=True, kw_only=True):
    """The time to vote is over, though the election is not closed yet."""

    closes_at: TimeMs


@rejection(by="elections")
class BallotNotCast(Rejection, frozen=True, kw_only=True):
    """No ballot with this signature was cast in this round."""

    round: U32


@rejection(by="elections")
class AlreadyJudged(Rejection, frozen=True, kw_only=True):
    """One verdict for each ballot."""

    verdict: Verdict


@rejection(by="elections")
class Unreviewed(Rejection, frozen=True, kw_only=True):
    """So many ballots have no verdict yet."""

    count: U32
