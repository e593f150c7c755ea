"""Request/reply: queries answered from committed state, and commands whose outcome the caller awaits.

A `req` endpoint only appends the command to the stream, under a sender token of its own; it is handled in order like any
other. The outcome follows the commit. A retry with the same command id gets the original outcome.
"""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio
import msgspec

from messages.codec import CodecError, encode
from messages.message import Message, Rejection, Spec
from messages.overseer import Busy, InvalidRequest, Timeout
from messages.subjects import HEADER_CALLER, HEADER_COMMAND_ID, HEADER_CORRELATION, HEADER_TRACEPARENT, headers_of, request_subject
from overseer.limits import Limits
from overseer.ports.bus import BusError, EndpointSpec, Exchange, Handler, Outgoing, Request, Response, StreamFull
from overseer.ports.entropy import Entropy
from overseer.ports.tracer import Tracer
from overseer.runner.discovery import endpoint_metadata
from overseer.runner.engine import Told
from overseer.runner.responses import outcome_plain, outcome_response, read_command_id, read_request, refuse, respond, wants_json
from overseer.runner.wire import correlation_of
from overseer.subsystem import Declaration

__all__ = ["Admission", "Endpoints", "Waiting", "outcome_plain"]

Answer = Callable[[Message, str], Awaitable[Message | Rejection]]
_NONE = (0, 0)


class _Caller:
    """One that waits: what was told under its command id, by the sequence of the message it was told of."""

    def __init__(self) -> None:
        self.told = anyio.Event()
        self.outcomes: dict[int, bytes] = {}


class Waiting:
    """Callers waiting for the outcome of a command, by its id."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[_Caller]] = {}

    def tell(self, told: Told) -> None:
        for caller in self._by_id.get(told.command_id, ()):
            caller.outcomes[told.sequence] = told.outcome
            caller.told.set()

    async def outcome(self, command_id: str, publish: Callable[[], Awaitable[int]], timeout_ms: int) -> bytes | None:
        """Publish, then wait for what became of that very message; None when it did not come in time.

        Two callers may use one id at a time: each is told of its own message, told before or after its publish is answered.
        """
        caller = _Caller()
        self._by_id.setdefault(command_id, []).append(caller)
        try:
            with anyio.move_on_after(timeout_ms / 1000):
                sequence = await publish()
                while sequence not in caller.outcomes:
                    await caller.told.wait()
                    caller.told = anyio.Event()
                return caller.outcomes[sequence]
            return None
        finally:
            self._by_id[command_id].remove(caller)
            if not self._by_id[command_id]:
                del self._by_id[command_id]


class Admission:
    """Which commands may wait for their outcomes at once: so many, so large, and of one caller only a part of both."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all = (0, 0)
        # Commands and body bytes by caller's account.
        self._by_caller: dict[str, tuple[int, int]] = {}

    def refusal(self, caller: str, size: int) -> str:
        """Why one more is not taken, or ""."""
        limits = self._limits
        if _beyond(
            self._by_caller.get(caller, _NONE),
            size,
            limits.requests_in_flight_per_caller_max,
            limits.request_bytes_in_flight_per_caller_max,
        ):
            return "too_many_of_one_caller"
        if _beyond(self._all, size, limits.requests_in_flight_max, limits.request_bytes_in_flight_max):
            return "too_many_requests"
        return ""

    @contextmanager
    def taken(self, caller: str, size: int) -> Generator[None, None, None]:
        """While it waits it counts."""
        self._count(caller, 1, size)
        try:
            yield
        finally:
            self._count(caller, -1, -size)

    def _count(self, caller: str, commands: int, size: int) -> None:
        self._all = (self._all[0] + commands, self._all[1] + size)
        count, held = self._by_caller.get(caller, _NONE)
        self._by_caller[caller] = (count + commands, held + size)
        if self._by_caller[caller] == _NONE:
            del self._by_caller[caller]


def _beyond(held: tuple[int, int], size: int, count_max: int, bytes_max: int) -> bool:
    """Whether another one of that size is too much; a single one never is too large."""
    return held[0] >= count_max or (held[0] > 0 and held[1] + size > bytes_max)


