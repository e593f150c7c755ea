"""Where a subsystem under test lives: a bus, a disk and a clock. The same test runs in memory and on the real thing.

    async with MemoryWorld() as world: ...                 # virtual time, every fault at hand
    async with RealWorld(tmp_path) as world: ...           # a nats-server and RocksDB of its own, real time

Both offer what `VirtualOverseer` needs (`World`), and the same accidents: a bus that goes away, streams that lose their tail,
are trimmed, replaced or full, disks that are wiped or restored from a backup.
"""

import contextlib
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import anyio
import msgspec

from messages.subjects import net_filter, net_stream, node_stream, own_filter
from overseer.graph import filters, net_filters, networked
from overseer.memory.bus import MemoryBroker
from overseer.memory.clock import MemoryClock
from overseer.memory.entropy import SeededEntropy
from overseer.memory.store import MemoryDisk, MemoryStore
from overseer.nats.accounts import durable_name
from overseer.nats.append import append_one
from overseer.nats.connection import Connection, connect
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.nats.provision import call
from overseer.nats.resources import STREAM_ID, BusLimits, node_consumers, node_streams
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.ports.bus import Exchange, Line, Outgoing, Response, StoredMessage, StreamState
from overseer.ports.clock import Clock
from overseer.ports.entropy import Entropy
from overseer.ports.envelope import matches
from overseer.ports.store import Store, StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.runner.schema import SYSTEM_TABLES
from overseer.subsystem import Declaration
from overseer.system.clock import SystemClock
from overseer.system.entropy import SystemEntropy

__all__ = ["TEST_BUS_LIMITS", "Disk", "MemoryWorld", "RealWorld", "Session", "World", "server_for_tests"]

# Small streams: a test's server must not need gigabytes.
TEST_BUS_LIMITS = BusLimits(node_bytes_max=64 * 1024**2, net_bytes_max=16 * 1024**2, pov_bytes_max=1024**2)
_REQUEST_MS = 5_000
# Nodes that one test's server has room for.
_NODES_MAX = 8


class Disk(Protocol):
    """What of one subsystem outlives its process."""

    def open(self) -> Store:
        """Raises StoreError."""
        ...

    def crash(self, *, keep_unsynced: bool = False) -> None:
        """The process is gone: what was not synced is lost, or kept (memory; on a real disk nothing can be lost this way)."""
        ...

    def wipe(self) -> None:
        """Somebody deleted the store. Only while it is closed."""
        ...

    def backup(self) -> "Disk":
        """A copy as of now, to be given to `restore`. Only while it is closed."""
        ...

    def restore(self, backup: "Disk") -> None:
        """Somebody put an old copy in its place. Only while it is closed."""
        ...


class Session(msgspec.Struct, frozen=True):
    """One process's ties to the bus, from its start to its end."""

    lines: dict[str, Line]
    exchange: Exchange


class World(Protocol):
    """A bus with the streams of any number of nodes, disks, and a clock."""

    # Whether time and bytes are real ones.
    real: bool

    @property
    def clock(self) -> Clock: ...

    def entropy(self, label: str) -> Entropy: ...

    async def provide(self, node: str, declaration: Declaration, extra_filters: Sequence[str] = ()) -> None:
        """Make the node's stream, the network's, and this subsystem's consumers. `extra_filters`: what else is delivered."""
        ...

    def session(self, node: str, declaration: Declaration) -> contextlib.AbstractAsyncContextManager[Session]:
        """Connect as this subsystem."""
        ...

    def disk(self, node: str, declaration: Declaration) -> Disk: ...

    async def append(self, message: Outgoing) -> int:
        """Store a message as it is, whoever it claims to be from. Returns its sequence."""
        ...

    async def message_at(self, stream: str, sequence: int) -> StoredMessage | None: ...

    async def state(self, stream: str) -> StreamState: ...

    async def last_matching(self, stream: str, patterns: Sequence[str]) -> int:
        """The sequence of the last message on one of these subjects; 0 without one."""
        ...

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout_ms: int) -> Response:
        """Ask as an outside caller. Raises BusUnavailable."""
        ...

    async def truncate(self, stream: str, count: int) -> None:
        """The stream loses its last `count` messages; their sequences are given again."""
        ...

    async def replace(self, stream: str) -> None:
        """Somebody deleted the stream and made it anew: empty, with another id."""
        ...

    async def trim(self, stream: str, below: int) -> None:
        """Everything before sequence `below` is gone, in order."""
        ...

    async def bound(self, stream: str, messages_max: int | None) -> None:
        """The stream refuses more than so many messages (None: no limit)."""
        ...

    async def stop_bus(self) -> None: ...

    async def start_bus(self) -> None: ...

    async def advance(self, ms: int) -> None:
        """Let so much time pass."""
        ...


