"""A site put together: its elections, its readers, its mailroom, and what it tells about itself."""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio.abc
import msgspec

from messages.codec import CodecError
from messages.election_pairs import Forwarded, PairMessage, SnapshotAsked, TopologyRecord
from messages.overseer import Busy, InvalidRequest
from overseer.limits import Limits, SiteLimits
from overseer.pauses import Pauses
from overseer.ports.bus import BusUnavailable, Line, Request, Response
from overseer.ports.clock import Clock
from overseer.ports.entropy import Entropy
from overseer.ports.sites import ElectionLog, SiteMail, TopologyBoard
from overseer.ports.store import Store, StoreError
from overseer.runner.responses import refuse, wants_json
from overseer.sites.chores import Chores
from overseer.sites.copying import SnapshotDesk
from overseer.sites.crew import Crew
from overseer.sites.deciding import Decider
from overseer.sites.filling import Filling
from overseer.sites.hosted import Hosted
from overseer.sites.hosting import Hosting, Outcomes
from overseer.sites.ledger import Ledger
from overseer.sites.mailroom import Mailroom
from overseer.sites.reading import LogReader
from overseer.sites.signals import SignalReader
from overseer.sites.surroundings import Alarms, Facts, Observer, Silent, Surroundings, Topology
from overseer.sites.timers import Timetable
from overseer.sites.watching import Watch, recorded
from overseer.tables import View
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.subsystem import Elections

__all__ = ["Site", "SitePorts", "SiteProgress"]

T = TypeVar("T")


class SitePorts(msgspec.Struct, frozen=True, kw_only=True):
    """The world of one site. `line`: its consumer of the node's stream, where there is one."""

    store: Store
    log: ElectionLog
    board: TopologyBoard
    mail: SiteMail
    facts: Facts
    clock: Clock
    entropy: Entropy
    line: Line | None = None
    # Where snapshots wait that are fetched; None: the system's folder for such.
    spool_folder: Path | None = None


class SiteProgress(msgspec.Struct):
    """What a supervisor wants to know. `handled` only grows; `ready`: it was at the log's end, and its mailroom is open."""

    handled: int = 0
    ready: bool = False
    trouble: str = ""


