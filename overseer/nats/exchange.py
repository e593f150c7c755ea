"""Request/reply as a NATS micro service, by hand: concurrent, bounded, and discoverable with `nats micro ls|info|stats`."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any

import msgspec

from overseer.nats.append import append_one
from overseer.nats.connection import Connection, Listening
from overseer.nats.session import Sink
from overseer.nats.wire import parse_headers, parse_status, wire_text
from overseer.ports.bus import BusError, EndpointSpec, Handler, MessageTooLarge, Outgoing, Request, Response
from overseer.ports.envelope import BUSY, HANDLER_FAILED, RESPONSE_TOO_LARGE, check_envelope
from overseer.release import RELEASE

__all__ = ["HEADER_ERROR", "HEADER_ERROR_CODE", "NatsExchange", "caller_account", "finish", "send_response", "track"]

_QUEUE = "q"
# Of the protocol of NATS micro services.
HEADER_ERROR = "Nats-Service-Error"
HEADER_ERROR_CODE = "Nats-Service-Error-Code"
# Who asked, as the server tells it to a service that crossed accounts.
_REQUEST_INFO = b"Nats-Request-Info:"
# Characters of an error's text that travel: it goes into a header.
_ERROR_TEXT_MAX = 1_000
_VERBS = ("PING", "INFO", "STATS")
# Of one account in flight; more are refused as busy: so nobody takes all places.
_REQUESTS_PER_CALLER_MAX = 256
_PUBLISH_TIMEOUT_MS = 5_000


class _Endpoint(msgspec.Struct, kw_only=True):
    """An endpoint with its counters (times in nanoseconds, as the discovery protocol has them)."""

    spec: EndpointSpec
    handler: Handler
    requests: int = 0
    errors: int = 0
    last_error: str = ""
    processing_ns: int = 0

    def info(self) -> dict[str, Any]:
        return {"name": self.spec.name, "subject": self.spec.subject, "queue_group": _QUEUE, "metadata": self.spec.metadata}

    def stats(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "subject": self.spec.subject,
            "queue_group": _QUEUE,
            "num_requests": self.requests,
            "num_errors": self.errors,
            "last_error": self.last_error,
            "processing_time": self.processing_ns,
            "average_processing_time": self.processing_ns // max(1, self.requests),
        }


class _Service(msgspec.Struct, kw_only=True):
    name: str
    id: str
    version: str
    description: str
    metadata: dict[str, str]
    started: str
    endpoints: list[_Endpoint]

    def describe(self, verb: str) -> dict[str, Any]:
        """The answer to one verb of discovery (ADR-32 of the NATS architecture)."""
        head: dict[str, Any] = {
            "type": f"io.nats.micro.v1.{verb.lower()}_response",
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": self.metadata,
        }
        match verb:
            case "INFO":
                head |= {"description": self.description, "endpoints": [endpoint.info() for endpoint in self.endpoints]}
            case "STATS":
                head |= {"started": self.started, "endpoints": [endpoint.stats() for endpoint in self.endpoints]}
            case _:
                pass
        return head


class NatsExchange:
    """Implements `overseer.ports.bus.Exchange`. `close()` drains; the connection stays open."""

    def __init__(
        self,
        connection: Connection,
        *,
        version: str = RELEASE,
        metadata: Mapping[str, str] | None = None,
        requests_in_flight_max: int = 1_024,
        drain_ms: int = 5_000,
    ) -> None:
        """`version` (x.y.z) and `metadata` are shown by discovery. What comes beyond `requests_in_flight_max` is refused as busy."""
        self._connection = connection
        self._version = version
        self._metadata = dict(metadata or {})
        self._in_flight_max = requests_in_flight_max
        self._by_caller: Counter[str] = Counter()
        self._drain_s = drain_ms / 1000
        self._listening: list[Listening] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()

    async def serve(self, service: str, description: str, endpoints: Sequence[tuple[EndpointSpec, Handler]]) -> None:
        served = _Service(
            name=service,
            id=token_hex(11),
            version=self._version,
            description=description,
            metadata=self._metadata,
            started=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            endpoints=[_Endpoint(spec=spec, handler=handler) for spec, handler in endpoints],
        )
        denied: list[BusError] = []
        before = len(self._listening)
        forget = self._connection.expect([spec.subject for spec, _ in endpoints], denied.append)
        try:
            await self._subscribe(served)
            if denied:
                raise denied[0]
        except BaseException:
            # All or nothing: a retry must not find half of it subscribed.
            half, self._listening[before:] = self._listening[before:], []
            for listening in half:
                await self._connection.unlisten(listening)
            raise
        finally:
            forget()

    async def _subscribe(self, served: _Service) -> None:
        for endpoint in served.endpoints:
            await self._listen(endpoint.spec.subject, _QUEUE, partial(self._accept, endpoint))
        for verb in _VERBS:
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{served.name}", f"$SRV.{verb}.{served.name}.{served.id}"):
                await self._listen(subject, "", partial(self._discovered, served, verb))
        await self._connection.settle()

    async def request(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_ms: int) -> Response:
        check_envelope(subject, headers, body)
        reply = await self._connection.request(subject, body, headers=headers or None, timeout_ms=timeout_ms)
        _, _, all_headers = parse_status(reply.raw_headers)
        code = all_headers.get(HEADER_ERROR_CODE)
        error = None if code is None else (code, all_headers.get(HEADER_ERROR, ""))
        return Response(reply.body, reply.headers, error)

    async def publish(self, message: Outgoing) -> int:
        check_envelope(message.subject, message.headers, message.body)
        return await append_one(self._connection, message, {}, _PUBLISH_TIMEOUT_MS)

    async def close(self) -> None:
        """Take no more requests, answer those in hand (as long as `drain_ms` allows), then return. Idempotent."""
        for listening in self._listening:
            await self._connection.unlisten(listening)
        self._listening.clear()
        await finish(self._answering, self._drain_s)
        await finish(self._telling, self._drain_s)

    # --- serving ---------------------------------------------------------------------------------------------------------

    async def _listen(self, subject: str, queue: str, sink: Sink) -> None:
        self._listening.append(await self._connection.listen(subject, sink, queue=queue))

    def _accept(self, endpoint: _Endpoint, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        """From the read loop: start answering, or refuse. Without a reply subject nobody waits for an answer."""
        if not reply:
            return
        to = wire_text(reply)
        caller = caller_account(headers)
        if len(self._answering) >= self._in_flight_max or self._by_caller[caller] >= _REQUESTS_PER_CALLER_MAX:
            endpoint.errors += 1
            endpoint.last_error = _error_line(BUSY)
            track(self._telling, send_response(self._connection, to, Response(b"", {}, BUSY)))
            return
        request = Request(wire_text(subject), parse_headers(headers), body, caller)
        self._by_caller[caller] += 1
        track(self._answering, self._answer(endpoint, request, to)).add_done_callback(lambda _: self._answered(caller))

    def _answered(self, caller: str) -> None:
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]

    async def _answer(self, endpoint: _Endpoint, request: Request, to: str) -> None:
        started_ns = time.perf_counter_ns()
        try:
            response = await endpoint.handler(request)
            check_envelope("reply", response.headers, response.body)
        except MessageTooLarge:
            response = Response(b"", {}, RESPONSE_TOO_LARGE)
        except Exception as error:
            # The caller is told that it failed, not how: that is for discovery, which only operators read.
            response = Response(b"", {}, HANDLER_FAILED)
            endpoint.last_error = f"{type(error).__name__}: {error}"[:500]
        endpoint.requests += 1
        endpoint.processing_ns += time.perf_counter_ns() - started_ns
        if response.error is not None:
            endpoint.errors += 1
            if response.error != HANDLER_FAILED:
                endpoint.last_error = _error_line(response.error)
        await send_response(self._connection, to, response)

    def _discovered(self, service: _Service, verb: str, _subject: bytes, reply: bytes, _headers: bytes, _body: bytes) -> None:
        if reply:
            told = Response(json.dumps(service.describe(verb)).encode())
            track(self._telling, send_response(self._connection, wire_text(reply), told))


async def send_response(connection: Connection, to: str, response: Response) -> None:
    """Answer a request, as far as the caller can still be reached."""
    headers = dict(response.headers)
    if response.error is not None:
        code, text = response.error
        headers[HEADER_ERROR_CODE], headers[HEADER_ERROR] = code, text[:_ERROR_TEXT_MAX]
    try:
        await connection.publish(to, response.body, headers=headers or None)
    except BusError:
        # The caller's own time-out tells it; a session that ended took the caller's reply path with it.
        return


def caller_account(headers: bytes) -> str:
    """The account in `Nats-Request-Info`, which the server writes when a request crosses accounts; "" without one."""
    for line in headers.split(b"\r\n"):
        if line.startswith(_REQUEST_INFO):
            try:
                told = msgspec.json.decode(line[len(_REQUEST_INFO) :])
                return str(told["acc"])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
                return ""
    return ""


def _error_line(error: tuple[str, str]) -> str:
    return f"{error[0]}: {error[1]}"[:500]


def track(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Do it beside; in `tasks` while it lasts."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def finish(tasks: set[asyncio.Task[None]], wait_s: float) -> None:
    """Wait for them so long, then end them."""
    if not tasks:
        return
    _, late = await asyncio.wait(set(tasks), timeout=wait_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
