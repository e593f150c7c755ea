"""The same supervision over tasks in one process."""

import anyio
import pytest

from overseer.supervise.pulse import Pulse, keep_beating
from overseer.supervise.status import Beat, ChildState
from overseer.supervise.stopping import StopRequest
from overseer.supervise.task import TaskChild
from tests.supervise.supervision import DEADLINE_S, QUICK, WATCHFUL, supervising

pytestmark = pytest.mark.anyio


async def beats_until_told(pulse: Pulse, stop: StopRequest) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_beating, pulse, lambda: Beat(progress=0, ready=True))
        await stop.wait()
        tasks.cancel_scope.cancel()


async def test_a_task_ends_in_order_when_told() -> None:
    order: list[str] = []

    async def serve(pulse: Pulse, stop: StopRequest) -> None:
        await beats_until_told(pulse, stop)
        order.append("ended in order")

    async with supervising(TaskChild(name="votes_db", serve=serve)) as s:
        await s.until(lambda c: c.state is ChildState.READY)
    assert order == ["ended in order"]
    assert s.supervisor.statuses()[0].state is ChildState.ENDED


async def test_a_task_that_raises_is_restarted() -> None:
    runs: list[int] = []

    async def serve(pulse: Pulse, stop: StopRequest) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("broken once")
        await beats_until_told(pulse, stop)

    async with supervising(TaskChild(name="votes_db", serve=serve)) as s:
        status = await s.until(lambda c: c.state is ChildState.READY)
        assert status.restarts == 1
        assert status.last_failure is not None
        assert status.last_failure.cause == "RuntimeError: broken once"
        assert any("raise RuntimeError" in line for line in status.last_failure.last_lines)


async def test_a_task_that_always_fails_is_given_up_naming_the_first_error_of_a_group() -> None:
    runs: list[int] = []

    async def serve(pulse: Pulse, stop: StopRequest) -> None:
        runs.append(1)
        raise ExceptionGroup("several", [ValueError(f"run {len(runs)}"), KeyError("x")])

    async with supervising(TaskChild(name="votes_db", serve=serve)) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert s.gave_up is not None
    assert s.gave_up.failures == QUICK.restarts_max + 1
    assert s.gave_up.first.cause == "ValueError: run 1"


async def test_a_task_whose_error_a_restart_cannot_mend_is_given_up_at_once() -> None:
    async def serve(pulse: Pulse, stop: StopRequest) -> None:
        raise ExceptionGroup("one", [PermissionError("the key")])

    async with supervising(TaskChild(name="votes_db", serve=serve, final=(OSError,))) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert s.gave_up is not None
    assert s.gave_up.failures == 1
    assert s.gave_up.first.final


async def test_a_task_that_hangs_is_cancelled_and_restarted() -> None:
    runs: list[int] = []

    async def serve(pulse: Pulse, stop: StopRequest) -> None:
        runs.append(1)
        pending = len(runs) == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_beating, pulse, lambda: Beat(progress=1, pending=pending, ready=True))
            await stop.wait()
            tasks.cancel_scope.cancel()

    async with supervising(TaskChild(name="votes_db", serve=serve), WATCHFUL) as s:
        status = await s.until(lambda c: c.restarts == 1 and c.state is ChildState.READY)
        assert status.last_failure is not None
        assert status.last_failure.stalled


async def test_a_task_that_does_not_heed_the_stop_is_cancelled() -> None:
    async def serve(pulse: Pulse, stop: StopRequest) -> None:
        await keep_beating(pulse, lambda: Beat(progress=1, ready=True))

    async with supervising(TaskChild(name="votes_db", serve=serve)) as s:
        await s.until(lambda c: c.state is ChildState.READY)
    assert s.supervisor.statuses()[0].state is ChildState.ENDED


async def test_the_changes_end_with_the_supervisor_and_the_last_is_the_end() -> None:
    seen: list[ChildState] = []
    async with supervising(TaskChild(name="votes_db", serve=beats_until_told)) as s:

        async def follow() -> None:
            seen.extend([statuses[0].state async for statuses in s.supervisor.changes()])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await s.until(lambda c: c.state is ChildState.READY)
            s.stop.request("test")
    assert ChildState.READY in seen
    assert seen[-1] is ChildState.ENDED
