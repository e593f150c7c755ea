"""The Tracer port: what a runner tells of single messages, for traces (docs/observability.md). None where nobody asked for them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from overseer.ports.bus import Outgoing, Request

__all__ = ["Handled", "Tracer"]


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """One input that was decided. Times in nanoseconds since 1970."""

    # The message's key (of what could not be read: ""), its subject (of a timer: ""), and its id or command id.
    key: str
    subject: str
    id: str
    body_bytes: int
    # The header `traceparent` that it came with, or "".
    parent: str
    # What its record says of its cause: trace id, `<stream> <sequence>` or `timer`, correlation.
    trace: str
    cause: str
    correlation: str
    # accepted | rejected | parked, or `timer`; and the refusal's code.
    status: str
    code: str
    began_ns: int
    decided_ns: int


class Tracer(Protocol):
    """Told after the fact; must neither raise nor block."""

    def processed(self, inputs: Sequence[Handled], committed_ns: int) -> None:
        """These were decided, and committed together."""
        ...

    def sent(self, messages: Sequence[Outgoing], began_ns: int, ended_ns: int) -> None:
        """These are in the stream."""
        ...

    def asked(self, key: str, request: Request) -> AbstractContextManager[str]:
        """The answering of a request within the block; gives the `traceparent` that goes on from here, or ""."""
        ...
