"""Traces: the W3C `traceparent` header, derived from a message's identity, and a bridge to OpenTelemetry.

The header is a pure function of what is recorded, so that a replay or a repair makes the same bytes. Spans are made through
`opentelemetry-api`: without an SDK they cost next to nothing; with one, what follows from one message in all subsystems is one trace.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import blake3
import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

__all__ = ["TraceParent", "parse_traceparent", "span", "traceparent"]

SAMPLED = 1
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceParent(msgspec.Struct, frozen=True, kw_only=True):
    """The parsed header."""

    trace_id: bytes
    span_id: bytes
    flags: int = SAMPLED

    def text(self) -> str:
        """The header's value (version 00)."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{self.flags:02x}"


def parse_traceparent(text: str) -> TraceParent | None:
    """The header's parts; None when it is not valid (W3C Trace Context 3.2: it is then to be ignored)."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or int(trace_id, 16) == 0 or int(span_id, 16) == 0:
        return None
    return TraceParent(trace_id=bytes.fromhex(trace_id), span_id=bytes.fromhex(span_id), flags=int(flags, 16))


def traceparent(correlation: bytes, message_id: str, *, parent: str = "") -> str:
    """The header of a message: the trace is the correlation's, the span is the message itself.

    `correlation` identifies what everything in this trace goes back to; `message_id` is the text of `Overseer-Id`. A valid `parent`
    (the header of the cause, which may come from outside) hands down its trace and flags instead.
    """
    above = parse_traceparent(parent) if parent else None
    return TraceParent(
        trace_id=above.trace_id if above else _digest("trace", correlation, 16),
        span_id=_digest("span", message_id.encode(), 8),
        flags=above.flags if above else SAMPLED,
    ).text()


@contextmanager
def span(name: str, parent: str, attributes: Mapping[str, str | int] | None = None) -> Generator[None]:
    """Record the work within the block as a child of the header `parent`; an error that leaves the block is recorded."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        # Nobody set up an SDK.
        yield
        return
    with trace.get_tracer("overseer").start_as_current_span(name, _context(parent), attributes=dict(attributes or {})):
        yield


def _context(parent: str) -> Context | None:
    parsed = parse_traceparent(parent)
    if parsed is None:
        return None
    remote = SpanContext(
        trace_id=int.from_bytes(parsed.trace_id, "big"),
        span_id=int.from_bytes(parsed.span_id, "big"),
        is_remote=True,
        trace_flags=TraceFlags(parsed.flags),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _digest(what: str, data: bytes, size: int) -> bytes:
    """A BLAKE3 digest, never all zero (which the header forbids)."""
    digest = blake3.blake3(data, derive_key_context=f"overseer 2025 traceparent {what}").digest(size)
    return digest if any(digest) else b"\x01" * size
