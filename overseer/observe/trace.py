"""Spans of single messages for OpenTelemetry: what follows from one message, in all processes, is one trace (docs/observability.md).

Three kinds, hung together by the headers alone, so that it makes no difference who died in between:

    process <message>   an input of a subsystem, from its decision to its commit; hangs under the message's `traceparent`
    send <message>      a message on its way into the stream; is the span that its `traceparent` names; hangs under what caused it
    <message>           a request: of the caller (client) and of the endpoint that answers (server)

The ids of the first two follow from what is recorded (messages.tracing): a sender that was killed between commit and publish, and its
successor, make the same spans. Names and attributes are those of OpenTelemetry's conventions for messaging.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TracerProvider

from messages.subjects import HEADER_CAUSE, HEADER_COMMAND_ID, HEADER_CORRELATION, HEADER_ID, HEADER_TRACEPARENT, SubjectError, parse
from messages.tracing import TraceParent, parse_traceparent, processing
from overseer.ports.bus import Outgoing, Request
from overseer.ports.tracer import Handled

__all__ = ["PinnedIds", "Spans"]

Attributes = Mapping[str, str | int]


class PinnedIds(IdGenerator):
    """Random ids, but for the next span if they are given. For spans that are started by one thread."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.span = 0
        self.trace = 0

    def generate_span_id(self) -> int:
        pinned, self.span = self.span, 0
        return pinned or self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        pinned, self.trace = self.trace, 0
        return pinned or self._random.generate_trace_id()


class Spans:
    """Of one process, or one subsystem of it. Implements `overseer.ports.tracer.Tracer`."""

    def __init__(self, provider: TracerProvider, ids: PinnedIds, *, node: str, name: str) -> None:
        """`ids` are those of the provider."""
        self._tracer = trace.get_tracer("overseer", tracer_provider=provider)
        self._ids = ids
        self._node = node
        self._name = name

    # -------------------------------------------------------------------------------------------- of a runner

    def processed(self, inputs: Sequence[Handled], committed_ns: int) -> None:
        for handled in inputs:
            self._ids.trace = int(handled.trace, 16)
            self._ids.span = int(processing(self._node, self._name, handled.cause, handled.correlation), 16)
            name = handled.key or "message"
            attributes: dict[str, str | int] = {
                **_about(handled.key, handled.subject, handled.body_bytes, handled.correlation),
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.consumer.group.name": self._name,
                "overseer.status": handled.status,
                "overseer.cause": handled.cause,
            }
            if handled.id:
                attributes["messaging.message.id"] = handled.id
            if handled.code:
                attributes["error.type"] = handled.code
            span = self._tracer.start_span(
                f"process {name}", _remote(handled.parent), SpanKind.CONSUMER, attributes, start_time=handled.began_ns
            )
            span.add_event("decided", timestamp=handled.decided_ns)
            if handled.status == "parked":
                span.set_status(StatusCode.ERROR, handled.code)
            span.end(committed_ns)
            self._unpin()

    def sent(self, messages: Sequence[Outgoing], began_ns: int, ended_ns: int) -> None:
        for message in messages:
            headers = message.headers
            own = parse_traceparent(headers.get(HEADER_TRACEPARENT, ""))
            if own is None:
                continue
            above = processing(self._node, self._name, headers.get(HEADER_CAUSE, ""), headers.get(HEADER_CORRELATION, ""))
            self._ids.span = int(own.span, 16)
            key = _key_of(message.subject)
            attributes: dict[str, str | int] = {
                **_about(key, message.subject, len(message.body), headers.get(HEADER_CORRELATION, "")),
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.message.id": headers.get(HEADER_ID, ""),
            }
            context = _within(TraceParent(trace=own.trace, span=above), is_remote=False)
            span = self._tracer.start_span(f"send {key}", context, SpanKind.PRODUCER, attributes, start_time=began_ns)
            span.end(ended_ns)
            self._unpin()

    @contextmanager
    def asked(self, key: str, request: Request) -> Generator[str]:
        attributes = {**_about(key, request.subject, len(request.body), ""), "overseer.caller": request.account}
        with self._request(key, _remote(request.headers.get(HEADER_TRACEPARENT, "")), SpanKind.SERVER, attributes) as parent:
            yield parent

    # -------------------------------------------------------------------------------------------- of a caller

    @contextmanager
    def asking(self, key: str, subject: str, headers: Mapping[str, str], body_bytes: int) -> Generator[str]:
        """A request, or a command put into the stream, within the block; gives the `traceparent` to send with it."""
        attributes = _about(key, subject, body_bytes, headers.get(HEADER_CORRELATION, ""))
        if HEADER_COMMAND_ID in headers:
            attributes["messaging.message.id"] = headers[HEADER_COMMAND_ID]
        with self._request(key, Context(), SpanKind.CLIENT, attributes) as parent:
            yield parent

    @contextmanager
    def _request(self, key: str, context: Context, kind: SpanKind, attributes: Attributes) -> Generator[str]:
        span = self._tracer.start_span(key, context, kind, attributes)
        try:
            yield _header(span.get_span_context())
        except Exception as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            span.record_exception(error)
            raise
        finally:
            span.end()

    def _unpin(self) -> None:
        """What was not used (the trace of a span that has a parent) must not be the next one's."""
        self._ids.span = self._ids.trace = 0


def _about(key: str, subject: str, size: int, correlation: str) -> dict[str, str | int]:
    about: dict[str, str | int] = {"messaging.system": "nats", "messaging.message.body.size": size}
    if subject:
        about["messaging.destination.name"] = subject
    if key:
        about["messaging.destination.template"] = key
    if correlation:
        about["messaging.message.conversation_id"] = correlation
    return about


def _key_of(subject: str) -> str:
    """The message's key, as few as there are types; of a subject that is none of ours, itself."""
    try:
        spec = parse(subject).spec()
    except SubjectError:
        return subject
    return spec.key if spec is not None else subject


def _remote(header: str) -> Context:
    """Within the span that the header names; without one, within none."""
    parsed = parse_traceparent(header) if header else None
    return Context() if parsed is None else _within(parsed, is_remote=True)


def _within(parent: TraceParent, *, is_remote: bool) -> Context:
    above = SpanContext(
        trace_id=int(parent.trace, 16), span_id=int(parent.span, 16), is_remote=is_remote, trace_flags=TraceFlags(parent.flags)
    )
    return trace.set_span_in_context(NonRecordingSpan(above), Context())


def _header(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}" if context.is_valid else ""
