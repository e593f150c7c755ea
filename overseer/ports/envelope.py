"""What every implementation of the Bus port checks before a message leaves, and how subjects match filters."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from overseer.ports.bus import MessageTooLarge, Outgoing

__all__ = [
    "APPEND_BATCH_MAX",
    "BODY_BYTES_MAX",
    "BUSY",
    "HANDLER_FAILED",
    "HEADER_BYTES_MAX",
    "RESPONSE_TOO_LARGE",
    "check_append",
    "check_envelope",
    "header_bytes",
    "matches",
]

# The server's bound for one atomic batch.
APPEND_BATCH_MAX = 1_000
# Of the server's max_payload of 1 MiB; the rest is slack for the bus's own headers and for what imports add.
BODY_BYTES_MAX = 768 * 1024
HEADER_BYTES_MAX = 8 * 1024

# Errors an endpoint answers by itself, as (code, text) of the micro-service error headers.
BUSY = ("429", "too many requests in flight: try again later")
HANDLER_FAILED = ("500", "the endpoint failed to handle this request")
RESPONSE_TOO_LARGE = ("507", "the response is too large for one message")

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SUBJECT = re.compile(r"[!-~]+")


def header_bytes(headers: Mapping[str, str]) -> int:
    """The size of the header block on the wire; 0 without headers."""
    if not headers:
        return 0
    return len("NATS/1.0\r\n\r\n") + sum(len(name) + len(value.encode()) + len(": \r\n") for name, value in headers.items())


def check_envelope(subject: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises MessageTooLarge; ValueError for a subject or header that the wire would change or refuse."""
    if not _SUBJECT.fullmatch(subject):
        raise ValueError(f"subject {subject[:200]!r} must be printable ASCII without spaces")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower().startswith("nats-"):
            raise ValueError(f"header name {name[:100]!r} must be a token and not one of the server's own (Nats-...)")
        if value != value.strip() or "\r" in value or "\n" in value:
            raise ValueError(f"header {name}: the value must be one line without spaces around it: {value[:100]!r}")
    if len(body) > BODY_BYTES_MAX:
        raise MessageTooLarge(subject, "the body", len(body), BODY_BYTES_MAX)
    size = header_bytes(headers)
    if size > HEADER_BYTES_MAX:
        raise MessageTooLarge(subject, "the headers", size, HEADER_BYTES_MAX)


def check_append(messages: Sequence[Outgoing], own_filter: str) -> None:
    """Raises MessageTooLarge, and ValueError for what no line may append."""
    if not 0 < len(messages) <= APPEND_BATCH_MAX:
        raise ValueError(f"an append takes 1 to {APPEND_BATCH_MAX} messages, not {len(messages)}")
    for message in messages:
        if not matches(own_filter, message.subject):
            raise ValueError(f"{message.subject!r} is outside the sender's own filter {own_filter!r}")
        check_envelope(message.subject, message.headers, message.body)


@lru_cache(maxsize=16_384)
def matches(pattern: str, subject: str) -> bool:
    """Whether `subject` is covered by `pattern` (`*` is one token, a final `>` one or more)."""
    wanted, given = pattern.split("."), subject.split(".")
    for at, token in enumerate(wanted):
        if token == ">":
            return len(given) > at
        if at >= len(given) or token not in ("*", given[at]):
            return False
    return len(wanted) == len(given)
