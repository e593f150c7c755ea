"""Spans of a runner: what follows from a message hangs under it, whoever died in between; nothing is told where nobody asks."""

from typing import Any

import pytest
from counting import Add, AddLater, Counted, Counter, Later, QueryTotal, Total
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from messages.codec import encode
from messages.message import Message
from messages.overseer import Parked
from messages.subjects import HEADER_CAUSE, HEADER_CORRELATION, HEADER_TRACEPARENT, request_subject
from messages.tracing import parse_traceparent, processing
from overseer.observe.trace import PinnedIds, Spans
from overseer.runner.observer import Step

pytestmark = pytest.mark.anyio

OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Memory:
    """Spans kept in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        ids = PinnedIds()
        provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = Spans(provider, ids, node="test", name="counter")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def memory() -> Memory:
    return Memory()


def hangs_under(span: ReadableSpan, above: ReadableSpan) -> bool:
    return span.parent is not None and above.context is not None and span.parent.span_id == above.context.span_id


async def test_a_command_its_handling_and_what_it_tells_are_one_chain(in_memory: Any, memory: Memory) -> None:
    counter = await in_memory(Counter(), tracer=memory.spans)
    await counter.call(request_subject("test", Add.spec), encode(Add(amount=3)), {HEADER_TRACEPARENT: OUTSIDE})
    await counter.expect(Counted)
    await counter.settled()
    told = (await counter.sent_raw())[-1].stored
    answered, process, send = memory.one("counter.cmd.add"), memory.one("process counter.cmd.add"), memory.one("send counter.evt.counted")
    assert answered.kind is SpanKind.SERVER
    assert answered.parent is not None
    assert f"{answered.parent.span_id:016x}" == OUTSIDE.split("-")[2]
    assert process.kind is SpanKind.CONSUMER
    assert hangs_under(process, answered)
    assert send.kind is SpanKind.PRODUCER
    assert hangs_under(send, process)
    # The span that the message itself names: a receiver's hangs under it.
    header = parse_traceparent(told.headers[HEADER_TRACEPARENT])
    assert header is not None
    assert send.context is not None
    assert (f"{send.context.trace_id:032x}", f"{send.context.span_id:016x}") == (header.trace, header.span)
    assert {f"{span.context.trace_id:032x}" for span in (answered, process, send) if span.context} == {OUTSIDE.split("-")[1]}
    attributes = dict(process.attributes or {})
    assert attributes["messaging.system"] == "nats"
    assert attributes["messaging.destination.name"] == "overseer.test.req_counter.cmd.counter.add"
    assert attributes["messaging.operation.type"] == "process"
    assert attributes["overseer.status"] == "accepted"
    assert [event.name for event in process.events] == ["decided"]
    assert process.start_time is not None
    assert process.end_time is not None
    assert process.start_time <= process.events[0].timestamp <= process.end_time


async def test_what_is_published_by_a_successor_hangs_where_it_would_have(in_memory: Any, memory: Memory) -> None:
    counter = await in_memory(Counter(), tracer=memory.spans)
    # Its first words are told: the next commit is that of the command.
    await counter.settled()
    counter.kill_at(Step.COMMITTED)
    await counter.inject(Add(amount=3))
    await counter.ended()
    assert not counter.running
    assert not memory.named("send counter.evt.counted")
    await counter.start()
    await counter.expect(Counted)
    await counter.settled()
    headers = (await counter.sent_raw())[-1].stored.headers
    send = memory.one("send counter.evt.counted")
    # It died before it could tell of the handling: the message hangs under it all the same.
    assert not memory.named("process counter.cmd.add")
    assert send.parent is not None
    assert f"{send.parent.span_id:016x}" == processing("test", "counter", headers[HEADER_CAUSE], headers[HEADER_CORRELATION])


async def test_a_refusal_a_dead_letter_and_a_timer_are_told_as_such(in_memory: Any, memory: Memory) -> None:
    counter = await in_memory(Counter(), tracer=memory.spans)
    await counter.request(Add(amount=2_000_000))
    await counter.request(Add(amount=1), command_id="once")
    await counter.request(Add(amount=2), command_id="once")
    await counter.inject(AddLater(key="soon", amount=5, after_ms=1))
    await counter.settled()
    await counter.advance(10)
    await counter.expect(Counted, lambda counted: counted.amount == 5)
    await counter.settled()
    status = [dict(span.attributes or {})["overseer.status"] for span in memory.named("process counter.cmd.add")]
    assert status == ["rejected", "accepted", "parked"]
    rejected, _, parked = memory.named("process counter.cmd.add")
    assert rejected.status.is_unset
    assert dict(rejected.attributes or {})["error.type"] == "too_much"
    assert parked.status.status_code is StatusCode.ERROR
    timer = memory.one("process counter.timer.later")
    assert timer.parent is None
    assert dict(timer.attributes or {})["overseer.status"] == "timer"
    assert any(hangs_under(send, timer) for send in memory.named("send counter.evt.counted"))


async def test_a_timer_behind_one_that_was_parked_in_the_same_batch_is_told_as_a_timer(in_memory: Any, memory: Memory) -> None:
    def hook(message: Message) -> None:
        if message == Later(amount=13):
            raise ZeroDivisionError

    counter = await in_memory(Counter(hook=hook), tracer=memory.spans)
    await counter.inject(AddLater(key="a", amount=13, after_ms=5))
    await counter.inject(AddLater(key="b", amount=5, after_ms=5))
    await counter.settled()
    await counter.advance(10)
    assert [(letter.reason, letter.subject) for letter in await counter.sent(Parked)] == [("handler_failed", "timer a")]
    assert [counted.amount for counted in await counter.sent(Counted)] == [5]
    parked, fired = memory.named("process counter.timer.later")
    told = [(dict(span.attributes or {})["overseer.status"], dict(span.attributes or {}).get("error.type")) for span in (parked, fired)]
    assert told == [("parked", "handler_failed"), ("timer", None)]
    assert parked.status.status_code is StatusCode.ERROR
    assert fired.status.is_unset
    # They were committed at once: it is one batch that is asked about here.
    assert parked.end_time == fired.end_time


async def test_a_query_is_a_span_and_one_that_fails_has_its_error(in_memory: Any, memory: Memory) -> None:
    subject = Counter()
    counter = await in_memory(subject, tracer=memory.spans)
    assert isinstance(await counter.ask(QueryTotal()), Total)
    asked = memory.one("counter.qry.query_total")
    assert asked.kind is SpanKind.SERVER
    assert asked.status.is_unset

    def broken(*_: object) -> Total:
        raise ZeroDivisionError("no")

    subject.answer = broken  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="the endpoint failed to handle this request"):
        await counter.ask(QueryTotal())
    _, failed = memory.named("counter.qry.query_total")
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "ZeroDivisionError")
    (event,) = failed.events
    assert dict(event.attributes or {})["exception.message"] == "no"
