"""Five (or eight) sites over memory ports in one process, in virtual time: each a real `Site`, with a disk that outlives it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio
import msgspec

from messages.ballots import BallotElection, CastBallot, GetBallotElection, OpenElection
from messages.codec import decode, encode
from messages.election_pairs import CopyReport, GetCopy, SiteRow, TopologyRecord
from messages.elections import OfElection, Recorded
from messages.message import Message
from messages.overseer import CommandOutcome, OutcomeStatus
from messages.subjects import CONTENT_CBOR, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE
from overseer.limits import SiteLimits
from overseer.memory.bus.broker import MemoryBroker
from overseer.memory.entropy import SeededEntropy
from overseer.memory.site_mail import MemoryPostOffice, MemorySiteMail
from overseer.memory.sites import MemoryLogServer
from overseer.memory.store import MemoryDisk, MemoryStore
from overseer.ports.bus import BusUnavailable, Line, Response
from overseer.simulation.clock import NodeClock
from overseer.simulation.loop import VirtualLoop, run_virtually
from overseer.sites.declaration import SIGNALS
from overseer.sites.mailroom import HEADER_FRESHNESS, HEADER_REQUIRED
from overseer.sites.site import Site, SitePorts
from overseer.sites.surroundings import Silent
from overseer.sites.tables import table_names
from subsystems.elections.ballots.rows import BALLOTS
from subsystems.elections.rows import key_hash
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.placement import placed
from subsystems.elections.subsystem import Elections
from tests.node.asking import recorded_of

KEY = "mayor-2026"
OPEN = OpenElection(election=KEY, title="Mayor", choices=["Ada", "Grace"])
RUNTIME = RuntimeLimits(replicate_ms=400, retry_ms=60, probe_ms=120, recovery_ms=250, command_wait_ms=1_500, catch_up_entries_max=12)
LIMITS = SiteLimits(look_ms=100, away_after_ms=200, watched_ms=400, back_after_ms=600, command_ms=2_000, ask_ms=500, stale_after_ms=2_000)
LEASE_MS = 400
STREAM = "OVERSEER_n1"
HEARD = [f"overseer.n1.{signal.spec.owner}.sig.{signal.spec.name}" for signal in SIGNALS]

T = TypeVar("T")


def five() -> TopologyRecord:
    return TopologyRecord(version=1, sites=[SiteRow(f"s{n}", f"dc{n}", "z") for n in range(5)])


def eight() -> TopologyRecord:
    return TopologyRecord(version=1, sites=[SiteRow(f"s{n}", f"dc{n // 2}", f"z{n % 2}") for n in range(8)])


def ballot(voter: str, choice: str = "Ada", key: str = KEY) -> CastBallot:
    return CastBallot(election=key, voter=voter.encode(), choice=choice)


class Told(Silent):
    """What a site's observer heard."""

    def __init__(self) -> None:
        self.served: list[tuple[str, int]] = []
        self.let_go: list[tuple[str, str]] = []
        self.reports: list[tuple[str, str]] = []
        self.failures: list[Exception] = []
        self.stops: list[str] = []
        self.commits = 0
        # Called behind each append that the log took, before anything follows from it.
        self.on_commit: Callable[[], None] = lambda: None

    def serving(self, key: str, epoch: int) -> None:
        self.served.append((key, epoch))

    def released(self, key: str, reason: str) -> None:
        self.let_go.append((key, reason))

    def report(self, what: str, detail: str) -> None:
        self.reports.append((what, detail))

    def stopped(self, key: str, reason: str) -> None:
        self.stops.append(reason)

    def failed(self, key: str, error: Exception) -> None:
        self.failures.append(error)

    def committed(self, key: str) -> None:
        self.commits += 1
        self.on_commit()