def _tables(declaration: Declaration) -> list[str]:
    return [table.name for table in (*SYSTEM_TABLES, *declaration.tables)]


# ------------------------------------------------------------------------------------------------ memory


class MemoryShelf:
    """A disk in memory. `disk.on_step` lets a test fail a commit at any step."""

    def __init__(self, tables: Sequence[str], identity: StoreIdentity, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk(history=8)
        self._tables = tables
        self._identity = identity

    def open(self) -> MemoryStore:
        return MemoryStore(self._tables, disk=self.disk, identity=self._identity)

    def crash(self, *, keep_unsynced: bool = False) -> None:
        self.disk.crash(keep_unsynced=keep_unsynced)

    def wipe(self) -> None:
        self.disk = MemoryDisk(history=8)

    def backup(self) -> "MemoryShelf":
        return MemoryShelf(self._tables, self._identity, self.disk.backup())

    def restore(self, backup: Disk) -> None:
        self.disk = cast(MemoryShelf, backup).disk.backup()


class MemoryWorld:
    """Everything in one thread, in virtual time; the same every time for the same `seed`."""

    real = False

    def __init__(self, *, seed: int = 0) -> None:
        self.clock = MemoryClock()
        self.broker = MemoryBroker(self.clock)
        self._seed = SeededEntropy(seed)
        self._disks: dict[tuple[str, str], MemoryShelf] = {}
        self._made = 0

    async def __aenter__(self) -> Self:
        await self.broker.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.broker.__aexit__(kind, error, trace)

    def entropy(self, label: str) -> SeededEntropy:
        self._made += 1
        return self._seed.fork(f"{label} {self._made}")

    async def provide(self, node: str, declaration: Declaration, extra_filters: Sequence[str] = ()) -> None:
        self._create(node_stream(node), f"overseer.{node}.>")
        stream = node_stream(node)
        self.broker.add_consumer(
            stream, durable_name(node, declaration.name, stream), sorted({*filters(declaration, node), *extra_filters})
        )
        if networked(declaration):
            self._create(net_stream(), "overseer.net.>")
            self.broker.add_consumer(net_stream(), durable_name(node, declaration.name, net_stream()), net_filters(declaration))

    def _create(self, name: str, subjects: str) -> None:
        if name not in self.broker.streams:
            self.broker.create_stream(name, subjects=[subjects], stream_id=f"{name} 0")

    @contextlib.asynccontextmanager
    async def session(self, node: str, declaration: Declaration) -> AsyncGenerator[Session, None]:
        name = declaration.name
        wanted = {"node": (node_stream(node), own_filter(node, name))}
        if networked(declaration):
            wanted["net"] = (net_stream(), net_filter(node, name))
        lines: dict[str, Line] = {
            key: self.broker.line(stream, sender=name, own_filter=own, durable=durable_name(node, name, stream))
            for key, (stream, own) in wanted.items()
        }
        exchange = self.broker.exchange(account=f"{node}-{name}")
        try:
            yield Session(lines, exchange)
        finally:
            exchange.kill()

    def disk(self, node: str, declaration: Declaration) -> MemoryShelf:
        key = (node, declaration.name)
        if key not in self._disks:
            self._disks[key] = MemoryShelf(_tables(declaration), StoreIdentity(node, declaration.name))
        return self._disks[key]

    async def append(self, message: Outgoing) -> int:
        return self.broker.publish(message)

    async def message_at(self, stream: str, sequence: int) -> StoredMessage | None:
        return self.broker.streams[stream].at(sequence)

    async def state(self, stream: str) -> StreamState:
        return self.broker.streams[stream].state()

    async def last_matching(self, stream: str, patterns: Sequence[str]) -> int:
        held = self.broker.streams[stream]
        state = held.state()
        for sequence in range(state.last_sequence, state.first_sequence - 1, -1):
            stored = held.at(sequence)
            if stored is not None and any(matches(pattern, stored.subject) for pattern in patterns):
                return sequence
        return 0

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout_ms: int) -> Response:
        exchange = self.broker.exchange(account="test")
        return await exchange.request(subject, body, headers, timeout_ms)

    async def truncate(self, stream: str, count: int) -> None:
        self.broker.streams[stream].truncate(count)

    async def replace(self, stream: str) -> None:
        held = self.broker.streams[stream]
        name, _, number = held.id.rpartition(" ")
        held.replace(f"{name} {int(number) + 1}")

    async def trim(self, stream: str, below: int) -> None:
        self.broker.streams[stream].trim(below)

    async def bound(self, stream: str, messages_max: int | None) -> None:
        self.broker.streams[stream].messages_max = messages_max

    async def stop_bus(self) -> None:
        self.broker.stop()

    async def start_bus(self) -> None:
        self.broker.start()

    async def advance(self, ms: int) -> None:
        self.clock.advance(ms)


