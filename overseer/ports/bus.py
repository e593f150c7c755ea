"""The Bus port: one subsystem's view of one stream (`Line`), and of request/reply (`Exchange`).

The node's stream and the network's are two lines. Everything a line offers is what a subsystem's account permits and no
more: pull from its own consumer, append under its own sender token, read single messages, read the stream's state.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

__all__ = [
    "BusDenied",
    "BusError",
    "BusRefused",
    "BusUnavailable",
    "Delivery",
    "EndpointSpec",
    "Exchange",
    "Line",
    "MessageTooLarge",
    "OutcomeUnknown",
    "Outgoing",
    "Request",
    "Response",
    "StoredMessage",
    "StreamFull",
    "StreamState",
    "WrongLastSequence",
]


class BusError(Exception):
    """The root of what a line or exchange can raise."""


class BusUnavailable(BusError):
    """No server, or no answer in time, and nothing was changed by the attempt. Try again."""


class OutcomeUnknown(BusError):
    """An append was sent but not answered: read the last own message before any retry."""


class WrongLastSequence(BusError):
    """The compare-and-set failed (JetStream error 10071): something else is last under the filter. Nothing was stored."""


class StreamFull(BusError):
    """The stream's or the account's limit is reached (10077, 10023): nothing was stored."""


class BusDenied(BusError):
    """This account may not do that. A fault of configuration or an attack, never transient."""


class BusRefused(BusError):
    """The server refused for another reason (its code and text are kept): nothing was stored, and a retry will not help."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"the bus refused: {description} (JetStream error {code})")
        self.code = code
        self.description = description


class MessageTooLarge(BusError):
    """Refused before anything was sent: body and headers beyond `max_payload` would close the client for good."""

    def __init__(self, subject: str, what: str, size_bytes: int, size_bytes_max: int) -> None:
        super().__init__(f"{what} of a message on {subject[:200]!r}: {size_bytes} bytes, at most {size_bytes_max} are allowed")
        self.subject = subject
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max


class Outgoing(msgspec.Struct, frozen=True):
    """A message as it goes onto the wire."""

    subject: str
    headers: dict[str, str]
    body: bytes


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as the stream holds it. `time_ms` is the stream's store timestamp."""

    sequence: int
    time_ms: int
    subject: str
    headers: dict[str, str]
    body: bytes


class Delivery(msgspec.Struct, frozen=True):
    """A message as the consumer delivered it. `consumer_sequence` is contiguous (1, 2, ...) since the last `seek`."""

    consumer_sequence: int
    message: StoredMessage
    # Opaque to the runner: what `ack` needs.
    ack_token: str


class StreamState(msgspec.Struct, frozen=True):
    """`id` is the random id the overseer put into the stream's metadata at creation; `fill` how much of its limits is used, 0 to 1."""

    id: str
    first_sequence: int
    last_sequence: int
    fill: float = 0.0


class Line(Protocol):
    """One stream as one sender/consumer sees it. All methods raise BusUnavailable when there is no server."""

    @property
    def sender(self) -> str:
        """The sender token this line appends under."""
        ...

    @property
    def stream(self) -> str:
        """The stream's name."""
        ...

    async def state(self) -> StreamState: ...

    async def message_at(self, sequence: int) -> StoredMessage | None:
        """The message stored at that sequence, or None (deleted, trimmed, beyond the end)."""
        ...

    async def last_own(self) -> StoredMessage | None:
        """The last message under the own sender's filter: the published mark."""
        ...

    async def seek(self, sequence: int) -> None:
        """Set the consumer so that the next delivery is the first relevant message at or after `sequence`.

        Resets `consumer_sequence` to start at 1. Anything still in flight from before is never returned by `pull`.
        """
        ...

    async def pull(self, batch: int, wait_ms: int) -> list[Delivery]:
        """Up to `batch` deliveries, in order; empty after `wait_ms` without one. Returns early with what is there.

        Raises BusUnavailable when the connection or the consumer went away (then `seek` again).
        """
        ...

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledge this and all before it. A courtesy: may be lost."""
        ...

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        """Store all of `messages`, in order, if the last sequence under the own filter is `expected_last` (0: none yet).

        One is a single publish; several are one atomic batch (at most APPEND_BATCH_MAX). Returns the last one's sequence.
        Raises WrongLastSequence, StreamFull, OutcomeUnknown, BusDenied, BusRefused, MessageTooLarge; ValueError for a message
        outside the own filter, an empty sequence or too long a batch.
        """
        ...

    async def connected(self) -> None:
        """Return when a round trip to the server works."""
        ...


class Request(msgspec.Struct, frozen=True):
    """A request as an endpoint gets it. `account` is the caller's account as the server told it ("" if unknown)."""

    subject: str
    headers: dict[str, str]
    body: bytes
    account: str


class Response(msgspec.Struct, frozen=True):
    """`error` is None or (code, text): sent as micro-service error headers."""

    body: bytes
    headers: dict[str, str] = {}
    error: tuple[str, str] | None = None


class EndpointSpec(msgspec.Struct, frozen=True):
    """`subject` is the full subject served; `metadata` is shown by discovery (`nats micro info`)."""

    name: str
    subject: str
    metadata: dict[str, str] = {}


Handler = Callable[[Request], Awaitable[Response]]


class Exchange(Protocol):
    """Request/reply, as a NATS micro service; and single appends on behalf of callers."""

    async def serve(self, service: str, description: str, endpoints: Sequence[tuple[EndpointSpec, Handler]]) -> None:
        """Answer requests concurrently (bounded) until the connection is closed. Returns once subscribed."""
        ...

    async def request(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_ms: int) -> Response:
        """Raises BusUnavailable (nobody answered in time), BusDenied or MessageTooLarge."""
        ...

    async def publish(self, message: Outgoing) -> int:
        """Append one message to the stream outside any compare-and-set (for `req_<subsystem>` and `op_<name>`).

        Returns its sequence. Raises StreamFull, OutcomeUnknown, BusDenied, BusUnavailable.
        """
        ...
