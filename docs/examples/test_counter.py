"""The counter's rules, and the counter under the real runner. Run: pytest docs/examples"""

import pytest
from counter import QUIET_MS, Add, Counted, Counter, GetTotal, TooMuch, Total

from overseer.testing.given import Given


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_it_adds_up_and_tells():
    counter = Given(Counter())
    counter.when(Add(amount=2))
    then = counter.when(Add(amount=3), now_ms=2_000_000)
    assert then.reply == Total(total=5)
    assert then.sent == [Counted(amount=3, total=5, at_ms=2_000_000)]
    assert counter.ask(GetTotal()) == Total(total=5)


def test_it_refuses_too_much():
    assert Given(Counter()).when(Add(amount=1_001)).rejection == TooMuch(most=1_000)


def test_it_forgets_after_a_quiet_minute():
    counter = Given(Counter())
    counter.when(Add(amount=2), now_ms=1_000_000)
    counter.settle(now_ms=1_000_000 + QUIET_MS)
    assert counter.ask(GetTotal()) == Total(total=0)


def test_the_events_alone_build_the_same_state():
    counter = Given(Counter())
    counter.when(Add(amount=2))
    assert counter.replayed().ask(GetTotal()) == counter.ask(GetTotal())


@pytest.mark.anyio
async def test_it_counts_once_whatever_is_killed(virtual_overseer):
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=7), sender="op_alice", command_id="seven")
    await counter.expect(Counted)

    await counter.restart()
    await counter.inject(Add(amount=7), sender="op_alice", command_id="seven")
    await counter.settled()

    assert len(await counter.sent(Counted)) == 1
    assert await counter.ask(GetTotal()) == Total(total=7)
    assert (await counter.verify()).ok
