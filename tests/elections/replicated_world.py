"""A deterministic world of sites around the machines of the replicated runtime: one election, one log, a network that misbehaves.

It does what the real shell has to do, in memory and by a seed: it performs effects, keeps what is durable, and loses what may be
lost. Whatever it finds wrong is an AssertionError.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

import msgspec
from blake3 import blake3

from messages.codec import encode_value
from messages.election_pairs import (
    BatchLogged,
    IdReused,
    LogEntry,
    LoggedEvent,
    NotOwnedYet,
    NotOwnedYetReason,
    PairMessage,
    Record,
    SiteRow,
    TooFewCopies,
    TopologyRecord,
)
from messages.message import Rejection
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import BEGIN, dump_entry, head_after, load_entry
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.member import Member
from subsystems.elections.runtime.placement import placed
from subsystems.elections.runtime.routing import CatchUp, Deliver, Forward, Refuse, route

KEY = "k"
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


def five() -> TopologyRecord:
    return TopologyRecord(version=1, sites=[SiteRow(f"s{n}", f"dc{n}", "z") for n in range(5)])


def eight() -> TopologyRecord:
    return TopologyRecord(version=1, sites=[SiteRow(f"s{n}", f"dc{n // 2}", f"z{n % 2}") for n in range(8)])


class Rows(msgspec.Struct):
    """What a site has on its disk: the election's rows, and its place in the log."""

    stream: str = ""
    applied: Any = BEGIN
    log_sequence: int = 0
    told: int = 0
    prepared: dict[int, LogEntry] = {}
    events: tuple[str, ...] = ()
    outcomes: dict[str, Record] = {}

    def copied(self) -> "Rows":
        return Rows(self.stream, self.applied, self.log_sequence, self.told, dict(self.prepared), self.events, dict(self.outcomes))

    def copy(self) -> steps.Copy:
        prepared = [self.prepared[number] for number in sorted(self.prepared)]
        return steps.Copy.stored(self.stream, self.applied, self.log_sequence, self.told, prepared)


def decided(events: tuple[str, ...], command: steps.Command) -> Record:
    """The election's only rule: everybody votes once."""
    voter = str(command.message)
    if voter in events:
        return Record(command.id, command.digest, "op", 0, "already_cast", b"", [])
    event = LoggedEvent("elections.event.cast", 1, voter.encode())
    return Record(command.id, command.digest, "op", 0, "", encode_value(len(events) + 1), [event])


def voters_of(entry: LogEntry) -> list[str]:
    return [event.body.decode() for record in entry.records for event in record.events] if isinstance(entry, BatchLogged) else []


