"""Who is behind, and who does not get on: judged by looks alone."""

import pytest

from overseer.supervise.lag import Lag, LagJudge, LagState

SLOW_MS, STUCK_MS = 500, 1_000


@pytest.fixture
def judge() -> LagJudge:
    return LagJudge(slow_ms=SLOW_MS, stuck_ms=STUCK_MS)


def test_one_with_nothing_to_do_keeps_up_however_long(judge: LagJudge) -> None:
    for now_ms in (0, 10_000, 1_000_000):
        assert judge.look(now_ms, done=5, pending=0, oldest_ms=0) == Lag()
    assert judge.look(2_000_000, done=5, pending=0, oldest_ms=0).text() == ""


def test_a_burst_that_passes_is_not_called_slow(judge: LagJudge) -> None:
    assert judge.look(0, done=0, pending=50_000, oldest_ms=0).state is LagState.LEVEL
    assert judge.look(400, done=30_000, pending=20_000, oldest_ms=400).state is LagState.LEVEL
    assert judge.look(800, done=50_000, pending=0, oldest_ms=0).state is LagState.LEVEL


def test_one_that_gets_on_behind_is_slow_and_says_how_much_is_left(judge: LagJudge) -> None:
    judge.look(0, done=0, pending=1_000, oldest_ms=0)
    for tick in range(1, 40):
        lag = judge.look(500 * tick, done=50 * tick, pending=1_000, oldest_ms=SLOW_MS + tick)
        assert lag.state is LagState.SLOW
    assert lag.per_s == pytest.approx(100)
    assert "1000 messages wait" in lag.text()
    assert "100 a second" in lag.text()
    assert "about 10 s of work" in lag.text()


def test_one_that_does_nothing_with_work_waiting_is_stuck_until_it_moves(judge: LagJudge) -> None:
    judge.look(0, done=7, pending=3, oldest_ms=0)
    assert judge.look(STUCK_MS - 1, done=7, pending=3, oldest_ms=STUCK_MS - 1).state is LagState.SLOW
    stuck = judge.look(STUCK_MS, done=7, pending=3, oldest_ms=STUCK_MS)
    assert (stuck.state, stuck.still_ms) == (LagState.STUCK, STUCK_MS)
    assert "none was done for 1 s" in stuck.text()
    assert judge.look(STUCK_MS + 100, done=8, pending=2, oldest_ms=10).state is LagState.LEVEL


def test_work_that_came_after_a_rest_is_not_counted_from_before_it(judge: LagJudge) -> None:
    judge.look(0, done=7, pending=0, oldest_ms=0)
    judge.look(100_000, done=7, pending=0, oldest_ms=0)
    assert judge.look(100_500, done=7, pending=4, oldest_ms=100).state is LagState.LEVEL
    assert judge.look(100_900, done=7, pending=4, oldest_ms=500).still_ms == 400


def test_a_consumer_that_was_set_anew_begins_anew(judge: LagJudge) -> None:
    judge.look(0, done=1_000, pending=5, oldest_ms=0)
    lag = judge.look(400, done=10, pending=995, oldest_ms=400)
    assert (lag.still_ms, lag.state) == (0, LagState.LEVEL)
    assert lag.per_s >= 0
