"""The loop around the engine: pull, decide, commit, answer, publish, acknowledge (docs/concepts.md).

Four tasks over bounded queues. *Take* pulls, reads and has signatures checked ahead; *work* decides and commits, and fires
timers; *publish* drains the outboxes; *acknowledge* follows. Only *work* touches the engine.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.lowlevel
import msgspec

from messages.message import Message, Rejection
from messages.signals import Conclude
from overseer.checks import Verifier
from overseer.limits import Limits
from overseer.pauses import Pauses
from overseer.ports.bus import BusUnavailable, Delivery, Exchange, Line
from overseer.ports.clock import Clock
from overseer.ports.entropy import Entropy
from overseer.ports.store import Store
from overseer.ports.tracer import Tracer
from overseer.runner.checkpoints import Checkpoints
from overseer.runner.endpoints import Endpoints
from overseer.runner.engine import Batch, Engine, Retry
from overseer.runner.errors import first_cause
from overseer.runner.intake import Reader
from overseer.runner.observer import Observer, Progress, Silent, Step
from overseer.runner.opening import Opened, open_engine
from overseer.runner.outbox import Outbox
from overseer.runner.schema import outbox_of
from overseer.runner.taking import ReadBatch, Taker
from overseer.runner.traced import BatchTrace
from overseer.runner.trust import Trust
from overseer.subsystem import Context, Subsystem
from overseer.tables import View

__all__ = ["Ports", "Runner"]

# Batches read ahead of the one being decided: enough that checks run while the one before is committed.
_AHEAD_BATCHES = 2
_T = TypeVar("_T")


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The world of one runner. `lines`: "node" always, "net" where network messages are sent or consumed."""

    store: Store
    lines: Mapping[str, Line]
    exchange: Exchange
    clock: Clock
    entropy: Entropy
    verifier: Verifier
    # Signs and checks what goes between nodes; None: neither.
    trust: Trust | None = None
    # Told of every message; None: nobody is.
    tracer: Tracer | None = None


