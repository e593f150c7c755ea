"""A whole NATS server in memory: streams, consumers and request/reply for any number of nodes in one thread.

    async with MemoryBroker(clock) as broker:
        broker.create_stream("OVERSEER_n1", subjects=["overseer.n1.>"], stream_id="5f3a")
        broker.add_consumer("OVERSEER_n1", "votes_db", ["overseer.n1.*.cmd.votes_db.>"])
        line = broker.line("OVERSEER_n1", sender="votes_db", own_filter="overseer.n1.votes_db.>", durable="votes_db")
        exchange = broker.exchange(account="n1-votes_db")

Streams and lines need no `async with`; answering requests does (its task group runs the handlers). The same calls in the
same order have the same effect: time comes from the clock port and nothing is drawn at random.
"""

from collections.abc import Sequence
from types import TracebackType

import anyio
from anyio.abc import TaskGroup

from overseer.memory.bus.exchange import MemoryExchange, Served
from overseer.memory.bus.line import MemoryLine
from overseer.memory.bus.stream import MemoryConsumer, MemoryStream
from overseer.ports.bus import BusUnavailable, Outgoing
from overseer.ports.clock import Clock
from overseer.ports.envelope import matches

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """Streams by name, and who answers which subject."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.streams: dict[str, MemoryStream] = {}
        self.served: list[Served] = []
        self._up = True
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> "MemoryBroker":
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends every handler that still runs."""
        tasks = self.tasks
        self._tasks = None
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(kind, error, trace)

    @property
    def tasks(self) -> TaskGroup:
        """Where handlers run. Raises RuntimeError outside `async with`."""
        if self._tasks is None:
            raise RuntimeError("a broker answers requests only within `async with broker`")
        return self._tasks

    def is_up(self) -> bool:
        return self._up

    # --- provisioning ----------------------------------------------------------------------------------------------------

    def create_stream(
        self,
        name: str,
        *,
        subjects: Sequence[str],
        stream_id: str,
        messages_max: int | None = None,
        bytes_max: int | None = None,
    ) -> MemoryStream:
        """Raises ValueError when the name is taken or a subject belongs to another stream."""
        if name in self.streams:
            raise ValueError(f"stream {name} exists")
        for other in self.streams.values():
            shared = [s for s in subjects if any(matches(s, theirs) or matches(theirs, s) for theirs in other.subjects)]
            if shared:
                raise ValueError(f"{other.name} already takes {', '.join(shared)}")
        stream = MemoryStream(
            name, subjects=subjects, stream_id=stream_id, clock=self.clock, messages_max=messages_max, bytes_max=bytes_max
        )
        self.streams[name] = stream
        return stream

    def add_consumer(self, stream: str, durable: str, filters: Sequence[str]) -> None:
        """A durable consumer of what matches one of `filters`. The same one again changes only its filters."""
        consumers = self.streams[stream].consumers
        if durable in consumers:
            consumers[durable].filters = tuple(filters)
        else:
            consumers[durable] = MemoryConsumer(durable, tuple(filters))

    def line(self, stream: str, *, sender: str, own_filter: str, durable: str = "") -> MemoryLine:
        """`durable` may stay empty for a line that never pulls. Raises KeyError for an unknown stream."""
        return MemoryLine(self.streams[stream], self.clock, self.is_up, sender=sender, own_filter=own_filter, durable=durable)

    def exchange(self, *, account: str = "", requests_in_flight_max: int = 1_024) -> MemoryExchange:
        """`account` is what those it asks are told of it."""
        return MemoryExchange(self, account=account, requests_in_flight_max=requests_in_flight_max)

    def publish(self, message: Outgoing) -> int:
        """Store one message in whatever stream takes its subject. Raises BusUnavailable, StreamFull."""
        for stream in self.streams.values():
            if any(matches(subject, message.subject) for subject in stream.subjects):
                return stream.store([message])
        raise BusUnavailable(f"nobody listens on {message.subject}")

    # --- what a simulation does to it ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The server is gone: everything raises BusUnavailable, until `start`."""
        self._up = False
        for stream in self.streams.values():
            stream.disconnect()

    def start(self) -> None:
        self._up = True
        for stream in self.streams.values():
            stream.wake()
