"""Request/reply in memory. Handlers run as tasks of the broker: a caller that gives up does not end them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import msgspec

from overseer.memory.bus.faults import AppendFault, LineFaults
from overseer.ports.bus import BusUnavailable, EndpointSpec, Handler, MessageTooLarge, OutcomeUnknown, Outgoing, Request, Response
from overseer.ports.envelope import BUSY, HANDLER_FAILED, RESPONSE_TOO_LARGE, check_envelope, matches

if TYPE_CHECKING:
    from overseer.memory.bus.broker import MemoryBroker

__all__ = ["MemoryExchange", "Served"]


class Served(msgspec.Struct, frozen=True):
    """An endpoint and who answers it."""

    spec: EndpointSpec
    handler: Handler
    exchange: "MemoryExchange"


class _Answer:
    """A reply on its way."""

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self.response = Response(b"")


class MemoryExchange:
    """Implements `overseer.ports.bus.Exchange`; made by `MemoryBroker.exchange`. Of `faults`, `unavailable` and `appends` apply."""

    def __init__(self, broker: "MemoryBroker", *, account: str, requests_in_flight_max: int) -> None:
        self.faults = LineFaults()
        self._broker = broker
        self._account = account
        self._in_flight_max = requests_in_flight_max
        self._in_flight: set[anyio.CancelScope] = set()
        self._drained = anyio.Event()

    async def serve(self, service: str, description: str, endpoints: Sequence[tuple[EndpointSpec, Handler]]) -> None:
        await self._reach()
        self._broker.served.extend(Served(spec, handler, self) for spec, handler in endpoints)

    async def request(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_ms: int) -> Response:
        check_envelope(subject, headers, body)
        await self._reach()
        served = next((s for s in self._broker.served if matches(s.spec.subject, subject) and s.exchange.reachable()), None)
        if served is None:
            raise BusUnavailable(f"nobody listens on {subject}")
        answer = _Answer()
        served.exchange.accept(served.handler, Request(subject, dict(headers), body, self._account), answer)
        clock = self._broker.clock
        await clock.wait(answer.arrived, clock.now_ms() + timeout_ms)
        if not answer.arrived.is_set() or not self.reachable():
            raise BusUnavailable(f"no answer on {subject} within {timeout_ms} ms")
        return answer.response

    async def publish(self, message: Outgoing) -> int:
        check_envelope(message.subject, message.headers, message.body)
        await self._reach()
        fault = self.faults.appends.popleft() if self.faults.appends else None
        if fault is AppendFault.LOST:
            raise OutcomeUnknown("no answer: the message never arrived")
        sequence = self._broker.publish(message)
        if fault is AppendFault.STORED:
            raise OutcomeUnknown("no answer: it was lost on the way back")
        return sequence

    async def close(self) -> None:
        """Take no more requests, answer those in hand, then return. Idempotent."""
        self._broker.served[:] = [served for served in self._broker.served if served.exchange is not self]
        while self._in_flight:
            await self._drained.wait()

    def kill(self) -> None:
        """The process behind this exchange died: nothing it has in hand is answered."""
        self._broker.served[:] = [served for served in self._broker.served if served.exchange is not self]
        for scope in self._in_flight:
            scope.cancel()

    def reachable(self) -> bool:
        return self._broker.is_up() and not self.faults.unavailable

    def accept(self, handler: Handler, request: Request, answer: _Answer) -> None:
        """Start answering, or refuse: what an endpoint does with a request."""
        if len(self._in_flight) >= self._in_flight_max:
            answer.response = Response(b"", {}, BUSY)
            answer.arrived.set()
            return
        scope = anyio.CancelScope()
        self._in_flight.add(scope)
        self._broker.tasks.start_soon(self._answer, handler, request, answer, scope)

    async def _answer(self, handler: Handler, request: Request, answer: _Answer, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                response = await handler(request)
                check_envelope("reply", response.headers, response.body)
                answer.response = response
        except MessageTooLarge:
            answer.response = Response(b"", {}, RESPONSE_TOO_LARGE)
        except Exception:
            answer.response = Response(b"", {}, HANDLER_FAILED)
        finally:
            self._in_flight.discard(scope)
            self._drained.set()
            self._drained = anyio.Event()
        # An answer that cannot get through is lost, and so is that of a process that died.
        if self.reachable() and not scope.cancelled_caught:
            answer.arrived.set()

    async def _reach(self) -> None:
        await anyio.lowlevel.checkpoint()
        if not self.reachable():
            raise BusUnavailable("no server")
