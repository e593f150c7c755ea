"""A pull by hand: the messages of one consumer from one reset on, asked for ahead of need.

The server is asked for batches under an inbox of this pull's own, each request under a token of its own. Asked but not yet
delivered (`outstanding`) plus delivered but not yet taken stays below twice what was last wanted: the server delivers the
next batch while the runner commits this one. A request the server ends early tells how much of it is left over. An idle
server sends heartbeats; when they stop, or the session ends, or the consumer goes, the pull is over and says why. It is over
as well when a delivery is missing: before the one that came, or by what a heartbeat says was delivered last.

And it is over behind a message with neither headers nor body (`Cut`): over an account import the server takes such a delivery
for the end of the answer, and what comes after it, heartbeats too, reaches nobody (seen on 2.15.1).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from overseer.nats.connection import Connection, Listening
from overseer.nats.wire import parse_headers, parse_status, wire_text
from overseer.ports.bus import BusError, BusUnavailable, Delivery, StoredMessage

__all__ = ["EXPIRES_S", "AckPosition", "Cut", "Pull", "parse_ack"]

# Below the accounts' response threshold of 10 s, which every heartbeat renews.
_HEARTBEAT_S = 2.0
_HEARTBEATS_MISSED = 3
# Also how long at most a request that lost its listener unnoticed (see `registered`) can swallow messages. Twice the heartbeat
# at least: the server refuses less.
EXPIRES_S = 5.0
_REGISTERED_S = 1.0
# Of one request: bounds what is held here (three requests at most). Above any message, or a large one would never come.
_REQUEST_BYTES_MAX = 8 * 1024 * 1024

_ACK = b"$JS.ACK."

_HEARTBEAT = "100"
# The request is over and the consumer is fine: 404 no messages, 408 expired, 409 the next one does not fit or (told because
# of `max_bytes`) the request was filled. Any other status ends the pull.
_REQUEST_OVER = ("404", "408")
_REQUEST_FILLED = ("message size exceeds", "batch completed")


class Cut(BusUnavailable):
    """The server ended this pull behind an empty message: begin another one behind what was taken."""


class AckPosition(msgspec.Struct, frozen=True):
    """What the server writes into the reply subject of a delivery."""

    delivered: int
    stream_sequence: int
    consumer_sequence: int
    time_ns: int


def parse_ack(reply: bytes) -> AckPosition:
    """From `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>`, or the form of twelve
    tokens with domain and account hash before the stream and a random one at the end. Raises ValueError."""
    tokens = reply.split(b".")
    at = 4 if len(tokens) == 9 else 6 if len(tokens) in (11, 12) else 0
    if not at:
        raise ValueError(f"not an acknowledgement subject: {reply[:200]!r}")
    return AckPosition(int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 2]), int(tokens[at + 3]))


class Pull:
    """One consumer from one reset on. `take` by one task at a time."""

    def __init__(self, connection: Connection, stream: str, durable: str, *, before: int = 0) -> None:
        """`before`: deliveries that the line has handed out since its last seek, under earlier pulls."""
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = connection.new_inbox().encode()
        self._arrived: deque[tuple[bytes, bytes, bytes, bytes]] = deque()
        # Not yet told to be over: token -> messages wanted.
        self._requests: dict[bytes, int] = {}
        self._requested = 0
        self._outstanding = 0
        self._failure: BusError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._heard_s = 0.0
        self._before = before
        # Consumer and stream sequence taken last; acknowledgement subject of what arrived last.
        self._taken = 0
        self._reached = 0
        # An empty message came: nothing behind it will.
        self._cut = False
        self._latest = b""
        self._listening: Listening | None = None
        self._forget: Callable[[], None] = lambda: None

    @property
    def handed_out(self) -> int:
        """Deliveries since the line's last seek."""
        return self._before + self._taken

    @property
    def reached(self) -> int:
        """The stream sequence taken last; 0 when nothing was."""
        return self._reached

    async def open(self) -> None:
        """Subscribe to the inbox. Raises BusUnavailable."""
        subject = f"{self._inbox.decode()}.*"
        self._forget = self._connection.expect((self._subject, subject), self._fail)
        self._listening = await self._connection.listen(subject, self._arrive, lasting=False)

    async def registered(self, waiting: Callable[[], Awaitable[int]]) -> None:
        """Return when the consumer, where `waiting` requests wait, has all those that are not over (or none comes any more).

        A request that the consumer takes up only after its listener is gone, over an import, passes for one that still has
        one (seen on 2.15.1: the server no longer finds whose reply it is), and swallows messages until it expires.
        """
        until_s = asyncio.get_running_loop().time() + _REGISTERED_S
        while self._failure is None and self._requests and asyncio.get_running_loop().time() < until_s:
            if await waiting() >= len(self._requests):
                return

    async def close(self) -> None:
        """Unsubscribe: the server drops requests without a listener before it handles anything sent after this."""
        self._forget()
        self._fail(BusUnavailable("this pull was closed"))
        if self._listening is not None:
            await self._connection.unlisten(self._listening)

    async def take(self, batch: int, wait_s: float) -> list[Delivery]:
        """Up to `batch` in order, as soon as there is one; empty after `wait_s`. Raises BusUnavailable, BusDenied when it is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            if self._failure is None:
                await self._ask(batch, loop.time())
            now = loop.time()
            if self._arrived:
                self._heard_s = now
                if some := self._first(batch):
                    return some
            if self._failure is not None:
                raise self._failure
            if now >= deadline:
                return []
            silence_ends = self._heard_s + _HEARTBEAT_S * _HEARTBEATS_MISSED
            if now < silence_ends:
                await self._wait(min(deadline, silence_ends) - now)
            else:
                await self._check_silence()

    async def _check_silence(self) -> None:
        """No heartbeat where three were due: either we did not look (then a round trip brings them), or the pull is over."""
        heard_s = self._heard_s
        try:
            await self._connection.settle()
        except BusUnavailable as error:
            self._fail(error)
        if self._heard_s == heard_s and not self._arrived:
            self._fail(BusUnavailable(f"no heartbeat on {self._subject}: is the consumer there?"))

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def _ask(self, batch: int, now_s: float) -> None:
        held = self._outstanding + len(self._arrived)
        if held > batch:
            return
        wanted = 2 * batch - held
        if self._outstanding == 0:
            self._heard_s = now_s
        self._requested += 1
        token = b"%d" % self._requested
        self._requests[token] = wanted
        self._outstanding += wanted
        request = {
            "batch": wanted,
            "max_bytes": _REQUEST_BYTES_MAX,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        try:
            await self._connection.publish(self._subject, msgspec.json.encode(request), reply=f"{self._inbox.decode()}.{token.decode()}")
        except BusUnavailable as error:
            self._fail(error)

    def _first(self, batch: int) -> list[Delivery]:
        arrived, some = self._arrived, list[Delivery]()
        for _ in range(min(batch, len(arrived))):
            place, delivery = _delivery(self._before, *arrived.popleft())
            if place != self._taken + 1:
                self._fail(BusUnavailable(f"deliveries {self._taken + 1} to {place - 1} were lost: seek again"))
                arrived.clear()
                break
            self._taken = place
            self._reached = delivery.message.sequence
            some.append(delivery)
        return some

    # --- from the read loop ----------------------------------------------------------------------------------------------

    def _arrive(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        if reply.startswith(_ACK):
            if self._cut:
                # Of a request beside the one that was ended: what that one lost may be before it.
                return
            self._arrived.append((subject, reply, headers, body))
            self._latest = reply
            self._outstanding -= 1
            if not headers and not body:
                self._cut = True
                self._fail(Cut(f"{self._subject}: ended behind an empty message"))
        else:
            self._heard_s = asyncio.get_running_loop().time()
            self._status(subject, headers)
        if self._waiter is not None:
            _wake(self._waiter)

    def _status(self, subject: bytes, headers: bytes) -> None:
        # Counts only for the request whose token it carries; what is for an unknown one is not for us.
        token = subject[len(self._inbox) + 1 :]
        if not subject.startswith(self._inbox) or token not in self._requests:
            return
        code, description, details = parse_status(headers)
        if code == _HEARTBEAT:
            self._compare(details.get("Nats-Last-Consumer", ""))
            return
        wanted = self._requests.pop(token)
        left = details.get("Nats-Pending-Messages", "")
        self._outstanding = max(0, self._outstanding - (int(left) if left.isdigit() else wanted))
        over = code in _REQUEST_OVER or (code == "409" and description.lower().startswith(_REQUEST_FILLED))
        if not over:
            self._fail(BusUnavailable(f"{self._subject}: {code} {description}"))

    def _compare(self, delivered: str) -> None:
        """What the server delivered last must have arrived: it sends heartbeats in line with deliveries."""
        arrived = parse_ack(self._latest).consumer_sequence if self._latest else 0
        if delivered.isdigit() and int(delivered) > arrived:
            self._fail(BusUnavailable(f"deliveries {arrived + 1} to {delivered} were lost: seek again"))

    def _fail(self, error: BusError) -> None:
        if self._failure is None:
            self._failure = error
        if self._waiter is not None:
            _wake(self._waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _delivery(before: int, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> tuple[int, Delivery]:
    """Its consumer sequence, and the delivery."""
    tokens = reply.split(b".")
    # The short form inlined: this runs once per message.
    if len(tokens) == 9:
        stored, place, time_ns = int(tokens[5]), int(tokens[6]), int(tokens[7])
    else:
        position = parse_ack(reply)
        stored, place, time_ns = position.stream_sequence, position.consumer_sequence, position.time_ns
    message = StoredMessage(stored, time_ns // 1_000_000, wire_text(subject), parse_headers(headers) if headers else {}, body)
    return place, Delivery(before + place, message, reply.decode())
