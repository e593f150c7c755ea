"""A connection that outlives its sessions: it reconnects for ever, and says at once what is known about every request.

    connection = await connect("nats://127.0.0.1:4222", name="overseer votes_db", inbox_prefix="_INBOX_votes_db", nkey_seed=...)
    reply = await connection.request("$JS.API.INFO", b"", timeout_ms=1_000)
    await connection.close()

Liveness is a round trip of our own, never the client's word. When a session ends, everything that waits on it fails at once,
by name: nothing is buffered for later, so what was not answered is known to be unknown. asyncio only, as nats-py is.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any

import msgspec
import nats.errors

from overseer.nats.session import Session, Sink
from overseer.nats.wire import parse_headers, parse_status, wire_text
from overseer.ports.bus import BusDenied, BusError, BusUnavailable, MessageTooLarge
from overseer.ports.envelope import header_bytes

__all__ = ["Connection", "Listening", "NobodyListens", "Reply", "Unanswered", "connect"]

# A session attempt as a whole: the client's own limits cover its steps only.
_OPEN_TIMEOUT_S = 10.0


class Unanswered(BusUnavailable):
    """Sent, but no answer came: whether it had an effect is unknown."""


class NobodyListens(BusUnavailable):
    """Nothing takes that subject now: no service, no stream."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody listens on {subject}")


