"""When elections are due and who is chosen: functions of the chain alone."""

from collections import Counter

import pytest
from dkg_kit import drawn, identity, terms_for, wallet

from messages.consensus_manager import Attempt, Deal, Opened
from messages.consensus_signing import next_seed, session_id
from subsystems.consensus_manager.member import Speaker
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.progress import Mine, Progress
from subsystems.consensus_manager.schedule import (
    acceptable_until,
    attempt_at,
    attempts_alive,
    beginning_at,
    begins,
    number_of,
)
from subsystems.consensus_manager.selection import PENALTIES_MAX, Candidate, penalties_after, select

PARAMETERS = Parameters()


def candidates(count: int, weights: dict[int, int] | None = None) -> list[Candidate]:
    return [Candidate(index=n, identity=identity(n), weight=(weights or {}).get(n, 1)) for n in range(count)]


def signing(number: int) -> bytes:
    return identity(number).signing


# ------------------------------------------------------------------------------------------------ schedule


def test_E01_an_election_starts_interval_blocks_behind_the_accepting_block_and_not_before() -> None:
    assert attempt_at(129, 100, PARAMETERS) is None
    assert beginning_at(129, 100, PARAMETERS) is None
    attempt = beginning_at(130, 100, PARAMETERS)
    assert attempt == Attempt(100, 130, 0, 0)
    assert begins(attempt) == 130
    assert next_seed(drawn("block 130"), 0) == drawn("block 130")


def test_E02_another_attempt_starts_at_each_timeout_and_nothing_between() -> None:
    attempt = beginning_at(135, 100, PARAMETERS)
    assert attempt == Attempt(100, 130, 5, 0)
    assert begins(attempt) == 135
    assert [n for n in range(120, 150) if beginning_at(n, 100, PARAMETERS)] == [130, 135, 140, 145]
    assert attempt_at(137, 100, PARAMETERS) == attempt
    assert number_of(attempt, PARAMETERS) == 1


def test_E03_the_same_block_names_the_same_session_once_more() -> None:
    """A session is opened by its name: what names it twice opens it once."""
    assert {terms_for().session for _ in range(2)} == {terms_for().session}
    others = [
        terms_for(attempt=Attempt(100, 130, 5, 0)),
        terms_for(attempt=Attempt(100, 130, 0, 1)),
        terms_for(block="another block"),
        terms_for(7),
    ]
    assert len({terms_for().session, *(terms.session for terms in others)}) == 5
    terms = terms_for()
    named = {"epoch": 1, "attempt": terms.attempt, "seed": terms.seed, "members": terms.members}
    assert session_id(chain=terms.chain, **named) == terms.session
    assert session_id(chain=drawn("another chain"), **named) != terms.session
    assert session_id(chain=terms.chain, **(named | {"members": terms.members[::-1]})) != terms.session


def test_as_many_attempts_live_as_are_allowed_and_no_more() -> None:
    delays = [attempt.delay for attempt in attempts_alive(146, 100, PARAMETERS)]
    assert delays == [5, 10, 15]
    assert [a.delay for a in attempts_alive(134, 100, PARAMETERS)] == [0]
    assert attempts_alive(129, 100, PARAMETERS) == []
    assert acceptable_until(Attempt(100, 130, 5, 0), PARAMETERS) == 150


def test_E22_a_member_that_starts_late_deals_nothing_where_the_time_is_over() -> None:
    """Head 137, epoch_start 100: (130, 0) and (130, 5) live, both too late to deal in; (130, 10) begins at 140."""
    assert [a.delay for a in attempts_alive(137, 100, PARAMETERS)] == [0, 5]
    for delay, head, deals in ((0, 137, False), (5, 137, False), (5, 136, False), (10, 140, True)):
        terms = terms_for(attempt=Attempt(100, 130, delay, 0))
        speaker = Speaker(terms, Progress(session=terms.session), Mine(place=2), {}, head=head, wallet=wallet(2))
        names = [event.name for event in speaker.due() if hasattr(event, "name")]
        assert Opened.spec.name in names
        assert (Deal.spec.name in names) == deals


