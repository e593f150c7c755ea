"""The node's bus: an embedded server or an existing one, with accounts, streams and consumers as declared."""

import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus

from overseer.config import Config, servers_of
from overseer.consensus.chain import FEED_SENDS
from overseer.consensus.identity import IdentityFolder
from overseer.consensus.roster import BadNetwork, Described, read_network
from overseer.graph import filters, net_filters, networked
from overseer.nats.accounts import DeclarationConflict, NodeUsers, accounts_config, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.hardening import greeting_dangers, meet
from overseer.nats.keys import KeyFolder, Seed, UnusableKey
from overseer.nats.provision import Change, Provisioner
from overseer.nats.resources import BusLimits, log_consumers, log_streams, node_consumers, node_streams
from overseer.nats.server import EmbeddedServer, ServerError, ServerSettings
from overseer.nats.tls import TlsFiles, context_for
from overseer.node.folder import NodeFolder
from overseer.observe.logs import logger
from overseer.ports.bus import BusUnavailable
from overseer.sites.layout import ONE_SITE, Sites
from overseer.subsystem import Declaration

__all__ = [
    "FEED",
    "NO_ACCOUNTS",
    "OPERATORS",
    "READERS",
    "RELOAD_SIGNAL",
    "bus_limits",
    "connect_as",
    "connected_as",
    "dangers_at_the_door",
    "describe",
    "embedded_server",
    "heed_new_keys",
    "node_accounts",
    "node_users",
    "own_users",
    "provisioned",
    "provisioner",
    "tls_files",
]

# Why the accounts of a node cannot be made: its keys, its graph, a neighbour's file, the disk.
NO_ACCOUNTS = (UnusableKey, DeclarationConflict, BadNetwork, OSError)

# Who feeds blocks, and people.
FEED = "feed"
OPERATORS = ("operator", FEED)
READERS = ("reader",)


# Tells the overseer that keys were changed: it puts the accounts into force anew.
RELOAD_SIGNAL = signal.SIGUSR1


def bus_limits(config: Config, sites: Sites = ONE_SITE) -> BusLimits:
    return BusLimits(
        node_bytes_max=config.nats.stream_bytes_max,
        node_messages_max=config.nats.stream_messages_max,
        replicas=config.nats.replicas,
        log_bytes_max=config.nats.stream_bytes_max,
        lease_ms=sites.lease_ms,
    )


def node_users(declarations: Sequence[Declaration], sites: Sites = ONE_SITE) -> list[str]:
    """Everybody who has a key on this node. Raises DeclarationConflict."""
    return user_names(declarations, operators=OPERATORS, readers=READERS, sites=sites.names)


def node_accounts(config: Config, declarations: Sequence[Declaration], sites: Sites = ONE_SITE) -> str:
    """The accounts part of a server configuration: those of this node, and of the network's other nodes, which share the bus.

    Makes the keys that are missing. Raises `NO_ACCOUNTS`.
    """
    own = own_users(config, declarations, sites)
    others = [_users_of(each, declarations) for each in read_network(config.network.nodes).values() if each.node != config.node]
    return accounts_config([own, *others])


def own_users(config: Config, declarations: Sequence[Declaration], sites: Sites = ONE_SITE) -> NodeUsers:
    """This node's users; makes the keys that are missing, its identity too where it is part of a network.

    While a key is being rotated, the present and the next one are both taken. Raises UnusableKey, DeclarationConflict.
    """
    names = node_users(declarations, sites)
    if any(map(networked, declarations)):
        IdentityFolder(config.identity_dir).ensure()
    folder = KeyFolder(config.keys_dir)
    return NodeUsers(
        node=config.node,
        declarations=tuple(declarations),
        keys=folder.ensure(names),
        coming=folder.coming(names),
        operators=OPERATORS,
        readers=READERS,
        speaks={FEED: FEED_SENDS},
        sites=sites.names,
    )


def _users_of(described: Described, declarations: Sequence[Declaration]) -> NodeUsers:
    """Another node on the same bus. It runs what this one knows, or less."""
    return NodeUsers(
        node=described.node,
        declarations=tuple(declaration for declaration in declarations if declaration.name in described.subsystems),
        keys=described.keys,
        coming=described.coming,
        operators=OPERATORS,
        readers=READERS,
        speaks={FEED: FEED_SENDS},
        sites=described.sites,
    )


def describe(config: Config, declarations: Sequence[Declaration], sites: Sites = ONE_SITE) -> Described:
    """What this node tells the others of itself; makes what is missing. Raises UnusableKey, DeclarationConflict."""
    names = node_users(declarations, sites)
    folder = KeyFolder(config.keys_dir)
    identity = IdentityFolder(config.identity_dir).ensure()
    return Described(
        node=config.node,
        signing=identity.public.hex(),
        box=identity.box_public.hex(),
        subsystems=tuple(declaration.name for declaration in declarations),
        sites=sites.names,
        keys=folder.ensure(names),
        coming=folder.coming(names),
    )


