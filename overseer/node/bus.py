"""The node's bus: an embedded server or an existing one, with accounts, streams and consumers as declared."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from overseer.config import Config
from overseer.graph import filters, net_filters
from overseer.nats.accounts import NodeUsers, accounts_config, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.keys import KeyFolder
from overseer.nats.provision import Change, Provisioner
from overseer.nats.resources import BusLimits, node_consumers, node_streams
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.node.folder import NodeFolder
from overseer.subsystem import Declaration

__all__ = ["FEED", "OPERATORS", "READERS", "bus_limits", "connected_as", "embedded_server", "node_accounts", "provisioned", "provisioner"]

# Who feeds blocks, and people.
FEED = "feed"
OPERATORS = ("operator", FEED)
READERS = ("reader",)


def bus_limits(config: Config) -> BusLimits:
    return BusLimits(
        node_bytes_max=config.nats.stream_bytes_max, node_messages_max=config.nats.stream_messages_max, replicas=config.nats.replicas
    )


def node_accounts(config: Config, declarations: Sequence[Declaration]) -> str:
    """The accounts part of a server configuration; makes the keys that are missing. Raises UnusableKey, DeclarationConflict."""
    names = user_names(declarations, operators=OPERATORS, readers=READERS)
    keys = KeyFolder(config.keys_dir).ensure(names)
    users = NodeUsers(node=config.node, declarations=tuple(declarations), keys=keys, operators=OPERATORS, readers=READERS)
    return accounts_config([users])


def embedded_server(config: Config, declarations: Sequence[Declaration]) -> EmbeddedServer:
    """The node's own server, not started yet."""
    limits = bus_limits(config)
    settings = ServerSettings(
        name=f"overseer-{config.node}",
        host=config.nats.host,
        port=config.nats.port,
        # A little more than the streams may hold, for what the server keeps beside them.
        store_bytes_max=limits.store_bytes + limits.store_bytes // 8,
    )
    return EmbeddedServer(NodeFolder(config.data_dir).nats, node_accounts(config, declarations), settings=settings)


@asynccontextmanager
async def connected_as(config: Config, url: str, user: str, *, wait_ms: int = 10_000) -> AsyncGenerator[Connection, None]:
    """A connection as one of the node's users. Raises UnusableKey, BusUnavailable, BusDenied."""
    seed = KeyFolder(config.keys_dir).seed(user).reveal()
    async with await connect(
        url.split(","), name=f"{config.node}/{user}", inbox_prefix=inbox_prefix(user), nkey_seed=seed, connect_wait_ms=wait_ms
    ) as connection:
        yield connection


def provisioner(config: Config, connection: Connection, declarations: Sequence[Declaration]) -> Provisioner:
    """What makes the bus what the declarations want; `connection` is the provisioner's."""
    limits = bus_limits(config)
    return Provisioner(connection, node_streams(config.node, limits), node_consumers(config.node, declarations, filters, net_filters))


async def provisioned(
    config: Config, connection: Connection, declarations: Sequence[Declaration], server: EmbeddedServer | None
) -> list[Change]:
    """Provision and verify; returns what was changed. Raises DangerousSettings, ApiError."""
    doer = provisioner(config, connection, declarations)
    done = await doer.apply()
    await doer.verify(await server.monitor("varz") if server is not None else None)
    return done