def test_parameters_that_cannot_work_are_refused() -> None:
    for wrong in (
        {"group_size": 5},
        {"group_size": 1},
        {"election_timeout": 4},
        {"interval": 0},
        {"attempts_alive": 0},
        {"min_confirmations": 2},
        {"min_confirmations": 5},
    ):
        with pytest.raises(ValueError, match=r"."):
            Parameters(**wrong)
    assert Parameters(min_confirmations=3).confirmations == 3
    assert Parameters().confirmations == 4


# ------------------------------------------------------------------------------------------------ selection


def test_E04_who_is_not_drawn_is_no_member() -> None:
    members = select(candidates(9), seed=drawn("seed"), size=4)
    assert members is not None
    chosen = {member.validator for member in members}
    assert len(chosen) == 4
    terms = terms_for(4, validators=9)
    for number in range(9):
        assert (terms.place_of(signing(number)) is None) == (number >= 4)


def test_E05_the_same_ledger_and_hash_give_the_same_ordered_members() -> None:
    held = {signing(3): 2, signing(5): 1}
    for draw in range(20):
        one = select(candidates(12), seed=drawn(draw), size=7, failed=1, penalties=held)
        other = select(candidates(12)[::-1], seed=drawn(draw), size=7, failed=1, penalties=dict(reversed(held.items())))
        assert one == other
    assert select(candidates(12), seed=drawn(1), size=7) != select(candidates(12), seed=drawn(2), size=7)
    # A vector: selection is part of the protocol.
    drawn_members = select(candidates(12), seed=drawn("vector"), size=7)
    assert drawn_members is not None
    assert [member.validator for member in drawn_members] == [0, 9, 6, 2, 11, 5, 10]


def test_draws_follow_the_weights() -> None:
    counts: Counter[int] = Counter()
    for draw in range(2_000):
        members = select(candidates(6, {0: 8, 5: 0}), seed=drawn(draw), size=4)
        assert members is not None
        counts[members[0].validator] += 1
    assert counts[5] == 0
    assert 0.6 < counts[0] / 2_000 < 0.73
    assert all(0.05 < counts[n] / 2_000 < 0.12 for n in range(1, 5))


def test_penalties_weigh_down_and_are_cleared_by_taking_part() -> None:
    held = penalties_after({}, qualified=[signing(1)], failed=[signing(1), signing(0)])
    assert held == {signing(0): 1}
    for _ in range(20):
        held = penalties_after(held, qualified=[], failed=[signing(0)])
    assert held == {signing(0): PENALTIES_MAX}
    times = sum(m.validator == 0 for d in range(300) for m in select(candidates(6), seed=drawn(d), size=4, penalties=held) or ())
    assert times < 60
    assert penalties_after(held, qualified=[signing(0)], failed=[]) == {}


def test_the_more_attempts_failed_the_more_of_the_worst_are_passed_over() -> None:
    held = {signing(n): 1 + n % 3 for n in range(5)}
    seen = []
    for failed in range(5):
        ever = {m.validator for d in range(200) for m in select(candidates(12), seed=drawn(d), size=7, failed=failed, penalties=held) or ()}
        seen.append(len(ever))
    assert seen == [12, 10, 8, 7, 7]


def test_a_group_is_filled_whatever_the_penalties_and_not_drawn_from_too_few() -> None:
    held = {signing(n): 3 for n in range(7)}
    members = select(candidates(7), seed=drawn(1), size=7, failed=50, penalties=held)
    assert members is not None
    assert sorted(member.validator for member in members) == list(range(7))
    assert select(candidates(6), seed=drawn(1), size=7) is None
    assert select(candidates(7, {0: 0}), seed=drawn(1), size=7) is None
