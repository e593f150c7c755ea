"""A network of sites as the scenario plays it: leases and the recorded topology are kept by the sites themselves."""

from collections.abc import Sequence

import msgspec

from messages.election_pairs import BatchLogged, LogEntry, SiteRow, TooFewCopies, TopologyRecord
from overseer.simulation.elections.disk import RowsDisk
from overseer.simulation.elections.weather import LOG
from overseer.simulation.elections.world import Site, World
from overseer.simulation.linearizability import Committed
from overseer.simulation.scenario import Violation
from overseer.simulation.trace import Trace
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import head_after
from subsystems.elections.runtime.placement import COPIES, ImpossibleTopology, changed

__all__ = ["LEASE_MS", "ElectionSites"]

LEASE_MS = 800
_TICK_MS = 120


class ElectionSites(World):
    """`held_away`: sites that somebody marked as away, whatever their lease says, and until when."""

    def __init__(self, seed: int, topology: TopologyRecord, keys: Sequence[str], *, keep_lines: int | None) -> None:
        self.trace = Trace(self, keep=keep_lines)
        self.leases: dict[str, int] = {}
        self.held_away: dict[str, int] = {}
        self.ceased = False
        # How often idle elections are forgotten: a share of the looks at the lease.
        self.forgetful = 0.0
        # (site, epoch, command id): refused for too few copies, so never to be in the log by that site in that epoch.
        self._given_up: set[tuple[str, int, str]] = set()
        super().__init__(f"{seed} sites", topology, keys=keys, disks=RowsDisk)

    def add(self, name: str) -> Site:
        site = super().add(name)
        self.leases[name] = self.now
        self._tick(site)
        return site

    def holders(self, election: str) -> tuple[str, ...]:
        """The sites that hold it, by the topology as it is recorded."""
        return self.placed(self.topology, election).sites

    # -------------------------------------------------------------------------------------------- leases

    def _tick(self, site: Site) -> None:
        """Renew the own lease; record whose lease has run out, or who is back. For liveness alone."""
        self.at(self.random.randrange(_TICK_MS, 2 * _TICK_MS), lambda: self._tick(site))
        if not self.awake(site) or not self.weather.reaches(site.name, LOG):
            return
        self.leases[site.name] = self.now
        if self.chance(self.forgetful):
            self.forget(site, self.random.choice(self.keys))
        if site.topology is None or site.topology.version < self.topology.version:
            self.learn(site)
            return
        rows = [msgspec.structs.replace(row, away=self._away(row)) for row in self.topology.sites]
        if rows != self.topology.sites and not all(row.away for row in rows):
            self.change(rows)

    def _away(self, row: SiteRow) -> bool:
        held = self.held_away.get(row.name, 0) > self.now and not self.ceased
        return held or self.now - self.leases.setdefault(row.name, self.now) > LEASE_MS

    def change(self, rows: Sequence[SiteRow]) -> bool:
        """The next version of the topology; False where it would be an impossible one."""
        try:
            topology = changed(self.topology, rows)
        except ImpossibleTopology:
            return False
        self.trace.note("board", f"version {topology.version}: {' '.join(r.name + '(away)' * r.away for r in topology.sites)}")
        self.record(topology)
        return True

    # -------------------------------------------------------------------------------------------- what is watched

    def before_append(self, entry: LogEntry) -> None:
        self.trace.note(entry.site, f"appends {type(entry).__name__} {entry.epoch}.{entry.number} of {entry.election}")
        super().before_append(entry)

    def performed(self, site: Site, key: str, effect: steps.Effect) -> None:
        match effect:
            case steps.Answer(outcome=TooFewCopies()):
                member = site.members[key]
                self._given_up.add((site.name, member.follower.copy.applied.epoch, effect.id))
            case steps.Serving():
                self.trace.note(site.name, f"{key} is served in epoch {effect.epoch}")
                self._must_have_everything(site, key, effect.epoch)
            case steps.Released() | steps.Report() | steps.Install():
                self.trace.note(site.name, f"{key}: {effect}"[:200])
            case _:
                pass

    def _must_have_everything(self, site: Site, key: str, epoch: int) -> None:
        """Whoever serves has applied all that the log had before its barrier (point 7, B16)."""
        barriers = [sequence for sequence, entry in self.log.of(key) if entry.epoch == epoch and not isinstance(entry, BatchLogged)]
        copy = site.disk.copy(key)
        if not barriers or copy.stream != self.log.stream:
            # The log was lost meanwhile; what it appends next will fail.
            return
        if copy.log_sequence < barriers[0]:
            raise Violation("served", f"{site.name} serves {key} with the log up to {copy.log_sequence}, its barrier is at {barriers[0]}")

    # -------------------------------------------------------------------------------------------- at the end

    def order(self) -> list[Committed]:
        """The commands of all elections in the order of the log."""
        out: list[Committed] = []
        for key in self.keys:
            for at_ms, entry in self.log.history(key):
                for record in entry.records if isinstance(entry, BatchLogged) else ():
                    if (entry.site, entry.epoch, record.id) in self._given_up and not self.log.losses:
                        raise Violation("refused", f"{record.id} was refused for too few copies, and the same batch is in the log")
                    events = [(event.message, event.version, event.body) for event in record.events]
                    out.append(Committed(at_ms, key, record.id, record.digest, record.code, record.outcome, events))
        return out

    def unsettled(self) -> list[str]:
        """Copies that have not reached the log's tail, and sites that are not there."""
        out = [f"{row.name} is recorded as away" for row in self.topology.sites if row.away]
        for key in self.keys:
            own = self.log.of(key)
            tail = head_after(own[-1][1]) if own else None
            for name in self.holders(key):
                copy = self.sites[name].disk.copy(key)
                if tail is None and copy != steps.BLANK:
                    out.append(f"{name} has {key}, the log does not")
                if tail is not None and (copy.applied, copy.stream) != (tail, self.log.stream):
                    out.append(f"{name} has {key} up to {copy.applied.epoch}.{copy.applied.number}, the log to {tail.epoch}.{tail.number}")
        return out

    def compare_copies(self) -> None:
        """Five equal copies, and the log played again makes the same rows. Raises Violation."""
        for key in self.keys:
            replayed = RowsDisk()
            for _, entry in self.log.history(key):
                replayed.apply(steps.Apply(entry, "", 0, ()))
            wanted = replayed.snapshot(key)
            holders = self.holders(key)
            if len(holders) != COPIES:
                raise Violation("equal", f"{key} has {len(holders)} copies")
            for name in holders:
                disk = self.sites[name].disk
                assert isinstance(disk, RowsDisk)
                found = disk.snapshot(key)
                differing = [table for table in wanted if found[table] != wanted[table]]
                if differing or not disk.sound(key):
                    raise Violation("equal", f"{name} has other rows of {key} than the log makes: {', '.join(differing) or 'its chain'}")
