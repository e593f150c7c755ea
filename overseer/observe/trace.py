"""A bridge to OpenTelemetry: without an SDK spans cost next to nothing; with one, what follows from one message in all
subsystems is one trace.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from messages.tracing import parse_traceparent

__all__ = ["span"]


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
        trace_id=int(parsed.trace, 16),
        span_id=int(parsed.span, 16),
        is_remote=True,
        trace_flags=TraceFlags(parsed.flags),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())
