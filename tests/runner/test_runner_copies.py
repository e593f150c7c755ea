"""A copy of the store at work somewhere else: found out by what it says, and what it said is neither adopted nor repeated."""

from typing import Any

import pytest
from counting import Add, Counted, Counter

from overseer.runner.errors import SecondCopy

pytestmark = pytest.mark.anyio


async def test_a_copy_that_says_something_else_under_the_number_we_are_about_to_use_is_named_and_ours_is_not_dropped(
    virtual_overseer: Any,
) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    twin = counter.voice("counter")
    twin.incarnation, twin.index = counter.head().incarnation, counter.head().index
    await twin.say(Counted(amount=77, at_ms=1, note="", copy_=0))
    await counter.inject(Add(amount=2))
    failure = await counter.ended()
    assert isinstance(failure, SecondCopy)
    # Alone again, it starts as another incarnation: nothing more is mixed up with what the copy says.
    await counter.start()
    await counter.inject(Add(amount=3))
    await counter.settled()
    assert counter.head().incarnation != twin.incarnation
    told = [message.amount for message in await counter.sent(Counted)]
    assert told[:2] == [1, 77]
    assert told[-1] == 3


async def test_a_copy_of_an_older_state_that_wrote_behind_us_makes_us_repeat_nothing(virtual_overseer: Any) -> None:
    """It took itself for restored, with an incarnation of its own; its numbers are lower than ours."""
    counter = await virtual_overseer(Counter())
    for amount in range(1, 9):
        await counter.inject(Add(amount=amount, times=2))
    await counter.settled()
    copy = counter.voice("counter")
    copy.index = 2
    await copy.announce(previous=counter.head().incarnation)
    await counter.inject(Add(amount=9))
    assert isinstance(await counter.ended(), SecondCopy)
    await counter.start()
    await counter.inject(Add(amount=10))
    await counter.settled()
    ids = [entry.stored.headers["Overseer-Id"] for entry in await counter.sent_raw()]
    assert len(ids) == len(set(ids)), "a message is twice in the stream"
    told = [message.amount for message in await counter.sent(Counted)]
    assert told == [*sorted([*range(1, 9)] * 2), 9, 10]
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults
