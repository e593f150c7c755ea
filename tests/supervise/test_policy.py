"""Restart policy and the account of failures: pure."""

from overseer.supervise.policy import Failures, SupervisePolicy
from overseer.supervise.status import TRANSITIONS, ChildState, Failure, GaveUp

POLICY = SupervisePolicy(backoff_first_ms=100, backoff_max_ms=1_000, restarts_max=3, restarts_window_ms=10_000)


def failure(cause: str, exit_code: int = 1) -> Failure:
    return Failure(at_ms=0, cause=cause, exit_code=exit_code)


def test_the_pause_doubles_with_each_failure_up_to_its_bound() -> None:
    failures = Failures(SupervisePolicy(backoff_first_ms=100, backoff_max_ms=1_000))
    pauses: list[int] = []
    for at in range(6):
        failures.add(at, failure("x"))
        pauses.append(failures.backoff_ms())
    assert pauses == [100, 200, 400, 800, 1_000, 1_000]


def test_the_pause_is_short_again_for_what_had_run_well_and_doubles_from_there() -> None:
    failures = Failures(POLICY)
    pauses: list[int] = []
    for at, ran_ms in enumerate((0, 0, 0, POLICY.backoff_max_ms, 5, 5)):
        failures.add(at, Failure(at_ms=at, cause="x", exit_code=1, after_ms=ran_ms))
        pauses.append(failures.backoff_ms())
    assert pauses == [100, 200, 400, 100, 200, 400]


def test_one_failure_more_than_restarts_allowed_is_too_many() -> None:
    failures = Failures(POLICY)
    for at in range(3):
        failures.add(at, failure("x"))
        assert not failures.too_many
    failures.add(3, failure("x"))
    assert failures.too_many


def test_failures_spread_wider_than_the_window_go_on_for_ever_at_the_first_pause() -> None:
    failures = Failures(POLICY)
    for at in range(0, 200_000, 10_001):
        failures.add(at, failure(f"at {at}"))
        assert not failures.too_many
        assert failures.backoff_ms() == 100
        assert failures.first == failure(f"at {at}")


def test_the_first_failure_in_the_window_is_named_not_the_last() -> None:
    failures = Failures(POLICY)
    for at, cause in enumerate(("disk full", "lock held", "lock held", "lock held")):
        failures.add(at, failure(cause))
    assert failures.first is not None
    text = str(GaveUp(child="votes_db", failures=4, first=failures.first, last=failure("lock held")))
    assert "votes_db failed 4 times" in text
    assert "First failure: disk full" in text
    assert "Last failure: lock held" in text


def test_a_failure_that_a_restart_cannot_mend_is_too_many_at_once() -> None:
    failures = Failures(POLICY)
    failures.add(0, Failure(at_ms=0, cause="x", final=True))
    assert failures.too_many


def test_a_thousand_failures_in_the_window_do_not_overflow_the_pause() -> None:
    failures = Failures(SupervisePolicy(restarts_max=10_000))
    for _ in range(1_000):
        failures.add(0, failure("x"))
    assert failures.backoff_ms() == SupervisePolicy().backoff_max_ms


def test_every_state_has_its_followers_and_only_the_last_ones_have_none() -> None:
    assert set(TRANSITIONS) == set(ChildState)
    assert {state for state, followers in TRANSITIONS.items() if not followers} == {ChildState.ENDED, ChildState.GAVE_UP}
    assert all(ChildState.ENDED in followers for followers in TRANSITIONS.values() if followers)


def test_a_heartbeat_comes_several_times_in_each_stall_window() -> None:
    assert SupervisePolicy(stall_ms=400).heartbeat_ms == 80
    assert SupervisePolicy(stall_ms=600_000).heartbeat_ms == 1_000
    assert SupervisePolicy(stall_ms=1).heartbeat_ms == 1
