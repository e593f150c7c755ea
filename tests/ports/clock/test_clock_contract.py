"""The Clock port's contract, on virtual and on wall time; and what virtual time adds."""

from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import pytest

from overseer.memory.clock import MemoryClock
from overseer.ports.clock import Clock
from overseer.system.clock import SystemClock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "system"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return MemoryClock(automatic=True) if request.param == "memory" else SystemClock()


async def settled(reached: Callable[[], bool]) -> None:
    """Let other tasks run until `reached`; 1000 turns at most."""
    for _ in range(1_000):
        if reached():
            return
        await anyio.lowlevel.checkpoint()
    raise AssertionError("not reached within 1000 turns")


async def test_it_tells_milliseconds_since_the_epoch(clock: Clock) -> None:
    assert 1_700_000_000_000 < clock.now_ms() < 4_000_000_000_000


async def test_what_is_already_past_is_not_waited_for(clock: Clock) -> None:
    with anyio.fail_after(5):
        await clock.sleep_until(clock.now_ms())
        await clock.sleep_until(0)


async def test_a_sleeper_returns_when_its_time_has_come_and_not_before(clock: Clock) -> None:
    at_ms = clock.now_ms() + 15
    with anyio.fail_after(5):
        await clock.sleep_until(at_ms)
    assert clock.now_ms() >= at_ms


async def test_sleepers_wake_in_the_order_of_their_times(clock: Clock) -> None:
    woken: list[int] = []
    start_ms = clock.now_ms()

    async def sleep(after_ms: int) -> None:
        await clock.sleep_until(start_ms + after_ms)
        woken.append(after_ms)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for after_ms in (60, 20, 40, 80):
                tasks.start_soon(sleep, after_ms)
    assert woken == [20, 40, 60, 80]


async def test_a_cancelled_sleeper_is_gone(clock: Clock) -> None:
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.sleep_until, clock.now_ms() + 10**9)
            tasks.cancel_scope.cancel()
        await clock.sleep_until(clock.now_ms() + 5)


async def test_who_waits_for_an_event_that_does_not_come_returns_at_his_time(clock: Clock) -> None:
    until_ms = clock.now_ms() + 15
    with anyio.fail_after(5):
        await clock.wait(anyio.Event(), until_ms)
    assert clock.now_ms() >= until_ms


@pytest.mark.parametrize("standing", [MemoryClock(), SystemClock()], ids=["memory", "system"])
async def test_who_waits_for_an_event_returns_when_it_is_set(standing: Clock) -> None:
    event, until_ms = anyio.Event(), standing.now_ms() + 10**9
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(standing.wait, event, until_ms)
            await anyio.wait_all_tasks_blocked()
            event.set()
    assert standing.now_ms() < until_ms


async def test_who_waits_for_what_is_set_or_past_does_not_wait(clock: Clock) -> None:
    event = anyio.Event()
    with anyio.fail_after(5):
        await clock.wait(event, clock.now_ms())
        event.set()
        await clock.wait(event, clock.now_ms() + 10**9)


class Sleepers:
    """Tasks that sleep on a virtual clock and note when they woke."""

    def __init__(self, clock: MemoryClock, tasks: anyio.abc.TaskGroup) -> None:
        self.clock = clock
        self.woken: list[tuple[str, int]] = []
        self._tasks = tasks
        self._asleep = 0

    async def add(self, name: str, at_ms: int) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        before = self._asleep

        async def sleep() -> None:
            with scope:
                self._asleep += 1
                await self.clock.sleep_until(at_ms)
                self.woken.append((name, self.clock.now_ms()))

        self._tasks.start_soon(sleep)
        await settled(lambda: self._asleep > before)
        return scope


@pytest.fixture
async def sleepers() -> AsyncIterator[Sleepers]:
    async with anyio.create_task_group() as tasks:
        yield Sleepers(MemoryClock(1_000), tasks)
        tasks.cancel_scope.cancel()


async def test_virtual_time_stands_until_told_and_wakes_those_due_in_order_of_time_then_arrival(sleepers: Sleepers) -> None:
    clock = sleepers.clock
    for name, at_ms in (("late", 1_300), ("second", 1_100), ("third", 1_100), ("first", 1_050)):
        await sleepers.add(name, at_ms)
    clock.advance(49)
    assert clock.next_ms() == 1_050
    clock.advance(151)
    await settled(lambda: len(sleepers.woken) == 3)
    assert sleepers.woken == [("first", 1_200), ("second", 1_200), ("third", 1_200)]
    assert clock.advance_to_next()
    await settled(lambda: len(sleepers.woken) == 4)
    assert sleepers.woken[3] == ("late", 1_300)
    assert clock.next_ms() is None
    assert not clock.advance_to_next()


async def test_virtual_time_forgets_cancelled_sleepers_and_never_goes_back_when_advanced(sleepers: Sleepers) -> None:
    clock = sleepers.clock
    scope = await sleepers.add("gone", 1_100)
    await sleepers.add("stays", 1_200)
    scope.cancel()
    await settled(lambda: clock.next_ms() == 1_200)
    clock.advance_to(500)
    assert clock.now_ms() == 1_000


async def test_a_stepped_clock_makes_sleepers_wait_for_their_moment(sleepers: Sleepers) -> None:
    clock = sleepers.clock
    await sleepers.add("one", 1_100)
    clock.step(-500)
    clock.advance(550)
    await anyio.lowlevel.checkpoint()
    assert (clock.now_ms(), sleepers.woken) == (1_050, [])
    clock.step(60)
    await settled(lambda: sleepers.woken == [("one", 1_110)])


async def test_automatic_time_goes_from_moment_to_moment_without_real_time() -> None:
    clock = MemoryClock(0, automatic=True)
    seen: list[tuple[str, int]] = []

    async def tick(name: str, every_ms: int, times: int) -> None:
        for n in range(1, times + 1):
            await clock.sleep_until(n * every_ms)
            seen.append((name, clock.now_ms()))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick, "hour", 3_600_000, 3)
            tasks.start_soon(tick, "half", 1_800_000, 4)
    assert [at_ms for _, at_ms in seen] == sorted(at_ms for _, at_ms in seen)
    assert [at_ms for name, at_ms in seen if name == "hour"] == [3_600_000, 7_200_000, 10_800_000]
    assert [at_ms for name, at_ms in seen if name == "half"] == [1_800_000, 3_600_000, 5_400_000, 7_200_000]
