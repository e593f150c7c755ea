"""What a node looks like from outside: processes, stream, positions, rates, dead letters, its domain, and what is wrong."""

import time
from collections.abc import Sequence

import msgspec

from overseer.config import Config
from overseer.nats.connection import Connection
from overseer.node.figures import Domain, Look
from overseer.node.findings import Finding
from overseer.node.folder import RunInfo
from overseer.node.looking import Seen, look_at_node, rates_between
from overseer.supervise.lag import LagState

__all__ = ["NodeReport", "NodeWatch", "ProcessReport", "StreamReport", "SubsystemReport", "Times", "node_report"]

DOMAIN_S = 2.0


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are of the time since the look before; None at the first."""

    name: str
    first: int
    last: int
    messages: int
    bytes: int
    bytes_max: int
    per_s: float | None = None
    commands_per_s: float | None = None


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the node. `cpu_percent`: of one core, since the look before; None at the first, and of another machine's."""

    name: str
    pid: int
    cpu_percent: float | None
    memory_mb: float | None


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds that half, and 99 of 100, stayed below. `of_late`: since the look before, else since the process began."""

    p50_ms: float
    p99_ms: float
    of_late: bool


class SubsystemReport(msgspec.Struct, frozen=True, kw_only=True):
    """`position`: the last sequence acknowledged; `pending`: messages for it that it has not acknowledged.

    `last_failure`: why it was last restarted, "" if it never was. `consumer` (level, slow, stuck), how long the oldest message
    waits and how long nothing was done are as the overseer sees them, every two seconds. `dead_letter_age_s`: of the last one.
    `pid` and what hangs on it are None where the overseer does not run it as a process. `flight`: from a message's storing to its commit.
    Rates are of the time since the look before; None at the first.
    """

    name: str
    state: str
    restarts: int
    note: str
    position: int
    pending: int
    dead_letters: int
    last_failure: str = ""
    consumer: str = LagState.LEVEL.value
    oldest_ms: int = 0
    still_ms: int = 0
    dead_letter_age_s: float | None = None
    pid: int | None = None
    cpu_percent: float | None = None
    memory_mb: float | None = None
    per_s: float | None = None
    published_per_s: float | None = None
    flight: Times | None = None
    commit: Times | None = None


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """`wrong`: the worst first; empty when all is well. `stream`: None when NATS is away. `processes`: the overseer, its server."""

    node: str
    run_id: str
    pid: int
    url: str
    http_port: int
    up_s: int
    stream: StreamReport | None
    processes: list[ProcessReport]
    subsystems: list[SubsystemReport]
    domain: list[Look]
    wrong: list[Finding]


async def node_report(config: Config, info: RunInfo, connection: Connection, names: Sequence[str] | None = None) -> NodeReport:
    """One look, without rates and domain, at the children `names` (the subsystems of the configuration). Raises BusError, ApiError."""
    watch = NodeWatch(config, info, names or config.subsystems)
    report = await watch.look(connection)
    if watch.bus_error is not None:
        raise watch.bus_error
    return report


class NodeWatch:
    """Looks at one run of a node, again and again: each report tells the rates since the look before."""

    def __init__(self, config: Config, info: RunInfo, names: Sequence[str], domains: Sequence[Domain] = ()) -> None:
        self._config = config
        self._info = info
        self._names = names
        self._domains = domains
        self._before: Seen | None = None
        self._domain_s = float("-inf")
        # Why the bus could not be asked at the last look.
        self.bus_error: Exception | None = None

    async def look(self, connection: Connection | None, *, why: str = "") -> NodeReport:
        """One look. Without a connection (`why` there is none) what the overseer tells is all there is. Raises nothing of the bus's."""
        now_s = time.monotonic()
        # The domain need not be asked as often as one may look.
        due = now_s - self._domain_s >= DOMAIN_S
        known = self._before.looks if self._before is not None and connection is not None else ()
        domains = self._domains if due and connection is not None else ()
        if domains:
            self._domain_s = now_s
        seen = await look_at_node(self._config, self._info, self._names, connection, why=why, domains=domains, known_looks=known)
        self.bus_error = seen.bus_error
        before, self._before = self._before, seen
        return _report(self._config, self._info, before, seen)


def _report(config: Config, info: RunInfo, before: Seen | None, seen: Seen) -> NodeReport:
    rates = rates_between(before, seen)
    rows: list[SubsystemReport] = []
    for child in seen.facts.children:
        pid = seen.pids.get(child.name)
        taken = seen.processes.get(pid) if pid else None
        own = rates.subsystems.get(child.name)
        rows.append(
            SubsystemReport(
                name=child.name,
                state=child.state,
                restarts=child.restarts,
                note=child.note,
                position=child.position,
                pending=child.pending,
                dead_letters=child.dead_letters,
                last_failure=child.last_failure,
                consumer=child.lag.state.value,
                oldest_ms=child.lag.oldest_ms,
                still_ms=child.lag.still_ms,
                dead_letter_age_s=child.dead_letter_age_s,
                pid=pid,
                cpu_percent=rates.cpu_percent.get(pid) if pid else None,
                memory_mb=taken.memory_mb if taken is not None else None,
                per_s=own.per_s if own is not None else None,
                published_per_s=own.published_per_s if own is not None else None,
                flight=_times(own.flight_ms, of_late=own.of_late) if own is not None else None,
                commit=_times(own.commit_ms, of_late=own.of_late) if own is not None else None,
            )
        )
    stream = seen.stream
    return NodeReport(
        node=config.node,
        run_id=info.run_id,
        pid=info.pid,
        url=info.url,
        http_port=info.http_port,
        up_s=int(time.time() - info.started_ms / 1000),
        stream=None
        if stream is None
        else StreamReport(
            name=stream.name,
            first=stream.first,
            last=stream.last,
            messages=stream.messages,
            bytes=stream.bytes,
            bytes_max=stream.bytes_max,
            per_s=rates.stream_per_s,
            commands_per_s=rates.commands_per_s,
        ),
        processes=[
            ProcessReport(name=name, pid=pid, cpu_percent=rates.cpu_percent.get(pid), memory_mb=taken.memory_mb)
            for name, pid in seen.own_pids.items()
            if (taken := seen.processes.get(pid)) is not None
        ],
        subsystems=rows,
        domain=list(seen.looks),
        wrong=seen.wrong(),
    )


def _times(quantiles_ms: tuple[float, float] | None, *, of_late: bool) -> Times | None:
    return None if quantiles_ms is None else Times(p50_ms=round(quantiles_ms[0], 2), p99_ms=round(quantiles_ms[1], 2), of_late=of_late)
