"""A session ends cleanly however the other side goes: nothing escapes into the event loop, nothing stays behind."""

import asyncio
import gc
import socket
import struct
from typing import Any

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


async def test_a_reset_while_something_is_still_to_be_sent_ends_the_session_and_nothing_else() -> None:
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
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
    del session
    # What nobody holds any more is collected, with its complaints.
    await asyncio.sleep(0)
    gc.collect()
    loop.set_exception_handler(None)
    assert complaints == []