class Site:
    """Runs until cancelled, or until its store fails. `topology`: what is recorded where nothing is recorded yet."""

    def __init__(
        self,
        name: str,
        elections: Elections,
        ports: SitePorts,
        topology: TopologyRecord,
        *,
        limits: SiteLimits | None = None,
        runtime: RuntimeLimits | None = None,
        admission: Limits | None = None,
        node: str = "node",
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.progress = SiteProgress()
        self.hosting: Hosting
        self.filling: Filling
        self.mailroom: Mailroom
        self.reader: LogReader
        self._elections = elections
        self._ports = ports
        self._wanted = topology
        self._limits = limits or SiteLimits()
        self._runtime = runtime or RuntimeLimits()
        self._admission = admission or Limits()
        self._node = node
        self._observer = observer or Silent()
        self._outcomes = Outcomes()
        self._up = False

    @property
    def view(self) -> View:
        """Of its rows, what is not durable yet among them."""
        return self._around.ledger.view

    @property
    def trouble(self) -> str:
        """What keeps it from its work: the bus is away, its disk does not get on, others write for it; "" when nothing does."""
        if not self.progress.ready or self.progress.trouble:
            return self.progress.trouble
        if self._around.ledger.stuck(self._limits.stuck_ms):
            return "its store does not get on with a commit: is the disk full?"
        if self._ports.clock.now_ms() - self.reader.caught_up_ms > self._limits.stale_after_ms:
            return "behind the elections' log, or without it"
        if self.filling.trouble:
            return self.filling.trouble
        return "recorded as away: others write for it until its lease has run on for a while" if self.name in _away(self.topology) else ""

    @property
    def active(self) -> int:
        """Elections in memory."""
        return len(self.hosting) if self._up else 0

    @property
    def topology(self) -> TopologyRecord:
        """As far as this site knows it."""
        return self._around.topology.record

    async def run(self) -> None:
        """Raises StoreError, WrongTopology, BusDenied."""
        record = await self._patiently(lambda: recorded(self._ports.board, self._wanted))
        async with anyio.create_task_group() as tasks:
            around = self._around = self._surroundings(tasks, record)
            self.hosting = Hosting(lambda key: Hosted(key, around), self._outcomes, around.clock, self._limits)
            self.timetable = Timetable(around, self.hosting)
            self.chores = Chores(around, self.hosting)
            self.watch = Watch(
                self.name,
                record,
                self._ports.board,
                around.clock,
                self._limits,
                self._observer,
                self._learn,
                healthy=lambda: self.filling.filled and not around.ledger.stuck(self._limits.stuck_ms),
                lacking=lambda: self.filling.lacking,
            )
            self.reader = LogReader(around, self.hosting, moved=self._moved, skipped=lambda: self.filling.again())
            self.filling = Filling(around, self.hosting, self.reader, self.watch.look_now)
            self.desk = SnapshotDesk(self.name, self._elections, around.ledger, around.clock, self._limits)
            self.mailroom = Mailroom(
                around,
                self.hosting,
                self._ports.entropy,
                limits=self._admission,
                caught_up_ms=lambda: self.reader.caught_up_ms,
                at_version=self.watch.at_version,
            )
            self._up = True
            for work in self._works():
                tasks.start_soon(work)
            try:
                await self._patiently(lambda: around.mail.serve(self._hear, self._answer, self._handle))
                # What this site left unfinished when it ended.
                self.filling.look()
                await anyio.sleep_forever()
            finally:
                self.hosting.drop_all()

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Again until the bus is there."""
        clock, pauses = self._ports.clock, Pauses(self._limits.retry_ms, self._limits.retry_ms_max)
        while True:
            try:
                result = await work()
            except BusUnavailable as error:
                self.progress.trouble = str(error)
            else:
                self.progress.trouble = ""
                return result
            await clock.sleep_until(clock.now_ms() + pauses.next_ms())

    def _works(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        works: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._around.ledger.run,
            self._around.alarms.run,
            self.hosting.tidy,
            self.timetable.run,
            self.watch.run,
            self.reader.run,
            self.filling.run,
        ]
        if self._ports.line is not None:
            works.append(SignalReader(self._around, self._ports.line, self._node, heard=self.chores.heard).run)
        return works

    def _surroundings(self, tasks: anyio.abc.TaskGroup, record: TopologyRecord) -> Surroundings:
        ports, limits = self._ports, self._limits
        return Surroundings(
            site=self.name,
            elections=self._elections,
            ledger=Ledger(ports.store, ports.clock, limits),
            log=ports.log,
            mail=ports.mail,
            clock=ports.clock,
            decider=Decider(self._elections, ports.clock, ports.entropy, bytes_max=limits.batch_bytes_max),
            facts=ports.facts,
            topology=Topology(record),
            tasks=Crew(tasks),
            alarms=Alarms(ports.clock),
            limits=limits,
            runtime=self._runtime,
            observer=self._observer,
            fetching=anyio.CapacityLimiter(limits.snapshots_fetched_max),
            spool_folder=ports.spool_folder,
            answer=self._outcomes.tell,
            catch_up=lambda version: self.watch.hurry(version),
            timer_set=lambda key, name, at_ms: self.timetable.add(key, name, at_ms),
            serving=lambda key: self.chores.look(key),
            installed=lambda key: self.timetable.renew(key),
        )

    def _moved(self) -> None:
        self.progress.handled += 1
        self.progress.ready = self.progress.ready or self.reader.caught_up_ms > 0
        self.filling.moved()

    # -------------------------------------------------------------------------------------------- from people and other sites

    # Between the failure of its store and its end a site still hears: what that leads to is as lost as if it had ended.

    async def _handle(self, request: Request) -> Response:
        try:
            return await self.mailroom.handle(request)
        except StoreError:
            return refuse(Busy(reason="stopping"), wants_json(request))

    def _hear(self, message: PairMessage) -> None:
        self.watch.hurry(message.topology)
        with suppress(StoreError):
            self.hosting.hear(message)

    async def _answer(self, message: PairMessage) -> Response:
        self.watch.hurry(message.topology)
        try:
            match message:
                case Forwarded():
                    return await self.mailroom.answer(message)
                case SnapshotAsked():
                    return await self.desk.answer(message, self._around.topology.version)
                case _:
                    return refuse(InvalidRequest(reason="unknown_message", detail=message.spec.name), False)
        except CodecError as error:
            return refuse(InvalidRequest(reason=error.reason, detail=error.detail), False)
        except StoreError:
            return refuse(Busy(reason="stopping"), False)

    # -------------------------------------------------------------------------------------------- placement

    def _learn(self, record: TopologyRecord) -> None:
        """A newer topology: those in memory hear of it at once, for those on the disk it is looked at one by one."""
        was_away = self.name in _away(self._around.topology.record)
        self._around.topology = Topology(record)
        self.mailroom.turn_back()
        for hosted in self.hosting.active():
            placement = self._around.topology.placement(hosted.key)
            hosted.give(steps.Placed(placement, record.version))
            if placement.writer == self.name:
                hosted.give(steps.Start())
        if self.name in _away(record) and not was_away:
            self.filling.again()
        self.filling.look()


def _away(record: TopologyRecord) -> set[str]:
    return {row.name for row in record.sites if row.away}
