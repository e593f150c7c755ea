"""A line to a stream in memory."""

from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel

from overseer.memory.bus.faults import AppendFault, LineFaults
from overseer.memory.bus.stream import MemoryConsumer, MemoryStream
from overseer.ports.bus import BusUnavailable, Delivery, OutcomeUnknown, Outgoing, StoredMessage, StreamState
from overseer.ports.clock import Clock
from overseer.ports.envelope import check_append

__all__ = ["MemoryLine"]


class MemoryLine:
    """Implements `overseer.ports.bus.Line`; made by `MemoryBroker.line`. `faults` are this line's alone."""

    def __init__(
        self, stream: MemoryStream, clock: Clock, is_up: Callable[[], bool], *, sender: str, own_filter: str, durable: str
    ) -> None:
        self.faults = LineFaults()
        self._on = stream
        self._clock = clock
        self._is_up = is_up
        self._sender = sender
        self._own_filter = own_filter
        self._durable = durable
        # (stream generation, reset of the consumer) of our seek; None: no position.
        self._place: tuple[int, int] | None = None

    @property
    def sender(self) -> str:
        return self._sender

    @property
    def stream(self) -> str:
        return self._on.name

    async def connected(self) -> None:
        await anyio.lowlevel.checkpoint()
        while not self.reachable():
            await self._on.changed.wait()

    async def state(self) -> StreamState:
        await self._reach()
        return self._on.state()

    async def message_at(self, sequence: int) -> StoredMessage | None:
        await self._reach()
        return self._on.at(sequence)

    async def last_own(self) -> StoredMessage | None:
        await self._reach()
        return self._on.last_under(self._own_filter)

    async def seek(self, sequence: int) -> None:
        """See `Line.seek`. A sequence below the first relevant message means the first; beyond the last waits for it."""
        self._place = None
        await self._reach()
        resets = self._consumer().reset(max(1, sequence))
        self._place = (self._on.generation, resets)
        self._on.wake()

    async def pull(self, batch: int, wait_ms: int) -> list[Delivery]:
        deadline_ms = self._clock.now_ms() + wait_ms
        while True:
            await self._reach()
            consumer = self._positioned()
            taken = self._on.take(consumer, batch)
            if taken:
                return self._torn(taken)
            if self._clock.now_ms() >= deadline_ms:
                return []
            await self._clock.wait(self._on.changed, deadline_ms)

    async def ack(self, delivery: Delivery) -> None:
        await anyio.lowlevel.checkpoint()
        if self.faults.lose_acks or not self.reachable():
            return
        durable, resets, sequence = delivery.ack_token.split(" ")
        consumer = self._on.consumers.get(durable)
        if consumer is not None and consumer.resets == int(resets):
            consumer.acknowledged = max(consumer.acknowledged, int(sequence))

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        check_append(messages, self._own_filter)
        await self._reach()
        return self.arrive(messages, expected_last)

    def arrive(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        """What the server does with an append that has reached it, whether or not who sent it still lives."""
        if not self.reachable():
            raise BusUnavailable(f"no server for {self._on.name}")
        if self.faults.batches_refused and len(messages) > 1:
            raise BusUnavailable("too many batches are open")
        fault = self.faults.appends.popleft() if self.faults.appends else None
        if fault is AppendFault.LOST:
            raise OutcomeUnknown("no answer: the message never arrived")
        last = self._on.store(messages, own_filter=self._own_filter, expected_last=expected_last)
        if fault is AppendFault.STORED:
            raise OutcomeUnknown("no answer: it was lost on the way back")
        return last

    # --- what a simulation does to it ------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Part this line from the stream: everything raises BusUnavailable until `heal`, and the position is lost."""
        self.faults.unavailable = True
        self._place = None
        self._on.wake()

    def heal(self) -> None:
        self.faults.unavailable = False
        self._on.wake()

    def reachable(self) -> bool:
        """Whether the server runs and nothing parts this line from it."""
        return self._is_up() and not self.faults.unavailable

    def placed(self) -> bool:
        """Whether the position of the last seek holds: no session has ended since, and nobody else has reset the consumer."""
        consumer = self._on.consumers.get(self._durable)
        return self.reachable() and consumer is not None and self._place == (self._on.generation, consumer.resets)

    # --- inside ----------------------------------------------------------------------------------------------------------

    async def _reach(self) -> None:
        """One step of the network: others run meanwhile. Raises BusUnavailable."""
        await anyio.lowlevel.checkpoint()
        if not self.reachable():
            raise BusUnavailable(f"no server for {self._on.name}")

    def _consumer(self) -> MemoryConsumer:
        consumer = self._on.consumers.get(self._durable)
        if consumer is None:
            raise BusUnavailable(f"{self._on.name} has no consumer {self._durable!r}")
        return consumer

    def _positioned(self) -> MemoryConsumer:
        consumer = self._consumer()
        if self._place is None:
            raise BusUnavailable("the line has no position: seek first")
        if self._place != (self._on.generation, consumer.resets):
            self._place = None
            raise BusUnavailable("the session ended, or the consumer was reset by another: seek again")
        return consumer

    def _torn(self, taken: list[Delivery]) -> list[Delivery]:
        arrived, self.faults.torn_after = self.faults.torn_after, None
        if arrived is None or arrived >= len(taken):
            return taken
        if self.faults.on_torn is not None:
            self.faults.on_torn()
        return taken[:arrived]
