"""What the elections of a site share: its ports, its rows, its rules, and who hears of things."""

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import anyio
import msgspec

from messages.election_pairs import Record, TopologyRecord
from messages.message import Message, Rejection
from overseer.limits import SiteLimits
from overseer.pauses import Pauses
from overseer.ports.clock import Clock
from overseer.ports.sites import ElectionLog, SiteMail
from overseer.sites.crew import Crew
from overseer.sites.deciding import Decider
from overseer.sites.ledger import Ledger
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.placement import Placement, placed
from subsystems.elections.subsystem import Elections

__all__ = ["Alarms", "Facts", "Observer", "Silent", "Surroundings", "Topology"]


class Observer(Protocol):
    """Who is told what happens at a site: logs, metrics, tests. Cheap, never raising."""

    def serving(self, key: str, epoch: int) -> None: ...

    def released(self, key: str, reason: str) -> None: ...

    def report(self, what: str, detail: str) -> None:
        """For the operator: see steps.Report; and topology, governance, damage."""
        ...

    def stopped(self, key: str, reason: str) -> None:
        """An alarm: the election takes nothing any more here."""
        ...

    def failed(self, key: str, error: Exception) -> None:
        """A defect, contained: the election was dropped from memory, and begins anew with the next input."""
        ...

    def committed(self, key: str) -> None:
        """Called behind each append of this site's that the log took."""
        ...


class Silent:
    """Watches nothing."""

    def serving(self, key: str, epoch: int) -> None:
        pass

    def released(self, key: str, reason: str) -> None:
        pass

    def report(self, what: str, detail: str) -> None:
        pass

    def stopped(self, key: str, reason: str) -> None:
        pass

    def failed(self, key: str, error: Exception) -> None:
        pass

    def committed(self, key: str) -> None:
        pass


class Facts(Protocol):
    """Where the world is told what follows from an election's events."""

    async def tell(self, key: str, sequence: int, place: int, message: Message) -> None:
        """Publish one message of those that follow from event `sequence`, by its place among them.

        Raises BusError; what was not told is told again later.
        """
        ...


class Topology:
    """The recorded topology as far as this site knows it, with the placements that follow from it."""

    def __init__(self, record: TopologyRecord) -> None:
        self.record = record
        self._placements: dict[str, Placement] = {}

    @property
    def version(self) -> int:
        return self.record.version

    def placement(self, key: str) -> Placement:
        found = self._placements.get(key)
        if found is None:
            if len(self._placements) >= _PLACEMENTS_MAX:
                self._placements.clear()
            found = self._placements[key] = placed(self.record, key)
        return found


# Worked out again when there are more: a placement costs some 20 us.
_PLACEMENTS_MAX = 50_000


class Alarms:
    """Calls that are due at a time, of any number of elections."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._asleep = anyio.CancelScope()

    def at(self, at_ms: int, call: Callable[[], None]) -> None:
        sooner = not self._due or at_ms < self._due[0][0]
        self._count += 1
        heapq.heappush(self._due, (at_ms, self._count, call))
        if sooner:
            self._asleep.cancel()

    async def run(self) -> None:
        """For ever."""
        while True:
            with anyio.CancelScope() as self._asleep:
                await (self._clock.sleep_until(self._due[0][0]) if self._due else anyio.sleep_forever())
            while self._due and self._due[0][0] <= self._clock.now_ms():
                heapq.heappop(self._due)[2]()


class Surroundings(msgspec.Struct, kw_only=True):
    """Shared by all elections of a site. `topology` is replaced by a later one."""

    site: str
    elections: Elections
    ledger: Ledger
    log: ElectionLog
    mail: SiteMail
    clock: Clock
    decider: Decider
    facts: Facts
    topology: Topology
    tasks: Crew
    alarms: Alarms
    limits: SiteLimits
    runtime: RuntimeLimits
    observer: Observer
    # Snapshots that are fetched at once, and where they wait until they are installed (None: the system's folder for such).
    fetching: anyio.CapacityLimiter
    spool_folder: Path | None
    # The outcome for one caller, by origin.
    answer: Callable[[str, Record | Rejection], None]
    # Somebody knows this version of the topology.
    catch_up: Callable[[int], None]
    # A timer of this election was set, for this time.
    timer_set: Callable[[str, str, int], None]
    # This site writes this election from now on.
    serving: Callable[[str], None]
    # All rows of this election were replaced.
    installed: Callable[[str], None]

    def pauses(self) -> Pauses:
        """Between attempts at what needs the bus, or another site."""
        return Pauses(self.limits.retry_ms, self.limits.retry_ms_max)

    async def sleep(self, for_ms: int) -> None:
        await self.clock.sleep_until(self.clock.now_ms() + for_ms)
