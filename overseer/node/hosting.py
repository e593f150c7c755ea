"""One subsystem at work: its connection, store, verifier and runner put together; in a process of its own or as a task."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress

import anyio
from prometheus_client import CollectorRegistry

from messages.subjects import net_filter, net_stream, node_stream, own_filter
from overseer.checks import InlineVerifier, PoolVerifier, Verifier
from overseer.config import Config, HttpConfig
from overseer.consensus.roster import BadNetwork
from overseer.consensus.trust import NodeTrust
from overseer.graph import net_filters, networked
from overseer.nats.accounts import durable_name
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.nats.keys import KeyFolder, UnusableKey
from overseer.nats.line import NatsLine
from overseer.nats.tls import UnusableCertificate
from overseer.node.folder import NodeFolder
from overseer.node.waiting import connected_when_up, outlast_full_disk
from overseer.observe.export import TracingNotInstalled, exported
from overseer.observe.http import health_routes, serving
from overseer.observe.logs import Waits, logger
from overseer.observe.metrics import RunnerInstruments, RunnerMetrics, page
from overseer.ports.bus import BusDenied, BusError
from overseer.ports.store import StoreCorrupted, StoreIdentity, StoreLocked, WrongStore
from overseer.release import RELEASE
from overseer.rocks.store import RocksStore
from overseer.runner.errors import BadDeclaration, EvolveFailed, JournalBroken, SecondCopy
from overseer.runner.observer import Observer, Step
from overseer.runner.runner import Ports, Runner
from overseer.runner.schema import SYSTEM_TABLES
from overseer.subsystem import Declaration, Subsystem
from overseer.supervise.pulse import Pulse, keep_beating
from overseer.supervise.status import Beat
from overseer.supervise.stopping import StopRequest
from overseer.system.clock import SystemClock
from overseer.system.entropy import SystemEntropy
from overseer.tables import View

__all__ = ["STORE_SCHEMA", "UNMENDABLE", "keep_doing", "open_store", "serve_subsystem", "store_identity", "table_names"]

# Raise when the system tables change in a way that older code cannot read.
STORE_SCHEMA = 1
# What a restart cannot mend: the supervisor gives up at once and names it.
UNMENDABLE = (
    SecondCopy,
    EvolveFailed,
    JournalBroken,
    BadDeclaration,
    StoreLocked,
    StoreCorrupted,
    WrongStore,
    UnusableKey,
    BadNetwork,
    UnusableCertificate,
    BusDenied,
    TracingNotInstalled,
)
# How long a metrics page waits for the bus to tell the lag: well below what a scraper, or the overseer, waits for the page.
LAG_MS = 500
# How often what is to be done beside a subsystem is done.
CHORE_MS = 10_000


def table_names(declaration: Declaration) -> list[str]:
    """All tables of a subsystem's store: the runner's and its own."""
    return [table.name for table in (*SYSTEM_TABLES, *declaration.tables)]


def store_identity(node: str, subsystem: str) -> StoreIdentity:
    """Of a subsystem's store, as this release makes and opens it."""
    return StoreIdentity(node=node, subsystem=subsystem, schema=STORE_SCHEMA, release=RELEASE)


def open_store(folder: NodeFolder, node: str, declaration: Declaration) -> RocksStore:
    """Raises StoreError (StoreLocked, WrongStore, StoreCorrupted)."""
    identity = store_identity(node, declaration.name)
    return RocksStore.open(folder.store(declaration.name), tables=table_names(declaration), identity=identity)


def lines_of(connection: Connection, node: str, declaration: Declaration) -> dict[str, NatsLine]:
    """The streams this subsystem takes part in."""
    name = declaration.name
    lines: dict[str, NatsLine] = {
        "node": NatsLine(
            connection,
            stream=node_stream(node),
            sender=name,
            own_filter=own_filter(node, name),
            durable=durable_name(node, name, node_stream(node)),
        )
    }
    if networked(declaration):
        durable = durable_name(node, name, net_stream()) if net_filters(declaration) else ""
        lines["net"] = NatsLine(connection, stream=net_stream(), sender=name, own_filter=net_filter(node, name), durable=durable)
    return lines


async def serve_subsystem(
    subsystem: Subsystem,
    config: Config,
    *,
    url: str,
    run_id: str,
    pulse: Pulse,
    stop: StopRequest,
    http: HttpConfig | None = None,
    kill_at: Callable[[Step], None] | None = None,
    chore: Callable[[View], object] | None = None,
) -> None:
    """Run `subsystem` until it is told to stop, or concluded. Raises StoreError, RunnerFault, UnusableKey, BusDenied.

    `chore` is done now and then, with the committed tables.
    A full disk is waited out, however long that takes: aloud, not ready, and from the store again when there is room.
    """

    async def serve() -> None:
        await _serve(subsystem, config, url=url, run_id=run_id, pulse=pulse, stop=stop, http=http, kill_at=kill_at, chore=chore)

    await outlast_full_disk(subsystem.declaration.name, serve, pulse, stop)


