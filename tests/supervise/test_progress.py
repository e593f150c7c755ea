"""The judge of progress, by an imagined clock."""

from overseer.supervise.policy import SupervisePolicy
from overseer.supervise.progress import ProgressJudge
from overseer.supervise.status import Beat

POLICY = SupervisePolicy(stall_ms=1_000, start_ms=5_000)
TICK_MS = 100


def judged(beats: dict[int, Beat], until_ms: int) -> tuple[int, str] | None:
    """When the judge, looking every tick, found what; beats come at their times."""
    judge = ProgressJudge(POLICY, 0)
    assert judge.tick_ms == TICK_MS
    for now_ms in range(TICK_MS, until_ms, TICK_MS):
        if now_ms in beats:
            judge.heard(now_ms, beats[now_ms])
        if wrong := judge.look(now_ms):
            return now_ms, wrong
    return None


def every(period_ms: int, until_ms: int, *, moves: bool, pending: bool) -> dict[int, Beat]:
    return {t: Beat(progress=t if moves else 7, pending=pending) for t in range(period_ms, until_ms, period_ms)}


def test_a_child_that_moves_is_left_alone() -> None:
    assert judged(every(200, 60_000, moves=True, pending=True), 60_000) is None


def test_an_idle_child_that_beats_is_left_alone() -> None:
    assert judged(every(200, 60_000, moves=False, pending=False), 60_000) is None


def test_work_pending_without_progress_is_found_after_the_window() -> None:
    found = judged(every(200, 60_000, moves=False, pending=True), 60_000)
    assert found is not None
    assert found[0] == 200 + 1_000 + TICK_MS
    assert "work pending but no progress for 1100 ms (at 7)" in found[1]


def test_the_window_starts_with_the_work_not_with_the_idleness_before_it() -> None:
    beats = {t: Beat(progress=7, pending=t > 10_000) for t in range(200, 60_000, 200)}
    found = judged(beats, 60_000)
    assert found is not None
    assert found[0] == 10_200 + 1_000 + TICK_MS


def test_silence_after_the_first_beat_is_found_even_when_idle() -> None:
    found = judged({200: Beat(progress=1)}, 60_000)
    assert found is not None
    assert found[0] == 200 + 1_000 + TICK_MS
    assert "no heartbeat for 1100 ms" in found[1]


def test_a_child_may_take_its_time_to_the_first_beat_but_not_for_ever() -> None:
    found = judged({}, 60_000)
    assert found is not None
    assert found[0] == 5_000 + TICK_MS
    assert "no sign of life within 5000 ms" in found[1]


def test_a_supervisor_that_was_stopped_itself_blames_nobody() -> None:
    judge = ProgressJudge(POLICY, 0)
    judge.heard(100, Beat(progress=1, pending=True))
    assert judge.look(100) is None
    assert judge.look(3_600_000) is None
    assert judge.look(3_600_100) is None
    assert judge.look(3_600_600) is None
    assert judge.look(3_601_101) is not None
