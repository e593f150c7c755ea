"""What becomes of a command: one event, or a typed refusal (B01 to B11). The phase has been looked at before."""

from collections.abc import Callable

from messages.ballots import (
    AlreadyCast,
    AlreadyJudged,
    BallotCast,
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
    InvalidateBallot,
    InvalidateElection,
    MalformedElection,
    OpenElection,
    PollsClosed,
    UnknownChoice,
    Unreviewed,
    ValidateBallot,
    ValidateElection,
)
from messages.elections import ElectionEvent, OfElection
from messages.message import Message, Rejection
from overseer.subsystem import CancelTimer, Decision, SetTimer
from overseer.tables import View
from subsystems.elections.ballots.rows import ROUNDS, STATES, Round, State, ballot_of
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.rows import key_hash

__all__ = ["decide"]


def decide(view: View, command: OfElection, now_ms: int, sequence: int, config: ElectionsConfig) -> Decision | Rejection:
    """The decision on a command that is for this phase."""
    if isinstance(command, OpenElection):
        return _open(view, command, now_ms, sequence)
    key = command.election
    state = view.get(STATES, (key_hash(key),))
    assert state is not None, "only opening is for an idle election"
    round = view.get(ROUNDS, (key_hash(key), state.round))
    assert round is not None
    match command:
        case CastBallot():
            return _cast(view, command, state, round, now_ms)
        case ValidateBallot() | InvalidateBallot():
            return _judge(view, command, state, now_ms)
        case CloseDue() if command.round != state.round:
            return Decision()
        case CloseElection() | CloseDue():
            return _close(key, state, round, now_ms, sequence)
        case ValidateElection():
            return _validate(key, state, round, now_ms, sequence, config)
        case InvalidateElection():
            event = ElectionInvalidated(election=key, at_ms=now_ms, sequence=sequence, round=state.round, reason=command.reason)
            return Decision(events=[event])
        case _:
            raise TypeError(f"{command.spec.key} is not a command of ballot elections")


def _open(view: View, command: OpenElection, now_ms: int, sequence: int) -> Decision | Rejection:
    if len(set(command.choices)) != len(command.choices):
        return MalformedElection(detail="a choice is named twice")
    if command.closes_at is not None and command.closes_at <= now_ms:
        return MalformedElection(detail=f"the polls would close at {command.closes_at}, before they open at {now_ms}")
    before = view.get(STATES, (key_hash(command.election),))
    event = ElectionOpened(
        election=command.election,
        at_ms=now_ms,
        sequence=sequence,
        round=1 if before is None else before.round + 1,
        title=command.title,
        choices=command.choices,
        electorate=command.electorate,
        closes_at=command.closes_at,
    )
    if command.closes_at is None:
        return Decision(events=[event])
    due = CloseDue(election=command.election, round=event.round)
    return Decision(events=[event], timers=[SetTimer(key=_close_timer(command.election), at_ms=command.closes_at, message=due)])


def _close_timer(key: str) -> str:
    return f"close {key}"


def _cast(view: View, command: CastBallot, state: State, round: Round, now_ms: int) -> Decision | Rejection:
    if state.closes_at is not None and now_ms >= state.closes_at:
        return PollsClosed(closes_at=state.closes_at)
    if command.choice not in state.choices:
        return UnknownChoice(choices=state.choices)
    if ballot_of(view, key_hash(command.election), state.round, command.voter) is not None:
        return AlreadyCast(round=state.round)
    if state.electorate is not None and round.cast >= state.electorate:
        return ElectorateExhausted(electorate=state.electorate)
    event = BallotCast(
        election=command.election, at_ms=now_ms, round=state.round, voter=command.voter, choice=command.choice, at=command.at
    )
    return Decision(events=[event])


_VERDICTS: dict[type[Message], Callable[..., ElectionEvent]] = {ValidateBallot: BallotValidated, InvalidateBallot: BallotInvalidated}


def _judge(view: View, command: ValidateBallot | InvalidateBallot, state: State, now_ms: int) -> Decision | Rejection:
    ballot = ballot_of(view, key_hash(command.election), state.round, command.voter)
    if ballot is None:
        return BallotNotCast(round=state.round)
    if ballot.verdict is not None:
        return AlreadyJudged(verdict=ballot.verdict)
    event = _VERDICTS[type(command)](
        election=command.election, at_ms=now_ms, round=state.round, voter=command.voter, choice=ballot.choice, reason=command.reason
    )
    return Decision(events=[event])


def _close(key: str, state: State, round: Round, now_ms: int, sequence: int) -> Decision:
    event = ElectionClosed(election=key, at_ms=now_ms, sequence=sequence, round=state.round, cast=round.cast)
    return Decision(events=[event], timers=[CancelTimer(key=_close_timer(key))])


def _validate(key: str, state: State, round: Round, now_ms: int, sequence: int, config: ElectionsConfig) -> Decision | Rejection:
    unreviewed = round.cast - round.valid - round.invalid
    if unreviewed and not config.validate_unreviewed:
        return Unreviewed(count=unreviewed)
    event = ElectionValidated(
        election=key, at_ms=now_ms, sequence=sequence, round=state.round, cast=round.cast, valid=round.valid, invalid=round.invalid
    )
    return Decision(events=[event])
