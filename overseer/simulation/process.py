"""One subsystem of one node: a process that is started, killed and started again on the same disk."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

import anyio

from messages.subjects import net_filter, net_stream, node_stream, own_filter
from overseer.checks import Verifier
from overseer.graph import filters, net_filters, networked
from overseer.limits import Limits
from overseer.memory.bus import LineFaults, MemoryBroker, MemoryExchange, MemoryLine, MemoryStream
from overseer.memory.entropy import SeededEntropy
from overseer.memory.store import CommitStep, MemoryDisk, MemoryStore
from overseer.nats.accounts import durable_name
from overseer.ports.bus import Line, StoredMessage
from overseer.ports.store import StoreError, StoreIdentity
from overseer.runner.errors import SecondCopy, StreamChanged
from overseer.runner.observer import Silent, Step
from overseer.runner.runner import Ports, Runner
from overseer.runner.schema import SYSTEM_TABLES
from overseer.simulation.clock import NodeClock
from overseer.simulation.loop import VirtualLoop
from overseer.simulation.scenario import Violation
from overseer.simulation.trace import Trace
from overseer.simulation.watch import Watch
from overseer.simulation.wires import Pace, SimulatedExchange, SimulatedLine, Vitals
from overseer.subsystem import Subsystem
from overseer.testing.witness import Killed

__all__ = ["Process", "Surroundings"]

_HISTORY_COMMITS = 16
# How long a supervisor takes to start a process again.
_RESTART_S = (0.02, 0.1, 0.1, 0.5, 2.0)


class Surroundings(Protocol):
    """What a process has around it."""

    loop: VirtualLoop
    trace: Trace
    watch: Watch
    limits: Limits
    verifier: Verifier
    entropy: SeededEntropy


class _Dying(Silent):
    """An observer that kills its process at a step."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def step(self, step: Step) -> None:
        self._process.passes(step)

    def trouble(self, what: str) -> None:
        self._process.note(f"says: {what}")


