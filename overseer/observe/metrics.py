"""Prometheus metrics of runners and of the overseer, and how those of several processes become one page.

instruments = RunnerInstruments(registry)                   # once per process
metrics = instruments.runner("node", "votes_db")            # once per subsystem: the runner's `Observer`
SupervisionCollector(supervisor.statuses, node="node")      # the overseer's own: registry.register(...)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from overseer.runner.observer import Step
from overseer.supervise.lag import Lag, LagState
from overseer.supervise.status import ChildState, ChildStatus

__all__ = ["LABEL_VALUES_MAX", "RunnerInstruments", "RunnerMetrics", "SiteInstruments", "SupervisionCollector", "merged_page", "page"]

# Different values of one label at most: a flood of unknown codes must not grow the memory; the rest counts as `other`.
LABEL_VALUES_MAX = 64
OTHER = "other"

_WHO = ("node", "subsystem")
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# From a memory commit (10 us) to a disk in trouble.
_WORK_S = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_FLIGHT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)

C = TypeVar("C", Counter, Gauge)


class _ByLabel(Generic[C]):
    """The children of a metric by the last label's value: bound once, then one dictionary look-up."""

    def __init__(self, metric: C, node: str, subsystem: str) -> None:
        self._metric = metric
        self._who = (node, subsystem)
        self._bound: dict[str, C] = {}

    def __getitem__(self, value: str) -> C:
        bound = self._bound.get(value)
        if bound is None:
            if len(self._bound) >= LABEL_VALUES_MAX:
                value = OTHER
            bound = self._bound[value] = self._metric.labels(*self._who, value)
        return bound


class RunnerInstruments:
    """The metric families of all runners of a process, registered once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"overseer_{name}", text, (*_WHO, *labels), registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"overseer_{name}", text, (*_WHO, *labels), registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"overseer_{name}", text, _WHO, buckets=buckets, registry=registry)

        self.batch_messages = histogram("batch_messages", "Messages decided and committed together", _BATCH_SIZES)
        self.decide_seconds = histogram("decide_seconds", "Time to decide one batch", _WORK_S)
        self.commit_seconds = histogram("commit_seconds", "Time of one synced commit", _WORK_S)
        self.flight_seconds = histogram("flight_seconds", "From a message's storing in the stream to its commit here", _FLIGHT_S)
        self.accepted = counter("accepted", "Inputs accepted")
        self.rejected = counter("rejected", "Inputs refused by a typed rejection", "code")
        self.parked = counter("parked", "Inputs set aside as dead letters", "reason")
        self.published = counter("published", "Messages published")
        self.troubles = counter("troubles", "Passing troubles reported (bus away, stream full, alarms)")
        self.lag = gauge("lag_messages", "Messages of the stream not yet processed here", "stream")
        self.position = gauge("position", "Sequence in the stream that is durably processed", "stream")
        self.outbox = gauge("outbox_messages", "Messages committed but not yet published", "stream")
        self.timers = gauge("timers", "Timers waiting")
        self.blocks = gauge("memory_blocks", "Blocks of memory that Python's objects take in this process")
        self.steps = counter("steps", "Boundaries of the runner's work passed", "step")

    def runner(self, node: str, subsystem: str, *, trouble: Callable[[str], None] | None = None) -> "RunnerMetrics":
        """The metrics of one subsystem's runner. `trouble` also gets the text of each trouble (a log, say)."""
        return RunnerMetrics(self, node, subsystem, trouble)


class SiteInstruments:
    """The metrics of one site of elections, `site` by its user's name."""

    def __init__(self, registry: CollectorRegistry, site: str) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"overseer_elections_{name}", text, ["site"], registry=registry).labels(site)

        self.committed = counter("committed", "Entries that the log took from this site")
        self.failed = counter("failed", "Elections dropped because of a defect")
        self.stopped = counter("stopped", "Elections that take nothing any more at this site")
        self.active = Gauge("overseer_elections_active", "Elections in memory", ["site"], registry=registry).labels(site)


