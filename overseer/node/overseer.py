"""The overseer's own work: bring up the bus, start and watch the subsystems, feed, trim, tell, and end in order."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import anyio
from prometheus_client import CollectorRegistry

from messages.codec import encode
from messages.signals import Conclude
from messages.subjects import CONTENT_CBOR, HEADER_CONTENT_TYPE, HEADER_SCHEMA, build, node_stream
from overseer.nats.accounts import OVERSEER, PROVISIONER, durable_name
from overseer.nats.connection import Connection
from overseer.nats.provision import ApiError
from overseer.nats.server import EmbeddedServer, ServerError
from overseer.nats.trimming import trim
from overseer.node.bus import connected_as, embedded_server, provisioned
from overseer.node.catalogue import build_subsystems
from overseer.node.elsewhere import ElsewhereChild, looking_at
from overseer.node.feeding import feed
from overseer.node.folder import NodeFolder, RunInfo
from overseer.node.hosting import serve_subsystem
from overseer.observe.http import fetch, health_routes, serving
from overseer.observe.logs import logger
from overseer.observe.metrics import SupervisionCollector, merged_page, page
from overseer.ports.bus import BusError, Outgoing
from overseer.settings import Loaded
from overseer.subsystem import Subsystem
from overseer.supervise.process import ChildSpec
from overseer.supervise.pulse import Pulse
from overseer.supervise.run import Child
from overseer.supervise.status import ChildState
from overseer.supervise.stopping import StopRequest
from overseer.supervise.supervisor import Supervisor
from overseer.supervise.task import TaskChild
from overseer.system.entropy import SystemEntropy

__all__ = ["Node"]

# How the server is looked after.
SERVER_RESTART_MS = 200
SERVER_RESTARTS_MAX = 20
SERVER_RESTARTS_WINDOW_MS = 120_000
CHILD_METRICS_MS = 1_000


class Node:
    """One run of a node. `started` is called once, when everything is up."""

    def __init__(self, loaded: Loaded, *, started: Callable[[RunInfo], None] | None = None) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._folder = NodeFolder(loaded.config.data_dir)
        self._run_id = SystemEntropy().draw(8).hex()
        self._started = started
        self._subsystems = build_subsystems(loaded)
        self._declarations = [s.declaration for s in self._subsystems.values()]
        self._server: EmbeddedServer | None = None
        self._log = logger(OVERSEER)
        self.supervisor: Supervisor | None = None

    @property
    def run_id(self) -> str:
        """Random; in every log line of this run."""
        return self._run_id

    async def run(self, stop: StopRequest) -> None:
        """Run until `stop`, or until a subsystem is given up. Always ends.

        Raises GaveUp, FolderInUse, ServerError, DangerousSettings, UnusableKey, BusError.
        """
        with self._folder.locked():
            async with AsyncExitStack() as stack:
                url = await self._bus(stack)
                manage = await stack.enter_async_context(connected_as(self._config, url, PROVISIONER))
                for change in await provisioned(self._config, manage, self._declarations, self._server):
                    self._log.info("provisioned", change=str(change))
                announce = await stack.enter_async_context(connected_as(self._config, url, OVERSEER))
                await self._supervise(url, manage, announce, stop)

    async def _bus(self, stack: AsyncExitStack) -> str:
        if self._config.nats.url:
            return self._config.nats.url
        self._server = embedded_server(self._config, self._declarations)
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
        registry.register(SupervisionCollector(self.supervisor.statuses, node=self._config.node))
        routes = health_routes(metrics=lambda: self._metrics(registry), ready=self._ready)
        async with serving(routes, host=self._config.http.host, port=self._config.http.port) as port, anyio.create_task_group() as tasks:
            info = self._info(url, port)
            self._folder.tell(info)
            tasks.start_soon(self._tell_when_ready, info)
            tasks.start_soon(self._keep_trimmed, manage)
            if self._server is not None:
                tasks.start_soon(self._keep_server, self._server, stop)
            if self._config.feed.source != "none":
                tasks.start_soon(feed, self._loaded, url, stop)
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
        )

    def _children(self, url: str, manage: Connection) -> Sequence[Child]:
        if self._config.external_subsystems:
            return [self._elsewhere(name, manage) for name in self._subsystems]
        if self._config.in_process:
            return [self._task(subsystem, url) for subsystem in self._subsystems.values()]
        env = {**self._loaded.environment(), "OVERSEER_RUN_ID": self._run_id, "OVERSEER_NATS_URL": url}
        if self._config.log.format == "auto":
            # They write into a pipe of ours; what they write is read where we write.
            env["OVERSEER_LOG_FORMAT"] = "human" if sys.stderr is not None and sys.stderr.isatty() else "json"  # pyright: ignore[reportUnnecessaryComparison]
        return [
            ChildSpec(name=name, argv=(sys.executable, "-m", "overseer.cli.entry", "subsystem", name), env=env) for name in self._subsystems
        ]

    def _task(self, subsystem: Subsystem, url: str) -> TaskChild:
        async def serve(pulse: Pulse, stop: StopRequest) -> None:
            await serve_subsystem(subsystem, self._config, url=url, run_id=self._run_id, pulse=pulse, stop=stop)

        return TaskChild(name=subsystem.declaration.name, serve=serve)

    def _elsewhere(self, name: str, manage: Connection) -> ElsewhereChild:
        stream = node_stream(self._config.node)
        durable = durable_name(self._config.node, name, stream)
        return ElsewhereChild(name=name, look=looking_at(manage, stream, durable, clock=time.monotonic))

    async def _announce_end(self, connection: Connection) -> None:
        """The signal `conclude` of this run: what is before it in the stream is still handled."""
        message = Conclude(run_id=self._run_id)
        out = Outgoing(
            build(self._config.node, OVERSEER, message.spec),
            {HEADER_SCHEMA: str(message.spec.version), HEADER_CONTENT_TYPE: CONTENT_CBOR},
            encode(message),
        )
        try:
            await connection.request(out.subject, out.body, headers=out.headers, timeout_ms=self._config.supervise.conclude_ms)
        except BusError as error:
            self._log.warning("conclude_not_sent", error=str(error))

    # -------------------------------------------------------------------------------------------- what goes on beside

    async def _keep_server(self, server: EmbeddedServer, stop: StopRequest) -> None:
        """Start the server again when it ends by itself; give the node up when it cannot be kept."""
        failures: list[float] = []
        while True:
            code = await server.exited()
            if stop.requested:
                return
            now = time.monotonic()
            failures = [at for at in failures if at > now - SERVER_RESTARTS_WINDOW_MS / 1000] + [now]
            self._log.error("nats_ended", exit_code=code, restarts=len(failures))
            if len(failures) > SERVER_RESTARTS_MAX:
                raise ServerError(
                    f"nats-server ended {len(failures)} times within {SERVER_RESTARTS_WINDOW_MS // 1000} s, last with code {code}"
                )
            await anyio.sleep(SERVER_RESTART_MS / 1000)
            await server.restart()
            self._log.info("nats_started", url=server.url, server_pid=server.pid)

    async def _keep_trimmed(self, manage: Connection) -> None:
        while True:
            await anyio.sleep(self._config.nats.trim_ms / 1000)
            try:
                trimmed = await trim(manage, node_stream(self._config.node), keep=self._config.nats.history_messages)
            except (BusError, ApiError) as error:
                self._log.warning("not_trimmed", error=str(error))
                continue
            if trimmed.messages:
                self._log.info("trimmed", messages=trimmed.messages, below=trimmed.below, held_by=trimmed.held_by)

    async def _tell_when_ready(self, info: RunInfo) -> None:
        assert self.supervisor is not None
        async for statuses in self.supervisor.changes():
            if all(status.state is ChildState.READY for status in statuses):
                self._log.info("ready", url=info.url, http_port=info.http_port, subsystems=[s.name for s in statuses])
                if self._started is not None:
                    self._started(info)
                return

    def _ready(self) -> tuple[bool, object]:
        statuses = self.supervisor.statuses() if self.supervisor is not None else []
        shown = {
            s.name: {
                "state": s.state.value,
                "restarts": s.restarts,
                "note": s.beat.note if s.beat else "",
                "last_failure": s.last_failure.cause if s.last_failure else "",
            }
            for s in statuses
        }
        return all(s.state is ChildState.READY for s in statuses) and bool(statuses), shown

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
