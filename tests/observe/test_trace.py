"""The header of traces is pure, valid and stable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.tracing import TraceParent, parse_traceparent, trace_of, traceparent

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