class Here:
    """One site: its disk, and its present life."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = MemoryDisk()
        self.told = Told()
        self.scope: anyio.CancelScope | None = None
        self.store: MemoryStore
        self.mail: MemorySiteMail
        self.site: Site

    def die(self) -> None:
        """At once, from within."""
        assert self.scope is not None
        self.mail.die()
        self.scope.cancel()


class World:
    """Made by `living`. `facts`: what the world was told, by whichever site."""

    def __init__(self, topology: TopologyRecord, clock: NodeClock, tasks: anyio.abc.TaskGroup, broker: MemoryBroker, limits: SiteLimits):
        self.topology = topology
        self.clock = clock
        self.limits = limits
        self.server = MemoryLogServer(clock, lease_ms=LEASE_MS)
        # How long a message takes from one site to another.
        self.mail_ms = 1
        self.office = MemoryPostOffice(clock, tasks, delay=lambda _, __: self.mail_ms)
        self.broker = broker
        self.facts: list[tuple[int, Message]] = []
        self.sites = {row.name: Here(row.name) for row in topology.sites}
        self._tasks = tasks
        self._asked = 0

    async def tell(self, key: str, sequence: int, place: int, message: Message) -> None:
        self.facts.append((sequence, message))

    # -------------------------------------------------------------------------------------------- sites

    def start(self, name: str) -> None:
        here, elections = self.sites[name], Elections()
        here.told = Told()
        here.mail = self.office.mail(name)
        here.store = MemoryStore(table_names(elections), disk=here.disk)
        ports = SitePorts(
            store=here.store,
            log=self.server.log(name),
            board=self.server.board(name),
            mail=here.mail,
            facts=self,
            clock=self.clock,
            entropy=SeededEntropy(f"{name} {self._asked}"),
            line=self._line(name),
        )
        here.site = Site(name, elections, ports, self.topology, limits=self.limits, runtime=RUNTIME, node="n1", observer=here.told)
        here.scope = anyio.CancelScope()
        self._tasks.start_soon(self._live, here, here.site, here.scope)

    async def _live(self, here: Here, site: Site, scope: anyio.CancelScope) -> None:
        with scope:
            await site.run()

    def _line(self, name: str) -> Line:
        user = f"elections_{name}"
        return self.broker.line(STREAM, sender=user, own_filter=f"overseer.n1.{user}.>", durable=user)

    def join(self, name: str, topology: TopologyRecord) -> None:
        """A new site, whose configuration names it as well."""
        self.topology = topology
        self.broker.add_consumer(STREAM, f"elections_{name}", HEARD)
        self.sites[name] = Here(name)
        self.start(name)

    async def kill(self, name: str, *, forget: bool = False) -> None:
        """As SIGKILL: what was not synced may be lost; with `forget` the disk as well."""
        here = self.sites[name]
        here.die()
        here.scope = None
        here.disk.crash()
        if forget:
            here.disk = MemoryDisk()
        await anyio.lowlevel.checkpoint()

    def cut(self, *names: str) -> None:
        """These sites reach each other, and neither the others nor the log."""
        self.office.split(names)
        for name in names:
            self.server.cut(name)

    def heal(self) -> None:
        self.office.split()
        for name in self.sites:
            self.server.heal(name)

    @property
    def writer(self) -> str:
        """By the recorded topology."""
        return placed(self.server.recorded.record or self.topology, KEY).writer

    @property
    def members(self) -> tuple[str, ...]:
        """By the first topology, its writer first."""
        return placed(self.topology, KEY).sites

    def votes(self, name: str, key: str = KEY) -> list[str]:
        """Who has voted, as far as this site shows."""
        view = self.sites[name].site.view
        return sorted(voter.decode() for (_, _, voter), _ in view.scan(BALLOTS, prefix=(key_hash(key),)))

    # -------------------------------------------------------------------------------------------- people

    async def ask(self, name: str, message: Message, command_id: str = "", *, timeout_ms: int = 5_000, **headers: str) -> Response:
        key = message.election if isinstance(message, OfElection) else "_"
        told = {HEADER_CONTENT_TYPE: CONTENT_CBOR, **headers}
        if command_id:
            told[HEADER_COMMAND_ID] = command_id
        subject = f"overseer.n1.elections_{name}.mail.{key}.{message.spec.name}"
        return await self.office.people(name, subject, encode(message), told, timeout_ms)

    async def command(self, name: str, message: OfElection, command_id: str = "") -> CommandOutcome:
        """The outcome through the mailroom of a site. Raises BusUnavailable."""
        response = await self.ask(name, message, command_id)
        assert response.error is None or response.error[0] == "409", response
        outcome = decode(CommandOutcome.spec, response.body)
        assert isinstance(outcome, CommandOutcome)
        return outcome

    async def done(self, message: OfElection, command_id: str = "", *, at: str = "", patience_ms: int = 20_000) -> Recorded:
        """Accepted, whatever passes meanwhile: asked again, at another site each time, with the same id."""
        self._asked += 1
        command_id = command_id or f"auto-{self._asked}"
        until_ms = self.clock.now_ms() + patience_ms
        names = [name for name in ([at] if at else self.sites) if self.sites[name].scope is not None]
        while self.clock.now_ms() < until_ms:
            for name in names:
                try:
                    outcome = await self.command(name, message, command_id)
                except (BusUnavailable, AssertionError):
                    continue
                if outcome.status is OutcomeStatus.ACCEPTED:
                    return recorded_of(outcome)
                assert outcome.retriable, outcome
            await self.sleep(50)
        raise AssertionError(f"{message} was not taken: {[(h.name, h.told.reports, h.told.failures) for h in self.sites.values()]}")

    async def cast(self, name: str) -> int:
        """Ballots, as a site shows."""
        response = await self.ask(name, GetBallotElection(election=KEY))
        assert response.error is None, response
        found = decode(BallotElection.spec, response.body)
        assert isinstance(found, BallotElection)
        return found.rounds[-1].cast

    async def copy(self, name: str, key: str = KEY) -> CopyReport:
        response = await self.ask(name, GetCopy(election=key))
        found = decode(CopyReport.spec, response.body)
        assert isinstance(found, CopyReport)
        return found

    # -------------------------------------------------------------------------------------------- time

    async def sleep(self, ms: int) -> None:
        await self.clock.sleep_until(self.clock.now_ms() + ms)

    async def until(self, condition: Callable[[], bool], what: str, *, ms: int = 20_000) -> None:
        for _ in range(ms // 10):
            if condition():
                return
            await self.sleep(10)
        raise AssertionError(f"not within {ms} ms: {what}")

    async def level(self, names: Iterable[str] | None = None) -> None:
        """Until these sites have applied everything that the log holds."""
        last = len(self.server.entries)
        wanted = [name for name in (names or self.sites) if self.sites[name].scope is not None]
        await self.until(lambda: all(self._level(self.sites[name].site, last) for name in wanted), "all are level")

    def _level(self, site: Site, last: int) -> bool:
        return site.reader.place.sequence >= last and site.filling.filled and not site.filling.owing


def living(story: Callable[[World], Awaitable[T]], topology: TopologyRecord | None = None, **limits: int) -> T:
    """The story of a world, in which all sites run at first."""

    async def main() -> T:
        running = asyncio.get_running_loop()
        assert isinstance(running, VirtualLoop)
        clock = NodeClock(running)
        made = topology or five()
        async with MemoryBroker(clock) as broker, anyio.create_task_group() as tasks:
            broker.create_stream(STREAM, subjects=["overseer.n1.>"], stream_id="n1")
            world = World(made, clock, tasks, broker, msgspec.structs.replace(LIMITS, **limits))
            for row in made.sites:
                broker.add_consumer(STREAM, f"elections_{row.name}", HEARD)
                world.start(row.name)
            await world.until(lambda: all(here.site.progress.ready for here in world.sites.values()), "all sites are ready")
            result = await story(world)
            failures = [failure for here in world.sites.values() for failure in here.told.failures]
            assert not failures, failures
            tasks.cancel_scope.cancel()
        return result

    return run_virtually(main())


__all__ = [
    "HEADER_FRESHNESS",
    "HEADER_REQUIRED",
    "KEY",
    "OPEN",
    "World",
    "ballot",
    "eight",
    "five",
    "living",
]
