"""Mutants of the replicated runtime: one guard of the election protocol broken in each, by patching.

Not among them: the longest copy instead of the greatest (epoch, number). While all else holds, a copy of an earlier epoch is never
longer than those of a later one that acknowledged anything; the rule is a second line, and B17 tests it alone. Nor is: answers of before
a loss count. That took ten thousand seeds to find (91587897, with what the runtime was then); a test of B21 shows it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

from mutants import Mutant, patched, registering

from messages.election_pairs import LogEntry, LogRestarted, Replicate
from overseer.simulation.elections.disk import RowsDisk
from overseer.simulation.elections.log import SimulatedLog
from overseer.sites import deciding
from subsystems.elections.rows import key_hash
from subsystems.elections.runtime import follower as follower_module
from subsystems.elections.runtime import member as member_module
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import head_after, load_entry, place_before
from subsystems.elections.runtime.follower import Follower
from subsystems.elections.runtime.member import Member
from subsystems.elections.runtime.placement import Placement
from subsystems.elections.runtime.recovery import Recovery, Stage
from subsystems.elections.runtime.rows import COMMANDS
from subsystems.elections.runtime.writer import Phase, Writer, _answers, _refused

__all__ = ["ELECTION_MUTANTS"]

ELECTION_MUTANTS: dict[str, Mutant] = {}
mutant = registering(ELECTION_MUTANTS)


@contextmanager
def all_of(*changes: AbstractContextManager[None]) -> Iterator[None]:
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(change)
        yield


# ------------------------------------------------------------------------------------------------ before the log


@mutant
def one_acknowledgement_is_enough() -> AbstractContextManager[None]:
    """Two of five copies before the log (B13, B14)."""
    return patched(Placement, "acknowledgements", property(lambda self: 1))


@mutant
def acknowledged_before_it_is_stored() -> AbstractContextManager[None]:
    """A follower says so, then stores."""
    replicate = Follower.replicate

    def hasty(self: Follower, message: Replicate) -> list[steps.Effect]:
        effects = replicate(self, message)
        return sorted(effects, key=lambda effect: not isinstance(effect, steps.Send))

    return patched(Follower, "replicate", hasty)


@mutant
def acknowledged_over_a_gap() -> AbstractContextManager[None]:
    """A follower stores what does not connect to what it has."""
    up_to = Follower._prepared_up_to
    return patched(Follower, "_prepared_up_to", lambda self, head: up_to(self, head) or ())


@mutant
def prepared_is_applied() -> AbstractContextManager[None]:
    """What a follower stores is shown to readers at once (B14)."""
    replicate = Follower.replicate

    def eager(self: Follower, message: Replicate) -> list[steps.Effect]:
        effects = replicate(self, message)
        if not any(isinstance(effect, steps.Store) for effect in effects):
            return effects
        entry, copy = load_entry(message.entry), self.copy
        if len(copy.prepared) > 1:
            return effects
        self.copy = steps.Copy(copy.stream, head_after(entry), copy.log_sequence, (), copy.told)
        acknowledged = [effect for effect in effects if isinstance(effect, steps.Send)]
        return [steps.Store(entry), steps.Apply(entry, copy.stream, copy.log_sequence, ()), *acknowledged]

    return patched(Follower, "replicate", eager)


@mutant
def answered_before_the_log() -> AbstractContextManager[None]:
    """Two acknowledgements, and the caller is told."""
    append = Writer._append_if_enough

    def hasty(self: Writer) -> list[steps.Effect]:
        effects = append(self)
        if not effects:
            return []
        assert self._flight is not None
        return [*(answer for waiting, record in self._flight.waiting for answer in _answers(waiting, record)), *effects]

    return patched(Writer, "_append_if_enough", hasty)


@mutant
def what_was_given_up_is_not_barred() -> AbstractContextManager[None]:
    """After too few acknowledgements the next batch takes the number of the one before, in the same epoch."""
    give_up = Writer._give_up

    def careless(self: Writer, now_ms: int) -> list[steps.Effect]:
        effects = give_up(self, now_ms)
        self.degraded = False
        return [*effects, *self._next(now_ms)]

    return patched(Writer, "_give_up", careless)


# ------------------------------------------------------------------------------------------------ the log


@mutant
def no_compare_and_set() -> AbstractContextManager[None]:
    """The log takes whatever comes, behind whatever it has."""
    append = SimulatedLog.append

    def trusting(self: SimulatedLog, entry: LogEntry, *, stream: str, expected: int, now_ms: int) -> int | None:
        own = self.of(entry.election)
        return append(self, entry, stream=self.stream, expected=own[-1][0] if own else 0, now_ms=now_ms)

    return patched(SimulatedLog, "append", trusting)


@mutant
def unknown_outcome_taken_as_appended() -> AbstractContextManager[None]:
    """No answer from the log is a good answer."""

    def trusting(self: Writer, entry: LogEntry) -> list[steps.Effect]:
        return self.appended(entry, self._follower.copy.log_sequence + 1)

    return patched(Writer, "unsettled", trusting)


@mutant
def unknown_outcome_taken_as_refused() -> AbstractContextManager[None]:
    """No answer from the log is a refusal, and so the caller is told."""

    def hasty(self: Writer, entry: LogEntry) -> list[steps.Effect]:
        flight = self._flight
        if flight is None or entry != flight.entry or not flight.waiting:
            return [self._follower.read_on()]
        effects = _refused(flight.waiting, self._too_few(0))
        self._flight, self.phase = None, Phase.READY
        return [*effects, *self._next(0)]

    return patched(Writer, "unsettled", hasty)


@mutant
def its_own_by_number_alone() -> AbstractContextManager[None]:
    """The entry that the log has in the place of a writer's own is taken for it."""
    applied = Writer.applied

    def trusting(self: Writer, entry: LogEntry, now_ms: int) -> list[steps.Effect]:
        flight = self._flight
        return applied(self, flight.entry if flight is not None and flight.entry.number == entry.number else entry, now_ms)

    return patched(Writer, "applied", trusting)