async def _serve(
    subsystem: Subsystem,
    config: Config,
    *,
    url: str,
    run_id: str,
    pulse: Pulse,
    stop: StopRequest,
    http: HttpConfig | None,
    kill_at: Callable[[Step], None] | None,
    chore: Callable[[View], object] | None,
) -> None:
    """From opening the store to the end.

    `http`: where its pages are served; by default on loopback, on a free port that only the pulse tells.
    `kill_at` sees every step of the runner (the crash tests end the process there).
    """
    declaration = subsystem.declaration
    log = logger(declaration.name)
    trust = _trust(config, declaration)
    registry = CollectorRegistry()
    metrics = RunnerInstruments(registry).runner(config.node, declaration.name, trouble=lambda text: log.warning("trouble", what=text))
    async with AsyncExitStack() as stack:
        store = open_store(NodeFolder(config.data_dir), config.node, declaration)
        stack.callback(store.close)
        verifier: Verifier = PoolVerifier(config.verification.workers) if config.verification.workers else InlineVerifier()
        stack.push_async_callback(verifier.close)
        connection = await stack.enter_async_context(await connected_when_up(config, url, declaration.name, pulse, stop))
        exchange = NatsExchange(connection, metadata={"node": config.node})
        stack.push_async_callback(exchange.close)
        lines = lines_of(connection, config.node, declaration)
        spans = await stack.enter_async_context(exported(config, service=declaration.name, run_id=run_id))
        clock, entropy = SystemClock(), SystemEntropy()
        ports = Ports(
            store=store, lines=lines, exchange=exchange, clock=clock, entropy=entropy, verifier=verifier, trust=trust, tracer=spans
        )
        observer: Observer = metrics if kill_at is None else _Watched(metrics, kill_at)
        runner = Runner(subsystem, config.node, ports, limits=config.limits, run_id=run_id, observer=observer)

        gauges = _Gauges(runner, metrics, lines, registry)
        place = http or HttpConfig()

        def ready() -> tuple[bool, object]:
            progress = runner.progress
            return progress.ready and not progress.trouble, {"ready": progress.ready, "trouble": progress.trouble}

        async with (
            serving(health_routes(metrics=gauges.page, ready=ready), host=place.host, port=place.port) as port,
            anyio.create_task_group() as tasks,
        ):

            def beat() -> Beat:
                progress = runner.progress
                pending = progress.waiting > 0 and not progress.blocked
                return Beat(progress=progress.handled, pending=pending, ready=progress.ready, note=progress.trouble, http_port=port)

            async def conclude() -> None:
                await stop.wait()
                runner.conclude()

            tasks.start_soon(keep_beating, pulse, beat)
            tasks.start_soon(conclude)
            tasks.start_soon(keep_doing, chore, View(store), Waits(log, "chore_failed"))
            await runner.run()
            log.info("concluded", handled=runner.progress.handled)
            tasks.cancel_scope.cancel()


def _trust(config: Config, declaration: Declaration) -> NodeTrust | None:
    """Of a subsystem that speaks with other nodes. Keys are named before anything is opened. Raises UnusableKey, BadNetwork."""
    KeyFolder(config.keys_dir).seed(declaration.name)
    return NodeTrust.of(config) if networked(declaration) else None


async def keep_doing(chore: Callable[[View], object] | None, view: View, waits: Waits) -> None:
    """What is to be done now and then, with the committed tables; tried again where the disk refuses it."""
    while chore is not None:
        try:
            chore(view)
            waits.tell("")
        except OSError as error:
            # A disk may be full, or away: it is done as soon as it can be.
            waits.tell(str(error))
        await anyio.sleep(CHORE_MS / 1000)


class _Gauges:
    """What is read off the runner and the bus when the metrics page is asked for."""

    def __init__(self, runner: Runner, metrics: RunnerMetrics, lines: Mapping[str, NatsLine], registry: CollectorRegistry) -> None:
        self._runner = runner
        self._metrics = metrics
        self._lines = lines
        self._registry = registry
        self._published = 0

    async def page(self) -> str:
        runner, metrics = self._runner, self._metrics
        for name, count in runner.outbox_depths().items():
            metrics.outbox(name, count)
        for name, sequence in runner.positions().items():
            metrics.position(name, sequence)
        published, timers = runner.figures()
        metrics.published(published - self._published)
        self._published = published
        metrics.timers(timers)
        metrics.blocks(sys.getallocatedblocks())
        # Without a bus the last word on the lag stands.
        with anyio.move_on_after(LAG_MS / 1000), suppress(BusError):
            for name, line in self._lines.items():
                metrics.lag(name, await line.pending())
        return page(self._registry)


class _Watched:
    """An observer that shows each step to somebody else as well."""

    def __init__(self, inner: Observer, each: Callable[[Step], None]) -> None:
        self._inner = inner
        self._each = each

    def step(self, step: Step) -> None:
        self._inner.step(step)
        self._each(step)

    def batch(self, size: int, decide_s: float, commit_s: float) -> None:
        self._inner.batch(size, decide_s, commit_s)

    def flight(self, seconds: float) -> None:
        self._inner.flight(seconds)

    def result(self, status: str, code: str) -> None:
        self._inner.result(status, code)

    def trouble(self, what: str) -> None:
        self._inner.trouble(what)
