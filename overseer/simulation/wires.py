"""Between a process and its world: every call takes its time, arrives or does not, and nothing comes from a dead process.

The servers are the ports in memory; these are the wires to them. What was sent before a process died still arrives: so a new
process can be overtaken by what the old one sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random

import anyio

from overseer.memory.bus import MemoryExchange, MemoryLine
from overseer.ports.bus import (
    BusUnavailable,
    Delivery,
    EndpointSpec,
    Handler,
    OutcomeUnknown,
    Outgoing,
    Response,
    StoredMessage,
    StreamState,
)
from overseer.simulation.loop import VirtualLoop

__all__ = ["Pace", "SimulatedExchange", "SimulatedLine", "Vitals"]

# How long a server that answers nothing is waited for.
_SILENCE_S = 2.0


class Pace:
    """How long things take. `slowness`: what delays are multiplied with, while something is slow."""

    def __init__(self, random: Random) -> None:
        self.slowness = 1.0
        self._random = random

    def draw_s(self) -> float:
        """One way over a wire, or one turn of a disk: mostly well under a millisecond, seldom very long."""
        luck = self._random.random()
        if luck < 0.85:
            most = 0.000_8
        elif luck < 0.985:
            most = 0.01
        else:
            most = 0.2
        return self._random.random() * most * self.slowness

    async def pass_by(self) -> None:
        await asyncio.sleep(self.draw_s())

    async def written(self) -> None:
        """A sync of the disk: nothing else takes that long so regularly."""
        await asyncio.sleep(0.000_2 + self.draw_s())


class Vitals:
    """Whether the process lives that holds these wires, and what it is told of."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.dead = False
        # Sees each call of a port (for the trace).
        self.note = note

    async def check(self) -> None:
        """A dead process does nothing more: its end is on the way."""
        while self.dead:
            await anyio.sleep_forever()


class SimulatedLine:
    """Implements `overseer.ports.bus.Line` over a line in memory."""

    def __init__(
        self, line: MemoryLine, vitals: Vitals, pace: Pace, loop: VirtualLoop, *, acknowledged: Callable[[StoredMessage], None]
    ) -> None:
        self._line = line
        self._vitals = vitals
        self._pace = pace
        self._loop = loop
        self._acknowledged = acknowledged

    @property
    def sender(self) -> str:
        return self._line.sender

    @property
    def stream(self) -> str:
        return self._line.stream

    async def connected(self) -> None:
        await self._line.connected()

    async def state(self) -> StreamState:
        await self._there()
        state = await self._line.state()
        await self._back()
        return state

    async def message_at(self, sequence: int) -> StoredMessage | None:
        await self._there()
        found = await self._line.message_at(sequence)
        await self._back()
        return found

    async def last_own(self) -> StoredMessage | None:
        await self._there()
        found = await self._line.last_own()
        await self._back()
        return found

    async def seek(self, sequence: int) -> None:
        await self._there()
        await self._line.seek(sequence)
        self._vitals.note(f"{self.stream}: seeks {sequence}")
        await self._back()

    async def pull(self, batch: int, wait_ms: int) -> list[Delivery]:
        await self._there()
        taken = await self._line.pull(batch, wait_ms)
        await self._back()
        if taken:
            self._vitals.note(f"{self.stream}: pulled {taken[0].message.sequence}..{taken[-1].message.sequence}, {len(taken)}")
        return taken

    async def ack(self, delivery: Delivery) -> None:
        await self._there()
        self._acknowledged(delivery.message)
        await self._line.ack(delivery)

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        await self._vitals.check()
        answer: asyncio.Future[int] = self._loop.create_future()
        self._loop.call_later(self._pace.draw_s(), self._arrive, messages, expected_last, answer)
        try:
            last = await answer
        except OutcomeUnknown:
            await anyio.sleep(_SILENCE_S)
            raise
        await self._pace.pass_by()
        await self._vitals.check()
        if not self._line.reachable():
            raise OutcomeUnknown("the connection went before the answer came")
        return last

    def _arrive(self, messages: Sequence[Outgoing], expected_last: int, answer: "asyncio.Future[int]") -> None:
        """At the server: also when the sender is gone by now."""
        late = " (its sender is dead)" if answer.done() else ""
        try:
            last = self._line.arrive(messages, expected_last)
        except Exception as error:
            self._vitals.note(f"{self.stream}: append of {len(messages)} behind {expected_last}: {error!r}{late}")
            if not answer.done():
                answer.set_exception(error)
            return
        self._vitals.note(f"{self.stream}: appended {len(messages)}, up to {last}{late}")
        if not answer.done():
            answer.set_result(last)

    async def _there(self) -> None:
        await self._pace.pass_by()
        await self._vitals.check()

    async def _back(self) -> None:
        await self._pace.pass_by()
        await self._vitals.check()
        if not self._line.reachable():
            raise BusUnavailable(f"the connection to {self.stream} went before the answer came")


class SimulatedExchange:
    """Implements `overseer.ports.bus.Exchange` over one in memory. `doubled`: the next publishes are stored so often besides."""

    def __init__(self, exchange: MemoryExchange, vitals: Vitals, pace: Pace, doubled: deque[int]) -> None:
        self._exchange = exchange
        self._vitals = vitals
        self._pace = pace
        self._doubled = doubled

    async def serve(self, service: str, description: str, endpoints: Sequence[tuple[EndpointSpec, Handler]]) -> None:
        await self._pace.pass_by()
        await self._vitals.check()
        await self._exchange.serve(service, description, endpoints)

    async def request(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_ms: int) -> Response:
        await self._pace.pass_by()
        await self._vitals.check()
        response = await self._exchange.request(subject, body, headers, timeout_ms)
        await self._pace.pass_by()
        return response

    async def publish(self, message: Outgoing) -> int:
        await self._pace.pass_by()
        await self._vitals.check()
        sequence = await self._exchange.publish(message)
        for _ in range(self._doubled.popleft() if self._doubled else 0):
            await self._exchange.publish(message)
        await self._pace.pass_by()
        await self._vitals.check()
        return sequence
