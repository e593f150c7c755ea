"""One TCP connection to a NATS server, from its first byte to its end. `Connection` makes the next one.

It stands on nats-py's client for connecting (TLS, nkeys, credentials, several servers) and sending, and replaces what ends
or blinds that client: the parser (see `wire`), the pong that kills the read loop when its waiter was cancelled, the ping that
overtakes what was sent before it, permanent closing on an error of the server, and reconnecting behind one's back, which
would deliver later what the caller already counts as failed.
"""

# nats-py leaves the type of its futures open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.protocol.parser import Parser

from overseer.nats.wire import WireParser

__all__ = ["Denial", "Session", "Sink"]

# (subject, reply, headers, body) as raw bytes; called from the read loop: cheap, synchronous.
Sink = Callable[[bytes, bytes, bytes, bytes], None]
# (verb, subject): "publish" or "subscription", and what was denied.
Denial = Callable[[str, str], None]

_CONNECT_TIMEOUT_S = 2
# nats-py's own pings; our liveness check is `Connection`'s.
_PING_INTERVAL_S = 20
_CLOSE_TIMEOUT_S = 1.0
_READ_BUFFER_BYTES = 256 * 1024
# Sent but not yet taken by the socket; a publisher beyond it waits.
_PENDING_BYTES = 1024 * 1024

_VIOLATION = re.compile(r"permissions violation for (publish|subscription)(?: with reply of)?(?: to)? \"(.*?)\"", re.IGNORECASE)


class _Transport(TcpTransport):
    """A transport that can be cut without waiting for a peer that does not read."""

    def abort(self) -> None:
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    def is_encrypted(self) -> bool:
        return self._io_writer is not None and self._io_writer.get_extra_info("ssl_object") is not None


class NotEncrypted(nats.errors.Error):
    """TLS is wanted and was not offered."""


class Session(Client):
    """`open()` once, use, `end()`. `ended` is set when nothing will come any more, `cause` then says why."""

    def __init__(self, denied: Denial) -> None:
        super().__init__()
        self.ended = asyncio.Event()
        self.cause = "the connection was lost"
        self._denied = denied
        self._tls_wanted = False
        self._sinks: dict[int, Sink] = {}
        self._handles: dict[int, Subscription] = {}
        self._ps = cast(Parser, WireParser(self))

    async def open(self, servers: Sequence[str], *, tls: ssl.SSLContext | None, **options: Any) -> None:
        """Connect to the first server that takes us. Raises OSError or nats.errors.Error.

        With `tls` a server that does not offer TLS (or somebody between us who hides that it does) is told nothing.
        """
        self._tls_wanted = tls is not None
        try:
            await self.connect(
                list(servers),
                allow_reconnect=False,
                # With reconnecting off this only bounds how often each server is tried here.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=_CONNECT_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                pending_size=_PENDING_BYTES,
                error_cb=self._note_error,
                closed_cb=self._note_closed,
                tls=tls,
                **options,
            )
        except BaseException:
            self._cut()
            raise

    async def end(self) -> None:
        """Flush what can be flushed, then cut. Never raises, never waits for a dead peer."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.close()
        # Where closing failed half way, nats-py leaves them waiting for ever.
        for left in list(self._subs.values()):
            left._stop_processing()  # pyright: ignore[reportPrivateUsage]
        self._cut()
        self._over()

    def _over(self) -> None:
        """Nothing will come any more: no pong either."""
        self.ended.set()
        for waiter in self._pongs:
            if not waiter.done():
                waiter.set_result(False)

    def _cut(self) -> None:
        if isinstance(self._transport, _Transport):
            self._transport.abort()

    def limit_bytes(self) -> int:
        """The server's max_payload (body and headers together)."""
        return self._max_payload

    def received_bytes(self) -> int:
        """Grows with all that comes in: a session that grows is alive."""
        return self.stats["in_bytes"]

    async def listen(self, subject: str, queue: str, sink: Sink) -> int:
        """Subscribe; messages go to `sink` from the read loop, past nats-py's queues. Returns a handle for `unlisten`."""
        # The client counts up before it first yields, and nobody else subscribes in between.
        sid = self._sid + 1
        self._sinks[sid] = sink
        self._handles[sid] = await self.subscribe(subject, queue=queue, cb=_unused)
        return sid

    async def unlisten(self, sid: int) -> None:
        self._sinks.pop(sid, None)
        handle = self._handles.pop(sid, None)
        if handle is not None:
            with contextlib.suppress(Exception):
                await handle.unsubscribe()

    async def ping(self, timeout_s: float) -> bool:
        """Whether the server answers in time; an answer proves that all sent before has been handled."""
        if self.ended.is_set():
            return False
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pongs.append(answered)
        try:
            async with asyncio.timeout(timeout_s):
                # In line with what was sent before: nats-py's own ping is written ahead of its pending commands.
                await self._send_command(b"PING\r\n")
                await self._flush_pending()
                return await answered
        except (TimeoutError, OSError):
            return False

    # --- what the parser tells -------------------------------------------------------------------------------------------

    def on_message(self, sid: int, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(body) + len(subject)
        sink = self._sinks.get(sid)
        if sink is not None:
            sink(subject, reply, headers, body)

    async def on_ping(self) -> None:
        await self._send_command(b"PONG\r\n")
        await self._flush_pending()

    def on_pong(self) -> None:
        self._pings_outstanding = 0
        self.stats["in_bytes"] += 1
        if self._pongs:
            waiter = self._pongs.pop(0)
            # The waiter may have given up: setting it then would raise, and end the read loop.
            if not waiter.done():
                waiter.set_result(True)

    async def on_info(self, info: dict[str, Any]) -> None:
        self._max_payload = info.get("max_payload", self._max_payload)
        await self._process_info(info)

    def on_error(self, text: str) -> None:
        violation = _VIOLATION.search(text)
        if violation:
            self._denied(violation[1].lower(), violation[2])
            return
        self.cause = f"the server ended the connection: {text}"
        self._over()

    # --- what nats-py calls ----------------------------------------------------------------------------------------------

    def _connect_command(self) -> bytes:
        # Called once the server has introduced itself, and TLS is on if it asked for it: nats-py goes on without.
        encrypted = isinstance(self._transport, _Transport) and self._transport.is_encrypted()
        if self._tls_wanted and not encrypted:
            raise NotEncrypted("the server does not offer TLS, which this connection demands")
        return super()._connect_command()

    async def _connect_to_server(self, s: Srv) -> None:
        s.last_attempt = time.monotonic()
        self._transport = transport = _Transport()
        await transport.connect(s.uri, buffer_size=_READ_BUFFER_BYTES, connect_timeout=_CONNECT_TIMEOUT_S)

    async def _read_loop(self) -> None:
        try:
            await super()._read_loop()
        finally:
            # However it ended: an error that escapes it leaves a client that says it is connected and hears nothing.
            self._over()

    async def _process_op_err(self, e: Exception) -> None:
        """Whichever of nats-py's tasks met it: reading, sending, or its ping."""
        try:
            await super()._process_op_err(e)
        except OSError as error:
            # A reset is met once more while nats-py flushes on its way out; it then tells nobody that it closed.
            self.cause = f"{type(error).__name__}: {error}"
            self._over()

    async def _note_error(self, error: Exception) -> None:
        self.cause = f"{type(error).__name__}: {error}"

    async def _note_closed(self) -> None:
        self._over()


async def _unused(message: Msg) -> None:
    """Sinks take the messages; nats-py wants a callback."""