class Endpoints:
    """The endpoints one subsystem's declaration implies."""

    def __init__(
        self,
        node: str,
        declaration: Declaration,
        exchange: Exchange,
        answer: Answer,
        busy: Callable[[], str],
        *,
        limits: Limits,
        entropy: Entropy,
        tracer: Tracer | None = None,
    ) -> None:
        self.waiting = Waiting()
        self._admission = Admission(limits)
        self._node = node
        self._declaration = declaration
        self._exchange = exchange
        self._answer = answer
        self._busy = busy
        self._limits = limits
        self._entropy = entropy
        self._tracer = tracer

    async def open(self) -> None:
        """Begin to answer."""
        served: list[tuple[EndpointSpec, Handler]] = []
        for query in self._declaration.answers:
            subject = f"overseer.{self._node}.{self._declaration.name}.qry.{query.spec.name}"
            handler = self._traced(query.spec, self._query_handler(query.spec))
            served.append((EndpointSpec(f"qry_{query.spec.name}", subject, endpoint_metadata(query.spec.body)), handler))
        for command in self._declaration.requests:
            subject = request_subject(self._node, command.spec)
            handler = self._traced(command.spec, self._command_handler(command.spec))
            served.append((EndpointSpec(f"req_{command.spec.name}", subject, endpoint_metadata(command.spec.body)), handler))
        await self._exchange.serve(self._declaration.name, self._declaration.description, served)

    def _traced(self, spec: Spec, handler: Handler) -> Handler:
        """The handler as a part of the caller's trace: what it appends follows from it."""
        tracer = self._tracer
        if tracer is None:
            return handler

        async def handle(request: Request) -> Response:
            with tracer.asked(spec.key, request) as parent:
                headers = {**request.headers, HEADER_TRACEPARENT: parent} if parent else request.headers
                return await handler(msgspec.structs.replace(request, headers=headers))

        return handle

    def _query_handler(self, spec: Spec) -> Handler:
        async def handle(request: Request) -> Response:
            as_json = wants_json(request)
            try:
                query = read_request(spec, request)
            except CodecError as error:
                return refuse(InvalidRequest(reason=error.reason, detail=error.detail), as_json)
            answer = await self._answer(query, request.account)
            return refuse(answer, as_json) if isinstance(answer, Rejection) else respond(answer, as_json)

        return handle

    def _command_handler(self, spec: Spec) -> Handler:
        async def handle(request: Request) -> Response:
            as_json = wants_json(request)
            busy = self._busy() or self._admission.refusal(request.account, len(request.body))
            if busy:
                return refuse(Busy(reason=busy), as_json)
            try:
                body = encode(read_request(spec, request))
                command_id = read_command_id(request) or self._entropy.draw(16).hex()
            except CodecError as error:
                return refuse(InvalidRequest(reason=error.reason, detail=error.detail), as_json)
            message = self._outgoing(spec, request, body, command_id)
            try:
                with self._admission.taken(request.account, len(request.body)):
                    outcome = await self.waiting.outcome(
                        command_id, lambda: self._exchange.publish(message), self._limits.request_timeout_ms
                    )
            except StreamFull:
                return refuse(Busy(reason="stream_full"), as_json)
            except BusError:
                outcome = None
            if outcome is None:
                return refuse(Timeout(waited_ms=self._limits.request_timeout_ms), as_json)
            return outcome_response(spec, outcome, as_json, command_id)

        return handle

    def _outgoing(self, spec: Spec, request: Request, body: bytes, command_id: str) -> Outgoing:
        name = self._declaration.name
        headers = {
            HEADER_COMMAND_ID: command_id,
            **headers_of(spec),
            HEADER_CORRELATION: correlation_of(request.headers.get(HEADER_CORRELATION, "")) or command_id,
        }
        if request.account:
            headers[HEADER_CALLER] = request.account
        if HEADER_TRACEPARENT in request.headers:
            headers[HEADER_TRACEPARENT] = correlation_of(request.headers[HEADER_TRACEPARENT][:60])
        return Outgoing(f"overseer.{self._node}.req_{name}.cmd.{name}.{spec.name}", headers, body)
