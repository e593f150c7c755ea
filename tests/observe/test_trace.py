"""Traces: the header is pure, valid and stable; with an SDK, spans hang together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from messages.tracing import TraceParent, parse_traceparent, trace_of, traceparent
from overseer.observe.trace import span

OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@given(st.text(max_size=64), st.text(max_size=200))
def test_the_header_is_a_valid_pure_function_of_identity(correlation: str, message_id: str) -> None:
    header = traceparent(trace_of(None, correlation), message_id)
    assert header == traceparent(trace_of(None, correlation), message_id)
    assert parse_traceparent(header) is not None


def test_the_header_never_changes_between_releases() -> None:
    header = traceparent(trace_of(None, "correlation"), "votes_db 00ff 17 2")
    assert header == "00-f7adecd9ef32d45e909693b8dcfc21da-3ff87d077ce14a1e-01"


def test_messages_of_one_correlation_share_the_trace_and_not_the_span() -> None:
    one, two = (parse_traceparent(traceparent(trace_of(None, "c"), f"votes_db 00 {n} 0")) for n in (1, 2))
    assert one is not None
    assert two is not None
    assert one.trace == two.trace != trace_of(None, "d")
    assert one.span != two.span


def test_a_trace_that_came_from_outside_is_carried_on() -> None:
    assert trace_of(OUTSIDE, "c") == "0af7651916cd43dd8448eb211c80319c"


def test_a_broken_parent_is_ignored() -> None:
    assert trace_of("nonsense", "c") == trace_of(None, "c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
    ],
)
def test_invalid_headers_are_none(text: str) -> None:
    assert parse_traceparent(text) is None


def test_a_later_version_is_read_as_far_as_known() -> None:
    parsed = parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more")
    assert parsed is not None
    assert parsed.flags == 1


@given(st.text(max_size=100))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    parsed = parse_traceparent(text)
    assert parsed is None or isinstance(parsed, TraceParent)


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The SDK can be set once per process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_without_an_sdk_a_span_is_nothing() -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    with span("decide", traceparent(trace_of(None, "c"), "m"), {"size": 3}):
        assert not trace.get_current_span().is_recording()


def test_spans_hang_under_the_message_that_caused_them(exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    header = traceparent(trace_of(None, "c"), "votes_db 00 1 0")
    with span("batch", header, {"subsystem": "votes_db", "size": 3}), span("decide", ""):
        pass
    decide, batch = exporter.get_finished_spans()
    parsed = parse_traceparent(header)
    assert parsed is not None
    assert batch.context is not None
    assert batch.parent is not None
    assert batch.context.trace_id == int(parsed.trace, 16)
    assert batch.parent.span_id == int(parsed.span, 16)
    assert dict(batch.attributes or {}) == {"subsystem": "votes_db", "size": 3}
    assert decide.parent is not None
    assert decide.parent.span_id == batch.context.span_id


def test_an_error_is_recorded_and_goes_on(exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    with pytest.raises(ValueError, match="broken"), span("decide", ""):
        raise ValueError("broken")
    (recorded,) = exporter.get_finished_spans()
    assert not recorded.status.is_ok
    assert recorded.events[0].name == "exception"
