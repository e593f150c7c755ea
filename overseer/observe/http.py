"""A small HTTP server for /metrics, /healthz and /readyz: GET and HEAD only, everything bounded, nothing kept open.

`/healthz` is answered by the event loop that does the work: an answer means that it turns.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import msgspec

__all__ = ["HttpLimits", "Page", "Route", "fetch", "health_routes", "serving"]

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
# A page fetched from a child at most.
_PAGE_BYTES_MAX = 8 * 1024 * 1024


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the server."""

    # Request line and headers together; a probe sends a few hundred bytes.
    request_bytes_max: int = 8 * 1024
    # From the connection to the last byte of the answer.
    request_ms_max: int = 5_000
    # Served at once; more are closed at once.
    connections_max: int = 32


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer."""

    body: bytes
    status: int = 200
    content_type: str = TEXT


Route = Callable[[], Awaitable[Page]]
# Whether everything works, and why (not), as data.
Ready = Callable[[], tuple[bool, object]]


def health_routes(*, metrics: Callable[[], Awaitable[str]], ready: Ready) -> dict[str, Route]:
    """The three pages. `metrics` makes the Prometheus page; `ready` tells with a JSON body, status 200 or 503."""

    async def metrics_page() -> Page:
        return Page(body=(await metrics()).encode(), content_type=PROMETHEUS)

    async def health_page() -> Page:
        return Page(body=b"alive\n")

    async def ready_page() -> Page:
        fine, why = ready()
        return Page(body=msgspec.json.encode(why) + b"\n", status=200 if fine else 503, content_type="application/json")

    return {"/metrics": metrics_page, "/healthz": health_page, "/readyz": ready_page}


@asynccontextmanager
async def serving(routes: Mapping[str, Route], *, host: str, port: int, limits: HttpLimits | None = None) -> AsyncGenerator[int]:
    """Serve `routes` within the block; gives the port. Raises OSError when the address cannot be had; the block's errors as they are."""
    server = _Server(routes, limits or HttpLimits())
    failed: Exception | None = None
    async with await anyio.create_tcp_listener(local_host=host, local_port=port) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        try:
            yield listener.extra(anyio.abc.SocketAttribute.local_port)
        except Exception as error:
            # Raised below: from in here it would come out wrapped in a group.
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def fetch(port: int, path: str, *, timeout_ms: int) -> Page:
    """Get a page of another process on loopback. Raises OSError (TimeoutError, ConnectionError) when there is no whole answer."""
    data = b""
    with anyio.fail_after(timeout_ms / 1000):
        try:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                async for piece in stream:
                    data += piece
                    if len(data) > _PAGE_BYTES_MAX:
                        raise ConnectionError(f"{path} of port {port} is longer than {_PAGE_BYTES_MAX} bytes")
        except anyio.BrokenResourceError as error:
            # Who answered was killed in the middle of it.
            raise ConnectionError(f"the connection to port {port} broke off") from error
    return _answer(data, port)


def _answer(data: bytes, port: int) -> Page:
    head, gap, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    words = lines[0].split(" ")
    if not gap or len(words) < 2 or len(words[1]) != 3 or not words[1].isdecimal() or headers.get("content-length") != str(len(body)):
        raise ConnectionError(f"no whole answer from port {port}")
    return Page(body=body, status=int(words[1]), content_type=headers.get("content-type", TEXT))


class _Server:
    def __init__(self, routes: Mapping[str, Route], limits: HttpLimits) -> None:
        self._routes = routes
        self._limits = limits
        self._open = 0

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """One connection, one request."""
        if self._open >= self._limits.connections_max:
            await stream.aclose()
            return
        self._open += 1
        try:
            with anyio.move_on_after(self._limits.request_ms_max / 1000):
                async with stream:
                    await self._exchange(stream)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError):
            # The other side went away.
            return
        finally:
            self._open -= 1

    async def _exchange(self, stream: anyio.abc.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive(self._limits.request_bytes_max)
            if len(head) > self._limits.request_bytes_max:
                await stream.send(_written(Page(body=b"request too long\n", status=400), with_body=True))
                return
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        page = await self._page(words)
        await stream.send(_written(page, with_body=words[0] != "HEAD"))

    async def _page(self, words: list[str]) -> Page:
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return Page(body=b"not a request\n", status=400)
        method, path = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return Page(body=b"GET and HEAD only\n", status=405)
        route = self._routes.get(path)
        if route is None:
            return Page(body=("\n".join(["there is:", *self._routes]) + "\n").encode(), status=404)
        try:
            return await route()
        except Exception as error:
            # The kind alone: what it says may be about things not meant for every local user.
            return Page(body=f"{type(error).__name__}\n".encode(), status=500)


def _written(page: Page, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {page.status} {REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nConnection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    )
    return head.encode() + (page.body if with_body else b"")
