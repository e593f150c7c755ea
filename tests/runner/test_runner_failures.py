"""When the subsystem's own code fails: transiently, always, fatally, or by saying more than a message holds."""

from typing import Any

import pytest
from counting import Add, AddLater, AmountAdded, Counted, Counter, Later, QueryTotal, TakeFromAuditor

from messages.message import Message
from messages.overseer import Parked
from overseer.limits import Limits
from overseer.memory.store import CommitStep
from overseer.ports.store import StoreError, StoreFull
from overseer.runner.errors import BadDeclaration, EvolveFailed

pytestmark = pytest.mark.anyio


class Failing:
    """Raises on these amounts, the first `times` times."""

    def __init__(self, *amounts: int, times: int) -> None:
        self.amounts = amounts
        self.left = dict.fromkeys(amounts, times)
        self.asked: list[int] = []

    def __call__(self, message: Message) -> None:
        amount = getattr(message, "amount", None)
        if amount in self.left:
            self.asked.append(amount)
            if self.left[amount]:
                self.left[amount] -= 1
                raise KeyError(amount)


async def test_decide_that_raises_once_is_asked_once_more(virtual_overseer: Any) -> None:
    failing = Failing(3, times=1)
    counter = await virtual_overseer(Counter(hook=failing))
    for amount in (1, 2, 3, 4):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2, 3, 4]
    assert await counter.sent(Parked) == []
    assert failing.asked == [3, 3]
    assert any("once more, alone" in text for text in counter.witness.troubles)
    assert (await counter.verify()).ok


async def test_decide_that_always_raises_is_parked_after_one_retry_and_the_others_commit(virtual_overseer: Any) -> None:
    failing = Failing(2, 4, times=99)
    counter = await virtual_overseer(Counter(hook=failing), start=False)
    for amount in range(1, 7):
        await counter.inject(Add(amount=amount), command_id=f"c{amount}")
    await counter.start()
    await counter.settled()
    assert [m.amount for m in await counter.sent(Counted)] == [1, 3, 5, 6]
    assert [m.reason for m in await counter.sent(Parked)] == ["handler_failed", "handler_failed"]
    assert "counter.cmd.add: KeyError(2)" in (await counter.sent(Parked))[0].detail
    assert failing.asked == [2, 2, 4, 4]
    assert (await counter.verify()).ok


async def test_a_timer_that_always_fails_is_parked_and_messages_beside_it_are_not_blamed(in_memory: Any) -> None:
    def fail_on_timers(message: Message) -> None:
        if isinstance(message, Later):
            raise ZeroDivisionError

    failing = Failing(5, times=1)

    def hook(message: Message) -> None:
        fail_on_timers(message)
        failing(message)

    counter = await in_memory(Counter(hook=hook), limits=Limits(batch_messages_max=1))
    await counter.inject(AddLater(key="a", amount=100, after_ms=0))
    for amount in (1, 5, 2):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    assert (await counter.ask(QueryTotal())).total == 8
    letters = await counter.sent(Parked)
    assert [(m.reason, m.subject) for m in letters] == [("handler_failed", "timer a")]
    assert (await counter.verify()).ok


@pytest.mark.parametrize("note", [767 * 1024, 768 * 1024 - 14])
async def test_a_message_that_makes_the_subsystem_say_too_much_is_parked_not_fatal(virtual_overseer: Any, note: int) -> None:
    counter = await virtual_overseer(Counter())
    # The event or the fact made of it is beyond the largest body.
    await counter.inject(Add(amount=1, note="n" * (note - 60), times=1))
    await counter.inject(Add(amount=2))
    await counter.settled()
    assert (await counter.ask(QueryTotal())).total in (2, 3)
    assert {m.reason for m in await counter.sent(Parked)} <= {"handler_failed", "body_too_large"}
    assert (await counter.verify()).ok


async def test_a_body_just_below_the_limit_whose_event_is_just_above_is_parked(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    room = 768 * 1024 - 40
    sequence = await counter.inject(Add(amount=1, note="n" * room))
    await counter.settled()
    (letter,) = await counter.sent(Parked)
    assert (letter.sequence, letter.reason) == (sequence, "handler_failed")
    assert "body_too_large" in letter.detail
    assert counter.events(AmountAdded) == []
    # Nothing of the attempt stayed in the tables.
    assert (await counter.ask(QueryTotal())).total == 0
    assert (await counter.verify()).ok


async def test_a_subsystems_message_that_failed_is_parked_once_however_often_it_is_sent(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter(hook=Failing(7, times=99)))
    sequence = await counter.inject(TakeFromAuditor(amount=7), sender="auditor")
    await counter.repeat(sequence)
    await counter.settled()
    await counter.repeat(sequence)
    await counter.settled()
    assert [m.sequence for m in await counter.sent(Parked)] == [sequence]


async def test_evolve_that_raises_is_fatal_named_and_leaves_the_store_as_it_was(virtual_overseer: Any) -> None:
    subject = Counter()
    counter = await virtual_overseer(subject)
    await counter.inject(Add(amount=1))
    await counter.settled()

    def broken(event: Message) -> None:
        raise ZeroDivisionError("no")

    subject.evolve_hook = broken
    await counter.inject(Add(amount=2))
    failure = await counter.ended()
    assert isinstance(failure, EvolveFailed)
    assert "counter: evolve failed on counter.event.amount_added: ZeroDivisionError('no')" in str(failure)
    subject.evolve_hook = None
    await counter.restart()
    await counter.settled()
    assert (await counter.ask(QueryTotal())).total == 3
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2]


async def test_sending_what_is_not_declared_is_fatal_and_named(in_memory: Any) -> None:
    subject = Counter()
    subject.react = lambda event: [AmountAdded(amount=1, at_ms=1, note="", times=1)]  # type: ignore[method-assign]
    counter = await in_memory(subject)
    await counter.inject(Add(amount=1))
    failure = await counter.ended()
    assert isinstance(failure, BadDeclaration)
    assert "does not declare as sent" in str(failure)


@pytest.mark.parametrize("step", list(CommitStep))
async def test_a_disk_that_is_full_stops_it_by_name_and_it_goes_on_when_there_is_room(in_memory: Any, step: CommitStep) -> None:
    counter = await in_memory(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()

    def full(at: CommitStep) -> None:
        if at is step:
            counter.disk.disk.on_step = None
            raise StoreFull("no space left", where="memory")

    counter.disk.disk.on_step = full
    await counter.inject(Add(amount=2))
    failure = await counter.ended()
    assert isinstance(failure, StoreError)
    await counter.restart()
    await counter.settled()
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2]
    assert (await counter.verify()).ok
