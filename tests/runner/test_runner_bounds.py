"""What a runner keeps has a bound, also under load that never ends."""

from typing import Any

import pytest
from counting import Add, Counter

from overseer.limits import Limits
from overseer.runner.schema import OUTCOMES

pytestmark = pytest.mark.anyio


async def test_outcomes_are_forgotten_at_least_as_fast_as_new_ones_come(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(command_outcomes_kept_ms=1_000, batch_decide_ms_max=60_000))

    async def wave(name: str) -> None:
        """As many commands as two batches hold, taken together."""
        await counter.kill()
        for number in range(1_024):
            await counter.inject(Add(amount=1), command_id=f"{name} {number}")
        await counter.start()
        await counter.settled()

    await wave("first")
    await counter.world.advance(60_000)
    await wave("second")
    with counter.stored() as store:
        kept = {key.decode().split(" ")[0] for key, _ in store.scan(OUTCOMES.name, b"", None)}
    assert kept == {"second"}