def tls_files(config: Config) -> TlsFiles | None:
    """The certificates of the configuration, if there are any."""
    tls = config.nats.tls
    return None if tls.ca is None else TlsFiles(authority=tls.ca, certificate=tls.cert, key=tls.key, verify=tls.verify)


def embedded_server(config: Config, declarations: Sequence[Declaration], sites: Sites = ONE_SITE) -> EmbeddedServer:
    """The node's own server, not started yet."""
    limits = bus_limits(config, sites)
    store_bytes = limits.store_bytes + (limits.log_store_bytes if sites.names else 0)
    settings = ServerSettings(
        name=f"overseer-{config.node}",
        host=config.nats.host,
        port=config.nats.port,
        tls=tls_files(config),
        insecure=config.nats.insecure,
        # A little more than the streams may hold, for what the server keeps beside them.
        store_bytes_max=store_bytes + store_bytes // 8,
    )
    # What cannot be made is said now; at each start of the server the keys are read anew.
    node_accounts(config, declarations, sites)
    return EmbeddedServer(NodeFolder(config.data_dir).nats, lambda: node_accounts(config, declarations, sites), settings=settings)


async def heed_new_keys(
    server: EmbeddedServer | None,
    config: Config,
    declarations: Sequence[Declaration],
    sites: Sites = ONE_SITE,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Reload the server's accounts whenever RELOAD_SIGNAL comes, for ever (`overseer keys rotate` sends it)."""
    log = logger("overseer")
    with anyio.open_signal_receiver(RELOAD_SIGNAL) as signals:
        task_status.started()
        async for _ in signals:
            if server is None:
                log.warning("accounts_not_reloaded", error="not our server: give it the output of `overseer provision --accounts`")
                continue
            try:
                await server.reload(node_accounts(config, declarations, sites))
                log.info("accounts_reloaded")
            except (ServerError, *NO_ACCOUNTS) as error:
                # The accounts that were in force stay; a server that is just being restarted reads the keys anew.
                log.error("accounts_not_reloaded", error=str(error))


async def connect_as(config: Config, url: str, user: str, *, wait_ms: int, seed: Seed | None = None) -> Connection:
    """Connect as one of the node's users. Its key is read at every session: it may have been rotated meanwhile.

    With `seed` that key is shown instead, whatever the user's file holds.

    Raises UnusableKey, UnusableCertificate, BusUnavailable, BusDenied.
    """
    keys = KeyFolder(config.keys_dir)
    if seed is None:
        # Said by name before anything is tried.
        keys.seed(user)
    servers = servers_of(url)
    return await connect(
        servers,
        name=f"{config.node}/{user}",
        inbox_prefix=inbox_prefix(user, config.node),
        nkey_seed=seed.reveal() if seed is not None else lambda: keys.seed(user).reveal(),
        tls=context_for(servers, tls_files(config)),
        connect_wait_ms=wait_ms,
    )


@asynccontextmanager
async def connected_as(config: Config, url: str, user: str, *, wait_ms: int = 10_000) -> AsyncGenerator[Connection, None]:
    """A connection as one of the node's users. Raises UnusableKey, UnusableCertificate, BusUnavailable, BusDenied."""
    async with await connect_as(config, url, user, wait_ms=wait_ms) as connection:
        yield connection


def provisioner(config: Config, connection: Connection, declarations: Sequence[Declaration], sites: Sites = ONE_SITE) -> Provisioner:
    """What makes the bus what the declarations want; `connection` is the provisioner's."""
    limits = bus_limits(config, sites)
    streams = node_streams(config.node, limits)
    consumers = node_consumers(config.node, [*declarations, *sites.declarations], filters, net_filters)
    if sites.names:
        streams += log_streams(config.node, limits)
        consumers += log_consumers(config.node, sites.names)
    return Provisioner(connection, streams, consumers)


async def provisioned(
    config: Config,
    connection: Connection,
    declarations: Sequence[Declaration],
    server: EmbeddedServer | None,
    sites: Sites = ONE_SITE,
    *,
    delete: bool = False,
) -> list[Change]:
    """Provision and verify; returns what was changed. Consumers that nobody declares go with `delete`.

    Raises DangerousSettings, ApiError, BusUnavailable.
    """
    doer = provisioner(config, connection, declarations, sites)
    done = await doer.apply(delete=delete)
    varz = await server.monitor("varz") if server is not None else None
    await doer.verify(varz, also=await dangers_at_the_door(config, server.url if server is not None else config.nats.url))
    return done


async def dangers_at_the_door(config: Config, url: str) -> list[str]:
    """What a stranger finds at each of the servers. Raises BusUnavailable when there is none that answers."""
    servers = servers_of(url)
    tls = context_for(servers, tls_files(config))
    dangers: list[str] = []
    failed: list[str] = []
    for each in servers:
        try:
            dangers += greeting_dangers(await meet(each, tls=tls), each, insecure=config.nats.insecure)
        except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            # One of a cluster may be away.
            failed.append(f"{each}: {error or type(error).__name__}")
    if servers and len(failed) == len(servers):
        raise BusUnavailable("; ".join(failed))
    return dangers
