"""Performs what the machines want: the driver of effects, and all there is between a machine and its surroundings.

The node's shell does the same with real ports (overseer/ports/sites.py). Here everything that the world answers comes back after a while,
late, twice or not at all, as the weather is.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from messages.election_pairs import PairMessage
from overseer.simulation.elections.weather import LOG
from overseer.simulation.scenario import Violation
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import LogEntry, dump_entry

if TYPE_CHECKING:
    from overseer.simulation.elections.world import Site, World

__all__ = ["Performer"]

# How long a client of the log waits for an answer before the outcome is unknown.
PATIENCE_MS = 100
# Entries in one page of the log.
_PAGE = 5


class Performer:
    """Of all members of all sites: it holds no state but what is on its way."""

    def __init__(self, world: "World") -> None:
        self._world = world
        # Which copies have stored an entry, or taken it over from one that has: what an acknowledgement promises.
        self._copies_of: dict[bytes, set[str]] = {}
        # Rows that were fetched beside those of the site, until they are installed.
        self._fetched: dict[tuple[str, str], tuple[steps.Copy, object]] = {}

    def perform(self, site: "Site", key: str, effect: steps.Effect) -> None:
        world = self._world
        match effect:
            case steps.Send():
                self._send(site, key, effect.to, effect.message)
            case steps.Store():
                self._store(site, key, effect.entry)
            case steps.Apply():
                site.disk.apply(effect)
                if world.chance(0.3):
                    site.disk.sync()
            case steps.Install():
                self._install(site, key, effect)
            case steps.Decide():
                verdicts = site.disk.decide(key, effect.commands, world.now)[: world.random.choice((1, 4, 4))]
                world.later(site, key, world.random.choice((0, 0, 1, 5)), lambda: steps.Decided(verdicts))
            case steps.Answer():
                world.mail.answer(site, effect.origin, effect.outcome)
            case steps.Append():
                self._append(site, key, effect)
            case steps.ReadLog():
                self._read_log(site, key, effect)
            case steps.ReadLast():
                self._read_last(site, key)
            case steps.FetchSnapshot():
                self._fetch(site, key, effect.site)
            case steps.VerifyCopy():
                world.later(site, key, 1, lambda: steps.CopyVerified(site.disk.sound(key)))
            case steps.SetAlarm():
                world.later(site, key, effect.at_ms - world.now, steps.Alarm)
            case steps.CatchUpTopology():
                world.at(world.delay(), lambda: world.learn(site))
            case steps.Serving():
                world.served.append((world.now, site.name, effect.epoch))
            case steps.FailStop():
                raise Violation("fail-stop", f"{site.name} stopped {key}: {effect.reason}")
            case steps.Released() | steps.Report():
                pass
            case _:
                assert_never(effect)

    # -------------------------------------------------------------------------------------------- other members

    def _send(self, site: "Site", key: str, to: str, message: PairMessage) -> None:
        world = self._world
        target = world.sites[to]

        def deliver() -> None:
            if target.alive and world.weather.hears(site.name, to):
                world.give(target, key, steps.Received(message))

        for _ in range(2 if world.chance(world.weather.doubled) else 1):
            if not world.chance(world.weather.lost):
                world.at(world.delay(), deliver)

    def _fetch(self, site: "Site", key: str, source_name: str) -> None:
        world = self._world
        source = world.sites[source_name]

        def answer() -> steps.Input:
            if not source.alive or not world.weather.reaches(site.name, source_name) or world.chance(world.weather.lost):
                return steps.SnapshotFailed(source_name)
            copy = source.disk.copy(key)
            self._fetched[site.name, key] = copy, source.disk.snapshot(key)
            return steps.SnapshotFetched(source_name, copy, source.disk.sound(key))

        world.later(site, key, world.delay(), answer)

    # -------------------------------------------------------------------------------------------- the disk

    def _store(self, site: "Site", key: str, entry: LogEntry) -> None:
        world = self._world
        site.disk.store(entry)
        world.log.prepared(entry)
        self._hold(site, key)
        world.later(site, key, world.random.choice((0, 1, 4)), lambda: steps.Stored(entry.epoch, entry.number))

    def _hold(self, site: "Site", key: str) -> None:
        """Whatever connects to what this site has would be there after a crash."""
        for prepared in site.disk.copy(key).prepared:
            self._copies_of.setdefault(dump_entry(prepared.entry), set()).add(site.name)

    def _install(self, site: "Site", key: str, effect: steps.Install) -> None:
        copy, snapshot = self._fetched.pop((site.name, key), (steps.BLANK, None)) if effect.site else (steps.BLANK, None)
        if copy.applied != effect.copy.applied:
            raise Violation("kept", f"{site.name} installs a copy of {key} that was not fetched")
        site.disk.install(key, effect.copy, snapshot)
        self._hold(site, key)

    # -------------------------------------------------------------------------------------------- the log

    def _append(self, site: "Site", key: str, effect: steps.Append) -> None:
        world, entry = self._world, effect.entry
        settled: list[steps.Input] = []

        def arrive() -> None:
            if not world.weather.hears(site.name, LOG):
                return
            world.before_append(entry)
            sequence = world.log.append(entry, stream=effect.stream, expected=effect.expected, now_ms=world.now)
            settled.append(steps.AppendUnsettled(entry) if sequence is None else steps.Appended(entry, sequence))

        # Sometimes it arrives long after its sender was told that nobody knows.
        trip = world.delay() * (5 if world.chance(world.weather.lost) else 1)
        fate, site.append_fate = site.append_fate, ""
        if fate == "late":
            trip += world.random.randrange(PATIENCE_MS, 2_000)
        if fate != "lost" and not world.chance(world.weather.lost):
            world.at(trip, arrive)
        heard = fate != "unanswered" and not world.chance(world.weather.lost)

        def outcome() -> steps.Input:
            answered = bool(settled) and heard and world.weather.hears(LOG, site.name)
            return settled[0] if answered else steps.AppendUnsettled(entry)

        world.later(site, key, min(trip + 1, PATIENCE_MS), outcome)

    def _read_log(self, site: "Site", key: str, effect: steps.ReadLog) -> None:
        def answer() -> steps.Input:
            log = self._world.log
            behind = effect.after if effect.stream in ("", log.stream) else 0
            found = [each for each in self._seen(key) if each[0] > behind]
            return steps.LogRead(log.stream, behind, tuple(found[:_PAGE]), len(found[_PAGE:]))

        self._ask_log(site, key, answer)

    def _read_last(self, site: "Site", key: str) -> None:
        def answer() -> steps.Input:
            seen = self._seen(key)
            return steps.LogLast(self._world.log.stream, *(seen[-1] if seen else (0, None)))

        self._ask_log(site, key, answer)

    def _seen(self, key: str) -> list[tuple[int, LogEntry]]:
        """The log, or, from a server that has been deposed, an older one."""
        world = self._world
        entries = world.log.of(key)
        behind = world.random.randrange(1, 4) if world.chance(world.weather.outdated) else 0
        return entries[: max(0, len(entries) - behind)]

    def _ask_log(self, site: "Site", key: str, answer: Callable[[], steps.Input]) -> None:
        world = self._world

        def reply() -> steps.Input | None:
            lost = world.chance(world.weather.lost)
            return None if lost or not world.weather.reaches(site.name, LOG) else answer()

        world.later(site, key, world.delay(), reply)

    def durable(self, entry: LogEntry) -> int:
        """On how many sites a batch has been stored, with all that is before it."""
        return len(self._copies_of.get(dump_entry(entry), ()))
