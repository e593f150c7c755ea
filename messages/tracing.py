"""The W3C `traceparent` header: a pure function of what is recorded, so that a replay or a repair makes the same bytes.

All that goes back to one correlation is one trace; each message is one span, whose id follows from the message's identity.
"""

import re

import msgspec
from blake3 import blake3

__all__ = ["TraceParent", "parse_traceparent", "processing", "trace_of", "traceparent"]

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceParent(msgspec.Struct, frozen=True, kw_only=True):
    """The parsed header; ids in lower hexadecimal."""

    trace: str
    span: str
    flags: int = 1


def parse_traceparent(text: str) -> TraceParent | None:
    """The header's parts; None when it is not valid (W3C Trace Context 3.2: it is then to be ignored)."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace.strip("0") or not span.strip("0"):
        return None
    return TraceParent(trace=trace, span=span, flags=int(flags, 16))


def trace_of(parent: str | None, correlation: str) -> str:
    """The trace id to go on with: the caller's if it sent a valid header, else one that follows from the correlation."""
    above = parse_traceparent(parent) if parent else None
    return above.trace if above is not None else _digest(correlation, 32)


def traceparent(trace: str, message_id: str) -> str:
    """The header of the message with that `Overseer-Id`, in that trace."""
    return f"00-{trace}-{_digest(message_id, 16)}-01"


def processing(node: str, subsystem: str, cause: str, correlation: str) -> str:
    """The span id of a subsystem's handling of an input, from what its record and all that it sent say of their cause."""
    return _digest(f"{node} {subsystem} {cause} {correlation}", 16)


def _digest(text: str, digits: int) -> str:
    """Hexadecimal digits of a BLAKE3 hash, never all zero (which the header forbids)."""
    found = blake3(text.encode()).hexdigest()[:digits]
    return found if found.strip("0") else "1" * digits
