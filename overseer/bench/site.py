"""A node's bus without the node: a server with accounts and streams in a folder of its own, and runners put together as in a node."""

import gc
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_bytes

import anyio
from blake3 import blake3

from messages.codec import encode
from messages.message import Message
from messages.overseer import IncarnationStarted
from messages.subjects import build, headers_of, node_stream, own_filter
from overseer.checks import Verifier
from overseer.config import Config
from overseer.nats.accounts import PROVISIONER, operator_sender
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.node.bus import connected_as, embedded_server, provisioned
from overseer.node.folder import NodeFolder
from overseer.node.hosting import lines_of, open_store
from overseer.ports.bus import Outgoing
from overseer.rocks.store import RocksStore
from overseer.runner.engine import outgoing
from overseer.runner.observer import Silent, Step
from overseer.runner.runner import Ports, Runner
from overseer.runner.schema import Cause
from overseer.runner.wire import Sender
from overseer.subsystem import Subsystem
from overseer.system.clock import SystemClock
from overseer.system.entropy import SystemEntropy

__all__ = ["NODE", "OPERATOR", "Feeder", "Site", "Work", "open_site"]

NODE = "bench"
OPERATOR = "operator"
# Messages of one atomic append.
_APPENDED_AT_ONCE = 500
_POLL_S = 0.001
_READY_S = 60


class Feeder:
    """Appends messages under a sender's name: a subsystem's with their ids; an operator's without, each a command of its own."""

    def __init__(self, connection: Connection, user: str) -> None:
        self.sender = operator_sender(user) if user == OPERATOR else user
        self._outside = user == OPERATOR
        self._line = NatsLine(connection, stream=node_stream(NODE), sender=self.sender, own_filter=own_filter(NODE, self.sender))
        self._incarnation = token_bytes(16)
        self._wire = Sender(NODE, self.sender, self._incarnation)
        self._index = 0
        self._last = 0

    async def announce(self) -> None:
        """What a subsystem says before its first message."""
        await self.tell(IncarnationStarted(incarnation=self._incarnation))

    def render(self, messages: Sequence[Message]) -> list[Outgoing]:
        """As they go onto the wire."""
        return [self._rendered(message) for message in messages]

    def _rendered(self, message: Message) -> Outgoing:
        self._index += 1
        if self._outside:
            return Outgoing(build(NODE, self.sender, message.spec), headers_of(message.spec), encode(message))
        text = f"bench:{self._index}"
        cause = Cause("", 0, self.sender, text, b"", text, blake3(text.encode()).hexdigest()[:32])
        return outgoing(self._wire.render(cause, self._index, 0, message))

    async def append(self, messages: Sequence[Outgoing]) -> int:
        """Store them, in order; returns the last one's sequence."""
        for at in range(0, len(messages), _APPENDED_AT_ONCE):
            self._last = await self._line.append(messages[at : at + _APPENDED_AT_ONCE], self._last)
        return self._last

    async def tell(self, *messages: Message) -> int:
        return await self.append(self.render(messages))


# Read at each commit; what it says only grows.
Gauge = Callable[[RocksStore], int]


class Work(Silent):
    """A runner at work, watched. Its level, as of each commit: the position in the node's stream, or what `gauge` reads."""

    def __init__(self, store: RocksStore, gauge: Gauge | None) -> None:
        self.runner: Runner
        self.ready_s = 0.0
        self._store = store
        self._gauge = gauge
        # When the last commit was durable.
        self._committed_s = 0.0
        self._level = 0
        self._moved = anyio.Event()
        self._refusals: list[str] = []

    def step(self, step: Step) -> None:
        # Exactly here what the engine remembers is what the store holds.
        if step is Step.COMMITTED:
            self._committed_s = time.perf_counter()
            self._level = self._gauge(self._store) if self._gauge is not None else self.runner.positions()["node"]
            self._moved.set()
            self._moved = anyio.Event()

    def result(self, status: str, code: str) -> None:
        if status != "accepted":
            self._refusals.append(f"{status} {code}")

    async def until(self, level: int) -> float:
        """Return when a commit has reached `level`: seconds from the runner's start to that commit. Raises RuntimeError."""
        while self._level < level:
            await self._moved.wait()
        took = self._committed_s - self.ready_s
        if self._refusals:
            raise RuntimeError(f"what should be accepted was not, {len(self._refusals)} times: {self._refusals[0]}")
        return took


class Site:
    """One node's bus. Made by `open_site`."""

    def __init__(self, config: Config, url: str) -> None:
        self.config = config
        self.url = url

    @asynccontextmanager
    async def feeder(self, user: str) -> AsyncGenerator[Feeder, None]:
        """Someone who sends. A subsystem announces itself first, as every sender must."""
        async with connected_as(self.config, self.url, user) as connection:
            feeder = Feeder(connection, user)
            if user != OPERATOR:
                await feeder.announce()
            yield feeder

    @asynccontextmanager
    async def exchange(self, user: str) -> AsyncGenerator[NatsExchange, None]:
        """Someone who asks."""
        async with connected_as(self.config, self.url, user) as connection:
            yield NatsExchange(connection)

    def open_store(self, subsystem: Subsystem) -> RocksStore:
        return open_store(NodeFolder(self.config.data_dir), NODE, subsystem.declaration)

    @asynccontextmanager
    async def working(self, subsystem: Subsystem, verifier: Verifier, *, gauge: Gauge | None = None) -> AsyncGenerator[Work, None]:
        """The subsystem with its real runner, store and bus, from the moment it is ready; concluded afterwards."""
        name = subsystem.declaration.name
        store = self.open_store(subsystem)
        try:
            async with connected_as(self.config, self.url, name) as connection:
                exchange = NatsExchange(connection, metadata={"node": NODE})
                ports = Ports(
                    store=store,
                    lines=lines_of(connection, NODE, subsystem.declaration),
                    exchange=exchange,
                    clock=SystemClock(),
                    entropy=SystemEntropy(),
                    verifier=verifier,
                )
                work = Work(store, gauge)
                work.runner = Runner(subsystem, NODE, ports, limits=self.config.limits, observer=work)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(work.runner.run)
                    await _ready(work.runner)
                    # A subsystem's process does not hold what the bench has prepared.
                    gc.collect()
                    gc.freeze()
                    work.ready_s = time.perf_counter()
                    yield work
                    work.runner.conclude()
                await exchange.close()
        finally:
            gc.unfreeze()
            store.close()


async def _ready(runner: Runner) -> None:
    with anyio.fail_after(_READY_S):
        while not runner.progress.ready:
            await anyio.sleep(_POLL_S)


@asynccontextmanager
async def open_site(folder: Path, subsystems: Sequence[Subsystem]) -> AsyncGenerator[Site, None]:
    """Start a server with everything these subsystems declare, in `folder`."""
    config = Config(node=NODE, data_dir=folder)
    declarations = [subsystem.declaration for subsystem in subsystems]
    async with embedded_server(config, declarations) as server:
        async with connected_as(config, server.url, PROVISIONER) as manage:
            await provisioned(config, manage, declarations, server)
        yield Site(config, server.url)
