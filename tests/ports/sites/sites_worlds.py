"""Two worlds with the same handles: a log, a board, and what may happen to the server. The contract suite runs on both."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import anyio

from overseer.memory.sites import MemoryLogServer
from overseer.nats.accounts import NodeUsers, accounts_config, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.election_log import NatsElectionLog
from overseer.nats.keys import KeyFolder
from overseer.nats.provision import Provisioner, call
from overseer.nats.resources import BusLimits, log_consumers, log_streams
from overseer.nats.sites import log_stream, site_user
from overseer.nats.topology_board import NatsTopologyBoard
from overseer.ports.sites import ElectionLog, Logged, LoggedPage, TopologyBoard
from tests.ports.bus.bus_worlds import Server

NODE = "alpha"
SITES = ("a", "b", "c")
LEASE_MS = 1_000
LIMITS = BusLimits(log_bytes_max=64 * 1024**2, lease_ms=LEASE_MS)
_ADMIN = 'BUS {\n  users: [{ user: "admin", password: "admin" }]\n'
_NUMBERS = itertools.count(2)


class World:
    """A node's log and buckets, and who is at them."""

    def log(self, site: str, *, page_entries: int = 256) -> ElectionLog:
        raise NotImplementedError

    def board(self, site: str) -> TopologyBoard:
        raise NotImplementedError

    async def replace(self) -> None:
        """The log is deleted and made anew."""
        raise NotImplementedError

    async def bound(self, entries: int) -> None:
        """The log holds so many entries at most."""
        raise NotImplementedError

    async def stop(self) -> None:
        """The server dies."""
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError


class MemoryWorld(World):
    def __init__(self, server: MemoryLogServer) -> None:
        self.server = server

    def log(self, site: str, *, page_entries: int = 256) -> ElectionLog:
        return self.server.log(site, page_entries=page_entries)

    def board(self, site: str) -> TopologyBoard:
        return self.server.board(site)

    async def replace(self) -> None:
        self.server.replace(f"log-{next(_NUMBERS)}")

    async def bound(self, entries: int) -> None:
        self.server.entries_max = entries

    async def stop(self) -> None:
        self.server.stop()

    async def start(self) -> None:
        self.server.start()


class NatsWorld(World):
    """Everybody with the account that a node gives them. The log is made anew by somebody whom no node knows."""

    def __init__(self, server: Server, keys: KeyFolder, closing: AsyncExitStack) -> None:
        self.server = server
        self.keys = keys
        self.closing = closing
        self.connections: dict[str, Connection] = {}

    async def connect(self, user: str) -> Connection:
        if user not in self.connections:
            seed = self.keys.path(user).read_text().strip() if user != "admin" else None
            url = self.server.url if seed else self.server.url.replace("//", "//admin:admin@")
            made = await connect(url, name=user, inbox_prefix=inbox_prefix(user, NODE), nkey_seed=seed, liveness_interval_ms=500)
            self.connections[user] = await self.closing.enter_async_context(made)
        return self.connections[user]

    async def provision(self) -> None:
        doer = Provisioner(await self.connect("provisioner"), log_streams(NODE, LIMITS), log_consumers(NODE, SITES))
        await doer.apply()
        assert await doer.plan() == []

    async def fresh(self) -> "NatsWorld":
        admin = await self.connect("admin")
        streams: list[str] = (await call(admin, "STREAM.NAMES"))["streams"] or []
        for stream in streams:
            await call(admin, f"STREAM.DELETE.{stream}")
        await self.provision()
        for site in SITES:
            await self.connect(site_user(site))
        return self

    def log(self, site: str, *, page_entries: int = 256) -> ElectionLog:
        return NatsElectionLog(self.connections[site_user(site)], node=NODE, site=site, page_entries=page_entries)

    def board(self, site: str) -> TopologyBoard:
        return NatsTopologyBoard(self.connections[site_user(site)], node=NODE)

    async def replace(self) -> None:
        await call(await self.connect("admin"), f"STREAM.DELETE.{log_stream(NODE)}")
        await self.provision()

    async def bound(self, entries: int) -> None:
        admin = await self.connect("admin")
        config = (await call(admin, f"STREAM.INFO.{log_stream(NODE)}"))["config"]
        await call(admin, f"STREAM.UPDATE.{log_stream(NODE)}", {**config, "max_msgs": entries})

    async def stop(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        self.server.start()


def nats_server(folder: Path) -> tuple[Server, KeyFolder]:
    """A server with the accounts of a node without subsystems, not started."""
    keys = KeyFolder(folder / "keys")
    users = NodeUsers(node=NODE, declarations=(), keys=keys.ensure(user_names((), sites=SITES)), sites=SITES)
    return Server(folder, accounts_config([users]).replace("BUS {\n", _ADMIN, 1)), keys


class Following:
    """What a follower has got so far."""

    def __init__(self) -> None:
        self.pages: list[LoggedPage] = []
        self._more = anyio.Event()

    @property
    def entries(self) -> list[Logged]:
        return [entry for page in self.pages for entry in page.entries]

    async def run(self, pages: AsyncIterator[LoggedPage]) -> None:
        async with aclosing(pages):  # pyright: ignore[reportArgumentType]
            async for page in pages:
                self.pages.append(page)
                self._more.set()
                self._more = anyio.Event()

    async def until(self, condition: Callable[[], bool], within_s: float = 15) -> None:
        """Return when `condition` holds, looked at with each page."""
        with anyio.fail_after(within_s):
            while not condition():
                await self._more.wait()


async def append_numbered(log: ElectionLog, election: str, count: int) -> list[bytes]:
    """So many more entries; all bodies of the election then."""
    stream, last = await log.last(election)
    expected = last.sequence if last is not None else 0
    start = int(last.body.rpartition(b" ")[2]) if last is not None else 0
    for number in range(start + 1, start + count + 1):
        expected = await log.append(election, b"%s %d" % (election.encode(), number), stream=stream, expected=expected)
    return [b"%s %d" % (election.encode(), number) for number in range(1, start + count + 1)]
