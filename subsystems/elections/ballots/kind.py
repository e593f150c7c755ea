"""Ballot elections as a kind of the runtime."""

from collections.abc import Iterable

from messages.ballots import (
    AlreadyCast,
    AlreadyJudged,
    BallotCast,
    BallotElection,
    BallotInvalidated,
    BallotNotCast,
    BallotValidated,
    CastBallot,
    CloseDue,
    CloseElection,
    ElectionClosed,
    ElectionInvalidated,
    ElectionOpened,
    ElectionValidated,
    ElectorateExhausted,
    GetBallotElection,
    InvalidateBallot,
    InvalidateElection,
    MalformedElection,
    OpenElection,
    PollsClosed,
    RoundReport,
    UnknownChoice,
    Unreviewed,
    ValidateBallot,
    ValidateElection,
    WrongPhase,
)
from messages.elections import ElectionEvent, ElectionFact, OfElection
from messages.message import Message, Rejection
from overseer.subsystem import Check, Context, Decision
from overseer.tables import Tables, View
from subsystems.elections.ballots import decisions, evolution
from subsystems.elections.ballots.projections import Status, Tally, Turnout
from subsystems.elections.ballots.rows import BALLOTS, ROUNDS, STATES, phase_of
from subsystems.elections.ballots.transitions import wrong_phase
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.kind import KindDeclaration
from subsystems.elections.rows import key_hash

__all__ = ["Ballots"]

_COMMANDS = (OpenElection, CloseElection, ValidateElection, InvalidateElection, CastBallot, ValidateBallot, InvalidateBallot)

DECLARATION = KindDeclaration(
    name="ballots",
    consumes=_COMMANDS,
    requests=_COMMANDS,
    held_in_governance=(OpenElection, ValidateElection),
    events=(ElectionOpened, ElectionClosed, ElectionValidated, ElectionInvalidated, BallotCast, BallotValidated, BallotInvalidated),
    terminal=(ElectionValidated,),
    sends=(ElectionOpened, ElectionClosed, ElectionValidated, ElectionInvalidated),
    answers=(GetBallotElection,),
    timers=(CloseDue,),
    rejections=(
        WrongPhase,
        MalformedElection,
        AlreadyCast,
        UnknownChoice,
        ElectorateExhausted,
        PollsClosed,
        BallotNotCast,
        AlreadyJudged,
        Unreviewed,
    ),
    tables=(STATES, ROUNDS, BALLOTS),
    projections=(Status(), Tally(), Turnout()),
)


class Ballots:
    """Seven commands, one event each: idle, open, closed, then valid, or invalid and open again (B01 to B11)."""

    def __init__(self, config: ElectionsConfig) -> None:
        self.config = config

    @property
    def declaration(self) -> KindDeclaration:
        return DECLARATION

    def decide(self, view: View, message: Message, context: Context, *, sequence: int) -> Decision | Rejection:
        assert isinstance(message, OfElection)
        refusal = wrong_phase(phase_of(view, key_hash(message.election)), message)
        return refusal or decisions.decide(view, message, context.now_ms, sequence, self.config)

    def due(self, view: View, key: str) -> bool:
        return False

    def evolve(self, tables: Tables, event: Message) -> None:
        assert isinstance(event, ElectionEvent)
        evolution.apply(tables, event)

    def react(self, event: Message) -> Iterable[Message]:
        """The course of an election is told; who voted what is not."""
        return [event] if isinstance(event, ElectionFact) else ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        assert isinstance(query, GetBallotElection)
        election = key_hash(query.election)
        state = view.get(STATES, (election,))
        assert state is not None, "the runtime knows the election"
        rounds = [
            RoundReport(number, row.phase, row.opened_ms, row.closed_ms or None, row.cast, row.valid, row.invalid)
            for (_, number), row in view.scan(ROUNDS, prefix=(election,))
        ]
        return BallotElection(
            election=query.election,
            title=state.title,
            choices=state.choices,
            phase=state.phase,
            electorate=state.electorate,
            closes_at=state.closes_at,
            rounds=rounds,
        )

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()
