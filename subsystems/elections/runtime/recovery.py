"""How a writer comes to serve an election (point 7): by what the log holds, whatever copies there are.

    asking -> (fetching) -> barrier -> catching up -> done

It asks the four followers how far they are, until all have answered or a deadline, and reads the log's last entry. If its own copy is far
behind, it fetches the best one: the greatest (epoch, number), not the longest (B17). Then it appends the barrier of a higher
epoch by compare-and-set, and is done when its copy has applied the barrier: everything that the log showed then is before it (B16).
What was prepared anywhere and is not before the barrier is void.

If the log itself was lost (another stream, with nothing of this election), what the pair holds becomes the truth: an acknowledged
batch is on three of five copies, so the best of any three has it; it begins the new log, with what is prepared. Only answers to what was
asked behind the loss count: until then another writer may have gone on. Copies that have nothing do not count among the three, as they may
have lost it, unless all five have answered.
"""

import enum
from collections.abc import Iterable

from messages.election_pairs import EpochEnded, EpochStarted, Head, LogEntry, LogRestarted, PositionAsked, PositionTold
from subsystems.elections.runtime.entry import BEGIN, EntryPlace, behind, head_after
from subsystems.elections.runtime.follower import Follower
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.placement import Placement
from subsystems.elections.runtime.steps import (
    Append,
    Effect,
    FetchSnapshot,
    Install,
    LogLast,
    LogRead,
    ReadLast,
    ReadLog,
    Report,
    Send,
    SetAlarm,
    SnapshotFetched,
)

__all__ = ["Recovery", "Stage", "best"]

# A restarted log begins with an epoch of this multiple: more than a writer that is heard by nobody can raise it by, one recovery each.
_RESTART_EPOCHS = 1_000_000


class Stage(enum.Enum):
    """Where a recovery is."""

    ASKING = "asking"
    FETCHING = "fetching"
    BARRIER = "barrier"
    CATCHING_UP = "catching up"
    DONE = "done"


def best(copies: Iterable[PositionTold]) -> PositionTold | None:
    """The best reader: the copy with the greatest (epoch, number), what is prepared included (B17)."""
    return max(copies, key=lambda copy: (copy.last, copy.applied, copy.site), default=None)


