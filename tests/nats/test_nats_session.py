"""A session ends cleanly however the other side goes: nothing escapes into the event loop, nothing stays behind."""

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import nats.errors
import pytest

from overseer.nats.session import Session

pytestmark = pytest.mark.anyio

INFO = b'INFO {"server_id":"X","version":"2.15.1","proto":1,"headers":true,"max_payload":1048576}\r\n'


class Resetting:
    """A server that takes one client, and resets the connection when told to."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self) -> tuple[asyncio.Server, str]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return server, f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        writer.write(INFO)
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    def reset(self) -> None:
        assert self._writer is not None
        sock: Any = self._writer.get_extra_info("socket")
        # No lingering: the peer gets a reset, not an end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What the event loop had to say of tasks that failed and that nobody looks after; there must be nothing."""
    loop = asyncio.get_running_loop()
    found: list[str] = []
    loop.set_exception_handler(lambda _, context: found.append(context["message"]))
    yield found
    # What nobody holds any more is collected, with its complaints.
    await asyncio.sleep(0)
    gc.collect()
    loop.set_exception_handler(None)
    assert found == []


@pytest.mark.usefixtures("complaints")
async def test_a_reset_while_something_is_still_to_be_sent_ends_the_session_and_nothing_else() -> None:
    other = Resetting()
    server, url = await other.serve()
    session = Session(lambda *_: None)
    try:
        await session.open([url], tls=None, inbox_prefix="_INBOX")
        await session.listen("some.subject", "", lambda *_: None)
        assert await session.ping(2)
        other.reset()
        # Written, not yet handed to the socket: nats-py stumbles over it while it closes.
        await session._send_command(b"PUB there 0\r\n\r\n")  # pyright: ignore[reportPrivateUsage]
        async with asyncio.timeout(5):
            await session.ended.wait()
        assert "reset" in session.cause
    finally:
        await session.end()
        server.close()


@pytest.mark.usefixtures("complaints")
async def test_a_reset_that_the_sender_meets_first_ends_the_session_and_nothing_else() -> None:
    other = Resetting()
    server, url = await other.serve()
    session = Session(lambda *_: None)
    try:
        await session.open([url], tls=None, inbox_prefix="_INBOX")
        reading = session._reading_task  # pyright: ignore[reportPrivateUsage]
        assert reading is not None
        # The reader hears nothing of it: only who sends does.
        reading.cancel()
        await asyncio.wait([reading])
        session.ended.clear()
        other.reset()
        async with asyncio.timeout(5):
            while not session.ended.is_set():
                # More than one at a time: some of it is still to be sent when nats-py closes.
                for _ in range(3):
                    with contextlib.suppress(nats.errors.Error):
                        await session.publish("some.subject", bytes(100_000))
                await asyncio.sleep(0)
        assert "reset" in session.cause.lower() or "lost" in session.cause.lower()
    finally:
        await session.end()
        server.close()
