"""Recorded -> told: the bytes that go onto the wire for a record, a pure function of the record (so that `verify` can compare)."""

from collections.abc import Iterable, Iterator

from messages.codec import encode
from messages.message import Kind, Message
from messages.overseer import IncarnationStarted, Parked
from messages.subjects import HEADER_CAUSE, HEADER_CORRELATION, HEADER_ID, HEADER_TRACEPARENT, MessageId, build, headers_of
from messages.tracing import traceparent
from overseer.runner.schema import Cause, OutboxRow
from overseer.subsystem import Subsystem

__all__ = ["Sender", "cause_text", "correlation_of", "reactions"]

_CORRELATION_CHARACTERS_MAX = 200


def reactions(subsystem: Subsystem, event: Message) -> Iterable[Message]:
    """What is told of an event; the framework's own facts tell themselves."""
    if event.spec.owner == "overseer":
        return (event,) if isinstance(event, IncarnationStarted | Parked) else ()
    return subsystem.react(event)


def cause_text(cause: Cause) -> str:
    """As the header shows it: `<stream> <sequence>`, or `timer`."""
    return f"{cause.stream} {cause.sequence}" if cause.stream else "timer"


def correlation_of(text: str) -> str:
    """A foreign correlation as we may send it on: printable, bounded, without spaces around it; "" when it cannot be."""
    return text[:_CORRELATION_CHARACTERS_MAX].strip() if text.isprintable() else ""


class Sender:
    """Renders messages under one sender's name and incarnation."""

    def __init__(self, node: str, name: str, incarnation: bytes) -> None:
        self.node = node
        self.name = name
        self.incarnation = incarnation.hex()

    def render(self, cause: Cause, index: int, place: int, message: Message) -> OutboxRow:
        """The `place`-th message of journal record `index`."""
        message_id = MessageId(self.name, self.incarnation, index, place).text()
        headers = {
            HEADER_ID: message_id,
            HEADER_CAUSE: cause_text(cause),
            HEADER_CORRELATION: cause.correlation,
            **headers_of(message.spec),
            HEADER_TRACEPARENT: traceparent(cause.trace, message_id),
        }
        return OutboxRow(build(self.node, self.name, message.spec), headers, encode(message))

    def render_all(self, cause: Cause, index: int, messages: Iterable[Message]) -> Iterator[tuple[tuple[int, int], bool, OutboxRow]]:
        """((record, place), is it for the network's stream, row) of every message of a record, in order."""
        for place, message in enumerate(messages):
            yield (index, place), message.spec.kind is Kind.NETWORK, self.render(cause, index, place, message)
