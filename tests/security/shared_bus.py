"""One bus shared by two nodes, with all subsystems of the catalogue and one that is declared by this test alone."""

from collections.abc import Mapping
from pathlib import Path

from messages.chain_api import BlockImported
from messages.signals import BlockFinalized, BlocksBlacklisted
from messages.votes_db import Dispute
from overseer.consensus.chain import FEED_SENDS
from overseer.graph import filters, net_filters
from overseer.nats.accounts import NodeUsers, accounts_config, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.keys import KeyFolder, Seed
from overseer.nats.provision import Provisioner
from overseer.nats.resources import BusLimits, log_consumers, log_streams, node_consumers, node_streams
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.nats.sites import site_user
from overseer.node.catalogue import SECTIONS, build_subsystems
from overseer.settings import load_config
from overseer.sites.declaration import declaration
from overseer.subsystem import Declaration
from tests.security.raw_client import RawClient

__all__ = ["DECLARATIONS", "NODE", "OPERATORS", "OTHER_NODE", "READERS", "SITES", "SharedBus"]

NODE, OTHER_NODE = "alpha", "beta"
OPERATORS, READERS = ("operator", "feed"), ("reader",)
# Of replicated elections, on each node: beside the subsystem of that name, which a node has where it has no sites.
SITES = ("a", "b")
LIMITS = BusLimits(node_bytes_max=32 * 1024**2, net_bytes_max=8 * 1024**2, pov_bytes_max=8 * 1024**2, log_bytes_max=8 * 1024**2)
SETTINGS = ServerSettings(store_bytes_max=2 * (LIMITS.store_bytes + LIMITS.log_store_bytes))

# A subsystem that comes later: nothing about accounts may depend on which subsystems there are.
LATER = Declaration(
    name="peers",
    description="Listens",
    consumes=(BlockImported, BlockFinalized, BlocksBlacklisted, Dispute),
    sends=(),
    answers=(),
    events=(),
    tables=(),
)
DECLARATIONS: tuple[Declaration, ...] = (
    *(s.declaration for s in build_subsystems(load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)).values()),
    LATER,
)


class SharedBus:
    """The server with the accounts of both nodes, their keys, and connections on demand."""

    def __init__(self, folder: Path) -> None:
        self.keys = {node: KeyFolder(folder / "keys" / node) for node in (NODE, OTHER_NODE)}
        names = user_names(DECLARATIONS, operators=OPERATORS, readers=READERS, sites=SITES)
        self.users = [(node, name) for node in (NODE, OTHER_NODE) for name in names]
        nodes = [
            NodeUsers(
                node=node,
                declarations=DECLARATIONS,
                keys=keys.ensure(names),
                operators=OPERATORS,
                readers=READERS,
                speaks={"feed": FEED_SENDS},
                sites=SITES,
            )
            for node, keys in self.keys.items()
        ]
        self.server = EmbeddedServer(folder / "nats", accounts_config(nodes), settings=SETTINGS)
        self._raw: list[RawClient] = []
        self._connections: list[Connection] = []

    async def provision(self) -> None:
        for node in (NODE, OTHER_NODE):
            connection = await self.connection(node, "provisioner")
            streams = [*node_streams(node, LIMITS), *log_streams(node, LIMITS)]
            consumers = node_consumers(node, [*DECLARATIONS, *map(declaration, map(site_user, SITES))], filters, net_filters)
            doer = Provisioner(connection, streams, [*consumers, *log_consumers(node, SITES)])
            await doer.apply()
            await doer.verify(await self.server.monitor("varz"))

    def seed(self, node: str, user: str) -> Seed:
        return self.keys[node].seed(user)

    async def raw(self, node: str, user: str) -> RawClient:
        client = await RawClient.connect(self.server.url, self.seed(node, user), f"{inbox_prefix(user, node)}.raw")
        self._raw.append(client)
        return client

    async def connection(self, node: str, user: str) -> Connection:
        """As the system itself connects."""
        made = await connect(
            self.server.url, name=f"{node}/{user}", inbox_prefix=inbox_prefix(user, node), nkey_seed=self.seed(node, user).reveal()
        )
        self._connections.append(made)
        return made

    async def contents(self) -> Mapping[str, int]:
        """How many messages all streams hold under each subject."""
        found: dict[str, int] = {}
        for node in (NODE, OTHER_NODE):
            reader = await self.raw(node, "reader")
            for stream in (f"OVERSEER_{node}", f"OBJ_overseer_{node}_povs", "OVERSEER_NET"):
                found |= (await reader.ask(f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": ">"}))["state"].get("subjects") or {}
        return found

    async def close(self) -> None:
        for client in self._raw:
            await client.close()
        for connection in self._connections:
            await connection.close()
