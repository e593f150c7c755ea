"""Timers: rows like any other, fired in order after what is pulled, and time that never goes back."""

from typing import Any

import pytest
from counting import Add, AddLater, AmountAdded, Counter, Later, QueryTotal

from overseer.memory.store import MemoryStore
from overseer.runner.observer import Step
from overseer.runner.schema import TIMERS
from overseer.runner.timers import Timers
from overseer.subsystem import CancelTimer, SetTimer
from overseer.tables import Overlay

pytestmark = pytest.mark.anyio


async def amounts(counter: Any) -> list[int]:
    await counter.settled()
    return [event.amount for event in counter.events(AmountAdded)]


async def test_timers_fire_by_their_time_not_by_the_order_of_setting(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    # What comes between two of them takes time of the real clock.
    slower = 10 if counter.world.real else 1
    for key, amount, after_ms in (("c", 3, 120), ("a", 1, 60), ("b", 2, 90)):
        await counter.inject(AddLater(key=key, amount=amount, after_ms=slower * after_ms))
    await counter.settled()
    await counter.advance(50 if not counter.world.real else 1_500)
    if not counter.world.real:
        assert await amounts(counter) == []
        await counter.advance(10)
        assert await amounts(counter) == [1]
        await counter.advance(1_000)
    assert await amounts(counter) == [1, 2, 3]
    assert (await counter.verify()).ok


async def test_a_timer_that_is_due_fires_after_what_was_pulled_with_it(in_memory: Any) -> None:
    counter = await in_memory(Counter(), start=False)
    await counter.inject(AddLater(key="a", amount=100, after_ms=0))
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    await counter.start()
    assert await amounts(counter) == [1, 2, 3, 100]


async def test_a_timer_survives_a_restart_and_is_caught_up(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(AddLater(key="a", amount=7, after_ms=100))
    await counter.settled()
    await counter.kill()
    await counter.world.advance(200)
    await counter.start()
    await counter.until(lambda: len(counter.events(AmountAdded)) == 1)
    assert await amounts(counter) == [7]


async def test_a_timer_that_was_put_off_does_not_hold_up_the_others(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    await counter.inject(AddLater(key="a", amount=1, after_ms=100))
    await counter.inject(AddLater(key="a", amount=1, after_ms=300))
    await counter.inject(AddLater(key="b", amount=2, after_ms=200))
    await counter.settled()
    await counter.advance(200)
    assert await amounts(counter) == [2]


async def test_a_timer_is_replaced_and_cancelled_by_its_key(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    await counter.inject(AddLater(key="a", amount=1, after_ms=100))
    await counter.inject(AddLater(key="a", amount=2, after_ms=300))
    await counter.inject(AddLater(key="b", amount=4, after_ms=100))
    await counter.inject(AddLater(key="b", amount=0, after_ms=0))
    await counter.settled()
    await counter.advance(200)
    assert await amounts(counter) == []
    await counter.restart()
    await counter.advance(200)
    assert await amounts(counter) == [2]
    await counter.advance(10_000)
    assert await amounts(counter) == [2]


@pytest.mark.parametrize("step", [Step.DECIDED, Step.COMMITTED, Step.ANSWERED])
async def test_a_kill_while_a_timer_fires_fires_it_once(in_memory: Any, step: Step) -> None:
    counter = await in_memory(Counter())
    await counter.inject(AddLater(key="a", amount=7, after_ms=100))
    await counter.settled()
    counter.kill_at(step)
    await counter.world.advance(100)
    await counter.ended()
    await counter.restart()
    assert await amounts(counter) == [7]
    assert (await counter.ask(QueryTotal())).total == 7
    assert (await counter.verify()).ok


async def test_time_never_goes_back_even_when_the_clock_does(in_memory: Any, memory_world: Any) -> None:
    counter = await in_memory(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    memory_world.clock.step(-3_600_000)
    await counter.inject(Add(amount=2))
    await counter.inject(AddLater(key="a", amount=3, after_ms=0))
    await counter.settled()
    await counter.restart()
    await counter.inject(Add(amount=4))
    assert sorted(await amounts(counter)) == [1, 2, 3, 4]
    times = [event.at_ms for event in counter.events(AmountAdded)]
    assert times == sorted(times)
    records = [record.time_ms for record in counter.journal()]
    assert records == sorted(records)


def test_timers_set_anew_or_cancelled_for_ever_take_no_memory() -> None:
    timers, overlay, allowed = Timers(), Overlay(MemoryStore(tables=[TIMERS.name])), frozenset([Later])
    for number in range(10_000):
        timers.change(overlay, SetTimer(key="often", at_ms=10**15 + number, message=Later(amount=1)), allowed)
        timers.change(overlay, SetTimer(key=f"once {number}", at_ms=10**15, message=Later(amount=1)), allowed)
        timers.change(overlay, CancelTimer(key=f"once {number}"), allowed)
    assert len(timers) == 1
    assert len(timers._heap) < 200
    due = timers.next()
    assert due is not None
    assert (due.key, due.at_ms) == ("often", 10**15 + 9_999)