class Site:
    """A process with a disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.life = 0
        self.paused_until = 0
        self.rows = Rows()
        self.synced = Rows()
        self.cursor = 0
        self.stream = ""
        self.member: Member | None = None
        self.topology: TopologyRecord | None = None


class World:
    """`trouble`: the share of messages that get lost; 0 from `heal` on."""

    def __init__(self, seed: int, topology: TopologyRecord, *, trouble: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.now = 0
        self.trouble = trouble
        self.topology = topology
        self.sites = {row.name: Site(row.name) for row in topology.sites}
        self.stream = "log-0"
        self.log: list[tuple[int, LogEntry]] = []
        self.next_sequence = 1
        # Sites in different groups do not hear each other; the log is reachable from `log_group`.
        self.groups: dict[str, int] = {}
        self.log_group = 0
        self.log_down = False
        self.ever_stored: dict[tuple[int, int], set[str]] = {}
        self.given_up: set[tuple[str, int, str]] = set()
        self.answers: dict[str, Callable[[Record | Rejection], None]] = {}
        self.effects: list[tuple[str, steps.Effect]] = []
        self.served: list[tuple[int, str, int]] = []
        self.losses = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._counter = 0
        for site in self.sites.values():
            site.topology = topology
            self._start(site)
            self._poll(site)

    # -------------------------------------------------------------------------------------------- time

    def at(self, delay: int, action: Callable[[], None]) -> None:
        self._counter += 1
        heapq.heappush(self._events, (self.now + delay, self._counter, action))

    def run(self, until: Callable[[], bool] | int) -> bool:
        """Until the condition holds, or for so many milliseconds. False: 60 s passed in vain."""
        end = self.now + (until if isinstance(until, int) else 60_000)
        while self._events and self._events[0][0] <= end:
            if not isinstance(until, int) and until():
                return True
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end
        return isinstance(until, int) or until()

    def _delay(self) -> int:
        return self.random.choice((1, 1, 2, 3, 5, 8)) if self.random.random() >= self.trouble else self.random.randrange(1, 700)

    def _lost(self) -> bool:
        return self.random.random() < self.trouble

    # -------------------------------------------------------------------------------------------- sites

    def _start(self, site: Site) -> None:
        assert site.topology is not None
        placement = placed(site.topology, KEY)
        site.member = Member(KEY, site.name, placement, site.topology.version, site.rows.copy(), LIMITS)
        self.give(site, steps.Fill())

    def crash(self, name: str, *, forget: bool = False, unsynced: bool = True) -> None:
        """`unsynced`: what was not synced is lost with it. `forget`: its disk too."""
        site = self.sites[name]
        site.alive, site.member, site.life = False, None, site.life + 1
        if forget:
            site.rows, site.synced, site.cursor = Rows(), Rows(), 0
        elif unsynced:
            site.rows = site.synced.copied()

    def restart(self, name: str) -> None:
        site = self.sites[name]
        if not site.alive:
            site.alive = True
            # The position of the log's reader was committed now and then; it may also have been reset.
            site.cursor = max(0, site.cursor - self.random.randrange(4))
            self._start(site)

    def pause(self, name: str, for_ms: int) -> None:
        self.sites[name].paused_until = self.now + for_ms

    def give(self, site: Site, given: steps.Input) -> None:
        """One input, unless the site is gone; a paused site gets it when it wakes."""
        if self.now < site.paused_until:
            life = site.life
            self.at(site.paused_until - self.now, lambda: self.give(site, given) if site.life == life else None)
            return
        if site.member is None:
            return
        if site.topology is not None and site.member.topology < site.topology.version and not isinstance(given, steps.Placed):
            self.give(site, steps.Placed(placed(site.topology, KEY), site.topology.version))
        for effect in site.member.handle(given, self.now):
            self.effects.append((site.name, effect))
            self._perform(site, effect)
        if not site.member.follower.stopped:
            assert site.rows.copy() == site.member.follower.copy, "what is kept and what the machine believes are the same"

    def later(self, site: Site, delay: int, given: Callable[[], steps.Input | None]) -> None:
        life = site.life

        def deliver() -> None:
            if site.life == life and site.alive:
                found = given()
                if found is not None:
                    self.give(site, found)

        self.at(delay, deliver)

    # -------------------------------------------------------------------------------------------- effects

    def _perform(self, site: Site, effect: steps.Effect) -> None:
        match effect:
            case steps.Send():
                self._send(site, effect.to, effect.message)
            case steps.Store():
                self._store(site, effect.entry)
            case steps.Apply():
                self._apply(site, effect)
            case steps.Install():
                self._install(site, effect)
            case steps.Decide():
                verdicts = self._decide(site.rows, effect.commands)
                self.later(site, self.random.choice((0, 0, 1, 5)), lambda: steps.Decided(verdicts))
            case steps.Answer():
                self._answer(site, effect)
            case steps.Append():
                self._append(site, effect)
            case steps.ReadLog():
                self._read_log(site, effect)
            case steps.ReadLast():
                self._read_last(site)
            case steps.FetchSnapshot():
                self._fetch(site, effect.site)
            case steps.VerifyCopy():
                self.later(site, 1, lambda: steps.CopyVerified(True))
            case steps.SetAlarm():
                self.later(site, max(0, effect.at_ms - self.now), steps.Alarm)
            case steps.CatchUpTopology():
                self.later(site, self._delay(), lambda: self._learn(site))
            case steps.Serving():
                self.served.append((self.now, site.name, effect.epoch))
            case steps.FailStop():
                raise AssertionError(f"{site.name} stopped: {effect.reason}")
            case steps.Released() | steps.Report():
                pass

    def _learn(self, site: Site) -> steps.Input | None:
        """The topology's bucket is where the log is."""
        if not self._log_reachable(site):
            return None
        site.topology = self.topology
        return steps.Placed(placed(self.topology, KEY), self.topology.version)

    def _connected(self, one: str, other: str) -> bool:
        return self.groups.get(one, 0) == self.groups.get(other, 0)

    def _log_reachable(self, site: Site) -> bool:
        return not self.log_down and self.groups.get(site.name, 0) == self.log_group

    def _send(self, site: Site, to: str, message: PairMessage) -> None:
        target = self.sites[to]
        for _ in range(2 if self._lost() else 1):
            if self._lost():
                continue

            def deliver() -> None:
                if target.alive and self._connected(site.name, to):
                    self.give(target, steps.Received(message))

            self.at(self._delay(), deliver)

    def _store(self, site: Site, entry: LogEntry) -> None:
        rows = site.rows
        rows.prepared = {number: each for number, each in rows.prepared.items() if number < entry.number}
        rows.prepared[entry.number] = load_entry(dump_entry(entry))
        site.synced = rows.copied()
        self.ever_stored.setdefault((entry.epoch, entry.number), set()).add(site.name)
        self.later(site, self.random.choice((0, 1, 4)), lambda: steps.Stored(entry.epoch, entry.number))

    def _apply(self, site: Site, effect: steps.Apply) -> None:
        rows, entry = site.rows, effect.entry
        rows.stream, rows.log_sequence = effect.stream, effect.log_sequence
        rows.applied, rows.told = head_after(entry), max(rows.told, entry.told)
        rows.events += tuple(voters_of(entry))
        if isinstance(entry, BatchLogged):
            for record in entry.records:
                assert record.id not in rows.outcomes, f"command {record.id} was recorded twice"
                rows.outcomes[record.id] = record
        rows.prepared = {number: each for number, each in rows.prepared.items() if number in effect.kept}
        assert len(rows.events) == rows.applied.sequence
        if self.random.random() < 0.3:
            site.synced = rows.copied()

    def _install(self, site: Site, effect: steps.Install) -> None:
        """The rows were fetched with the copy: they are those of an entry that the log has, so any site's history has them."""
        events, outcomes = self.fetched.pop((site.name, effect.copy.applied), ((), {})) if effect.site else ((), {})
        copy = effect.copy
        site.rows = Rows(copy.stream, copy.applied, copy.log_sequence, copy.told, {}, events, dict(outcomes))
        site.rows.prepared = {p.entry.number: p.entry for p in copy.prepared}
        for prepared in copy.prepared:
            self.ever_stored.setdefault((prepared.entry.epoch, prepared.entry.number), set()).add(site.name)
        assert len(site.rows.events) == copy.applied.sequence
        site.synced = site.rows.copied()

    fetched: dict[tuple[str, Any], tuple[tuple[str, ...], dict[str, Record]]]

    def _fetch(self, site: Site, source_name: str) -> None:
        if not hasattr(self, "fetched"):
            self.fetched = {}
        source = self.sites[source_name]

        def answer() -> steps.Input:
            if not source.alive or not self._connected(site.name, source_name) or self._lost():
                return steps.SnapshotFailed(source_name)
            rows = source.rows
            self.fetched[site.name, rows.applied] = (rows.events, dict(rows.outcomes))
            return steps.SnapshotFetched(source_name, rows.copy(), True)

        self.later(site, self._delay(), answer)

    def _decide(self, rows: Rows, commands: tuple[steps.Command, ...]) -> tuple[steps.Verdict, ...]:
        events, verdicts = rows.events, list[steps.Verdict]()
        for command in commands[: self.random.choice((1, 4, 4))]:
            known = rows.outcomes.get(command.id)
            if known is not None:
                same = known.digest == command.digest
                verdicts.append(steps.Settled(known if same else IdReused(election=KEY, id=command.id)))
                continue
            record = decided(events, command)
            events += tuple(event.body.decode() for event in record.events)
            verdicts.append(record)
        return tuple(verdicts)

    def _answer(self, site: Site, effect: steps.Answer) -> None:
        if isinstance(effect.outcome, Record):
            if self.losses == 0:
                assert any(effect.outcome in e.records for _, e in self.log if isinstance(e, BatchLogged)), "answered before the log had it"
        elif isinstance(effect.outcome, TooFewCopies):
            assert site.member is not None
            self.given_up.add((site.name, site.member.follower.copy.applied.epoch, effect.id))
        waiting = self.answers.get(effect.origin)
        if waiting is not None and not self._lost():
            self.at(self._delay(), lambda: waiting(effect.outcome))

    # -------------------------------------------------------------------------------------------- the log

    def _append(self, site: Site, effect: steps.Append) -> None:
        if isinstance(effect.entry, BatchLogged):
            copies = self.ever_stored.get((effect.entry.epoch, effect.entry.number), set())
            assert len(copies) >= 3, "appended before three copies were durable"
        settled: list[steps.Input] = []

        def arrive() -> None:
            if not self._log_reachable(site):
                return
            last = self.log[-1][0] if self.log else 0
            if effect.stream == self.stream and effect.expected == last:
                self.log.append((self.next_sequence, effect.entry))
                settled.append(steps.Appended(effect.entry, self.next_sequence))
                self.next_sequence += 1
            else:
                settled.append(steps.AppendUnsettled(effect.entry))

        # Sometimes it arrives long after its sender was told that nobody knows.
        trip = self._delay() * (5 if self._lost() else 1)
        if not self._lost():
            self.at(trip, arrive)
        heard = not self._lost()
        patience = 100
        self.later(site, min(trip + 1, patience), lambda: settled[0] if settled and heard else steps.AppendUnsettled(effect.entry))

    def _seen(self) -> list[tuple[int, LogEntry]]:
        """The log, or, from a server that has been deposed, an older one."""
        behind = self.random.randrange(1, 4) if self._lost() else 0
        return self.log[: len(self.log) - behind]

    def _read_log(self, site: Site, effect: steps.ReadLog) -> None:
        def answer() -> steps.Input | None:
            if not self._log_reachable(site) or self._lost():
                return None
            after = effect.after if effect.stream in ("", self.stream) else 0
            found = [(sequence, entry) for sequence, entry in self._seen() if sequence > after]
            return steps.LogRead(self.stream, after, tuple(found[:5]), len(found[5:]))

        self.later(site, self._delay(), answer)

    def _read_last(self, site: Site) -> None:
        def answer() -> steps.Input | None:
            if not self._log_reachable(site) or self._lost():
                return None
            seen = self._seen()
            return steps.LogLast(self.stream, *(seen[-1] if seen else (0, None)))

        self.later(site, self._delay(), answer)

    def _poll(self, site: Site) -> None:
        """The site's own reader of the log, always on its way."""
        if site.alive and self._log_reachable(site) and self.now >= site.paused_until:
            if site.stream != self.stream:
                site.stream, site.cursor = self.stream, 0
                self.give(site, steps.LogReplaced(self.stream))
            if self.log and self.log[-1][0] > site.cursor:
                for sequence, entry in [each for each in self.log if each[0] > site.cursor][:3]:
                    site.cursor = sequence
                    self.give(site, steps.LogDelivered(self.stream, sequence, entry))
        self.at(self.random.choice((10, 20, 60)), lambda: self._poll(site))

    def lose_log(self) -> None:
        """The stream is gone; a new one begins, with sequences of its own."""
        self.losses += 1
        self.log = []
        self.stream = f"log-{self.losses}"
        self.next_sequence = 1_000_000 * self.losses + 1

    # -------------------------------------------------------------------------------------------- topology

    def record(self, topology: TopologyRecord) -> None:
        """Changed by compare-and-set; the sites hear of it one after the other."""
        self.topology = topology
        for site in self.sites.values():
            self.later(site, self._delay() * 3, lambda site=site: self._learn(site))

    @property
    def writer(self) -> str:
        return placed(self.topology, KEY).writer

    # -------------------------------------------------------------------------------------------- commands

    def command(self, name: str, command_id: str, voter: str, origin: str, heard: Callable[[Record | Rejection], None]) -> None:
        """To the mailroom of a site."""
        self.answers[origin] = heard
        command = steps.Command(command_id, blake3(voter.encode()).digest(), voter)
        self._mail(self.sites[name], command, origin, 0, ())

    def _mail(self, site: Site, command: steps.Command, origin: str, seen: int, path: tuple[str, ...], tries: int = 0) -> None:
        if not site.alive or site.topology is None:
            return
        if self.now < site.paused_until:
            self.at(site.paused_until - self.now, lambda: self._mail(site, command, origin, seen, path))
            return
        match route(site.topology, KEY, site=site.name, seen=seen, path=path):
            case Deliver():
                self.give(site, steps.Submit(command, origin))
            case Forward(to, on):
                target, version = self.sites[to], max(seen, site.topology.version)
                if self._connected(site.name, to) and not self._lost():
                    self.at(self._delay(), lambda: self._mail(target, command, origin, version, on))
            case CatchUp():
                self._learn(site)
                if tries < 3:
                    self.at(20, lambda: self._mail(site, command, origin, seen, path, tries + 1))
            case Refuse(reason):
                self._refused(origin, reason)

    def _refused(self, origin: str, reason: NotOwnedYetReason) -> None:
        heard = self.answers[origin]
        self.at(self._delay(), lambda: heard(NotOwnedYet(election=KEY, reason=reason)))

    # -------------------------------------------------------------------------------------------- in the end

    def heal(self) -> None:
        self.trouble, self.groups, self.log_down, self.log_group = 0.0, {}, False, 0
        for site in self.sites.values():
            site.paused_until = min(site.paused_until, self.now + 1)
            self.restart(site.name)
            self.later(site, 5, lambda site=site: self._learn(site))

    def check(self) -> None:
        """What must hold of the log and of every copy, whatever happened."""
        if self.losses:
            return
        history: list[str] = []
        heads = {BEGIN: 0}
        for _, entry in self.log:
            history += voters_of(entry)
            heads[head_after(entry)] = len(history)
            if isinstance(entry, BatchLogged):
                for record in entry.records:
                    assert (entry.site, entry.epoch, record.id) not in self.given_up, "what was given up came to life"
        assert len(history) == len(set(history)), "somebody voted twice"
        for site in self.sites.values():
            assert site.rows.applied in heads, f"{site.name} is where the log never was"
            assert list(site.rows.events) == history[: len(site.rows.events)], f"{site.name} shows what is not committed"