@mutant
def a_fenced_writer_goes_on() -> AbstractContextManager[None]:
    """It sees another writer's entry, and stays."""
    applied = Writer.applied

    def stubborn(self: Writer, entry: LogEntry, now_ms: int) -> list[steps.Effect]:
        return applied(self, entry, now_ms) if self._flight is not None and entry == self._flight.entry else []

    return patched(Writer, "applied", stubborn)


@mutant
def a_writer_outlives_a_snapshot() -> AbstractContextManager[None]:
    """Its copy goes past it, and it takes the other writer's epoch for its own (a defect that the simulation found)."""
    return patched(member_module, "Install", LogRestarted)


# ------------------------------------------------------------------------------------------------ recovery


@mutant
def no_barrier() -> AbstractContextManager[None]:
    """A new writer catches up with the log as it finds it, and goes on in the same epoch."""

    barrier = Recovery._barrier

    def straight(self: Recovery) -> list[steps.Effect]:
        assert self._last is not None
        if self._last.entry is None:
            return barrier(self)
        self.stage, self._target = Stage.CATCHING_UP, self._last.log_sequence
        return [self._follower.read_on()]

    return all_of(
        patched(Recovery, "_barrier", straight),
        patched(Recovery, "epoch", property(lambda self: self._follower.copy.applied.epoch)),
    )


@mutant
def epoch_not_raised() -> AbstractContextManager[None]:
    """The barrier is of the epoch that was."""
    place = Recovery._place

    def same(self: Recovery, head: Any) -> Any:
        found = place(self, head)
        return {**found, "epoch": max(1, found["epoch"] - 1)}

    return patched(Recovery, "_place", same)


@mutant
def served_before_the_tail() -> AbstractContextManager[None]:
    """The barrier is in the log: that will do (B16)."""

    def hasty(self: Recovery) -> None:
        if self.stage is Stage.CATCHING_UP:
            self.stage = Stage.DONE

    return patched(Recovery, "caught_up", hasty)


