"""The HTTP pages, over real sockets on loopback."""

import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.abc
import pytest

from overseer.observe.http import HttpLimits, Page, Route, fetch, health_routes, serving

pytestmark = pytest.mark.anyio
LIMITS = HttpLimits(request_bytes_max=1_000, request_ms_max=300, connections_max=3)


def served(routes: Mapping[str, Route]) -> AbstractAsyncContextManager[int]:
    return serving(routes, host="127.0.0.1", port=0, limits=LIMITS)


class Node:
    def __init__(self) -> None:
        self.ready = True

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        async def metrics() -> str:
            return "overseer_up 1\n"

        async def broken() -> Page:
            raise RuntimeError("hunter2")

        routes = health_routes(metrics=metrics, ready=lambda: (self.ready, {"votes_db": "ready" if self.ready else "stalled"}))
        async with served({**routes, "/broken": broken}) as port:
            yield port


async def raw(port: int, data: bytes) -> bytes:
    """What comes back until the server closes."""
    answer = b""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            try:
                if data:
                    await stream.send(data)
                async for piece in stream:
                    answer += piece
            except anyio.BrokenResourceError:
                pass
    return answer


async def test_the_pages_say_what_is() -> None:
    node = Node()
    async with node.serving() as port:
        assert (await fetch(port, "/healthz", timeout_ms=5_000)).body == b"alive\n"
        metrics = await fetch(port, "/metrics?x=1", timeout_ms=5_000)
        assert metrics.body == b"overseer_up 1\n"
        assert metrics.content_type == "text/plain; version=0.0.4; charset=utf-8"
        ready = await fetch(port, "/readyz", timeout_ms=5_000)
        assert (ready.status, ready.body) == (200, b'{"votes_db":"ready"}\n')
        node.ready = False
        ready = await fetch(port, "/readyz", timeout_ms=5_000)
        assert (ready.status, ready.body) == (503, b'{"votes_db":"stalled"}\n')


async def test_an_unknown_page_lists_what_there_is_and_a_broken_one_says_little() -> None:
    async with Node().serving() as port:
        unknown = await fetch(port, "/x", timeout_ms=5_000)
        assert unknown.status == 404
        assert b"/readyz" in unknown.body
        broken = await fetch(port, "/broken", timeout_ms=5_000)
        assert (broken.status, broken.body) == (500, b"RuntimeError\n")


@pytest.mark.parametrize(
    ("request_", "starts"),
    [
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
        (b"\xff\x00\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", b"HTTP/1.1 200 OK"),
    ],
)
async def test_requests_of_all_kinds_are_answered(request_: bytes, starts: bytes) -> None:
    async with Node().serving() as port:
        answer = await raw(port, request_)
        assert answer.startswith(starts)
        assert request_.startswith(b"HEAD") == answer.endswith(b"\r\n\r\n")


async def test_a_request_without_end_is_refused_and_the_server_goes_on() -> None:
    async with Node().serving() as port:
        answer = await raw(port, b"GET / HTTP/1.1\r\n" + b"x" * 5_000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
        assert (await fetch(port, "/healthz", timeout_ms=5_000)).status == 200


async def test_a_client_that_says_nothing_is_closed_in_time() -> None:
    async with Node().serving() as port:
        assert await raw(port, b"") == b""
        assert await raw(port, b"GET /hea") == b""


async def test_connections_beyond_the_bound_are_closed_at_once_and_free_up_again() -> None:
    async with Node().serving() as port:
        idle = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(LIMITS.connections_max)]
        with pytest.raises(OSError, match="no whole answer"):
            await fetch(port, "/healthz", timeout_ms=5_000)
        for stream in idle:
            await stream.aclose()
        with anyio.fail_after(10):
            while True:
                try:
                    assert (await fetch(port, "/healthz", timeout_ms=5_000)).status == 200
                    break
                except (OSError, anyio.BrokenResourceError):
                    await anyio.lowlevel.checkpoint()


async def test_a_page_that_does_not_come_is_an_error_in_time() -> None:
    async def never() -> Page:
        await anyio.sleep_forever()
        raise AssertionError

    async with served({"/never": never}) as port:
        with pytest.raises(TimeoutError):
            await fetch(port, "/never", timeout_ms=100)


async def test_a_server_that_is_killed_while_it_answers_is_an_error_of_the_connection() -> None:
    def abort(client: anyio.abc.SocketStream) -> None:
        raw = client.extra(anyio.abc.SocketAttribute.raw_socket)
        # Closed without the rest: what a killed process leaves of its connections.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def answer(client: anyio.abc.SocketStream) -> None:
        async with client:
            await client.receive()
            await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            abort(client)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        with pytest.raises(ConnectionError):
            await fetch(listener.extra(anyio.abc.SocketAttribute.local_port), "/metrics", timeout_ms=5_000)
        tasks.cancel_scope.cancel()


async def test_a_taken_port_is_an_error() -> None:
    async with Node().serving() as port:
        with pytest.raises(OSError, match="Address already in use"):
            async with serving({}, host="127.0.0.1", port=port):
                pytest.fail("two servers on one port")


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="given up"):
        async with Node().serving():
            raise LookupError("given up")