class Recovery:
    """`follower` is this site's own copy; it goes on taking what the log delivers."""

    def __init__(
        self, follower: Follower, placement: Placement, topology: int, limits: RuntimeLimits, *, now_ms: int, told: int = 0
    ) -> None:
        self.stage = Stage.ASKING
        self.positions: dict[str, PositionTold] = {}
        self._follower = follower
        self._placement = placement
        self._topology = topology
        self._limits = limits
        self._told = follower.copy.told
        self._asked = set(placement.followers)
        self._deadline_ms = now_ms + limits.recovery_ms
        self._last: LogLast | None = None
        # The stream that has nothing of this election; "" while it is not known that there is one.
        self._lost_in = ""
        self._entry: LogEntry | None = None
        self._expected = 0
        # The log has not shown the barrier, nor anything in its place: it goes out again with the next alarm.
        self._again = False
        # The log's sequence of the own barrier.
        self._target = 0
        # Whose snapshots could not be had.
        self._useless: set[str] = set()
        self._reported: set[str] = set()

    def start(self, now_ms: int) -> list[Effect]:
        return [*self._ask(), ReadLast(), SetAlarm(now_ms + self._limits.retry_ms)]

    def _ask(self, *, again: bool = False) -> list[Effect]:
        message = PositionAsked(election=self._follower.key, site=self._follower.site, topology=self._topology, lost_in=self._lost_in)
        return [Send(site, message) for site in sorted(self._asked if again else self._asked - self.positions.keys())]

    # -------------------------------------------------------------------------------------------- what comes in

    def told(self, position: PositionTold, now_ms: int) -> list[Effect]:
        if position.site not in self._asked or (self._lost_in and position.lost_in != self._lost_in):
            return []
        self.positions[position.site] = position
        return self._go_on(now_ms)

    def last(self, answer: LogLast, now_ms: int) -> list[Effect]:
        """The log's last entry. Whoever made it may still be writing: it is asked as well, and answers when it let go."""
        if self.stage is not Stage.ASKING:
            return []
        self._last = answer
        entry, effects = answer.entry, list[Effect]()
        lost_in = answer.stream if entry is None else ""
        if lost_in != self._lost_in:
            self._lost_in = lost_in
            if lost_in:
                self.positions.clear()
                self._deadline_ms = now_ms + self._limits.recovery_ms
                effects = self._ask()
        if entry is not None and not isinstance(entry, EpochEnded) and entry.site not in (self._follower.site, *self._asked):
            self._asked.add(entry.site)
            effects = self._ask()
        return [*effects, *self._go_on(now_ms)]

    def alarm(self, now_ms: int) -> list[Effect]:
        """What got no answer is asked for again."""
        effects: list[Effect] = [SetAlarm(now_ms + self._limits.retry_ms)]
        match self.stage:
            case Stage.ASKING:
                # Behind the deadline it waits for copies, or for the log: those that answered may have more by now.
                effects += [*self._ask(again=now_ms >= self._deadline_ms), ReadLast(), *self._go_on(now_ms)]
            case Stage.FETCHING:
                pass
            case Stage.BARRIER:
                assert self._entry is not None
                effects.append(Append(self._entry, self._stream, self._expected) if self._again else ReadLog(self._stream, self._expected))
                self._again = False
            case Stage.CATCHING_UP:
                effects.append(self._follower.read_on())
            case Stage.DONE:
                effects = []
        return effects

    # -------------------------------------------------------------------------------------------- deciding what to do

    def _go_on(self, now_ms: int) -> list[Effect]:
        if self.stage is not Stage.ASKING or self._last is None:
            return []
        awaited = self._asked.difference(self._placement.away)
        if self._follower.doubt or (not awaited <= self.positions.keys() and now_ms < self._deadline_ms):
            return []
        others = best(self.positions.values())
        self._follower.source = others.site if others is not None else ""
        differing = _two_hashes(self._copies())
        if differing:
            return self._follower.suspect(differing)
        if self._last.entry is None:
            return self._without_log(self._last.stream)
        return self._behind_log() or self._barrier()

    def _copies(self) -> list[PositionTold]:
        """All copies that are known, the own one among them."""
        copy, own = self._follower.copy, self._follower.site
        mine = PositionTold(
            election=self._follower.key,
            site=own,
            topology=self._topology,
            stream=copy.stream,
            applied=copy.applied,
            log_sequence=copy.log_sequence,
            last=copy.last,
        )
        return [mine, *self.positions.values()]

    def _behind_log(self) -> list[Effect]:
        """A snapshot of the best, where the own copy is far behind it."""
        source = best(each for each in self._copies() if each.site not in self._useless)
        if source is None or source.site == self._follower.site:
            return []
        far = source.applied.number - self._follower.copy.applied.number > self._limits.catch_up_entries_max
        other_log = self._follower.copy.stream != self._stream and source.stream == self._stream
        return self._fetch(source) if far or (other_log and source.applied > BEGIN) else []

    def _fetch(self, source: PositionTold) -> list[Effect]:
        self.stage = Stage.FETCHING
        return [FetchSnapshot(source.site)]

    def fetched(self, snapshot: SnapshotFetched, now_ms: int) -> list[Effect]:
        """Taken if it is sound; else the next best, or the log alone."""
        lost = self._last is not None and self._last.entry is None
        effects = self._follower.fetched(snapshot, whole=lost)
        if not snapshot.sound:
            effects += self._once("copy_excluded", f"{snapshot.site}: its hash chain does not hold")
        if not any(isinstance(effect, Install) for effect in effects):
            self._useless.add(snapshot.site)
        return [*effects, *self._ask_again(now_ms)]

    def not_fetched(self, site: str, now_ms: int) -> list[Effect]:
        self._useless.add(site)
        return self._ask_again(now_ms) if self.stage is Stage.FETCHING else self._follower.not_fetched()

    def _ask_again(self, now_ms: int) -> list[Effect]:
        if self.stage is not Stage.FETCHING:
            return []
        self.stage = Stage.ASKING
        return self._go_on(now_ms)

    # -------------------------------------------------------------------------------------------- an empty log

    def _without_log(self, stream: str) -> list[Effect]:
        """The log has nothing of this election: it is new, or the log was lost, or it lies."""
        copies = self._copies()
        holding = [each for each in copies if each.last != BEGIN]
        if not holding:
            # Nobody has anything. Two followers must say so: with fewer, nothing could be written anyway.
            return self._barrier() if len(self.positions) >= self._placement.acknowledgements else []
        if any(each.stream == stream for each in holding):
            # The log that the copies come from: the answer was an old one, or the log was shortened. The append will tell.
            return self._barrier()
        needed = 1 + self._placement.acknowledgements
        # All five are here: there is nothing better to wait for.
        everybody = self.positions.keys() >= set(self._placement.followers)
        if len(holding) < needed and not everybody:
            detail = f"the log was lost; {len(holding)} of the {needed} copies are here that together have all that was acknowledged"
            return self._once("copies_missing", detail)
        source = best(holding)
        assert source is not None
        if source.last > self._follower.copy.last and source.site not in self._useless:
            return [*self._once("log_lost", f"goes on from {source.site}"), *self._fetch(source)]
        if source.last != self._follower.copy.last:
            self._useless.clear()
            return []
        return self._restart(source)

    def _restart(self, source: PositionTold) -> list[Effect]:
        lost = source.stream or self._follower.copy.stream
        head = self._follower.copy.last
        # Writers that nobody here has heard of may have raised the epoch in the lost log.
        place = self._place(head)
        place["epoch"] = (place["epoch"] // _RESTART_EPOCHS + 1) * _RESTART_EPOCHS
        self._entry = LogRestarted(**place, best=source.site, lost=lost)
        return [*self._once("log_restarted", f"from {source.site}, at event {head.sequence}"), *self._append()]

    # -------------------------------------------------------------------------------------------- the barrier

    def _barrier(self) -> list[Effect]:
        assert self._last is not None
        self._entry = EpochStarted(**self._place(BEGIN if self._last.entry is None else head_after(self._last.entry)))
        return self._append()

    def _append(self) -> list[Effect]:
        assert self._last is not None
        assert self._entry is not None
        self.stage = Stage.BARRIER
        self._expected, self._again = self._last.log_sequence, False
        return [Append(self._entry, self._stream, self._expected)]

    def _place(self, head: Head) -> EntryPlace:
        """Behind `head`, in an epoch that is higher than any that a copy or the log knows."""
        known = [head.epoch, *(each.last.epoch for each in self._copies()), *(each.applied.epoch for each in self._copies())]
        follower = self._follower
        return behind(head, election=follower.key, epoch=max(known) + 1, site=follower.site, topology=self._topology, told=self._told)

    def appended(self, entry: LogEntry, log_sequence: int) -> list[Effect]:
        """The barrier is in the log: that what it came behind is all that there is, is certain now, and not before."""
        if self.stage is not Stage.BARRIER or entry != self._entry:
            return []
        ahead = [each for each in self._copies() if each.stream == self._stream and each.log_sequence > self._expected]
        # The own copy may have been given the barrier by the log's reader before this answer came.
        ahead = [each for each in ahead if each.applied.number >= entry.number and each.applied.epoch < entry.epoch]
        if ahead:
            return self._follower.stop(f"the log was shortened: {ahead[0].site} has more of it than the log")
        self.stage = Stage.CATCHING_UP
        self._target = log_sequence
        return self._follower.logged(self._stream, log_sequence, entry)

    def unsettled(self, entry: LogEntry) -> list[Effect]:
        """Another entry came first, or nobody knows."""
        if self.stage is not Stage.BARRIER or entry != self._entry:
            return []
        return [ReadLog(self._stream, self._expected)]

    def read(self, page: LogRead, now_ms: int) -> list[Effect]:
        """What the log has behind the place of the barrier: the barrier, nothing yet, or something that came first."""
        if self.stage is Stage.BARRIER and page.stream != self._stream:
            return self._begin_again()
        if self.stage is not Stage.BARRIER or page.after != self._expected:
            return []
        assert self._entry is not None
        if not page.entries:
            self._again = True
            return []
        log_sequence, first = page.entries[0]
        if first == self._entry:
            return self.appended(first, log_sequence)
        return self._begin_again()

    def _begin_again(self) -> list[Effect]:
        self.stage, self._last, self._entry = Stage.ASKING, None, None
        return [ReadLast()]

    def caught_up(self) -> None:
        """Done if the copy has the barrier; asked after whatever changed it."""
        copy = self._follower.copy
        if self.stage is Stage.CATCHING_UP and copy.stream == self._stream and copy.log_sequence >= self._target:
            self.stage = Stage.DONE

    @property
    def epoch(self) -> int:
        """Of its barrier; 0 before it has one."""
        return self._entry.epoch if self._entry is not None else 0

    @property
    def _stream(self) -> str:
        assert self._last is not None
        return self._last.stream

    def _once(self, what: str, detail: str) -> list[Effect]:
        """Told to the operator once for each recovery."""
        if detail in self._reported:
            return []
        self._reported.add(detail)
        return [Report(what, f"{self._follower.key}: {detail}")]


def _two_hashes(copies: list[PositionTold]) -> str:
    """What is wrong with copies of one log that are equally far and differ; "" if nothing is."""
    seen: dict[tuple[str, int], PositionTold] = {}
    for copy in copies:
        other = seen.setdefault((copy.stream, copy.applied.number), copy)
        if other.applied != copy.applied:
            mine, theirs = other.applied.digest.hex()[:16], copy.applied.digest.hex()[:16]
            return f"{other.site} has {mine} and {copy.site} has {theirs} at event {copy.applied.sequence}"
    return ""
