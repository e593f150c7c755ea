"""Does to the sites what was planned."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import msgspec

from messages.election_pairs import SiteRow
from overseer.simulation.elections.plan import SiteFault, SiteFaultKind
from overseer.simulation.elections.sites import ElectionSites
from overseer.simulation.elections.weather import LOG
from overseer.simulation.elections.world import Site
from subsystems.elections.runtime.placement import Placement, placed

__all__ = ["SiteFaults"]

# Shares of messages, by the amount of a fault.
_SHARES = (0.05, 0.2, 0.5)
# How far those are behind that are left when the log is lost.
_BEHIND_MS = 800
_FATES = {
    SiteFaultKind.APPEND_LOST: "lost",
    SiteFaultKind.APPEND_UNANSWERED: "unanswered",
    SiteFaultKind.APPEND_LATE: "late",
}
_WEATHER = {
    SiteFaultKind.MESSAGES_LOST: "lost",
    SiteFaultKind.MESSAGES_SLOW: "slow",
    SiteFaultKind.MESSAGES_DOUBLED: "doubled",
    SiteFaultKind.READS_OUTDATED: "outdated",
}


class SiteFaults:
    """`done`: those that had something to hit, by kind."""

    def __init__(self, world: ElectionSites, plan: Sequence[SiteFault]) -> None:
        self.done: Counter[str] = Counter()
        self._world = world
        # Until when something holds, where several faults want the same.
        self._until: dict[Hashable, int] = {}
        world.crashed = self._crashed
        for fault in plan:
            world.at(fault.at_ms, lambda fault=fault: self._inject(fault))

    def cease(self) -> None:
        """Everything heals; what was not injected yet never is."""
        self._world.ceased = True
        self._world.heal()

    def _inject(self, fault: SiteFault) -> None:
        if self._world.ceased:
            return
        if self._do(fault):
            self.done[fault.kind.value] += 1
            self._world.trace.note("fault", str(fault))

    def _do(self, fault: SiteFault) -> bool:
        """Whether there was something to hit."""
        kind, world = fault.kind, self._world
        site = world.sites[self._target(fault)]
        match kind:
            case SiteFaultKind.MESSAGES_LOST | SiteFaultKind.MESSAGES_SLOW | SiteFaultKind.MESSAGES_DOUBLED | SiteFaultKind.READS_OUTDATED:
                return self._trouble(_WEATHER[kind], _SHARES[fault.amount % 3], fault.for_ms)
            case SiteFaultKind.PARTITION | SiteFaultKind.PARTITION_2_2_1 | SiteFaultKind.WRITER_ALONE:
                return self._part(self._groups(fault), fault)
            case SiteFaultKind.CUT_ONE_WAY | SiteFaultKind.LOG_UNHEARD:
                return self._cut(fault, site)
            case SiteFaultKind.PAUSE | SiteFaultKind.PAUSE_PAST_LEASE:
                world.pause(site.name, fault.for_ms)
                return site.alive
            case SiteFaultKind.SLOW_READER:
                site.reading_from = max(site.reading_from, world.now + fault.for_ms)
                return True
            case SiteFaultKind.APPEND_LOST | SiteFaultKind.APPEND_UNANSWERED | SiteFaultKind.APPEND_LATE:
                site.append_fate = _FATES[kind]
                return site.alive
            case SiteFaultKind.LOG_UNAVAILABLE:
                world.weather.log_down = True
                self._for("log", fault.for_ms, lambda: setattr(world.weather, "log_down", False))
                return True
            case SiteFaultKind.LOG_REPLACED:
                return self._lose_log(fault)
            case SiteFaultKind.MARKED_AWAY | SiteFaultKind.SITE_ADDED | SiteFaultKind.SITE_REMOVED:
                return self._rearrange(fault, site)
            case _:
                return self._hurt(fault, site)

    def _target(self, fault: SiteFault) -> str:
        world = self._world
        placement = placed(world.topology, world.keys[fault.election % len(world.keys)])
        match fault.target:
            case "writer":
                return placement.writer
            case "follower":
                return placement.followers[fault.amount % len(placement.followers)]
            case name:
                return name

    def _for(self, what: Hashable, for_ms: int, end: Callable[[], object]) -> None:
        """Until then, or until a later one of the same ends."""
        world = self._world
        self._until[what] = max(self._until.get(what, 0), world.now + for_ms)

        def over() -> None:
            if world.now >= self._until[what]:
                end()

        world.at(for_ms, over)

    def _lose_log(self, fault: SiteFault) -> bool:
        """What takes a log takes other things with it: the writer, hearing each other, two followers; or nothing else."""
        world = self._world
        placement = placed(world.topology, world.keys[fault.election % len(world.keys)])
        if fault.amount & 8:
            self._leave_those_behind(placement, fault.for_ms)
            return True
        world.log.lose()
        if fault.amount & 1:
            self._crash(world.sites[placement.writer], fault.for_ms)
        if fault.amount & 2:
            groups = {name: (fault.amount >> 3 >> place) & 1 for place, name in enumerate(sorted(world.sites))}
            self._part(groups, fault)
        if fault.amount & 4:
            for name in placement.followers[fault.amount % 3 :][:2]:
                self._crash(world.sites[name], fault.for_ms)
        return True

    def _leave_those_behind(self, placement: Placement, for_ms: int) -> None:
        """Two followers hear nothing new for a while; then the log is lost, and they alone are left."""
        world = self._world
        *there, one, other = (placement.writer, *placement.followers)
        behind = {one, other}
        for name in behind:
            world.sites[name].reading_from = max(world.sites[name].reading_from, world.now + _BEHIND_MS)
        cuts = {(name, late) for name in there for late in behind}
        world.weather.cuts |= cuts

        def lose() -> None:
            if world.ceased:
                return
            world.log.lose()
            for name in there:
                self._crash(world.sites[name], for_ms)
            world.weather.cuts -= cuts

        world.at(_BEHIND_MS, lose)

    # -------------------------------------------------------------------------------------------- the network

    def _trouble(self, what: str, share: float, for_ms: int) -> bool:
        weather = self._world.weather
        setattr(weather, what, share)
        self._for(what, for_ms, lambda: setattr(weather, what, 0.0))
        return True

    def _groups(self, fault: SiteFault) -> dict[str, int]:
        world = self._world
        names = sorted(world.sites)
        if fault.kind is SiteFaultKind.WRITER_ALONE:
            return {self._target(fault): 1}
        if fault.kind is SiteFaultKind.PARTITION:
            return {name: (fault.amount >> place) & 1 for place, name in enumerate(names)}
        # Data centres two, two, and the rest.
        centres = sorted({row.name: row.data_centre for row in world.topology.sites}.items())
        order = list(dict.fromkeys(centre for _, centre in centres))
        turned = order[fault.amount % len(order) :] + order[: fault.amount % len(order)]
        place = {centre: min(turned.index(centre) // 2, 2) for centre in turned}
        return {name: place[centre] for name, centre in centres}

    def _part(self, groups: dict[str, int], fault: SiteFault) -> bool:
        weather = self._world.weather
        weather.groups, weather.log_group = groups, fault.amount % (max(groups.values()) + 1)

        def heal() -> None:
            weather.groups, weather.log_group = {}, 0

        self._for("groups", fault.for_ms, heal)
        return True

    def _cut(self, fault: SiteFault, site: Site) -> bool:
        """What the site says is not heard by some, or it hears them no more: two thirds of the others, or the log."""
        world = self._world
        others = [name for place, name in enumerate(sorted(world.sites)) if name != site.name and (place + fault.amount) % 3]
        ends = [LOG] if fault.kind is SiteFaultKind.LOG_UNHEARD else others
        for other in ends:
            cut = (other, site.name) if fault.amount % 2 else (site.name, other)
            world.weather.cuts.add(cut)
            self._for(cut, fault.for_ms, lambda cut=cut: world.weather.cuts.discard(cut))
        return True

    # -------------------------------------------------------------------------------------------- sites

    def _hurt(self, fault: SiteFault, site: Site) -> bool:
        match fault.kind:
            case SiteFaultKind.CRASH_BETWEEN_EFFECTS:
                site.crash_after = 1 + fault.amount % 40
                return site.alive
            case SiteFaultKind.FOLLOWERS_DOWN:
                world = self._world
                placement = placed(world.topology, world.keys[fault.election % len(world.keys)])
                down = [name for name in placement.followers if world.sites[name].alive][: 3 + fault.amount % 2]
                for name in down:
                    self._crash(world.sites[name], fault.for_ms)
                return bool(down)
            case SiteFaultKind.KILL:
                return self._crash(site, fault.for_ms, survive=lambda written: written)
            case SiteFaultKind.POWER_CUT:
                return self._crash(site, fault.for_ms)
            case _:
                return self._crash(site, fault.for_ms, forget=True)

    def _crash(self, site: Site, for_ms: int, *, forget: bool = False, survive: Callable[[int], int] | None = None) -> bool:
        world = self._world
        if not site.alive:
            return False
        # Of what was not synced any first part may have reached the disk.
        world.crash(site.name, forget=forget, survive=survive or (lambda written: world.random.randrange(written + 1)))
        world.at(for_ms, lambda: world.restart(site.name))
        return True

    def _crashed(self, site: Site) -> None:
        """In the middle of an input."""
        self._world.trace.note("fault", f"{site.name} crashes between two effects")
        self._crash(site, self._world.random.choice((1, 50, 400, 1_500)))

    # -------------------------------------------------------------------------------------------- the topology

    def _rearrange(self, fault: SiteFault, site: Site) -> bool:
        world = self._world
        rows = list(world.topology.sites)
        match fault.kind:
            case SiteFaultKind.MARKED_AWAY:
                world.held_away[site.name] = max(world.held_away.get(site.name, 0), world.now + fault.for_ms)
                marked = [msgspec.structs.replace(row, away=row.away or row.name == site.name) for row in rows]
                return not all(row.away for row in marked) and world.change(marked)
            case SiteFaultKind.SITE_ADDED:
                name = f"s{len(world.sites)}"
                if not world.change([*rows, SiteRow(name, f"dc{fault.amount % 5}", f"z{name}")]):
                    return False
                world.add(name)
                return True
            case _:
                return world.change([row for row in rows if row.name != site.name])