class Process:
    """`run` starts it again and again. All else is done to it from outside."""

    def __init__(
        self,
        around: Surroundings,
        node: str,
        make: Callable[[], Subsystem],
        clock: NodeClock,
        brokers: dict[str, MemoryBroker],
        random: Random,
    ) -> None:
        """`brokers`: by the name of the line, "node" and (where there is one) "net"."""
        self.node = node
        self.declaration = make().declaration
        self.name = self.declaration.name
        self.networked = networked(self.declaration)
        # The subjects it takes, by line.
        self.patterns = {"node": filters(self.declaration, node), "net": net_filters(self.declaration)}
        self.disk = self._new_disk()
        self.runner: Runner | None = None
        # Whether it may be started; a machine without power starts nothing.
        self.powered = True
        self.pace = Pace(random)
        self.streams = {
            name: stream for name, stream in (("node", node_stream(node)), ("net", net_stream())) if name == "node" or self.networked
        }
        # Of each line, and of the exchange: they outlast the process, as the wire does.
        self.faults = {name: LineFaults() for name in (*self.streams, "exchange")}
        self.doubled: deque[int] = deque()
        # Why it ended by itself, each time, and how often in a row.
        self.ends: list[str] = []
        self._own_ends = 0
        self._around = around
        self.make = make
        self._clock = clock
        self._brokers = brokers
        self._random = random
        self._starts = 0
        self._vitals = Vitals(self.note)
        self._scope = anyio.CancelScope()
        self._lines: dict[str, MemoryLine] = {}
        self._exchange: MemoryExchange | None = None
        self._kill_at: tuple[Step, int, Callable[[], None]] | None = None
        self._told_to_start = anyio.Event()
        self._watch_disk()

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def tables(self) -> list[str]:
        return [table.name for table in (*SYSTEM_TABLES, *self.declaration.tables)]

    @property
    def identity(self) -> StoreIdentity:
        return StoreIdentity(self.node, self.name)

    @property
    def alive(self) -> bool:
        return self.runner is not None and not self._vitals.dead

    def note(self, what: str) -> None:
        self._around.trace.note(f"{self.node} {self.name}", what)

    def durable(self, stream: MemoryStream) -> str:
        """The name of its consumer there."""
        return durable_name(self.node, self.name, stream.name)

    # ------------------------------------------------------------------------------------------------ its life

    async def run(self) -> None:
        """For ever: start, end, start again."""
        while True:
            while not self.powered:
                await self._told_to_start.wait()
                self._told_to_start = anyio.Event()
            ended = len(self.ends)
            await self._live_once()
            # A supervisor's patience: longer with every end in a row that nobody caused.
            self._own_ends = self._own_ends + 1 if len(self.ends) > ended else 0
            await anyio.sleep(self._random.choice(_RESTART_S) * 2 ** min(self._own_ends, 6))

    async def _live_once(self) -> None:
        self._starts += 1
        self._vitals = vitals = Vitals(self.note)
        self._scope = anyio.CancelScope()
        self.note(f"starts, for the {self._starts}. time")
        try:
            with self._scope:
                await self._work()
            if not vitals.dead:
                raise RuntimeError("it concluded, though nobody told it to")
        except Killed:
            pass
        except Exception as error:
            self._ended(error, vitals)
        finally:
            vitals.dead = True
            self.runner = None
            if self._exchange is not None:
                self._exchange.kill()

    def _ended(self, error: Exception, vitals: Vitals) -> None:
        """By itself. A store that failed and a stream that changed are the faults' doing; anything else is a defect."""
        if vitals.dead:
            return
        self.note(f"ended: {error!r}")
        self.ends.append(f"{type(error).__name__}: {error}")
        if not isinstance(error, StoreError | StreamChanged | SecondCopy):
            self._around.watch.violated(Violation("processes", f"{self.node} {self.name} ended: {error!r}"))

    async def _work(self) -> None:
        around = self._around
        store = MemoryStore(self.tables, disk=self.disk, identity=self.identity)
        try:
            self._lines = {name: self._line(name) for name in self.streams}
            self._exchange = exchange = self._brokers["node"].exchange(account=f"{self.node}-{self.name}")
            exchange.faults = self.faults["exchange"]
            lines: dict[str, Line] = {
                name: SimulatedLine(line, self._vitals, self.pace, around.loop, acknowledged=self._acknowledges(name))
                for name, line in self._lines.items()
            }
            ports = Ports(
                store=store,
                lines=lines,
                exchange=SimulatedExchange(exchange, self._vitals, self.pace, self.doubled),
                clock=self._clock,
                entropy=around.entropy.fork(f"{self.node} {self.name} {self._starts}"),
                verifier=around.verifier,
            )
            self.runner = runner = Runner(self.make(), self.node, ports, limits=around.limits, run_id="simulation", observer=_Dying(self))
            await runner.run()
        finally:
            store.close()

    def _line(self, name: str) -> MemoryLine:
        stream = self.streams[name]
        own = own_filter(self.node, self.name) if name == "node" else net_filter(self.node, self.name)
        line = self._brokers[name].line(stream, sender=self.name, own_filter=own, durable=durable_name(self.node, self.name, stream))
        line.faults = self.faults[name]
        return line

    def _acknowledges(self, name: str) -> Callable[[StoredMessage], None]:
        def see(message: StoredMessage) -> None:
            self._around.watch.acknowledged(self.node, self.name, name, message.sequence)

        return see

    # ------------------------------------------------------------------------------------------------ what is done to it

    def kill(self, *, keep_unsynced: bool = False) -> bool:
        """At once, wherever it is. False when it does not live."""
        if self._vitals.dead:
            return False
        self.note(f"killed; what it had not synced is {'kept' if keep_unsynced else 'lost'}")
        self._die(keep_unsynced)
        self._scope.cancel()
        return True

    def _die(self, keep_unsynced: bool) -> None:
        self._vitals.dead = True
        self.disk.crash(keep_unsynced=keep_unsynced)
        if self._exchange is not None:
            self._exchange.kill()

    def power(self, on: bool) -> None:
        self.powered = on
        self._told_to_start.set()

    def kill_at(self, step: Step, times: int, happened: Callable[[], None]) -> None:
        """When it passes that step for the `times`-th time from now."""
        self._kill_at = (step, times, happened)

    def passes(self, step: Step) -> None:
        if self._kill_at is None or self._kill_at[0] is not step or self._vitals.dead:
            return
        _, times, happened = self._kill_at
        self._kill_at = (step, times - 1, happened) if times > 1 else None
        if times <= 1:
            happened()
            self.note(f"killed at the step {step.value}")
            self._die(keep_unsynced=False)
            raise Killed(step)

    def fail_commit(self, at: CommitStep, *, keep_unsynced: bool, deadly: bool, happened: Callable[[], None]) -> None:
        """The next commit fails at that step: the process dies there (`deadly`), or its store does."""
        disk = self.disk

        def fail(step: CommitStep) -> None:
            if step is not at or disk is not self.disk or self._vitals.dead:
                return
            disk.on_step = None
            happened()
            self.note(f"{'killed' if deadly else 'its store failed'} in a commit: {step.value}, kept: {keep_unsynced}")
            if deadly:
                self._die(keep_unsynced)
                raise Killed(step)
            disk.crash(keep_unsynced=keep_unsynced)
            raise StoreError("the disk failed", where="simulation")

        disk.on_step = fail

    def cut(self, names: tuple[str, ...] | None = None) -> None:
        """Part these of its lines (all, and its endpoints) from the bus."""
        for name in names or tuple(self.faults):
            if name in self.faults:
                self.faults[name].unavailable = True
            if name in self._lines and self.alive:
                self._lines[name].cut()

    def join(self, names: tuple[str, ...] | None = None) -> None:
        for name in names or tuple(self.faults):
            if name in self.faults:
                self.faults[name].unavailable = False
            if name in self._lines:
                self._lines[name].heal()

    def drop(self, name: str) -> None:
        """The connection of one of its lines ends and is made anew: the place in the stream is lost."""
        if name in self._lines and not self.faults[name].unavailable:
            self._lines[name].cut()
            self._lines[name].heal()

    def put_disk(self, disk: MemoryDisk | None) -> None:
        """Another disk in place of its own (None: a new, empty one). Only while it is dead."""
        self.disk = disk if disk is not None else self._new_disk()
        self._watch_disk()

    def _new_disk(self) -> MemoryDisk:
        return MemoryDisk(history=_HISTORY_COMMITS)

    def _watch_disk(self) -> None:
        self.disk.on_durable = self._around.watch.durable(self.node, self.name, self.disk)
        self.disk.syncing = self.pace.written

    def heal(self) -> None:
        """Nothing goes wrong any more with this one."""
        self.join()
        for faults in self.faults.values():
            faults.appends.clear()
            faults.torn_after = None
            faults.lose_acks = False
        self.doubled.clear()
        self.disk.on_step = None
        self._kill_at = None
        self.pace.slowness = 1.0
        self.power(True)

    # ------------------------------------------------------------------------------------------------ how it is

    def unsettled(self, streams: dict[str, MemoryStream]) -> str:
        """Why it is not at rest, or ""."""
        runner = self.runner
        if runner is None or not runner.progress.ready:
            return f"does not run; it ended: {self.ends[-1] if self.ends else 'killed'}"
        if not runner.settled():
            depths = runner.outbox_depths()
            return f"has not settled: {runner.progress}, outboxes {depths}"
        positions, ids = runner.positions(), runner.stream_ids()
        for name, patterns in self.patterns.items():
            if name in streams and patterns:
                if ids.get(name) != streams[name].id:
                    return f"has not noticed that {name} was replaced"
                if not self._lines[name].placed():
                    return f"has not come back to {name}"
                wanted = max((last.sequence for pattern in patterns if (last := streams[name].last_under(pattern)) is not None), default=0)
                if positions.get(name, 0) < wanted:
                    return f"is at {positions.get(name, 0)} of {name}, which has {wanted} for it"
        return ""
