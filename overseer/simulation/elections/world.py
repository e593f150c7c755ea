"""Sites in virtual time around the machines of the replicated runtime: a network that misbehaves, a log, disks that forget.

It does what the node's shell does, in memory and by a seed: it hosts members, gives them their inputs, performs their effects,
keeps what is durable, and loses what may be lost.
"""

from collections.abc import Callable, Sequence
from random import Random

from messages.election_pairs import BatchLogged, LogEntry, SiteRow, TopologyRecord
from overseer.simulation.elections.disk import Disk
from overseer.simulation.elections.effects import Performer
from overseer.simulation.elections.log import SimulatedLog
from overseer.simulation.elections.mail import Mailrooms
from overseer.simulation.elections.timeline import Timeline
from overseer.simulation.elections.weather import LOG, Weather
from overseer.simulation.scenario import Violation
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.member import Member
from subsystems.elections.runtime.placement import ACKNOWLEDGEMENTS, COPIES, Placement, placed

__all__ = ["LIMITS", "Site", "World", "eight", "five"]

# Small, so that deadlines are often missed, queues full and copies far behind.
LIMITS = RuntimeLimits(
    replicate_ms=400,
    retry_ms=60,
    probe_ms=120,
    recovery_ms=250,
    command_wait_ms=1_000,
    queue_max=50,
    batch_commands_max=4,
    catch_up_entries_max=12,
)
# Entries that the log's reader takes at once.
_READ_AT_ONCE = 3
# Of so many inputs, after one it is looked whether the disk has what the machine believes.
_LOOKED_AT = 16


def five() -> TopologyRecord:
    """Five data centres of one zone each."""
    return TopologyRecord(version=1, sites=[SiteRow(f"s{n}", f"dc{n}", "z") for n in range(5)])


def eight() -> TopologyRecord:
    """Four data centres of two zones each."""
    return TopologyRecord(version=1, sites=[SiteRow(f"s{n}", f"dc{n // 2}", f"z{n % 2}") for n in range(8)])


