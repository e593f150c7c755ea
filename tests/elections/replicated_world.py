"""The simulation's world of sites (overseer/simulation/elections) with one election of a single rule: everybody votes once.

Whatever it finds wrong is an AssertionError or a Violation.
"""

from collections.abc import Callable

import msgspec
from blake3 import blake3

from messages.codec import encode_value
from messages.election_pairs import BatchLogged, Head, IdReused, LogEntry, LoggedEvent, NotOwnedYet, Record, TooFewCopies, TopologyRecord
from messages.message import Rejection
from overseer.simulation.elections.world import LIMITS, Site, World, eight, five
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import BEGIN, dump_entry, head_after, load_entry
from subsystems.elections.runtime.member import Member

__all__ = ["KEY", "LIMITS", "Heard", "NotOwnedYet", "VoterDisk", "VoterWorld", "decided", "eight", "five", "voters_of"]

KEY = "k"
Heard = Callable[[Record | Rejection], None]


class Rows(msgspec.Struct):
    """What a site has on its disk: the election's rows, and its place in the log."""

    stream: str = ""
    applied: Head = BEGIN
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


class VoterDisk:
    """Keeps one election in plain Python."""

    def __init__(self) -> None:
        self.rows = Rows()
        self._synced = Rows()

    def copy(self, election: str) -> steps.Copy:
        return self.rows.copy()

    def store(self, entry: LogEntry) -> None:
        rows = self.rows
        rows.prepared = {number: each for number, each in rows.prepared.items() if number < entry.number}
        rows.prepared[entry.number] = load_entry(dump_entry(entry))
        self.sync()

    def apply(self, effect: steps.Apply) -> None:
        rows, entry = self.rows, effect.entry
        rows.stream, rows.log_sequence = effect.stream, effect.log_sequence
        rows.applied, rows.told = head_after(entry), max(rows.told, entry.told)
        rows.events += tuple(voters_of(entry))
        if isinstance(entry, BatchLogged):
            for record in entry.records:
                assert record.id not in rows.outcomes, f"command {record.id} was recorded twice"
                rows.outcomes[record.id] = record
        rows.prepared = {number: each for number, each in rows.prepared.items() if number in effect.kept}
        assert len(rows.events) == rows.applied.sequence

    def install(self, election: str, copy: steps.Copy, snapshot: object | None) -> None:
        found = snapshot if isinstance(snapshot, Rows) else Rows()
        self.rows = Rows(copy.stream, copy.applied, copy.log_sequence, copy.told, {}, found.events, dict(found.outcomes))
        self.rows.prepared = {p.entry.number: p.entry for p in copy.prepared}
        assert len(self.rows.events) == copy.applied.sequence
        self.sync()

    def snapshot(self, election: str) -> Rows:
        return self.rows.copied()

    def sound(self, election: str) -> bool:
        return True

    def decide(self, election: str, commands: tuple[steps.Command, ...], now_ms: int) -> tuple[steps.Verdict, ...]:
        events, verdicts = self.rows.events, list[steps.Verdict]()
        for command in commands:
            known = self.rows.outcomes.get(command.id)
            if known is not None:
                same = known.digest == command.digest
                verdicts.append(steps.Settled(known if same else IdReused(election=KEY, id=command.id)))
                continue
            record = decided(events, command)
            events += tuple(event.body.decode() for event in record.events)
            verdicts.append(record)
        return tuple(verdicts)

    def sync(self) -> None:
        self._synced = self.rows.copied()

    def cut_power(self, survive: Callable[[int], int]) -> None:
        if survive(1) == 0:
            self.rows = self._synced.copied()

    def erase(self) -> None:
        self.rows, self._synced = Rows(), Rows()


def decided(events: tuple[str, ...], command: steps.Command) -> Record:
    """The election's only rule: everybody votes once."""
    voter = str(command.message)
    if voter in events:
        return Record(command.id, command.digest, "op", 0, "already_cast", b"", [])
    event = LoggedEvent("elections.event.cast", 1, voter.encode())
    return Record(command.id, command.digest, "op", 0, "", encode_value(len(events) + 1), [event])


def voters_of(entry: LogEntry) -> list[str]:
    return [event.body.decode() for record in entry.records for event in record.events] if isinstance(entry, BatchLogged) else []


class VoterWorld(World):
    """`trouble`: the share of messages that get lost; 0 from `heal` on."""

    def __init__(self, seed: int, topology: TopologyRecord, *, trouble: float = 0.0) -> None:
        self.effects: list[tuple[str, steps.Effect]] = []
        self.given_up: set[tuple[str, int, str]] = set()
        super().__init__(seed, topology, keys=[KEY], disks=VoterDisk)
        self.weather.troubled(trouble)

    @property
    def entries(self) -> list[LogEntry]:
        return [entry for _, entry in self.log.entries]

    def rows(self, name: str) -> Rows:
        disk = self.sites[name].disk
        assert isinstance(disk, VoterDisk)
        return disk.rows

    def member_at(self, name: str) -> Member:
        return self.sites[name].members[KEY]

    def give_to(self, name: str, given: steps.Input) -> None:
        self.give(self.sites[name], KEY, given)

    @property
    def home(self) -> str:
        """The writer's site."""
        return self.writer(KEY)

    def command(self, name: str, command_id: str, voter: str, origin: str, heard: Heard) -> None:
        """To the mailroom of a site."""
        self.mail.command(name, KEY, steps.Command(command_id, blake3(voter.encode()).digest(), voter), origin, heard)

    def performed(self, site: Site, key: str, effect: steps.Effect) -> None:
        self.effects.append((site.name, effect))
        if isinstance(effect, steps.Answer) and isinstance(effect.outcome, TooFewCopies):
            self.given_up.add((site.name, site.members[key].follower.copy.applied.epoch, effect.id))
        if isinstance(effect, steps.Answer) and isinstance(effect.outcome, Record) and self.log.losses == 0:
            assert any(effect.outcome in e.records for e in self.entries if isinstance(e, BatchLogged)), "answered before the log had it"

    def check(self) -> None:
        """What must hold of the log and of every copy, whatever happened."""
        if self.log.losses:
            return
        history: list[str] = []
        heads = {BEGIN: 0}
        for entry in self.entries:
            history += voters_of(entry)
            heads[head_after(entry)] = len(history)
            if isinstance(entry, BatchLogged):
                for record in entry.records:
                    assert (entry.site, entry.epoch, record.id) not in self.given_up, "what was given up came to life"
        assert len(history) == len(set(history)), "somebody voted twice"
        for name in self.sites:
            rows = self.rows(name)
            assert rows.applied in heads, f"{name} is where the log never was"
            assert list(rows.events) == history[: len(rows.events)], f"{name} shows what is not committed"
