"""A person's (or feed's) side of the bus: queries, awaited commands, plain injection."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from messages.codec import decode, encode
from messages.message import CATALOG, Kind, Message
from messages.overseer import CommandOutcome, OutcomeStatus
from messages.subjects import (
    CONTENT_CBOR,
    HEADER_COMMAND_ID,
    HEADER_CONTENT_TYPE,
    HEADER_SCHEMA,
    build,
    request_subject,
)
from messages.text import to_json
from overseer.config import Config
from overseer.nats.accounts import operator_sender
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.node.bus import connected_as
from overseer.ports.bus import Outgoing, Response

__all__ = ["Client", "Refused"]

# Longer than an endpoint waits for an outcome, so that its own answer is heard.
REQUEST_MS = 15_000
QUERY_MS = 5_000


class Refused(Exception):
    """A query or command was refused: by a typed rejection, as a dead letter, or by the endpoint itself."""

    def __init__(self, message: Message, code: str, detail: Message | str | None, *, retriable: bool) -> None:
        shown = to_json(detail).decode() if isinstance(detail, Message) else detail or ""
        more = f" {shown}" if shown not in ("", "{}", code) else ""
        super().__init__(f"{message.spec.owner} refused {message.spec.name}: {code}{more}")
        self.code = code
        self.detail = detail
        self.retriable = retriable


class Client:
    """One user's requests. Made by `Client.connected`."""

    def __init__(self, connection: Connection, node: str, user: str) -> None:
        self.connection = connection
        self.node = node
        self.user = user
        self._exchange = NatsExchange(connection)

    @staticmethod
    @asynccontextmanager
    async def connected(config: Config, url: str, user: str, *, wait_ms: int = 10_000) -> AsyncGenerator["Client", None]:
        """Raises UnusableKey, BusUnavailable, BusDenied."""
        async with connected_as(config, url, user, wait_ms=wait_ms) as connection:
            yield Client(connection, config.node, user)

    async def query(self, query: Message, *, timeout_ms: int = QUERY_MS) -> Message:
        """The reply. Raises Refused, BusError."""
        subject = build(self.node, "", query.spec)
        response = await self._exchange.request(subject, encode(query), _headers(query), timeout_ms)
        if response.error is not None:
            raise _refusal(query, response)
        assert query.spec.reply is not None
        return decode(query.spec.reply.spec, response.body)

    async def request(self, command: Message, *, command_id: str = "", timeout_ms: int = REQUEST_MS) -> CommandOutcome:
        """The outcome of an accepted command, after its commit. Raises Refused, BusError."""
        headers = _headers(command)
        if command_id:
            headers[HEADER_COMMAND_ID] = command_id
        response = await self._exchange.request(request_subject(self.node, command.spec), encode(command), headers, timeout_ms)
        if response.error is not None and response.error[0] != "409":
            raise _refusal(command, response)
        outcome = decode(CommandOutcome.spec, response.body)
        assert isinstance(outcome, CommandOutcome)
        if outcome.status is not OutcomeStatus.ACCEPTED:
            raise _not_accepted(command, outcome)
        return outcome

    async def inject(self, command: Message, *, command_id: str = "", headers: dict[str, str] | None = None) -> int:
        """Append a command to the stream without waiting for its outcome; returns its sequence. Raises BusError."""
        told = {**_headers(command), **(headers or {})}
        if command_id:
            told[HEADER_COMMAND_ID] = command_id
        subject = build(self.node, operator_sender(self.user), command.spec)
        return await self._exchange.publish(Outgoing(subject, told, encode(command)))


def _headers(message: Message) -> dict[str, str]:
    return {HEADER_CONTENT_TYPE: CONTENT_CBOR, HEADER_SCHEMA: str(message.spec.version)}


def _refusal(message: Message, response: Response) -> Refused:
    """What the endpoint refused with: a rejection of the subsystem's, or of the framework's."""
    assert response.error is not None
    code = response.error[1]
    for owner in (message.spec.owner, "overseer"):
        spec = CATALOG.find(Kind.REJECTION, owner, code)
        if spec is not None:
            detail = decode(spec, response.body)
            return Refused(message, code, detail, retriable=bool(getattr(detail, "retriable", False)))
    return Refused(message, code, response.body[:200].decode(errors="replace"), retriable=False)


def _not_accepted(message: Message, outcome: CommandOutcome) -> Refused:
    code = outcome.code or outcome.status.value
    spec = CATALOG.find(Kind.REJECTION, message.spec.owner, code)
    detail: Message | str | None = None
    if outcome.detail is not None:
        detail = decode(spec, outcome.detail) if spec is not None else outcome.detail.decode(errors="replace")
    return Refused(message, code, detail, retriable=outcome.retriable)