class Site:
    """A process with a disk. `topology` is what it has read of the board; None until it has."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk
        self.alive = True
        # Of each process one more: what was meant for an earlier one does not reach this one.
        self.life = 0
        self.paused_until = 0
        self.members: dict[str, Member] = {}
        self.topology: TopologyRecord | None = None
        # The log's reader: up to where, in which stream; when it was at the end; and a time before which it reads nothing.
        self.cursor = 0
        self.stream = ""
        self.caught_up_ms = 0
        self.reading_from = 0
        # What becomes of the next append: "" | lost | unanswered | late.
        self.append_fate = ""
        # After so many effects it crashes, in the middle of one input; 0: it does not.
        self.crash_after = 0


class World(Timeline):
    """`keys`: the elections. Inputs reach a member one at a time, and the effects of one are performed before the next."""

    def __init__(
        self, seed: int | str, topology: TopologyRecord, *, keys: Sequence[str], disks: Callable[[], Disk], limits: RuntimeLimits = LIMITS
    ) -> None:
        super().__init__()
        self.random = Random(seed)
        self.weather = Weather()
        self.topology = topology
        self.keys = tuple(keys)
        self.limits = limits
        self.log = SimulatedLog()
        self.performer = Performer(self)
        self.mail = Mailrooms(self)
        self.served: list[tuple[int, str, int]] = []
        self.crashed: Callable[[Site], None] = lambda site: None
        self._inputs = 0
        self._placements: dict[tuple[int, str], Placement] = {}
        self._disks = disks
        self.sites: dict[str, Site] = {}
        for row in topology.sites:
            self.add(row.name)

    # -------------------------------------------------------------------------------------------- chance

    def chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def delay(self) -> int:
        """How long a message takes."""
        return self.random.randrange(1, 700) if self.chance(self.weather.slow) else self.random.choice((1, 1, 2, 3, 5, 8))

    # -------------------------------------------------------------------------------------------- sites

    def add(self, name: str) -> Site:
        """A site with an empty disk, that knows the topology as it is."""
        site = self.sites[name] = Site(name, self._disks())
        site.topology = self.topology
        self._start(site)
        self._poll(site)
        return site

    def _start(self, site: Site) -> None:
        if site.topology is None:
            self.learn(site)
            return
        for key in self.keys:
            if site.name in self.placed(site.topology, key).sites:
                self.give(site, key, steps.Fill())

    def crash(self, name: str, *, forget: bool = False, survive: Callable[[int], int] = lambda written: 0) -> None:
        """Of `written` unsynced writes the first `survive(written)` outlive it. `forget`: the disk does not."""
        site = self.sites[name]
        site.alive, site.members, site.life, site.crash_after, site.append_fate = False, {}, site.life + 1, 0, ""
        # The position of the log's reader is kept with the rows.
        site.cursor = min(site.cursor, survive(site.cursor))
        site.disk.cut_power(survive)
        site.caught_up_ms = 0
        if forget:
            site.disk.erase()
            site.topology, site.cursor, site.stream = None, 0, ""

    def restart(self, name: str) -> None:
        site = self.sites[name]
        if not site.alive:
            site.alive, site.paused_until = True, 0
            # It was committed now and then.
            site.cursor = max(0, site.cursor - self.random.randrange(4))
            self._start(site)

    def pause(self, name: str, for_ms: int) -> None:
        self.sites[name].paused_until = max(self.sites[name].paused_until, self.now + for_ms)

    def forget(self, site: Site, key: str) -> None:
        """A member that is idle goes from memory (passivation, point 10): all it knows is on the disk."""
        if key in site.members and site.members[key].idle:
            del site.members[key]

    def awake(self, site: Site) -> bool:
        return site.alive and self.now >= site.paused_until

    # -------------------------------------------------------------------------------------------- members

    def member(self, site: Site, key: str) -> Member:
        """Made of what the disk has, where there is none."""
        if key not in site.members:
            assert site.topology is not None
            version = site.topology.version
            site.members[key] = Member(key, site.name, self.placed(site.topology, key), version, site.disk.copy(key), self.limits)
        return site.members[key]

    def give(self, site: Site, key: str, given: steps.Input) -> None:
        """One input, unless the site is gone; a paused site gets it when it wakes."""
        if self.now < site.paused_until:
            life = site.life
            self.at(site.paused_until - self.now, lambda: self.give(site, key, given) if site.life == life else None)
            return
        if not site.alive or site.topology is None:
            return
        member = self.member(site, key)
        if member.topology < site.topology.version:
            self._handle(site, key, member, steps.Placed(self.placed(site.topology, key), site.topology.version))
        # What came before may have crashed it.
        if site.members.get(key) is member:
            self._handle(site, key, member, given)

    def _handle(self, site: Site, key: str, member: Member, given: steps.Input) -> None:
        for effect in member.handle(given, self.now):
            self.performed(site, key, effect)
            self.performer.perform(site, key, effect)
            if site.crash_after:
                site.crash_after -= 1
                if not site.crash_after:
                    self.crashed(site)
                    return
        self._inputs += 1
        if self._inputs % _LOOKED_AT == 0 and not member.follower.stopped and site.disk.copy(key) != member.follower.copy:
            raise Violation("kept", f"{site.name} does not have of {key} on its disk what it believes")

    def later(self, site: Site, key: str, delay_ms: int, given: Callable[[], steps.Input | None]) -> None:
        """An input for the process that is there now."""
        life = site.life

        def deliver() -> None:
            if site.life == life and site.alive:
                found = given()
                if found is not None:
                    self.give(site, key, found)

        self.at(delay_ms, deliver)

    # -------------------------------------------------------------------------------------------- what is watched

    def before_append(self, entry: LogEntry) -> None:
        """Three of five copies before the log (point 5, B13)."""
        needed = 1 + ACKNOWLEDGEMENTS if len(self.topology.sites) >= COPIES else 1
        if not isinstance(entry, BatchLogged):
            return
        durable = self.performer.durable(entry)
        if durable < needed:
            raise Violation("copies", f"{entry.election}: a batch goes to the log from {entry.site} with {durable} durable copies")

    def performed(self, site: Site, key: str, effect: steps.Effect) -> None:
        """An effect is about to be performed; for whoever watches."""

    # -------------------------------------------------------------------------------------------- the log's readers

    def _poll(self, site: Site) -> None:
        """The site's own reader of the log, always on its way."""
        self.at(self.random.choice((10, 20, 60)), lambda: self._poll(site))
        if not self.awake(site) or site.topology is None or self.now < site.reading_from or not self.weather.reaches(site.name, LOG):
            return
        log = self.log
        if site.stream != log.stream:
            site.stream, site.cursor = log.stream, 0
            for key in list(site.members):
                self.give(site, key, steps.LogReplaced(log.stream))
        if log.end > site.cursor:
            life = site.life
            for sequence, entry in self._behind(site.cursor):
                site.cursor = sequence
                if entry.election in site.members or site.name in self.placed(site.topology, entry.election).sites:
                    self.give(site, entry.election, steps.LogDelivered(log.stream, sequence, entry))
                if site.life != life:
                    return
        if site.cursor >= log.end:
            site.caught_up_ms = self.now

    def _behind(self, cursor: int) -> list[tuple[int, LogEntry]]:
        entries = self.log.entries
        # Sequences have no holes within a stream.
        first = max(0, cursor + 1 - entries[0][0])
        return entries[first : first + _READ_AT_ONCE]

    # -------------------------------------------------------------------------------------------- the topology

    def record(self, topology: TopologyRecord) -> None:
        """Changed by compare-and-set; the sites hear of it one after the other."""
        self.topology = topology
        for site in self.sites.values():
            self.at(self.delay() * 3, lambda site=site: self.learn(site))

    def learn(self, site: Site) -> None:
        """Read the board, which is where the log is."""
        if not self.awake(site) or not self.weather.reaches(site.name, LOG):
            return
        before, site.topology = site.topology, self.topology
        if before is None or before.version < self.topology.version:
            for key in self.keys:
                placement = self.placed(self.topology, key)
                if key not in site.members and site.name in placement.sites:
                    self.give(site, key, steps.Fill())
                elif key in site.members:
                    self.give(site, key, steps.Placed(placement, self.topology.version))

    def placed(self, topology: TopologyRecord, key: str) -> Placement:
        """As the runtime's, remembered."""
        known = self._placements.get((topology.version, key))
        if known is None:
            known = self._placements[topology.version, key] = placed(topology, key)
        return known

    def writer(self, key: str) -> str:
        return self.placed(self.topology, key).writer

    # -------------------------------------------------------------------------------------------- in the end

    def heal(self) -> None:
        """Nothing goes wrong any more; everybody is there."""
        self.weather.calm()
        for site in self.sites.values():
            site.paused_until = min(site.paused_until, self.now + 1)
            site.reading_from, site.append_fate, site.crash_after = 0, "", 0
            self.restart(site.name)
            self.at(5, lambda site=site: self.learn(site))
