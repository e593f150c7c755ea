"""A site as a process under the overseer: its connection, store and ports put together, its pulse, its health page."""

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

import anyio
from prometheus_client import CollectorRegistry

from messages.message import Message
from messages.subjects import node_stream, own_filter
from overseer.config import Config, HttpConfig
from overseer.limits import SiteLimits
from overseer.nats.accounts import durable_name
from overseer.nats.connection import Connection
from overseer.nats.election_log import NatsElectionLog
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.nats.site_facts import NatsFacts
from overseer.nats.site_mail import NatsSiteMail
from overseer.nats.sites import site_user
from overseer.nats.topology_board import NatsTopologyBoard
from overseer.node.folder import NodeFolder
from overseer.node.waiting import connected_when_up, outlast_full_disk
from overseer.observe.http import health_routes, serving
from overseer.observe.logs import logger
from overseer.observe.metrics import SiteInstruments, page
from overseer.ports.store import StoreIdentity
from overseer.release import RELEASE
from overseer.rocks.store import RocksStore
from overseer.runner.discovery import mail_metadata
from overseer.sites.layout import Sites
from overseer.sites.mailroom import asked_by_mail
from overseer.sites.site import Site, SitePorts
from overseer.sites.tables import SITE_SCHEMA, table_names
from overseer.supervise.pulse import Pulse, keep_beating
from overseer.supervise.status import Beat
from overseer.supervise.stopping import StopRequest
from overseer.system.clock import SystemClock
from overseer.system.entropy import SystemEntropy
from subsystems.elections.subsystem import Elections

__all__ = ["SiteKill", "serve_site"]

# Called when the log took an append of this site's, before anything follows from it: the crash tests end the process there.
SiteKill = Callable[[], None]


class _Told:
    """What happens at a site, as log lines and counters."""

    def __init__(self, name: str, instruments: SiteInstruments, kill: SiteKill | None) -> None:
        self._log = logger(name)
        self._instruments = instruments
        self._kill = kill
        self.trouble = ""

    def serving(self, key: str, epoch: int) -> None:
        self._log.info("election_serving", election=key, epoch=epoch)

    def released(self, key: str, reason: str) -> None:
        self._log.info("election_released", election=key, reason=reason)

    def report(self, what: str, detail: str) -> None:
        if what == "log_shortened":
            self.trouble = detail
        self._log.warning(what, what=detail)

    def stopped(self, key: str, reason: str) -> None:
        self.trouble = f"election {key} is stopped: {reason}"
        self._instruments.stopped.inc()
        self._log.error("election_stopped", election=key, reason=reason)

    def failed(self, key: str, error: Exception) -> None:
        self._instruments.failed.inc()
        self._log.error("election_failed", election=key, error=f"{type(error).__name__}: {error}", exc_info=error)

    def committed(self, key: str) -> None:
        self._instruments.committed.inc()
        if self._kill is not None:
            self._kill()


async def serve_site(
    name: str,
    sites: Sites,
    elections: Elections,
    config: Config,
    *,
    url: str,
    pulse: Pulse,
    stop: StopRequest,
    http: HttpConfig | None = None,
    kill: SiteKill | None = None,
) -> None:
    """Run the site until it is told to stop. Raises StoreError, WrongTopology, UnusableKey, BusDenied.

    A full disk is waited out: aloud, not ready, and from the store again when there is room.
    """

    async def serve() -> None:
        await _serve(name, sites, elections, config, url=url, pulse=pulse, stop=stop, http=http, kill=kill)

    await outlast_full_disk(site_user(name), serve, pulse, stop)


async def _serve(
    name: str,
    sites: Sites,
    elections: Elections,
    config: Config,
    *,
    url: str,
    pulse: Pulse,
    stop: StopRequest,
    http: HttpConfig | None,
    kill: SiteKill | None,
) -> None:
    """From opening the store to the end."""
    assert sites.topology is not None
    user = site_user(name)
    async with AsyncExitStack() as stack:
        identity = StoreIdentity(node=config.node, subsystem=user, schema=SITE_SCHEMA, release=RELEASE)
        store = RocksStore.open(NodeFolder(config.data_dir).store(user), tables=table_names(elections), identity=identity)
        stack.callback(store.close)
        connection = await stack.enter_async_context(await connected_when_up(config, url, user, pulse, stop))
        registry = CollectorRegistry()
        instruments = SiteInstruments(registry, user)
        told = _Told(user, instruments, kill)
        ports = _ports(connection, store, config.node, name, asked_by_mail(elections.declaration))
        stack.push_async_callback(ports.mail.close)
        limits = SiteLimits(back_after_ms=max(SiteLimits().back_after_ms, sites.lease_ms))
        site = Site(name, elections, ports, sites.topology, limits=limits, admission=config.limits, node=config.node, observer=told)
        place = http or HttpConfig()

        def trouble() -> str:
            return told.trouble or site.trouble

        async def metrics() -> str:
            instruments.active.set(site.active)
            return page(registry)

        def ready() -> tuple[bool, object]:
            return site.progress.ready and not trouble(), {"ready": site.progress.ready, "trouble": trouble()}

        def beat(port: int) -> Beat:
            return Beat(progress=site.progress.handled, ready=site.progress.ready, note=trouble(), http_port=port)

        async with (
            serving(health_routes(metrics=metrics, ready=ready), host=place.host, port=place.port) as port,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(keep_beating, pulse, lambda: beat(port))
            tasks.start_soon(site.run)
            await stop.wait()
            await ports.mail.close()
            tasks.cancel_scope.cancel()


def _ports(connection: Connection, store: RocksStore, node: str, name: str, asked: Iterable[type[Message]]) -> SitePorts:
    user, stream = site_user(name), node_stream(node)
    return SitePorts(
        store=store,
        log=NatsElectionLog(connection, node=node, site=name),
        board=NatsTopologyBoard(connection, node=node),
        mail=NatsSiteMail(connection, node=node, site=name, metadata={"node": node, "site": name}, shown=mail_metadata(asked)),
        facts=NatsFacts(NatsExchange(connection), node=node),
        # A file without a name: RocksDB does not see it.
        spool_folder=store.path,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        line=NatsLine(connection, stream=stream, sender=user, own_filter=own_filter(node, user), durable=durable_name(node, user, stream)),
    )
