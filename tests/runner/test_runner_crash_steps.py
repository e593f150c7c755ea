"""A kill between any two steps of the runner is harmless: every effect happens once, whatever the step and the moment."""

from typing import Any

import pytest
from counting import Add, AddLater, Counted, Counter, QueryTotal

from overseer.limits import Limits
from overseer.memory.store import CommitStep
from overseer.runner.observer import Step
from overseer.testing.witness import Killed

pytestmark = pytest.mark.anyio

AMOUNTS = [1, 2, 3, 5, 8, 13, 21]
SMALL = Limits(batch_messages_max=2, append_batch_min=3, reconnect_ms=2, reconnect_ms_max=10)


async def put_everything(counter: Any) -> None:
    """Commands with ids and without, one refused, a timer; several messages from one of them."""
    for amount in AMOUNTS:
        await counter.inject(Add(amount=amount, times=4 if amount == 5 else 1), command_id=f"c{amount}" if amount % 2 else "")
    await counter.inject(Add(amount=9_999_999), command_id="refused")
    await counter.inject(AddLater(key="later", amount=100, after_ms=0))


async def everything_happened_once(counter: Any) -> None:
    await counter.settled()
    told = [message.amount for message in await counter.sent(Counted)]
    assert sorted(told) == sorted([*AMOUNTS, 5, 5, 5, 100]), told
    assert [a for a in told if a != 100] == [1, 2, 3, 5, 5, 5, 5, 8, 13, 21], "told in another order than decided"
    assert (await counter.ask(QueryTotal())).total == sum(AMOUNTS) + 100
    ids = [entry.stored.headers["Overseer-Id"] for entry in await counter.sent_raw()]
    assert len(ids) == len(set(ids)), "a message is twice in the stream"
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults


@pytest.mark.parametrize("times", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("step", list(Step))
async def test_a_kill_at_any_step_at_any_time_has_no_effect(in_memory: Any, step: Step, times: int) -> None:
    counter = await in_memory(Counter(), limits=SMALL)
    counter.kill_at(step, times)
    await put_everything(counter)
    await died_or_settled(counter)
    await counter.restart()
    await everything_happened_once(counter)


@pytest.mark.real
@pytest.mark.parametrize("step", list(Step))
async def test_a_kill_at_any_step_has_no_effect_on_nats_and_rocksdb(virtual_overseer: Any, step: Step) -> None:
    counter = await virtual_overseer(Counter(), limits=SMALL)
    counter.kill_at(step, 2)
    await put_everything(counter)
    await died_or_settled(counter)
    await counter.restart()
    await everything_happened_once(counter)


@pytest.mark.parametrize("step", list(Step))
async def test_kills_at_every_passing_of_a_step_end_with_everything_done_once(in_memory: Any, step: Step) -> None:
    """Each run gets exactly one step further."""
    counter = await in_memory(Counter(), limits=SMALL)
    await counter.kill()
    await put_everything(counter)
    deaths = 0
    while True:
        # The second passing: a run that dies at its first pull each time would never get on, as in life.
        counter.kill_at(step, 2)
        await counter.restart(ready=False)
        if not await died_or_settled(counter):
            break
        deaths += 1
        assert deaths < 50
    await everything_happened_once(counter)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
@pytest.mark.parametrize("step", list(CommitStep))
@pytest.mark.parametrize("kept", [False, True])
async def test_a_kill_within_a_commit_has_no_effect_whether_the_batch_stayed_or_not(
    in_memory: Any, step: CommitStep, times: int, kept: bool
) -> None:
    counter = await in_memory(Counter(), limits=SMALL)
    left = times

    def die(at: CommitStep) -> None:
        nonlocal left
        left -= at is step
        if at is step and not left:
            counter.disk.disk.on_step = None
            counter.disk.crash(keep_unsynced=kept)
            raise Killed(step)

    counter.disk.disk.on_step = die
    await put_everything(counter)
    await died_or_settled(counter)
    await counter.restart()
    await everything_happened_once(counter)


async def died_or_settled(counter: Any) -> bool:
    """Whether it was killed; False when it did everything before."""
    try:
        await counter.settled()
    except AssertionError:
        assert not counter.running, counter.witness.troubles
    return not counter.running