# ------------------------------------------------------------------------------------------------ the real thing


def server_for_tests(folder: Path) -> EmbeddedServer:
    """A nats-server on loopback without accounts, its data in `folder`. To be started."""
    return EmbeddedServer(folder, "", settings=ServerSettings(store_bytes_max=_NODES_MAX * TEST_BUS_LIMITS.store_bytes))


class RocksShelf:
    """A RocksDB in a folder."""

    def __init__(self, folder: Path, tables: Sequence[str], identity: StoreIdentity) -> None:
        self.folder = folder
        self._tables = tables
        self._identity = identity
        self._store: RocksStore | None = None
        self._backups = 0

    def open(self) -> RocksStore:
        self._store = RocksStore.open(self.folder, tables=self._tables, identity=self._identity)
        return self._store

    def crash(self, *, keep_unsynced: bool = False) -> None:
        if self._store is not None:
            self._store.close()

    def wipe(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def backup(self) -> "RocksShelf":
        self._backups += 1
        copy = RocksShelf(self.folder.with_name(f"{self.folder.name}.backup{self._backups}"), self._tables, self._identity)
        shutil.copytree(self.folder, copy.folder)
        return copy

    def restore(self, backup: Disk) -> None:
        self.wipe()
        shutil.copytree(cast(RocksShelf, backup).folder, self.folder)


class RealWorld:
    """A nats-server process, RocksDB stores under `folder`, the system's clock. Streams made here are deleted at the end."""

    real = True

    def __init__(self, folder: Path, *, server: EmbeddedServer | None = None) -> None:
        """`server`: one that runs already (`server_for_tests`); else one is started, and stopped at the end."""
        self.clock = SystemClock()
        self.server = server or server_for_tests(folder / "nats")
        self._own_server = server is None
        self._folder = folder
        self._disks: dict[tuple[str, str], RocksShelf] = {}
        self._streams: dict[str, dict[str, Any]] = {}
        self._consumers: dict[tuple[str, str], dict[str, Any]] = {}
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        if self._own_server:
            await self.server.start()
        self._connection = await self._connect("the test itself")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.CancelScope(shield=True):
            if self.server.pid is None and not self._own_server:
                await self.server.start()
            if not self._own_server:
                await self._ask.ready()
                for stream in self._streams:
                    await call(self._ask, f"STREAM.DELETE.{stream}")
            await self._ask.close()
            if self._own_server:
                await self.server.stop()

    @property
    def _ask(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("use it within `async with`")
        return self._connection

    async def _connect(self, name: str) -> Connection:
        return await connect(self.server.url, name=name, inbox_prefix="_INBOX_kit", reconnect_ms=5, reconnect_ms_max=20)

    def entropy(self, label: str) -> SystemEntropy:
        return SystemEntropy()

    async def provide(self, node: str, declaration: Declaration, extra_filters: Sequence[str] = ()) -> None:
        def wanted(declared: Declaration, of: str) -> list[str]:
            return sorted({*filters(declared, of), *extra_filters})

        for stream in node_streams(node, TEST_BUS_LIMITS)[: 2 if networked(declaration) else 1]:
            if stream.name not in self._streams:
                # Deleting single messages is no danger here, and truncating needs free hands.
                body = {key: value for key, value in stream.config.items() if value is not None and key != "republish"}
                body["metadata"] = {**body.get("metadata", {}), STREAM_ID: f"{stream.name} 0"}
                await call(self._ask, f"STREAM.CREATE.{stream.name}", body)
                self._streams[stream.name] = body
        for consumer in node_consumers(node, [declaration], wanted, net_filters):
            body = {key: value for key, value in consumer.config.items() if value is not None}
            self._consumers[consumer.stream, consumer.name] = body
            await self._consume(consumer.stream, consumer.name)

    async def _consume(self, stream: str, name: str) -> None:
        body = {"stream_name": stream, "config": self._consumers[stream, name]}
        await call(self._ask, f"CONSUMER.CREATE.{stream}.{name}", body)

    @contextlib.asynccontextmanager
    async def session(self, node: str, declaration: Declaration) -> AsyncGenerator[Session, None]:
        name = declaration.name
        wanted = {"node": (node_stream(node), own_filter(node, name))}
        if networked(declaration):
            wanted["net"] = (net_stream(), net_filter(node, name))
        connection = await self._connect(f"{node}/{name}")
        exchange = NatsExchange(connection, drain_ms=0)
        try:
            yield Session(
                {
                    key: NatsLine(connection, stream=stream, sender=name, own_filter=own, durable=durable_name(node, name, stream))
                    for key, (stream, own) in wanted.items()
                },
                exchange,
            )
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()
                await exchange.close()

    def disk(self, node: str, declaration: Declaration) -> RocksShelf:
        key = (node, declaration.name)
        if key not in self._disks:
            folder = self._folder / f"{node}-{declaration.name}"
            self._disks[key] = RocksShelf(folder, _tables(declaration), StoreIdentity(node, declaration.name))
        return self._disks[key]

    async def append(self, message: Outgoing) -> int:
        return await append_one(self._ask, message, {}, _REQUEST_MS)

    def _line(self, stream: str) -> NatsLine:
        return NatsLine(self._ask, stream=stream, sender="", own_filter=">")

    async def message_at(self, stream: str, sequence: int) -> StoredMessage | None:
        return await self._line(stream).message_at(sequence)

    async def state(self, stream: str) -> StreamState:
        return await self._line(stream).state()

    async def last_matching(self, stream: str, patterns: Sequence[str]) -> int:
        found = [await NatsLine(self._ask, stream=stream, sender="", own_filter=pattern).last_own() for pattern in patterns]
        return max((stored.sequence for stored in found if stored is not None), default=0)

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout_ms: int) -> Response:
        return await NatsExchange(self._ask).request(subject, body, headers, timeout_ms)

    async def truncate(self, stream: str, count: int) -> None:
        """Made anew under the same id with what is kept: what a server that lost its last blocks looks like."""
        state = await self.state(stream)
        kept = [await self.message_at(stream, sequence) for sequence in range(state.first_sequence, state.last_sequence + 1 - count)]
        await self._recreate(stream, first_sequence=state.first_sequence)
        for stored in kept:
            if stored is not None:
                await self.append(Outgoing(stored.subject, stored.headers, stored.body))

    async def replace(self, stream: str) -> None:
        metadata = self._streams[stream]["metadata"]
        name, _, number = metadata[STREAM_ID].rpartition(" ")
        metadata[STREAM_ID] = f"{name} {int(number) + 1}"
        await self._recreate(stream)

    async def _recreate(self, stream: str, *, first_sequence: int = 1) -> None:
        await call(self._ask, f"STREAM.DELETE.{stream}")
        first = {"first_seq": first_sequence} if first_sequence > 1 else {}
        await call(self._ask, f"STREAM.CREATE.{stream}", {**self._streams[stream], **first})
        for of, name in self._consumers:
            if of == stream:
                await self._consume(of, name)

    async def trim(self, stream: str, below: int) -> None:
        await call(self._ask, f"STREAM.PURGE.{stream}", {"seq": below})

    async def bound(self, stream: str, messages_max: int | None) -> None:
        await call(self._ask, f"STREAM.UPDATE.{stream}", {**self._streams[stream], "max_msgs": messages_max or -1})

    async def stop_bus(self) -> None:
        await self.server.stop()

    async def start_bus(self) -> None:
        await self.server.start()
        await self._ask.ready()

    async def advance(self, ms: int) -> None:
        await anyio.sleep(ms / 1000)
