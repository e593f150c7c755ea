"""Two worlds with the same handles: a stream, lines, exchanges. The contract suite runs on both."""

import itertools
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import msgspec

from overseer.memory.bus import MemoryBroker, MemoryExchange, MemoryLine
from overseer.nats.connection import Connection, connect
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.ports.bus import Exchange, Line, Outgoing

NODES = (f"n{number}" for number in itertools.count(1))


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], within_s: float = 10) -> None:
    """Return when `condition` holds, looking again after whatever else can run; fail after `within_s`."""
    with anyio.fail_after(within_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await anyio.sleep(0.001)


class World:
    """A node's stream, and who is on it."""

    node: str

    def __init__(self) -> None:
        self.node = next(NODES)

    @property
    def stream(self) -> str:
        return f"OVERSEER_{self.node}"

    def filter_of(self, sender: str) -> str:
        return f"overseer.{self.node}.{sender}.>"

    def message(self, sender: str, body: bytes = b"", name: str = "happened", **headers: str) -> Outgoing:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return Outgoing(f"overseer.{self.node}.{sender}.evt.{name}", named, body)

    def numbered(self, sender: str, count: int, start: int = 0) -> list[Outgoing]:
        return [self.message(sender, b"%d" % number, Overseer_Id=f"{sender} 00 {number} 0") for number in range(start, start + count)]

    async def create(self, *, messages_max: int | None = None, bytes_max: int | None = None) -> None:
        raise NotImplementedError

    async def line(self, sender: str, *, filters: Sequence[str] = ()) -> Line:
        raise NotImplementedError

    async def exchange(self, *, account: str = "", in_flight_max: int = 1_024) -> Exchange:
        raise NotImplementedError

    async def trim(self, below: int) -> None:
        raise NotImplementedError


class MemoryWorld(World):
    def __init__(self, broker: MemoryBroker, closing: AsyncExitStack) -> None:
        super().__init__()
        self.broker = broker
        self._closing = closing

    async def create(self, *, messages_max: int | None = None, bytes_max: int | None = None) -> None:
        self.broker.create_stream(
            self.stream, subjects=[f"overseer.{self.node}.>"], stream_id=f"id-{self.node}", messages_max=messages_max, bytes_max=bytes_max
        )

    async def line(self, sender: str, *, filters: Sequence[str] = ()) -> MemoryLine:
        self.broker.add_consumer(self.stream, sender, filters or [f"overseer.{self.node}.>"])
        return self.broker.line(self.stream, sender=sender, own_filter=self.filter_of(sender), durable=sender)

    async def exchange(self, *, account: str = "", in_flight_max: int = 1_024) -> MemoryExchange:
        exchange = self.broker.exchange(account=account, requests_in_flight_max=in_flight_max)
        self._closing.push_async_callback(exchange.close)
        return exchange

    async def trim(self, below: int) -> None:
        self.broker.streams[self.stream].trim(below)


class NatsWorld(World):
    def __init__(self, connection: Connection, closing: AsyncExitStack) -> None:
        super().__init__()
        self.connection = connection
        self._closing = closing

    async def api(self, call: str, body: object = None) -> dict[str, Any]:
        raw = msgspec.json.encode(body) if body is not None else b""
        reply = await self.connection.request(f"$JS.API.{call}", raw, timeout_ms=5_000)
        answer = msgspec.json.decode(reply.body)
        assert "error" not in answer, (call, answer["error"])
        return answer

    async def create(self, *, messages_max: int | None = None, bytes_max: int | None = None) -> None:
        config = {
            "name": self.stream,
            "subjects": [f"overseer.{self.node}.>"],
            "storage": "file",
            "discard": "new",
            "allow_atomic": True,
            "metadata": {"overseer_id": f"id-{self.node}"},
            "max_msgs": messages_max or -1,
            "max_bytes": bytes_max or -1,
        }
        await self.api(f"STREAM.CREATE.{self.stream}", config)

    async def line(self, sender: str, *, filters: Sequence[str] = ()) -> NatsLine:
        config = {
            "durable_name": sender,
            "ack_policy": "all",
            "max_ack_pending": -1,
            "filter_subjects": list(filters) or [f"overseer.{self.node}.>"],
        }
        await self.api(f"CONSUMER.CREATE.{self.stream}.{sender}", {"stream_name": self.stream, "config": config})
        return NatsLine(self.connection, stream=self.stream, sender=sender, own_filter=self.filter_of(sender), durable=sender)

    async def exchange(self, *, account: str = "", in_flight_max: int = 1_024) -> NatsExchange:
        exchange = NatsExchange(self.connection, requests_in_flight_max=in_flight_max)
        self._closing.push_async_callback(exchange.close)
        return exchange

    async def trim(self, below: int) -> None:
        await self.api(f"STREAM.PURGE.{self.stream}", {"seq": below})


class Server:
    """A nats-server process of the test's own, on one port and one folder over its restarts."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (folder / "server.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{folder}/js", sync_interval: always }}\n{config}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> "Server":
        beside = Path(sysconfig.get_path("scripts")) / "nats-server"
        executable = str(beside) if beside.exists() else shutil.which("nats-server")
        assert executable, "nats-server is not installed"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([executable, "-c", str(self.folder / "server.conf")], stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stopped(self) -> bool:
        """Whether every thread has come to a stop (a SIGSTOP takes its time)."""
        assert self._process is not None
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


async def connected_to(server: Server, closing: AsyncExitStack, *, user: str = "test", liveness_ms: int = 2_000) -> Connection:
    connection = await connect(
        server.url,
        name=f"contract suite {user}",
        inbox_prefix=f"_INBOX_{user}",
        liveness_interval_ms=liveness_ms,
        liveness_timeout_ms=liveness_ms,
    )
    closing.push_async_callback(connection.close)
    return connection