class Runner:
    """Runs one subsystem until concluded, cancelled or at fault."""

    def __init__(
        self,
        subsystem: Subsystem,
        node: str,
        ports: Ports,
        *,
        limits: Limits | None = None,
        run_id: str = "",
        observer: Observer | None = None,
    ) -> None:
        self.progress = Progress()
        self.repairs: list[str] = []
        self._subsystem = subsystem
        self._node = node
        self._ports = ports
        self._limits = limits or Limits()
        self._run_id = run_id
        self._observer: Observer = observer or Silent()
        self._reader = Reader(node, subsystem.declaration, ports.trust)
        self._trace = BatchTrace(ports.tracer)
        self._committed = anyio.Event()
        self._committing = False
        # How full the node's stream was when last looked at.
        self._fill = 0.0
        # Queries that wait for a commit.
        self._asking = 0
        self._wake = anyio.Event()
        self._ack_wake = anyio.Event()
        self._to_ack: dict[str, Delivery] = {}
        self._acking = False
        # Whether the message, the timer at hand has failed once.
        self._message_failed = False
        self._timer_failed = False
        # What was last said of each place that can be in trouble.
        self._said: dict[str, str] = {}

    # -------------------------------------------------------------------------------------------- life

    async def run(self) -> None:
        """Open, repair, serve and work. Returns after `conclude` of this run; raises RunnerFault, StoreError or BusError."""
        try:
            await self._run()
        except BaseExceptionGroup as group:
            raise first_cause(group) from group

    async def _run(self) -> None:
        ports = self._ports
        opened = await self._patiently(self._open)
        self._engine: Engine = opened.engine
        self.repairs = opened.repairs
        for text in opened.repairs:
            self._observer.trouble(text)
        self._durable = self.positions()
        self._streams = {name: state.id for name, state in opened.streams.items()}
        self._outboxes = await self._patiently(self._open_outboxes)
        self._checkpoints = Checkpoints(self._subsystem.declaration, ports.store, self._limits, self._engine.head, self._rouse)
        endpoints = Endpoints(
            self._node,
            self._subsystem.declaration,
            ports.exchange,
            self._answer,
            self._busy,
            limits=self._limits,
            entropy=ports.entropy,
            tracer=ports.tracer,
        )
        self._waiting = endpoints.waiting
        self._send, self._receive = anyio.create_memory_object_stream[ReadBatch](_AHEAD_BATCHES)
        async with anyio.create_task_group() as tasks, self._send, self._receive:
            for outbox in self._outboxes.values():
                tasks.start_soon(outbox.drain)
            # What an earlier run committed but did not tell comes before anything new; unless only taking new things makes room.
            for outbox in self._outboxes.values():
                await outbox.flushed_or_no_room()
            await self._patiently(endpoints.open)
            tasks.start_soon(self._acknowledge)
            tasks.start_soon(self._watch_fill)
            tasks.start_soon(self._checkpoints.run)
            for name, line in ports.lines.items():
                if name == "node" or self._consumes_net():
                    tasks.start_soon(self._taker(name, line).run)
            self.progress.ready = True
            await self._work()
            # What does not fit is in the store, and is told by the next run.
            for outbox in self._outboxes.values():
                await outbox.flushed_or_no_room()
            await self._keep_marks()
            tasks.cancel_scope.cancel()

    def conclude(self) -> None:
        """Stop after what is in hand: as the signal of that name does."""
        self.progress.concluded = True
        self._rouse()

    def settled(self) -> bool:
        """Whether nothing is in hand: what was pulled is committed, told and acknowledged, and no timer is due."""
        if not self.progress.ready or self._committing or self._to_ack or self._acking or self.progress.waiting:
            return False
        due = self._engine.timers.next()
        # The stream's clock may be ahead of ours.
        now_ms = max(self._ports.clock.now_ms(), self._engine.head.last_ms)
        return not any(self.outbox_depths().values()) and (due is None or (due.at_ms or 0) > now_ms)

    def outbox_depths(self) -> dict[str, int]:
        """Messages committed and not yet published, by stream; empty before the opening."""
        return {name: len(outbox) for name, outbox in getattr(self, "_outboxes", {}).items()}

    def figures(self) -> tuple[int, int]:
        """Messages published since the opening, and timers that are set."""
        engine = getattr(self, "_engine", None)
        return sum(outbox.published for outbox in getattr(self, "_outboxes", {}).values()), 0 if engine is None else len(engine.timers)

    def positions(self) -> dict[str, int]:
        """The last sequence processed, by stream; empty before the opening."""
        engine = getattr(self, "_engine", None)
        return {} if engine is None else {name: position.sequence for name, position in engine.head.positions.items()}

    def stream_ids(self) -> dict[str, str]:
        """Of the streams as they were at the opening; empty before."""
        return dict(getattr(self, "_streams", {}))

    async def _patiently(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Do it; while there is no bus, wait for it."""
        pauses = Pauses(self._limits.reconnect_ms, self._limits.reconnect_ms_max)
        while True:
            try:
                done = await attempt()
                self.progress.trouble = ""
                return done
            except BusUnavailable as error:
                self.progress.trouble = f"bus: {error}"
                self._say("opening", self.progress.trouble)
                await anyio.sleep(pauses.next_ms() / 1000)

    async def _open(self) -> Opened:
        ports = self._ports
        return await open_engine(
            self._subsystem, ports.store, self._node, dict(ports.lines), limits=self._limits, clock=ports.clock, entropy=ports.entropy
        )

    async def _open_outboxes(self) -> dict[str, Outbox]:
        outboxes: dict[str, Outbox] = {}
        for name, line in self._ports.lines.items():
            table = outbox_of(name)
            trust = self._ports.trust if name == "net" else None
            outboxes[name] = Outbox(
                line, self._ports.store, table, self._engine.head, self._limits, name=name, trust=trust, tracer=self._ports.tracer
            )
            await outboxes[name].open()
        return outboxes

    def _taker(self, name: str, line: Line) -> Taker:
        def resumed() -> None:
            # The connection was new: what we told last may be lost.
            self._outboxes[name].recheck()

        async def committed(sequence: int) -> None:
            while self._durable[name] < sequence:
                await self._committed.wait()

        return Taker(
            name,
            line,
            self._reader,
            self._subsystem,
            self._ports.store,
            self._ports.verifier,
            self._hand_over,
            position=lambda: self._engine.head.positions[name],
            limits=self._limits,
            progress=self.progress,
            observer=self._observer,
            say=self._say,
            resumed=resumed,
            committed=committed,
        )

    async def _hand_over(self, read: ReadBatch) -> None:
        await self._send.send(read)
        self._rouse()

    def _say(self, place: str, text: str) -> None:
        """Report trouble once, however often it is met; "" when it has passed."""
        if text and self._said.get(place) != text:
            self._observer.trouble(text)
        self._said[place] = text

    def _rouse(self) -> None:
        """Let the work task look again."""
        self._wake.set()

    def _consumes_net(self) -> bool:
        return any(message.spec.kind.value == "net" for message in self._subsystem.declaration.consumes)

    # -------------------------------------------------------------------------------------------- work

    async def _work(self) -> None:
        pending: ReadBatch | None = None
        while True:
            if pending is None:
                if self.progress.concluded:
                    # What else was read ahead is not acknowledged: the next run takes it.
                    return
                pending = self._next_read()
            if pending is not None:
                if await self._handle_some(pending):
                    pending = None
                await self._fire_due(self._engine.head.last_ms)
            elif not await self._fire_due(self._ports.clock.now_ms()):
                await self._idle()
            await self._room_in_outboxes()
            await self._checkpoint()
            if self._asking:
                # Those who waited for the commit are answered before the next begins: under load they would never be.
                await anyio.lowlevel.checkpoint()

    def _next_read(self) -> ReadBatch | None:
        try:
            return self._receive.receive_nowait()
        except anyio.WouldBlock:
            return None

    async def _handle_some(self, read: ReadBatch) -> bool:
        """Decide and commit as much of `read` as fits one batch. True when all of it is done."""
        await read.memo.ready()
        engine, limits = self._engine, self._limits
        batch = engine.begin()
        began = time.monotonic()
        until = began + limits.batch_decide_ms_max / 1000
        stream_id = self._streams[read.line]
        taken = 0
        while read.intakes and taken < limits.batch_messages_max and (not taken or time.monotonic() < until):
            intake = read.intakes[0]
            self._trace.begin()
            try:
                engine.handle(batch, read.line, stream_id, intake, read.memo.verify, last_try=self._message_failed)
            except Retry as retry:
                self._observer.trouble(f"handling {intake.delivery.message.subject} failed: {retry}; once more, alone")
                self._message_failed = True
                break
            self._trace.took(batch, intake)
            read.intakes.popleft()
            taken += 1
            if type(intake.message) is Conclude and intake.message.run_id == self._run_id:
                self.progress.concluded = True
            if self._message_failed:
                self._message_failed = False
                break
        if taken:
            await self._commit(batch, time.monotonic() - began, taken)
        return not read.intakes

    async def _fire_due(self, now_ms: int) -> bool:
        """Fire what is due at `now_ms`, as one batch. True if anything fired."""
        engine = self._engine
        due = engine.timers.next()
        if due is None or (due.at_ms or 0) > now_ms:
            return False
        began = time.monotonic()
        batch = engine.begin()
        fired = 0
        while due is not None and (due.at_ms or 0) <= now_ms and fired < self._limits.timers_per_batch_max:
            self._trace.begin()
            try:
                engine.fire(batch, due, now_ms, self._ports.verifier.inline, last_try=self._timer_failed)
            except Retry as retry:
                self._observer.trouble(f"the timer {due.key} failed: {retry}; once more")
                self._timer_failed = True
                break
            self._timer_failed = False
            self._trace.fired(batch, due)
            fired += 1
            if time.monotonic() - began > self._limits.batch_decide_ms_max / 1000:
                break
            due = engine.timers.next()
        if fired:
            await self._commit(batch, time.monotonic() - began, 0)
        return True

    async def _commit(self, batch: Batch, decide_s: float, taken: int) -> None:
        """Steps 5 and 6: one synced write, then tell."""
        engine, observer = self._engine, self._observer
        engine.head.published = {name: outbox.known() for name, outbox in self._outboxes.items()}
        engine.finish(batch)
        observer.step(Step.DECIDED)
        began = time.monotonic()
        self._committing = True
        try:
            await self._ports.store.commit(batch.writes)
            self._durable = self.positions()
        finally:
            self._committing = False
            self._committed.set()
            self._committed = anyio.Event()
        observer.step(Step.COMMITTED)
        self._trace.committed()
        observer.batch(taken, decide_s, time.monotonic() - began)
        for told in batch.told:
            self._waiting.tell(told)
        observer.step(Step.ANSWERED)
        self._outboxes["node"].offer(batch.node)
        if batch.net:
            self._outboxes["net"].offer(batch.net)
        for _, status, code in batch.decided:
            if status != "timer":
                observer.result(status, code)
        for alarm in batch.alarms:
            observer.trouble(alarm)
        if batch.last:
            newest = max(delivery.message.time_ms for delivery in batch.last.values())
            observer.flight(max(0, self._ports.clock.now_ms() - newest) / 1000)
            self._to_ack.update(batch.last)
            self._ack_wake.set()
        self.progress.handled += max(1, taken)
        self.progress.waiting -= taken

    async def _checkpoint(self) -> None:
        """Begin a checkpoint when enough was recorded since the last; record one that was completed."""
        engine, checkpoints = self._engine, self._checkpoints
        checkpoints.begin_if_due(engine.head)
        taken = checkpoints.completed()
        if taken is not None:
            batch = engine.begin()
            engine.head.checkpoint = taken.index
            engine.note(batch, taken, self._ports.clock.now_ms())
            checkpoints.prune(batch.writes, {name: outbox.mark for name, outbox in self._outboxes.items()})
            await self._commit(batch, 0.0, 0)

    async def _keep_marks(self) -> None:
        """Before we end: what is published by now, in case the stream is trimmed beyond it before we come back."""
        if self._engine.head.published != {name: outbox.known() for name, outbox in self._outboxes.items()}:
            await self._commit(self._engine.begin(), 0.0, 0)

    async def _idle(self) -> None:
        """Sleep until something was pulled, or the next timer is due."""
        due = self._engine.timers.next()
        await (self._wake.wait() if due is None else self._ports.clock.wait(self._wake, due.at_ms or 0))
        self._wake = anyio.Event()

    async def _room_in_outboxes(self) -> None:
        """Intake stops while too much is unpublished: the outbox is kept, nothing is dropped."""
        for name, outbox in self._outboxes.items():
            if outbox.full:
                self.progress.blocked = True
                try:
                    await self._drained(name, outbox)
                finally:
                    self.progress.blocked = False
                self._say(f"outbox of {name}", "")

    async def _drained(self, name: str, outbox: Outbox) -> None:
        """Wait until all is published, saying what keeps it whenever that changes."""
        while not (self.progress.concluded and outbox.no_room):
            self._say(f"outbox of {name}", f"outbox of {name} is full: {outbox.trouble or 'publishing'}")
            with anyio.move_on_after(self._limits.reconnect_ms_max / 1000):
                await outbox.flushed()
                return

    # -------------------------------------------------------------------------------------------- after the commit

    async def _acknowledge(self) -> None:
        """Acks are a courtesy to operators and the ground for trimming: after publishing, newest only.

        Where the stream is too full to publish, before it: what was committed needs the stream no more, and its room is needed.
        """
        while True:
            await self._ack_wake.wait()
            self._ack_wake = anyio.Event()
            due, self._to_ack = self._to_ack, {}
            self._acking = True
            for outbox in self._outboxes.values():
                await outbox.flushed_or_no_room()
            self._observer.step(Step.PUBLISHED)
            for name, delivery in due.items():
                try:
                    await self._ports.lines[name].ack(delivery)
                except BusUnavailable as error:
                    self._say("ack", f"ack: {error}")
            self._acking = False
            self._observer.step(Step.ACKNOWLEDGED)

    async def _watch_fill(self) -> None:
        """Look at how full the stream is, now and then."""
        while True:
            with suppress(BusUnavailable):
                self._fill = (await self._ports.lines["node"].state()).fill
            await anyio.sleep(self._limits.fill_look_ms / 1000)

    async def _answer(self, query: Message, account: str) -> Message | Rejection:
        """From committed state only: a commit in progress is waited for."""
        self._asking += 1
        try:
            while self._committing:
                await self._committed.wait()
        finally:
            self._asking -= 1
        context = Context(
            now_ms=max(self._engine.head.last_ms, self._ports.clock.now_ms()),
            sender="",
            caller=account,
            position=self._engine.head.positions["node"].sequence,
            verify=self._ports.verifier.inline,
        )
        return self._subsystem.answer(View(self._ports.store), query, context)

    def _busy(self) -> str:
        """Why commands are refused now, or ""."""
        if self.progress.concluded:
            return "stopping"
        if self._outboxes["node"].full:
            return "outbox_full"
        # Commands have less room than what follows from them: so there is always room to drain the outboxes.
        if self._fill * 100 > self._limits.commands_fill_percent_max:
            return "stream_full"
        return ""
