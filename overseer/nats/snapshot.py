"""A stream's snapshot by the JetStream API: taken from a server that goes on, and restored with its sequences.

The server tells the stream's configuration and state as of one moment, then sends the stream as of no earlier moment, in
pieces, as fast as they are acknowledged. The pieces together are a compressed archive (`stream.tar.s2`) that only a server
reads; the stock client's `nats stream restore` takes it as well.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from secrets import token_hex
from typing import Any, cast

import anyio
import msgspec

from overseer.nats.accounts import snapshot_prefix
from overseer.nats.connection import Connection, Listening
from overseer.nats.provision import ApiError, call
from overseer.nats.wire import parse_status
from overseer.ports.bus import BusError, BusUnavailable

__all__ = ["BrokenSnapshot", "Snapshot", "restored_stream", "snapshot_of"]

# One piece, well below what a message may hold, and how much the server sends ahead of our acknowledgements.
_PIECE_BYTES = 128 * 1024
_AHEAD_BYTES = 4 * 1024**2
# Between two pieces: a server that reads a block of messages from a busy disk takes a while.
_SILENCE_S = 60.0
_RESTORE_TIMEOUT_MS = 60_000


class BrokenSnapshot(Exception):
    """The server ended a snapshot before it was whole, or would not take it back: which stream, and its words."""

    def __init__(self, stream: str, problem: str) -> None:
        super().__init__(f"the snapshot of stream {stream}: {problem}")
        self.stream = stream
        self.problem = problem


class Snapshot:
    """One that is being taken. `config` and `state` are the server's, as of its beginning; `pieces` is read once."""

    def __init__(self, connection: Connection, node: str, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = f"{snapshot_prefix(node)}.{token_hex(16)}"
        self._arrived: deque[tuple[bytes, bytes, bytes]] = deque()
        self._some = asyncio.Event()
        self._failure: BusError | None = None
        self._forget: Callable[[], None] = lambda: None
        self._listening: Listening | None = None
        self.config: dict[str, Any] = {}
        self.state: dict[str, Any] = {}

    async def begin(self) -> None:
        """Ask for it: from here on the server holds what it will send. Raises ApiError, BusError."""
        api = f"$JS.API.STREAM.SNAPSHOT.{self._stream}"
        acks = f"$JS.SNAPSHOT.ACK.{self._stream}.>"
        self._forget = self._connection.expect((api, acks, self._subject), self._fail)
        self._listening = await self._connection.listen(self._subject, self._arrive, lasting=False)
        # Before the server sends the first piece somebody must hear it.
        await self._connection.settle()
        # Consumers are made anew from the declarations, and set to the stores' positions.
        asked = {"deliver_subject": self._subject, "no_consumers": True, "chunk_size": _PIECE_BYTES, "window_size": _AHEAD_BYTES}
        answer = await call(self._connection, f"STREAM.SNAPSHOT.{self._stream}", asked)
        self.config, self.state = cast(dict[str, Any], answer["config"]), cast(dict[str, Any], answer["state"])

    async def pieces(self) -> AsyncIterator[bytes]:
        """The archive, piece by piece. Raises BrokenSnapshot, BusError."""
        while True:
            if self._arrived:
                reply, headers, body = self._arrived.popleft()
                if not body:
                    status, words, _ = parse_status(headers)
                    if status not in ("", "204"):
                        raise BrokenSnapshot(self._stream, f"the server broke it off: {status} {words}")
                    return
                yield body
                if reply:
                    await self._connection.publish(reply.decode(), b"")
                continue
            if self._failure is not None:
                raise self._failure
            self._some.clear()
            with anyio.move_on_after(_SILENCE_S) as waiting:
                await self._some.wait()
            if waiting.cancelled_caught:
                raise BrokenSnapshot(self._stream, f"nothing came for {_SILENCE_S:.0f} s")

    async def end(self) -> None:
        """Listen no more; a server that is not done gives up by itself."""
        self._forget()
        if self._listening is not None:
            await self._connection.unlisten(self._listening)

    def _arrive(self, _subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        self._arrived.append((reply, headers, body))
        self._some.set()

    def _fail(self, error: BusError) -> None:
        self._failure = error
        self._some.set()


async def snapshot_of(connection: Connection, node: str, stream: str) -> Snapshot | None:
    """A snapshot that has begun; None when there is no such stream. `connection`: the provisioner's. Raises ApiError, BusError."""
    snapshot = Snapshot(connection, node, stream)
    try:
        await snapshot.begin()
    except ApiError as error:
        await snapshot.end()
        if error.code == 404:
            return None
        raise
    except BaseException:
        await snapshot.end()
        raise
    return snapshot


class _Refusal(msgspec.Struct):
    error: dict[str, Any] | None = None


async def restored_stream(connection: Connection, config: dict[str, Any], state: dict[str, Any], pieces: Iterable[bytes]) -> dict[str, Any]:
    """Make the stream of a snapshot, with all its sequences, where there is none of its name. Returns its state.

    `connection`: of somebody who may restore; no user of a node may. Raises ApiError, BrokenSnapshot, BusError.
    """
    stream = str(config["name"])
    answer = await call(connection, f"STREAM.RESTORE.{stream}", {"config": config, "state": state})
    subject = str(answer["deliver_subject"])
    for piece in pieces:
        _taken(stream, (await connection.request(subject, piece, timeout_ms=_RESTORE_TIMEOUT_MS)).body)
    # An empty piece ends it; the answer comes when the stream is there.
    _taken(stream, (await connection.request(subject, b"", timeout_ms=_RESTORE_TIMEOUT_MS)).body)
    try:
        return cast(dict[str, Any], (await call(connection, f"STREAM.INFO.{stream}"))["state"])
    except BusUnavailable as error:
        raise BrokenSnapshot(stream, f"it was not there after its restoring: {error}") from None


def _taken(stream: str, body: bytes) -> None:
    """Raise BrokenSnapshot if the server says that it cannot take the pieces."""
    if not body.startswith(b"{"):
        return
    refusal = msgspec.json.decode(body, type=_Refusal).error
    if refusal is not None:
        raise BrokenSnapshot(stream, f"the server does not take it: {refusal.get('description', refusal)}")