class RunnerMetrics:
    """What one runner reports (an `Observer`, and gauges to be set). Every method costs about a microsecond."""

    def __init__(self, all_: RunnerInstruments, node: str, subsystem: str, trouble: Callable[[str], None] | None) -> None:
        who = (node, subsystem)
        self._batch_messages = all_.batch_messages.labels(*who)
        self._decide_seconds = all_.decide_seconds.labels(*who)
        self._commit_seconds = all_.commit_seconds.labels(*who)
        self._flight_seconds = all_.flight_seconds.labels(*who)
        self._accepted = all_.accepted.labels(*who)
        self._published = all_.published.labels(*who)
        self._troubles = all_.troubles.labels(*who)
        self._timers = all_.timers.labels(*who)
        self._blocks = all_.blocks.labels(*who)
        self._rejected = _ByLabel(all_.rejected, *who)
        self._parked = _ByLabel(all_.parked, *who)
        self._lag = _ByLabel(all_.lag, *who)
        self._position = _ByLabel(all_.position, *who)
        self._outbox = _ByLabel(all_.outbox, *who)
        self._steps = {step: all_.steps.labels(*who, step.value) for step in Step}
        self._tell_trouble = trouble

    def step(self, step: Step) -> None:
        self._steps[step].inc()

    def batch(self, size: int, decide_s: float, commit_s: float) -> None:
        self._batch_messages.observe(size)
        self._decide_seconds.observe(decide_s)
        self._commit_seconds.observe(commit_s)

    def flight(self, seconds: float) -> None:
        """Once per batch."""
        self._flight_seconds.observe(seconds)

    def result(self, status: str, code: str) -> None:
        """`status`: accepted | rejected | parked."""
        if status == "accepted":
            self._accepted.inc()
        elif status == "rejected":
            self._rejected[code].inc()
        else:
            self._parked[code].inc()

    def trouble(self, what: str) -> None:
        self._troubles.inc()
        if self._tell_trouble is not None:
            self._tell_trouble(what)

    def published(self, count: int) -> None:
        self._published.inc(count)

    def lag(self, stream: str, messages: int) -> None:
        self._lag[stream].set(messages)

    def position(self, stream: str, sequence: int) -> None:
        self._position[stream].set(sequence)

    def outbox(self, stream: str, messages: int) -> None:
        self._outbox[stream].set(messages)

    def timers(self, waiting: int) -> None:
        self._timers.set(waiting)

    def blocks(self, held: int) -> None:
        self._blocks.set(held)


class SupervisionCollector(Collector):
    """The overseer's own metrics, read from the supervisor at each scrape: never stale, nothing to update."""

    def __init__(self, statuses: Callable[[], Sequence[ChildStatus]], *, node: str, lags: Callable[[], Mapping[str, Lag]] = dict) -> None:
        """`lags`: how far each subsystem is behind, by name, seen from the bus."""
        self._statuses = statuses
        self._node = node
        self._lags = lags

    def collect(self) -> Iterable[Metric]:
        return (*self._supervision(), *self._consumers())

    def _consumers(self) -> Iterable[Metric]:
        """Also of a subsystem that is stopped or hangs, and cannot tell its own."""
        pending = GaugeMetricFamily("overseer_consumer_pending_messages", "Messages it has not acknowledged", labels=_WHO)
        oldest = GaugeMetricFamily("overseer_consumer_oldest_seconds", "How long the oldest of them has been in the stream", labels=_WHO)
        state = GaugeMetricFamily("overseer_consumer_state", "1 for how it gets on", labels=(*_WHO, "state"))
        for name, lag in self._lags().items():
            who = (self._node, name)
            pending.add_metric(who, lag.pending)
            oldest.add_metric(who, lag.oldest_ms / 1000)
            for each in LagState:
                state.add_metric((*who, each.value), lag.state is each)
        return (pending, oldest, state)

    def _supervision(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("overseer_up", "1 when the subsystem is ready", labels=_WHO)
        state = GaugeMetricFamily("overseer_child_state", "1 for the state a subsystem is in", labels=(*_WHO, "state"))
        restarts = CounterMetricFamily("overseer_restarts", "Restarts of the subsystem", labels=_WHO)
        stalls = CounterMetricFamily("overseer_stalls", "Times it was found without progress and killed", labels=_WHO)
        progress = GaugeMetricFamily("overseer_progress", "What its heartbeat counts", labels=_WHO)
        for child in self._statuses():
            who = (self._node, child.name)
            up.add_metric(who, child.state is ChildState.READY)
            for each in ChildState:
                state.add_metric((*who, each.value), child.state is each)
            restarts.add_metric(who, child.restarts)
            stalls.add_metric(who, child.stalls)
            if child.beat is not None:
                progress.add_metric(who, child.beat.progress)
        return (up, state, restarts, stalls, progress)


def page(registry: CollectorRegistry) -> str:
    """The registry in Prometheus' text format."""
    return generate_latest(registry).decode()


def merged_page(pages: Iterable[str]) -> str:
    """One page of several: the samples of each family together, as the format demands, described once."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for text in pages:
        for family, lines in _families(text):
            if family not in heads:
                heads[family] = [line for line in lines if line.startswith("#")]
                samples[family] = []
            samples[family] += [line for line in lines if not line.startswith("#")]
    return "".join(f"{line}\n" for family, head in heads.items() for line in (*head, *samples[family]))


def _families(text: str) -> Iterator[tuple[str, list[str]]]:
    """The families of a page as its writers put them: `# HELP name` first."""
    family, lines = "", list[str]()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            if lines:
                yield family, lines
            family, lines = line.split(" ", 3)[2], []
        if line:
            lines.append(line)
    if lines:
        yield family, lines
