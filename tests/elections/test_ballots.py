"""Ballot elections: the seven commands, phase by phase (docs/elections.md, B01 to B11)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.ballots import (
    AlreadyCast,
    AlreadyJudged,
    BallotCast,
    BallotElection,
    BallotInvalidated,
    BallotNotCast,
    BallotPhase,
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
    UnknownChoice,
    Unreviewed,
    ValidateBallot,
    ValidateElection,
    Verdict,
    WrongPhase,
)
from messages.elections import ElectionEvent, GovernanceHeld, OfElection, Recorded
from messages.message import Message
from messages.signals import GovernanceMode, GovernanceState
from overseer.testing.given import Given
from subsystems.elections.ballots.transitions import TRANSITIONS
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.subsystem import Elections

KEY = "mayor-2026"
S, T = b"signature of S", b"signature of T"
OPEN = OpenElection(election=KEY, title="Mayor", choices=["Ada", "Grace"])
CLOSE, VALIDATE, INVALIDATE = CloseElection(election=KEY), ValidateElection(election=KEY), InvalidateElection(election=KEY, reason="fraud")


def cast(voter: bytes = S, choice: str = "Ada") -> CastBallot:
    return CastBallot(election=KEY, voter=voter, choice=choice, at=7)


def after(*commands: Message, config: ElectionsConfig | None = None) -> Given:
    """An election after these commands, all accepted."""
    given = Given(Elections(config))
    for command in commands:
        then = given.when(command)
        assert then.rejection is None, then.rejection
    return given


def report(given: Given) -> BallotElection:
    answer = given.ask(GetBallotElection(election=KEY))
    assert isinstance(answer, BallotElection)
    return answer


def test_B01_an_idle_election_is_opened_by_one_event_that_is_told() -> None:
    then = after().when(OPEN)
    opened = ElectionOpened(election=KEY, at_ms=1_000_000, sequence=1, round=1, title="Mayor", choices=["Ada", "Grace"])
    assert (then.events, then.sent) == ([opened], [opened])
    assert then.reply == Recorded(election=KEY, sequence=1, copies=1)


def test_B02_an_open_election_is_not_opened_again() -> None:
    then = after(OPEN).when(OPEN)
    assert then.events == []
    assert then.rejection == WrongPhase(phase=BallotPhase.OPEN, command="open_election", allowed=["cast_ballot", "close_election"])


def test_B03_an_open_election_is_closed() -> None:
    then = after(OPEN, cast()).when(CLOSE)
    assert then.events == [ElectionClosed(election=KEY, at_ms=1_000_000, sequence=3, round=1, cast=1)]
    assert then.sent == then.events


def test_B04_a_closed_election_is_validated_and_never_opened_again() -> None:
    given = after(OPEN, cast(), CLOSE, ValidateBallot(election=KEY, voter=S))
    then = given.when(VALIDATE)
    assert then.events == [ElectionValidated(election=KEY, at_ms=1_000_000, sequence=5, round=1, cast=1, valid=1, invalid=0)]
    assert given.when(OPEN).rejection == WrongPhase(phase=BallotPhase.VALID, command="open_election", allowed=[])


def test_B05_an_invalid_election_is_opened_again_as_the_next_round_and_the_earlier_counters_stay() -> None:
    given = after(OPEN, cast(), cast(T), CLOSE, InvalidateBallot(election=KEY, voter=T), INVALIDATE, OPEN)
    assert given.when(cast()).rejection is None, "the signature is new in this round"
    first, second = report(given).rounds
    assert (first.phase, first.cast, first.valid, first.invalid) == (BallotPhase.INVALID, 2, 0, 1)
    assert (second.round, second.phase, second.cast, second.valid, second.invalid) == (2, BallotPhase.OPEN, 1, 0, 0)


def test_B06_an_open_election_is_not_invalidated() -> None:
    assert isinstance(after(OPEN).when(INVALIDATE).rejection, WrongPhase)


def test_B07_a_ballot_is_cast_and_counted() -> None:
    given = after(OPEN)
    then = given.when(cast())
    assert then.events == [BallotCast(election=KEY, at_ms=1_000_000, round=1, voter=S, choice="Ada", at=7)]
    assert then.sent == [], "who voted what is not told"
    assert report(given).rounds[0].cast == 1


def test_B08_a_signature_casts_once_in_a_round() -> None:
    given = after(OPEN, cast())
    assert given.when(cast(choice="Grace")).rejection == AlreadyCast(round=1)
    assert report(given).rounds[0].cast == 1


@pytest.mark.parametrize("before", [[], [OPEN, CLOSE]], ids=["idle", "closed"])
def test_B09_nothing_is_cast_where_the_polls_are_not_open(before: list[Message]) -> None:
    then = after(*before).when(cast())
    assert isinstance(then.rejection, WrongPhase)
    assert then.events == []


def test_B10_each_ballot_gets_one_verdict_and_only_a_cast_one() -> None:
    given = after(OPEN, cast(), cast(T, "Grace"), CLOSE)
    assert given.when(ValidateBallot(election=KEY, voter=S)).events == [
        BallotValidated(election=KEY, at_ms=1_000_000, round=1, voter=S, choice="Ada", reason="")
    ]
    assert given.when(InvalidateBallot(election=KEY, voter=S)).rejection == AlreadyJudged(verdict=Verdict.VALID)
    assert given.when(InvalidateBallot(election=KEY, voter=T, reason="blank")).events == [
        BallotInvalidated(election=KEY, at_ms=1_000_000, round=1, voter=T, choice="Grace", reason="blank")
    ]
    assert given.when(ValidateBallot(election=KEY, voter=T)).rejection == AlreadyJudged(verdict=Verdict.INVALID)
    assert given.when(ValidateBallot(election=KEY, voter=b"stranger")).rejection == BallotNotCast(round=1)


COMMANDS: list[OfElection] = [
    OPEN,
    CLOSE,
    VALIDATE,
    INVALIDATE,
    cast(b"new"),
    ValidateBallot(election=KEY, voter=S),
    InvalidateBallot(election=KEY, voter=S),
]
PHASES: dict[BallotPhase, list[Message]] = {
    BallotPhase.IDLE: [],
    BallotPhase.OPEN: [OPEN, cast()],
    BallotPhase.CLOSED: [OPEN, cast(), CLOSE],
    BallotPhase.INVALID: [OPEN, cast(), CLOSE, INVALIDATE],
    BallotPhase.VALID: [OPEN, cast(), CLOSE, VALIDATE],
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.spec.name)
def test_B11_every_command_in_every_phase_is_taken_or_refused_as_the_table_says_and_a_refusal_changes_nothing(
    phase: BallotPhase, command: OfElection
) -> None:
    given = after(*PHASES[phase], config=ElectionsConfig(validate_unreviewed=True))
    rows = given.rows.all()
    then = given.when(command)
    if (phase, type(command)) in TRANSITIONS:
        assert len(then.events) == 1, "one event for each command"
        assert report(given).phase is TRANSITIONS[phase, type(command)]
    else:
        assert isinstance(then.rejection, WrongPhase)
        assert (then.rejection.phase, then.rejection.command) == (phase, command.spec.name)
        assert rows == given.rows.all()


def test_an_election_is_not_validated_while_ballots_are_unreviewed_unless_configured() -> None:
    assert after(OPEN, cast(), CLOSE).when(VALIDATE).rejection == Unreviewed(count=1)
    assert after(OPEN, cast(), CLOSE, config=ElectionsConfig(validate_unreviewed=True)).when(VALIDATE).rejection is None


def test_what_is_not_on_the_ballot_cannot_be_chosen() -> None:
    assert after(OPEN).when(cast(choice="Nobody")).rejection == UnknownChoice(choices=["Ada", "Grace"])


def test_no_more_ballots_than_voters() -> None:
    given = after(OpenElection(election=KEY, title="Mayor", choices=["Ada"], electorate=1), cast())
    assert given.when(cast(T)).rejection == ElectorateExhausted(electorate=1)


@pytest.mark.parametrize(
    ("choices", "closes_at", "detail"), [(["Ada", "Ada"], None, "twice"), (["Ada"], 1_000_000, "before they open")], ids=["twice", "past"]
)
def test_a_malformed_election_is_refused(choices: list[str], closes_at: int | None, detail: str) -> None:
    then = after().when(OpenElection(election=KEY, title="Mayor", choices=choices, closes_at=closes_at))
    assert isinstance(then.rejection, MalformedElection)
    assert detail in then.rejection.detail


def test_the_polls_close_by_themselves_at_their_time_and_take_nothing_from_then_on() -> None:
    given = after(OpenElection(election=KEY, title="Mayor", choices=["Ada"], closes_at=2_000_000), cast())
    assert given.when(cast(T), now_ms=2_000_000).rejection == PollsClosed(closes_at=2_000_000)
    assert given.settle().events == [ElectionClosed(election=KEY, at_ms=2_000_000, sequence=3, round=1, cast=1)]


def test_the_closing_time_of_an_earlier_round_closes_nothing() -> None:
    given = after(OpenElection(election=KEY, title="Mayor", choices=["Ada"], closes_at=2_000_000), CLOSE, INVALIDATE, OPEN)
    assert given.timers == {}, "closing took it back"
    assert given.when(CloseDue(election=KEY, round=1)).events == []
    assert report(given).phase is BallotPhase.OPEN


def test_in_governance_mode_opening_and_validating_wait_and_all_else_goes_on() -> None:
    entered = GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=5)
    left = GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=5)
    given = after(OPEN, entered)
    refused = given.when(OpenElection(election="other", title="Other", choices=["x"])).rejection
    assert refused == GovernanceHeld()
    assert refused.retriable
    assert given.when(cast()).rejection is None
    assert given.when(CLOSE).rejection is None
    assert given.when(ValidateBallot(election=KEY, voter=S)).rejection is None
    assert given.when(VALIDATE).rejection == GovernanceHeld()
    given.when(left)
    assert given.when(VALIDATE).rejection is None


@st.composite
def stories(draw: st.DrawFn) -> list[Any]:
    voters = st.sampled_from([b"a", b"b", b"c", b"d"])
    one = st.one_of(
        st.sampled_from([OPEN, CLOSE, VALIDATE, INVALIDATE]),
        st.builds(cast, voters, st.sampled_from(["Ada", "Grace", "Nobody"])),
        st.builds(lambda v: ValidateBallot(election=KEY, voter=v), voters),
        st.builds(lambda v: InvalidateBallot(election=KEY, voter=v), voters),
    )
    return draw(st.lists(one, max_size=40))


@given(story=stories())
def test_whatever_is_commanded_the_counters_are_those_of_the_events_and_a_replay_gives_the_same(story: list[Message]) -> None:
    given = after()
    for command in story:
        given.when(command)
    events = [event for event in given.history if isinstance(event, ElectionEvent)]
    assert given.replayed().rows.all() == given.rows.all()
    if not events:
        return
    for row in report(given).rounds:
        of_round = [event for event in events if getattr(event, "round", None) == row.round]
        counted = [sum(isinstance(event, kind) for event in of_round) for kind in (BallotCast, BallotValidated, BallotInvalidated)]
        assert counted == [row.cast, row.valid, row.invalid]
        assert len({event.voter for event in of_round if isinstance(event, BallotCast)}) == row.cast
        assert row.valid + row.invalid <= row.cast
    assert not any(isinstance(event, ElectionInvalidated) for event in events[:1])
