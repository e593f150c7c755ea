"""What the simulation found in the runner, each as small as it could be made. The seeds are those of the machinery of then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from counting import Add, Counted, Counter, QueryTotal

from overseer.limits import Limits
from overseer.memory.bus import AppendFault
from overseer.runner.observer import Step
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryWorld

pytestmark = pytest.mark.anyio

SMALL = Limits(batch_messages_max=2, append_batch_min=3, reconnect_ms=2, reconnect_ms_max=10)


@pytest.fixture
async def world() -> AsyncIterator[MemoryWorld]:
    async with MemoryWorld() as world:
        yield world


async def test_a_bus_that_goes_while_the_endpoints_open_is_waited_for(world: MemoryWorld) -> None:
    """tallying, seeds 11 and 15: the process ended with BusUnavailable."""
    session, away = world.session, []

    def parted(*arguments: Any) -> Any:
        @asynccontextmanager
        async def enter() -> AsyncIterator[Any]:
            async with session(*arguments) as made:
                made.exchange.faults.unavailable = True  # type: ignore[attr-defined]
                away.append(made.exchange)
                yield made

        return enter()

    world.session = parted  # type: ignore[method-assign]
    async with VirtualOverseer(Counter(), world, limits=SMALL) as counter:
        await counter.start(ready=False)
        await counter.until(lambda: bool(counter.witness.troubles))
        away[0].faults.unavailable = False
        await counter.inject(Add(amount=3))
        await counter.settled()
        assert (await counter.ask(QueryTotal())).total == 3  # type: ignore[attr-defined]


async def test_a_checkpoint_drops_no_outgoing_message_that_is_not_published(world: MemoryWorld) -> None:
    """tallying, seed 66: the bus was silent, a checkpoint dropped what waited, a kill made it final."""
    limits = Limits(checkpoint_records=4, checkpoints_kept=1, reconnect_ms=2, reconnect_ms_max=5, append_batch_min=1_000)
    async with VirtualOverseer(Counter(), world, limits=limits) as counter:
        await counter.start()
        counter.faults.appends.extend([AppendFault.LOST] * 100_000)
        for amount in range(1, 13):
            await counter.inject(Add(amount=amount))
        await counter.until(lambda: counter.head().checkpoint >= 8)
        counter.faults.appends.clear()
        await counter.restart()
        await counter.settled()
        assert [message.amount for message in await counter.sent(Counted)] == list(range(1, 13))  # type: ignore[attr-defined]


async def test_a_new_connection_acknowledges_nothing_that_is_not_committed(world: MemoryWorld) -> None:
    """disputes, seed 7: setting the consumer behind what was only pulled let the overseer trim it; a kill then lost it."""
    release = anyio.Event()
    async with VirtualOverseer(Counter(), world, limits=SMALL) as counter:
        await counter.start()
        await counter.settled()
        counter.disk.disk.syncing = release.wait  # type: ignore[attr-defined]
        before = counter.witness.steps[Step.PULLED]
        sequences = [await counter.inject(Add(amount=amount)) for amount in (1, 2, 3)]
        await counter.until(lambda: counter.witness.steps[Step.PULLED] > before)
        counter.line().cut()
        counter.line().heal()
        consumer = next(iter(world.broker.streams[counter.streams[0]].consumers.values()))
        for _ in range(500):
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.05)
        assert consumer.acknowledged < sequences[0], "acknowledged, though nothing is committed"
        counter.disk.disk.syncing = None  # type: ignore[attr-defined]
        release.set()
        await counter.settled()
        assert (await counter.ask(QueryTotal())).total == 6  # type: ignore[attr-defined]
