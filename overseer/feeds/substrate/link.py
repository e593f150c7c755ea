"""JSON-RPC 2.0 over a WebSocket: calls, bounded in number and time, and what the remote tells by itself.

What arrives is of another's making: frames are bounded, and what is no JSON-RPC ends the connection with a sentence.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from overseer.feeds.substrate.troubles import RemoteError, RemoteGone, RemoteLies, RemotePruned, RemoteRefused

__all__ = ["ANSWER_S", "FRAME_BYTES_MAX", "Link", "Update", "linked"]

# A block of Polkadot is 5 MiB at most, its metadata half a MiB; in hexadecimal twice that.
FRAME_BYTES_MAX = 32 * 1024 * 1024
ANSWER_S = 30.0
OPEN_S = 10.0
# Pings that are not answered for so long end the connection.
PING_S = 20.0
CALLS_IN_FLIGHT_MAX = 16
# Updates that wait to be taken. A chain makes a block in seconds; who sends more than we take is not followed.
UPDATES_MAX = 1024
# Words of the errors by which Substrate says that it has no state, or no body, of a block any more.
_PRUNED = ("state already discarded", "pruned", "unknownblock", "unknown block", "header was not found", "not available")


class Update(NamedTuple):
    """What a subscription told: its name as it was subscribed to, and the value."""

    subscription: str
    value: Any


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Any = None


class _Told(msgspec.Struct):
    subscription: str | int
    result: Any


class _Frame(msgspec.Struct):
    """An answer (`id`) or an update (`params`)."""

    id: int | None = None
    result: Any = None
    error: _Error | None = None
    params: _Told | None = None


class _Call:
    """One call that waits for its answer."""

    def __init__(self, subscription: str) -> None:
        self.subscription = subscription
        self.done = anyio.Event()
        self.answer: _Frame | None = None


class Link:
    """One connection. Made by `linked`."""

    def __init__(self, socket: ClientConnection, *, answer_s: float) -> None:
        self._socket = socket
        self._answer_s = answer_s
        self._calls: dict[int, _Call] = {}
        self._subscriptions: dict[str | int, str] = {}
        self._places = anyio.CapacityLimiter(CALLS_IN_FLIGHT_MAX)
        self._next = 0
        self._ended: RemoteError | None = None
        self._tell, self._updates = anyio.create_memory_object_stream[Update](UPDATES_MAX)

    async def call(self, method: str, *params: object, subscription: str = "") -> Any:
        """The result. Raises RemoteGone, RemoteLies, RemoteRefused, RemotePruned."""
        async with self._places:
            if self._ended is not None:
                raise self._ended
            self._next += 1
            number, call = self._next, _Call(subscription)
            self._calls[number] = call
            try:
                with anyio.fail_after(self._answer_s):
                    await self._socket.send(
                        msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}), text=True
                    )
                    await call.done.wait()
            except TimeoutError:
                raise RemoteGone(f"it does not answer {method} within {self._answer_s:g} s") from None
            except ConnectionClosed as closed:
                raise _closed(closed) from None
            finally:
                del self._calls[number]
        if call.answer is None:
            raise self._ended or RemoteGone("the connection ended")
        if call.answer.error is not None:
            raise _refused(method, call.answer.error)
        return call.answer.result

    async def subscribe(self, method: str) -> None:
        """Have what it tells among the updates. Raises as `call`."""
        await self.call(method, subscription=method)

    async def update(self, within_s: float) -> Update | None:
        """The next update; None when none comes in time. Raises RemoteGone, RemoteLies when none will."""
        with anyio.move_on_after(within_s):
            try:
                return await self._updates.receive()
            except anyio.EndOfStream:
                raise self._ended or RemoteGone("the connection ended") from None
        return None

    async def read(self) -> None:
        """Take what arrives until the connection ends. Never raises for what the remote does."""
        try:
            while True:
                self._hear(await self._socket.recv(decode=False))
        except ConnectionClosed as closed:
            self._ended = _closed(closed)
        except RemoteError as error:
            self._ended = error
        finally:
            for call in self._calls.values():
                call.done.set()
            self._tell.close()

    def close(self) -> None:
        self._tell.close()
        self._updates.close()

    def _hear(self, data: bytes) -> None:
        try:
            frame = msgspec.json.decode(data, type=_Frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteLies(f"it sends what is no JSON-RPC: {error}"[:300]) from None
        if frame.params is not None:
            name = self._subscriptions.get(frame.params.subscription)
            if name is None:
                return
            try:
                self._tell.send_nowait(Update(name, frame.params.result))
            except anyio.WouldBlock:
                raise RemoteGone(f"it tells faster than we can follow: {UPDATES_MAX} updates wait") from None
            return
        call = self._calls.get(frame.id) if frame.id is not None else None
        if call is None:
            # An answer that came too late.
            return
        if call.subscription and isinstance(frame.result, (str, int)):
            # Before anything else is read: its first update may be the next frame.
            self._subscriptions[frame.result] = call.subscription
        call.answer = frame
        call.done.set()


@asynccontextmanager
async def _socket(url: str) -> AsyncGenerator[ClientConnection, None]:
    """Raises RemoteGone."""
    try:
        opened = await connect(
            url,
            # Whom we speak with is configured, not found in the environment.
            proxy=None,
            open_timeout=OPEN_S,
            close_timeout=1,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            max_size=FRAME_BYTES_MAX,
            max_queue=16,
        )
    except (OSError, TimeoutError, WebSocketException) as error:
        raise RemoteGone(f"no connection: {str(error) or type(error).__name__}") from None
    try:
        yield opened
    finally:
        with anyio.CancelScope(shield=True):
            await opened.close()


@asynccontextmanager
async def linked(url: str, *, answer_s: float = ANSWER_S) -> AsyncGenerator[Link, None]:
    """A connection to a node's JSON-RPC server (ws:// or wss://). Raises RemoteGone; what is raised within comes out as it is."""
    failed: Exception | None = None
    async with _socket(url) as socket:
        link = Link(socket, answer_s=answer_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.read)
            try:
                yield link
            except Exception as error:
                # Not out of the task group: it would come as a group.
                failed = error
            tasks.cancel_scope.cancel()
        link.close()
    if failed is not None:
        raise failed


def _closed(closed: ConnectionClosed) -> RemoteError:
    return RemoteGone(f"the connection ended: {closed}"[:300])


def _refused(method: str, error: _Error) -> RemoteError:
    told = error.message if error.data is None else f"{error.message} ({error.data})"
    if any(word in told.lower() for word in _PRUNED):
        return RemotePruned(f"{method}: {told}"[:300])
    return RemoteRefused(method, error.code, told)
