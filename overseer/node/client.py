"""A person's (or feed's) side of the bus: queries, awaited commands, plain injection."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

import anyio
import msgspec

from messages.codec import decode, encode
from messages.message import CATALOG, Kind, Message
from messages.overseer import CommandOutcome, OutcomeStatus
from messages.subjects import HEADER_COMMAND_ID, HEADER_TRACEPARENT, build, headers_of, request_subject
from messages.text import to_json
from overseer.config import Config
from overseer.nats.accounts import operator_sender
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.node.bus import connected_as
from overseer.ports.bus import BusError, BusUnavailable, Outgoing, Response

if TYPE_CHECKING:
    # With the SDK, which only those have who want traces.
    from overseer.observe.trace import Spans

__all__ = ["Client", "Refused", "accepted", "refusal_of"]

# Longer than an endpoint waits for an outcome, so that its own answer is heard.
REQUEST_MS = 15_000
QUERY_MS = 5_000
# After this long without an answer, and every so often from then on, we look whether the one asked still lives.
LOOK_MS = 500


class Refused(Exception):
    """A query or command was refused: by a typed rejection, as a dead letter, or by the endpoint itself."""

    def __init__(self, message: Message, code: str, detail: Message | str | None, *, retriable: bool) -> None:
        shown = to_json(detail).decode() if isinstance(detail, Message) else detail or ""
        more = f" {shown}" if shown not in ("", "{}", code) else ""
        super().__init__(f"{message.spec.owner} refused {message.spec.name}: {code}{more}")
        self.code = code
        self.detail = detail
        self.retriable = retriable


class _Discovered(msgspec.Struct):
    """What matters of the answer to a ping of the discovery protocol."""

    id: str


class Client:
    """One user's requests. Made by `Client.connected`."""

    def __init__(self, connection: Connection, node: str, user: str, spans: "Spans | None" = None) -> None:
        self.connection = connection
        self.node = node
        self.user = user
        self._exchange = NatsExchange(connection)
        self._spans = spans
        # Who answered discovery last, by subsystem: its id is another one after a restart.
        self._seen: dict[str, str] = {}

    @staticmethod
    @asynccontextmanager
    async def connected(
        config: Config, url: str, user: str, *, wait_ms: int = 10_000, spans: "Spans | None" = None
    ) -> AsyncGenerator["Client", None]:
        """With `spans` every request begins a trace. Raises UnusableKey, BusUnavailable, BusDenied."""
        async with connected_as(config, url, user, wait_ms=wait_ms) as connection:
            yield Client(connection, config.node, user, spans)

    async def query(self, query: Message, *, timeout_ms: int = QUERY_MS) -> Message:
        """The reply. Raises Refused, BusError."""
        response = await self._asked(query, build(self.node, "", query.spec), headers_of(query.spec), timeout_ms)
        if response.error is not None:
            raise refusal_of(query, response)
        assert query.spec.reply is not None
        return decode(query.spec.reply.spec, response.body)

    async def request(self, command: Message, *, command_id: str = "", timeout_ms: int = REQUEST_MS) -> CommandOutcome:
        """The outcome of an accepted command, after its commit. Raises Refused, BusError."""
        headers = {**headers_of(command.spec), HEADER_COMMAND_ID: command_id or token_hex(16)}
        response = await self._asked(command, request_subject(self.node, command.spec), headers, timeout_ms)
        if response.error is not None and response.error[0] != "409":
            raise refusal_of(command, response)
        return accepted(command, response)

    @contextmanager
    def _sending(self, message: Message, subject: str, headers: dict[str, str]) -> Generator[Outgoing, None, None]:
        """What to send within the block; it begins a trace, if traces are wanted and `headers` are not of one."""
        out = Outgoing(subject, headers, encode(message))
        if self._spans is None or HEADER_TRACEPARENT in headers:
            yield out
            return
        with self._spans.asking(message.spec.key, subject, headers, len(out.body)) as parent:
            yield Outgoing(subject, {**headers, HEADER_TRACEPARENT: parent}, out.body)

    async def _asked(self, message: Message, subject: str, headers: dict[str, str], timeout_ms: int) -> Response:
        """The answer. Raises BusError."""
        with self._sending(message, subject, headers) as out:
            return await self._answer(message.spec.owner, out, timeout_ms)

    async def _answer(self, owner: str, out: Outgoing, timeout_ms: int) -> Response:
        """When the one asked is killed meanwhile, its successor is asked as soon as it is there, within the same time.

        That has no second effect: a query has none, and a command carries an id. Raises BusError.
        """
        until = anyio.current_time() + timeout_ms / 1000
        while True:
            response: Response | None = None
            failed: Exception | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, owner, tasks.cancel_scope)
                left_ms = max(1, int((until - anyio.current_time()) * 1000))
                try:
                    response = await self._exchange.request(out.subject, out.body, out.headers, left_ms)
                except Exception as error:
                    # Not out of the task group: it would come as a group.
                    failed = error
                tasks.cancel_scope.cancel()
            if failed is not None:
                raise failed
            if response is not None:
                return response

    async def _watch(self, owner: str, waiting: anyio.CancelScope) -> None:
        """Cancel `waiting` when `owner` turns out to be another process than before."""
        known = self._seen.get(owner, "")
        pause_s = LOOK_MS / 1000 if known else 0
        while True:
            await anyio.sleep(pause_s)
            pause_s = LOOK_MS / 1000
            try:
                reply = await self.connection.request(f"$SRV.PING.{owner}", b"", timeout_ms=LOOK_MS)
                found = msgspec.json.decode(reply.body, type=_Discovered).id
            except (BusUnavailable, msgspec.DecodeError):
                # Nobody there yet, or too busy to say: as long as there is no other one, the one asked may still answer.
                continue
            except BusError:
                # This user may not look.
                return
            self._seen[owner] = found
            if known not in ("", found):
                waiting.cancel()
                return
            known = found

    async def inject(self, command: Message, *, command_id: str = "", headers: dict[str, str] | None = None) -> int:
        """Append a command to the stream without waiting for its outcome; returns its sequence. Raises BusError."""
        told = {**headers_of(command.spec), **(headers or {})}
        if command_id:
            told[HEADER_COMMAND_ID] = command_id
        with self._sending(command, build(self.node, operator_sender(self.user), command.spec), told) as out:
            return await self._exchange.publish(out)


def accepted(command: Message, response: Response) -> CommandOutcome:
    """The outcome that a response carries. Raises Refused."""
    outcome = decode(CommandOutcome.spec, response.body)
    assert isinstance(outcome, CommandOutcome)
    if outcome.status is not OutcomeStatus.ACCEPTED:
        raise _not_accepted(command, outcome)
    return outcome


def refusal_of(message: Message, response: Response) -> Refused:
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