@mutant
def the_log_restarts_from_one_copy() -> AbstractContextManager[None]:
    """A lost log goes on from whatever copy there is."""
    without = Recovery._without_log

    def hasty(self: Recovery, stream: str) -> list[steps.Effect]:
        placement = self._placement
        self._placement = SimpleNamespace(acknowledgements=0, followers=placement.followers, away=placement.away)  # type: ignore[assignment]
        try:
            return without(self, stream)
        finally:
            self._placement = placement

    return patched(Recovery, "_without_log", hasty)


@mutant
def the_log_restarts_without_what_is_prepared() -> AbstractContextManager[None]:
    """Of the best copy only what the lost log had shown it goes into the new one."""

    def forgetful(self: Recovery, source: Any) -> list[steps.Effect]:
        copy = self._follower.copy
        self._entry = LogRestarted(**self._place(copy.applied), best=source.site, lost=source.stream or copy.stream)
        return self._append()

    return patched(Recovery, "_restart", forgetful)


@mutant
def connected_by_number_alone() -> AbstractContextManager[None]:
    """The hash and the epoch before an entry are not looked at."""

    def connects(head: Any, entry: LogEntry) -> bool:
        return head.number == entry.number - 1

    def up_to(self: Follower, head: Any) -> Any:
        if head.number == self.copy.applied.number:
            return ()
        return next((self.copy.prepared[:n] for n, p in enumerate(self.copy.prepared, 1) if p.head.number == head.number), None)

    return all_of(
        patched(follower_module, "connects", connects),
        patched(follower_module, "contradicts", lambda head, entry: False),
        patched(steps, "connects", connects),
        patched(Follower, "_prepared_up_to", up_to),
    )


@mutant
def barriers_of_a_lost_log_contradict() -> AbstractContextManager[None]:
    """Whoever has applied one that the restarted log does not know of stops its election for good (a defect that the simulation found)."""

    def contradicts(head: Any, entry: LogEntry) -> bool:
        at = place_before(entry)
        return at != head if at.number == head.number else isinstance(entry, LogRestarted) and at.number < head.number

    return patched(follower_module, "contradicts", contradicts)


# ------------------------------------------------------------------------------------------------ once only


@mutant
def ids_are_forgotten() -> AbstractContextManager[None]:
    """Whoever asks again has his command decided again (B15)."""
    return patched(deciding, "settled", lambda view, key, command_id, digest: None)


@mutant
def ids_are_not_in_snapshots() -> AbstractContextManager[None]:
    """Outcomes do not come with the rows of another site: a writer that recovered by a snapshot does not know them."""
    taken = RowsDisk.snapshot

    def without(self: RowsDisk, election: str) -> Any:
        return {name: rows for name, rows in taken(self, election).items() if name != COMMANDS.name} | {COMMANDS.name: []}

    return patched(RowsDisk, "snapshot", without)


@mutant
def one_id_for_any_body() -> AbstractContextManager[None]:
    """Another command under an id that is known gets the outcome of the first."""
    settled = deciding.settled

    def trusting(view: Any, key: str, command_id: str, digest: bytes) -> Any:
        found = settled(view, key, command_id, digest)
        if found is None or not hasattr(found.outcome, "retriable"):
            return found
        return steps.Settled(view.get(COMMANDS, (key_hash(key), command_id)))

    return patched(deciding, "settled", trusting)


# ------------------------------------------------------------------------------------------------ readers


@mutant
def readers_get_what_there_is() -> AbstractContextManager[None]:
    """Whatever event they require."""
    return patched(Member, "readable", lambda self, required: None)


@mutant
def never_behind() -> AbstractContextManager[None]:
    """A copy that lacks what the log's reader brought is told of as fresh (a defect that the simulation found)."""
    return patched(Follower, "_look", lambda self: setattr(self, "behind", False))
