"""The injection kit itself, on both worlds."""

from typing import Any

import pytest
from counting import Add, AmountAdded, Counted, Counter, QueryTotal, Storm, TooMuch, Total

from messages.message import Message
from messages.overseer import CommandOutcome, IncarnationStarted, OutcomeStatus
from overseer.runner.errors import EvolveFailed

pytestmark = pytest.mark.anyio


async def test_what_is_injected_is_handled_told_and_kept(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    assert (await counter.expect(Counted)).amount == 1
    assert (await counter.expect(Counted, lambda m: m.amount == 3)).amount == 3
    await counter.settled()
    assert (await counter.ask(QueryTotal())).total == 6
    assert [type(m) for m in await counter.sent()] == [IncarnationStarted, Counted, Counted, Counted]
    assert [e.amount for e in counter.events(AmountAdded)] == [1, 2, 3]
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults


async def test_it_is_killed_and_restarted_on_the_same_store(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=5))
    await counter.settled()
    await counter.restart()
    await counter.inject(Add(amount=7))
    await counter.settled()
    assert (await counter.ask(QueryTotal())).total == 12
    assert len(await counter.sent(Counted)) == 2
    assert len(await counter.sent(IncarnationStarted)) == 1
    assert (await counter.verify()).ok


async def test_a_subsystem_that_speaks_announces_itself_first(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.signal(Storm(level=3))
    await counter.inject(Storm(level=4), sender="weather")
    await counter.settled()
    assert [e.level for e in counter.events() if type(e).__name__ == "StormSeen"] == [3, 4]
    assert counter.witness.troubles == []


async def test_a_request_has_an_outcome_or_a_refusal(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    outcome = await counter.request(Add(amount=2), command_id="c1")
    assert isinstance(outcome, CommandOutcome)
    assert outcome.status is OutcomeStatus.ACCEPTED
    refused = await counter.request(Add(amount=2_000_000))
    assert refused.status is OutcomeStatus.REJECTED
    assert refused.code == TooMuch.spec.name
    assert (await counter.ask(QueryTotal())) == Total(total=2, position=refused.sequence)


async def test_what_it_sends_can_be_altered_dropped_and_doubled(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())

    def liar(message: Any) -> Any:
        if b"amount" not in message.body:
            return message
        made = len(seen)
        seen.append(message)
        return [message, None, [message, message]][made]

    seen: list[Any] = []
    counter.intercept(liar)
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    assert [m.amount for m in await counter.sent(Counted)] == [1, 3, 3]


async def test_expect_tells_what_came_instead(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    with pytest.raises(AssertionError, match=r"instead: \['overseer.evt.incarnation_started'\]"):
        await counter.expect(Counted, within_s=0.1)


async def test_settled_raises_what_the_runner_ended_with(virtual_overseer: Any) -> None:
    subject = Counter()

    def broken(_: Message) -> None:
        raise ZeroDivisionError

    counter = await virtual_overseer(subject)
    subject.evolve_hook = broken
    await counter.inject(Add(amount=1))
    with pytest.raises(EvolveFailed, match=r"counter: evolve failed on counter\.event\.amount_added: ZeroDivisionError"):
        await counter.settled()
