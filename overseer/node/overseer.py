"""The overseer's own work: bring up the bus, start and watch the subsystems, feed, trim, tell, and end in order."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import anyio
import msgspec
from prometheus_client import CollectorRegistry

from messages.codec import encode
from messages.signals import Conclude
from messages.subjects import build, headers_of, node_stream
from overseer.nats.accounts import OVERSEER, PROVISIONER, durable_name
from overseer.nats.connection import Connection
from overseer.nats.private_files import write_private
from overseer.nats.server import EmbeddedServer
from overseer.nats.sites import site_user
from overseer.node.bus import FEED, connected_as, embedded_server, heed_new_keys, provisioned
from overseer.node.catalogue import CATALOGUE, build_elections, build_sites, build_subsystems
from overseer.node.domains import domains_of
from overseer.node.elsewhere import ElsewhereChild, looking_at
from overseer.node.feeding import feed
from overseer.node.figures import DomainCollector, DomainWatch
from overseer.node.folder import NodeFolder, RunInfo
from overseer.node.hosting import UNMENDABLE, serve_subsystem
from overseer.node.housekeeping import keep_room
from overseer.node.keeping import keep_server
from overseer.node.lagging import LagWatch
from overseer.node.writing import SERVER, keep_writing
from overseer.observe.export import require_tracing
from overseer.observe.http import fetch, health_routes, serving
from overseer.observe.logs import logger
from overseer.observe.metrics import SupervisionCollector, merged_page, page
from overseer.ports.bus import BusError, Outgoing
from overseer.settings import Loaded, settings_toml
from overseer.sites.layout import check_stores
from overseer.sites.process import serve_site
from overseer.sites.watching import WrongTopology
from overseer.subsystem import Subsystem
from overseer.supervise.lag import Lag, LagState
from overseer.supervise.process import ChildSpec
from overseer.supervise.pulse import Pulse
from overseer.supervise.run import Child
from overseer.supervise.status import ChildState
from overseer.supervise.stopping import StopRequest
from overseer.supervise.supervisor import Supervisor
from overseer.supervise.task import TaskChild
from overseer.system.entropy import SystemEntropy

__all__ = ["Node"]

CHILD_METRICS_MS = 1_000


class Node:
    """One run of a node. `started` is called once, when everything is up."""

    def __init__(self, loaded: Loaded, *, started: Callable[[RunInfo], None] | None = None) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._sites = build_sites(loaded)
        self._folder = NodeFolder(loaded.config.data_dir)
        self._run_id = SystemEntropy().draw(8).hex()
        self._started = started
        self._subsystems = build_subsystems(loaded)
        self._declarations = [s.declaration for s in self._subsystems.values()]
        self._server: EmbeddedServer | None = None
        # What keeps the server from writing, or "".
        self._server_trouble = ""
        # What the network's chain waits for, or "".
        self._chain_waits = ""
        self._log = logger(OVERSEER)
        self.supervisor: Supervisor | None = None

    @property
    def _names(self) -> tuple[str, ...]:
        """All children: the subsystems, and the sites of the elections."""
        return (*self._subsystems, *self._sites.users)

    @property
    def run_id(self) -> str:
        """Random; in every log line of this run."""
        return self._run_id

    async def run(self, stop: StopRequest) -> None:
        """Run until `stop`, or until a subsystem is given up. Always ends.

        Raises GaveUp, FolderInUse, ServerError, DangerousSettings, UnusableKey, BusError.
        """
        require_tracing(self._config.trace)
        with self._folder.locked():
            check_stores(self._folder.path / "stores", self._sites)
            async with AsyncExitStack() as stack:
                url = await self._bus(stack)
                manage = await stack.enter_async_context(connected_as(self._config, url, PROVISIONER))
                for change in await provisioned(self._config, manage, self._declarations, self._server, self._sites):
                    self._log.info("provisioned", change=str(change))
                announce = await stack.enter_async_context(connected_as(self._config, url, OVERSEER))
                await self._supervise(url, manage, announce, stop)

    async def _bus(self, stack: AsyncExitStack) -> str:
        if self._config.nats.url:
            return self._config.nats.url
        self._server = embedded_server(self._config, self._declarations, self._sites)
        await stack.enter_async_context(self._server)
        self._log.info("nats_started", url=self._server.url, server_pid=self._server.pid)
        return self._server.url

    async def _supervise(self, url: str, manage: Connection, announce: Connection, stop: StopRequest) -> None:
        async def conclude(reason: str) -> None:
            self._log.info("concluding", reason=reason)
            await self._announce_end(announce)

        # Subsystems that others run do not end with us.
        ending = None if self._config.external_subsystems else conclude
        self.supervisor = Supervisor(self._children(url, manage), self._config.supervise, stop=stop, conclude=ending)
        registry = CollectorRegistry()
        self._lags = LagWatch(manage, self._config.node, self._names, changed=self._say_lag)
        registry.register(SupervisionCollector(self.supervisor.statuses, node=self._config.node, lags=lambda: self._lags.lags))
        domains = DomainWatch(domains_of(self._config.subsystems, self._sites.names), self._config, url, self._sites.names)
        registry.register(DomainCollector(domains.domains, lambda: domains.looks, node=self._config.node))
        routes = health_routes(metrics=lambda: self._metrics(registry), ready=self._ready)
        async with serving(routes, host=self._config.http.host, port=self._config.http.port) as port, anyio.create_task_group() as tasks:
            info = self._info(url, port)
            # Before others can find us: unheeded, the signal would end us.
            await tasks.start(heed_new_keys, self._server, self._config, self._declarations, self._sites)
            write_private(self._folder.settings_file, settings_toml(self._loaded))
            self._folder.tell(info)
            tasks.start_soon(self._tell_when_ready, info)
            tasks.start_soon(keep_room, self._config, manage)
            tasks.start_soon(self._lags.run)
            tasks.start_soon(domains.run)
            if self._server is not None:
                tasks.start_soon(keep_server, self._server, self._config.supervise, self._log, stop)
                tasks.start_soon(keep_writing, self._server, self._hear_server)
            if self._config.feed.source != "none":
                tasks.start_soon(feed, self._loaded, url, stop, self._hear_feed)
            await self.supervisor.run()
            tasks.cancel_scope.cancel()

    def _info(self, url: str, port: int) -> RunInfo:
        return RunInfo(
            node=self._config.node,
            run_id=self._run_id,
            pid=os.getpid(),
            url=url,
            http_port=port,
            monitor_url=self._server.monitor_url if self._server is not None else "",
            started_ms=int(time.time() * 1000),
            sites=self._sites.names,
            feed_ms=self._config.feed.interval_ms if self._config.feed.source in ("dev", "net", "substrate") else 0,
            networked=self._config.network.nodes is not None,
        )

    def _children(self, url: str, manage: Connection) -> Sequence[Child]:
        if self._config.external_subsystems:
            return [self._elsewhere(name, manage) for name in self._names]
        if self._config.in_process:
            tasks = [self._task(subsystem, url) for subsystem in self._subsystems.values()]
            return [*tasks, *(self._site_task(site, url) for site in self._sites.names)]
        env = {**self._loaded.environment(), "OVERSEER_RUN_ID": self._run_id, "OVERSEER_NATS_URL": url}
        if self._config.log.format == "auto":
            # They write into a pipe of ours; what they write is read where we write.
            env["OVERSEER_LOG_FORMAT"] = "human" if sys.stderr is not None and sys.stderr.isatty() else "json"  # pyright: ignore[reportUnnecessaryComparison]
        return [ChildSpec(name=name, argv=(sys.executable, "-m", "overseer.cli.entry", "subsystem", name), env=env) for name in self._names]

    def _task(self, subsystem: Subsystem, url: str) -> TaskChild:
        name = subsystem.declaration.name
        chore = CATALOGUE[name].chore(subsystem)

        async def serve(pulse: Pulse, stop: StopRequest) -> None:
            await serve_subsystem(subsystem, self._config, url=url, run_id=self._run_id, pulse=pulse, stop=stop, chore=chore)

        return TaskChild(name=name, serve=serve, final=UNMENDABLE)

    def _site_task(self, site: str, url: str) -> TaskChild:
        async def serve(pulse: Pulse, stop: StopRequest) -> None:
            elections = build_elections(self._loaded)
            await serve_site(site, self._sites, elections, self._config, url=url, pulse=pulse, stop=stop)

        return TaskChild(name=site_user(site), serve=serve, final=(*UNMENDABLE, WrongTopology))

    def _elsewhere(self, name: str, manage: Connection) -> ElsewhereChild:
        stream = node_stream(self._config.node)
        durable = durable_name(self._config.node, name, stream)
        return ElsewhereChild(name=name, look=looking_at(manage, stream, durable, clock=time.monotonic))

    async def _announce_end(self, connection: Connection) -> None:
        """The signal `conclude` of this run: what is before it in the stream is still handled."""
        message = Conclude(run_id=self._run_id)
        out = Outgoing(
            build(self._config.node, OVERSEER, message.spec),
            headers_of(message.spec),
            encode(message),
        )
        try:
            await connection.request(out.subject, out.body, headers=out.headers, timeout_ms=self._config.supervise.conclude_ms)
        except BusError as error:
            self._log.warning("conclude_not_sent", error=str(error))

    # -------------------------------------------------------------------------------------------- what goes on beside

    async def _tell_when_ready(self, info: RunInfo) -> None:
        assert self.supervisor is not None
        async for statuses in self.supervisor.changes():
            if all(status.state is ChildState.READY for status in statuses):
                self._log.info("ready", url=info.url, http_port=info.http_port, subsystems=[s.name for s in statuses])
                if self._started is not None:
                    self._started(info)
                return

    def _say_lag(self, name: str, lag: Lag) -> None:
        if lag.state is LagState.LEVEL:
            self._log.info("keeps_up_again", child=name)
        else:
            self._log.warning("falls_behind", child=name, what=lag.text())

    def _hear_server(self, trouble: str) -> None:
        self._server_trouble = trouble

    def _hear_feed(self, waits_for: str) -> None:
        self._chain_waits = waits_for

    def _ready(self) -> tuple[bool, object]:
        statuses = self.supervisor.statuses() if self.supervisor is not None else []
        lags = {s.name: self._lags.lags.get(s.name, Lag()) for s in statuses}
        shown: dict[str, dict[str, object]] = {
            s.name: {
                "state": s.state.value,
                "restarts": s.restarts,
                "note": s.beat.note if s.beat else "",
                "last_failure": s.last_failure.cause if s.last_failure else "",
                "lag": msgspec.to_builtins(lags[s.name]),
                "pid": s.pid,
            }
            for s in statuses
        }
        # A note is trouble: the bus is away, the outbox cannot drain. One that is stuck may be unable to say so.
        well = all(s.state is ChildState.READY and not shown[s.name]["note"] and lags[s.name].state is not LagState.STUCK for s in statuses)
        if self._server_trouble:
            shown[SERVER] = {"state": "cannot_write", "restarts": 0, "note": self._server_trouble}
        if self._chain_waits:
            # Others are missing: this node itself is ready for whoever asks it.
            shown[FEED] = {"state": "waits", "restarts": 0, "note": self._chain_waits}
        return well and bool(statuses) and not self._server_trouble, shown

    async def _metrics(self, registry: CollectorRegistry) -> str:
        """Ours and every child's, as one page."""
        pages = [page(registry)]
        for status in self.supervisor.statuses() if self.supervisor is not None else []:
            if status.beat is not None and status.beat.http_port:
                try:
                    pages.append((await fetch(status.beat.http_port, "/metrics", timeout_ms=CHILD_METRICS_MS)).body.decode())
                except OSError:
                    continue
        return merged_page(pages)