class Reply(msgspec.Struct, frozen=True):
    """An answer. `headers` are without the server's own (Nats-...); `raw_headers` is the block as it came."""

    headers: dict[str, str]
    body: bytes
    raw_headers: bytes


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a connection comes back and how soon it notices that it must."""

    # Pause before the next session: at first, and at most (it doubles).
    reconnect_s: float
    reconnect_s_max: float
    liveness_interval_s: float
    liveness_timeout_s: float


class Listening:
    """A subscription. A lasting one is renewed on every session; another ends with its session."""

    def __init__(self, subject: str, queue: str, sink: Sink, lasting: bool) -> None:
        self.subject = subject
        self.queue = queue
        self.sink = sink
        self.lasting = lasting
        # Its number, and in which session: numbers start anew in each.
        self.sid = 0
        self.epoch = 0


class _Waiting:
    """Something that fails at once when its session ends or one of its subjects is denied."""

    __slots__ = ("fail", "subjects")

    def __init__(self, subjects: Sequence[str], fail: Callable[[BusError], None]) -> None:
        self.subjects = subjects
        self.fail = fail


async def connect(
    url: str | Sequence[str],
    *,
    name: str,
    inbox_prefix: str,
    nkey_seed: str | Callable[[], str] | None = None,
    credentials: Path | None = None,
    tls: ssl.SSLContext | None = None,
    connect_wait_ms: int = 10_000,
    reconnect_ms: int = 50,
    reconnect_ms_max: int = 2_000,
    liveness_interval_ms: int = 2_000,
    liveness_timeout_ms: int = 3_000,
) -> "Connection":
    """Connect, waiting at most `connect_wait_ms` for the first session; from then on reconnect for ever.

    `url` may hold user and password; several urls are servers of one cluster. `nkey_seed` and `credentials` (a .creds file)
    exclude each other; a seed that may be rotated is given as a function, asked at each session. With `tls` nothing is said
    to a server that does not speak TLS. After `liveness_interval_ms` of silence the server is asked for a sign of life; the session
    is given up when none comes within `liveness_timeout_ms`. Raises BusUnavailable (nobody there in time) and BusDenied (the
    server does not take this user).
    """
    options: dict[str, Any] = {"name": name, "inbox_prefix": inbox_prefix}
    if isinstance(nkey_seed, str):
        options["nkeys_seed_str"] = nkey_seed
    if credentials is not None:
        options["user_credentials"] = credentials
    servers = [url] if isinstance(url, str) else list(url)
    pace = Pace(
        reconnect_s=reconnect_ms / 1000,
        reconnect_s_max=reconnect_ms_max / 1000,
        liveness_interval_s=liveness_interval_ms / 1000,
        liveness_timeout_s=liveness_timeout_ms / 1000,
    )
    connection = Connection(servers, tls, options, inbox_prefix, pace, seed=None if isinstance(nkey_seed, str) else nkey_seed)
    try:
        await connection.first_session(connect_wait_ms / 1000)
    except BaseException:
        await connection.close()
        raise
    return connection


class Connection:
    """Made by `connect`. All methods raise BusUnavailable while there is no session, BusDenied where that is the reason."""

    def __init__(
        self,
        servers: Sequence[str],
        tls: ssl.SSLContext | None,
        options: dict[str, Any],
        inbox_prefix: str,
        pace: Pace,
        *,
        seed: Callable[[], str] | None = None,
    ) -> None:
        self._servers = servers
        self._tls = tls
        self._options = options
        self._seed = seed
        self._pace = pace
        self._session: Session | None = None
        self._cause: BusError = BusUnavailable(f"not yet connected to {_shown(servers)}")
        self._inbox = f"{inbox_prefix}.{token_hex(11)}"
        self._tokens = count(1)
        self._waiting: dict[str, _Waiting] = {}
        self._replies: dict[str, asyncio.Future[tuple[bytes, bytes]]] = {}
        self._listening: list[Listening] = []
        self._changed = asyncio.Event()
        self._suspected = asyncio.Event()
        self._closing = False
        # Sessions so far.
        self.epoch = 0
        self._reply_prefix = f"{self._inbox}.r."
        self._listening.append(Listening(self._reply_prefix + "*", "", self._take_reply, lasting=True))
        self._runner = asyncio.create_task(self._run(), name=f"nats {options['name']}")

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Flush and end. Whatever still waits fails. Idempotent."""
        self._closing = True
        self._runner.cancel()
        await asyncio.wait((self._runner,))
        self._cause = BusUnavailable("the connection was closed")

    async def first_session(self, wait_s: float) -> None:
        """Return with the first session up. Raises BusUnavailable, BusDenied."""
        try:
            async with asyncio.timeout(wait_s):
                while self.epoch == 0 and not isinstance(self._cause, BusDenied):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        if self.epoch == 0:
            raise self._cause

    async def ready(self) -> None:
        """Return when a round trip to the server works. Raises BusDenied when the server no longer takes this user."""
        while True:
            session = self._session
            if session is not None and await session.ping(self._pace.liveness_timeout_s):
                return
            if isinstance(self._cause, BusDenied) or self._closing:
                raise self._cause
            if session is not None:
                self._suspected.set()
            self._changed.clear()
            await self._changed.wait()

    def new_inbox(self) -> str:
        """A fresh subject (to be used with one more token) under the own inbox prefix."""
        return f"{self._inbox}.{next(self._tokens)}"

    # --- sending ---------------------------------------------------------------------------------------------------------

    async def publish(self, subject: str, body: bytes, *, headers: Mapping[str, str] | None = None, reply: str = "") -> None:
        """Hand a message to the session. Raises BusUnavailable (not sent), MessageTooLarge."""
        session = self._live()
        limit = session.limit_bytes()
        if len(body) > limit - 8 * 1024:
            size = len(body) + header_bytes(headers or {})
            # The client checks the body alone; the server then closes the connection with an error that is final.
            if size > limit:
                raise MessageTooLarge(subject, "body and headers", size, limit)
        try:
            await session.publish(subject, body, reply=reply, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            self._suspected.set()
            raise BusUnavailable(f"not sent: {type(error).__name__}: {error}") from error

    async def request(
        self,
        subject: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int,
        also: Sequence[str] = (),
    ) -> Reply:
        """One answer to one message. Raises BusDenied for `subject` or one of `also`, as soon as the server says so.

        Unanswered when it was sent and nothing came; plain BusUnavailable when it was not sent or nobody listens there.
        """
        loop = asyncio.get_running_loop()
        token = str(next(self._tokens))
        answered: asyncio.Future[tuple[bytes, bytes]] = loop.create_future()

        def fail(error: BusError) -> None:
            if not answered.done():
                answered.set_exception(error)

        def time_out() -> None:
            self._suspected.set()
            fail(Unanswered(f"no answer on {subject} within {timeout_ms} ms"))

        self._waiting[token] = _Waiting((subject, *also), fail)
        self._replies[token] = answered
        timer = loop.call_later(timeout_ms / 1000, time_out)
        try:
            await self.publish(subject, body, headers=headers, reply=self._reply_prefix + token)
            raw_headers, reply_body = await answered
        finally:
            timer.cancel()
            del self._waiting[token], self._replies[token]
            if answered.done() and not answered.cancelled():
                # Seen, even where the publish raised first.
                answered.exception()
        if not reply_body and raw_headers and parse_status(raw_headers)[0] == "503":
            raise NobodyListens(subject)
        return Reply(parse_headers(raw_headers), reply_body, raw_headers)

    def expect(self, subjects: Sequence[str], fail: Callable[[BusError], None]) -> Callable[[], None]:
        """Call `fail` when this session ends (Unanswered) or one of `subjects` is denied. Returns how to stop that."""
        token = f"e{next(self._tokens)}"
        self._waiting[token] = _Waiting(subjects, fail)
        return lambda: self._waiting.pop(token, None) and None

    # --- listening -------------------------------------------------------------------------------------------------------

    async def listen(self, subject: str, sink: Sink, *, queue: str = "", lasting: bool = True) -> Listening:
        """Subscribe. A lasting one is renewed on every later session; another is for this session only.

        Raises BusUnavailable when there is no session now.
        """
        session = self._live()
        listening = Listening(subject, queue, sink, lasting)
        if lasting:
            self._listening.append(listening)
        try:
            listening.epoch = self.epoch
            listening.sid = await session.listen(subject, queue, sink)
        except (nats.errors.Error, OSError) as error:
            if lasting:
                self._listening.remove(listening)
            raise BusUnavailable(f"not subscribed to {subject}: {error}") from error
        return listening

    async def unlisten(self, listening: Listening) -> None:
        """End a subscription. Never raises; ends with its session otherwise."""
        if listening in self._listening:
            self._listening.remove(listening)
        session = self._session
        if session is not None and listening.epoch == self.epoch:
            await session.unlisten(listening.sid)

    async def settle(self) -> None:
        """Return when the server has handled everything sent so far; what it denied has been told by then.

        Raises BusUnavailable.
        """
        if not await self._live().ping(self._pace.liveness_timeout_s):
            self._suspected.set()
            raise Unanswered("the server did not answer a ping")

    # --- the life of sessions --------------------------------------------------------------------------------------------

    def _live(self) -> Session:
        session = self._session
        if session is None or session.ended.is_set():
            raise self._cause if session is None else BusUnavailable(session.cause)
        return session

    async def _run(self) -> None:
        pause_s = self._pace.reconnect_s
        session: Session | None = None
        try:
            # Asked each time: `wait_for` of Python 3.11 and nats-py's flushing both swallow a cancellation now and then.
            while not self._closing:
                session = Session(self._on_denied)
                try:
                    await self._begin(session)
                except Exception as error:
                    # Whatever it is (a key that cannot be read, too): reconnecting never ends, and the cause is told to callers.
                    self._cause = self._why_not(error, session)
                else:
                    pause_s = self._pace.reconnect_s
                    await self._watch(session)
                    self._cause = BusUnavailable(session.cause)
                self._lose()
                await session.end()
                session = None
                if not self._closing:
                    await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._pace.reconnect_s_max)
        finally:
            if session is not None:
                await session.end()
            self._cause = BusUnavailable("the connection was closed")
            self._lose()

    def _why_not(self, error: Exception, session: Session) -> BusError:
        cause = _why_not(error, session, self._servers)
        if isinstance(cause, BusDenied) and self._seed is not None and self._seed() != self._options.get("nkeys_seed_str"):
            return BusUnavailable("the key was rotated while connecting")
        return cause

    async def _begin(self, session: Session) -> None:
        if self._seed is not None:
            self._options["nkeys_seed_str"] = self._seed()
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            await session.open(self._servers, tls=self._tls, **self._options)
            for listening in list(self._listening):
                listening.epoch = self.epoch + 1
                listening.sid = await session.listen(listening.subject, listening.queue, listening.sink)
        self._session = session
        self.epoch += 1
        self._changed.set()

    def _lose(self) -> None:
        """No session: everybody who waits learns it now."""
        self._session = None
        for waiting in list(self._waiting.values()):
            waiting.fail(Unanswered(f"the session ended: {self._cause}"))
        self._changed.set()

    async def _watch(self, session: Session) -> None:
        """Return when the session has ended or gives no sign of life."""
        received = -1
        while not session.ended.is_set() and not self._closing:
            self._suspected.clear()
            ended = asyncio.ensure_future(session.ended.wait())
            suspected = asyncio.ensure_future(self._suspected.wait())
            try:
                await asyncio.wait((ended, suspected), timeout=self._pace.liveness_interval_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
                suspected.cancel()
            if session.ended.is_set():
                return
            if self._suspected.is_set() or session.received_bytes() == received:
                if not await session.ping(self._pace.liveness_timeout_s):
                    session.cause = f"no sign of life within {self._pace.liveness_timeout_s:g} s"
                    return
                self._changed.set()
            received = session.received_bytes()

    def _on_denied(self, verb: str, subject: str) -> None:
        error = BusDenied(f"this user may not {'publish to' if verb == 'publish' else 'subscribe to'} {subject!r}: check its account")
        # A denied reply subject is our own inbox plus the request's token.
        named = subject.removeprefix(self._reply_prefix)
        for token, waiting in list(self._waiting.items()):
            if subject in waiting.subjects or token == named:
                waiting.fail(error)

    def _take_reply(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        answered = self._replies.get(wire_text(subject[len(self._reply_prefix) :]))
        if answered is not None and not answered.done():
            answered.set_result((headers, body))


def _why_not(error: Exception, session: Session, servers: Sequence[str]) -> BusError:
    # "No servers" only sums up: the session noted why.
    text = session.cause if isinstance(error, nats.errors.NoServersError) or not str(error) else str(error)
    if "authorization violation" in text.lower():
        return BusDenied(f"{_shown(servers)} does not take this user ({text}): check its key and account")
    return BusUnavailable(f"cannot connect to {_shown(servers)}: {text}; is the server running?")


def _shown(servers: Sequence[str]) -> str:
    """The servers without what may be a password."""
    return ", ".join(server.rpartition("@")[2] for server in servers)
