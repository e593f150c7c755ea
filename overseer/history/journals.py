"""Where a moment is in the journal of each subsystem, and how far back it can be gone.

A *record* of a journal is one handled input with all that followed from it; behind record i the tables are a function of records
1 to i. So the state of a moment is that behind one record, the last one that belongs to the moment:

- An **index** names it.
- A **time** T: the last record whose time is not after T. A record's time is that at which the stream stored its message (of a timer:
  when it fired), and never less than that of the record before. So all subsystems are seen as they were when everything that was
  stored by T had been processed, however late each of them did so.
- A **position** N: the last record that was caused by a message of the node's stream at or before N, and what the subsystem did by
  itself, or on a message of the network, directly after it, as far as that is not later than message N (its time is the one that any of
  the node's journals tells). Messages that left no record (not consumed, or seen before) changed no table.

Sequences are those of the stream that is there now. Where a repair made intake go back, a sequence may be in the journal twice, with
two messages; the later one counts, and the record of a repair that found another stream, or one that ended before N, is itself the
last one that can be meant.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

import msgspec
from blake3 import blake3

from messages.overseer import RepairNoted
from overseer.history.moments import AtIndex, AtPosition, AtTime, BadMoment, Moment, Now, time_text
from overseer.ports.store import HistoryReader, StoreError, StoreReader
from overseer.runner import journal
from overseer.runner.errors import JournalBroken
from overseer.runner.schema import JOURNAL, Head, Record

__all__ = ["Place", "StoredJournal", "places"]

NODE = "node"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A moment in one journal. `index`: the last record that belongs to it (0: none), and `recorded_ms` its time."""

    subsystem: str
    index: int
    recorded_ms: int
    # What `context.now_ms` is for whoever asks the state of that moment.
    now_ms: int
    # The last message of the node's stream that the state knows of (0: none).
    position: int


class StoredJournal:
    """One subsystem's journal as its store holds it, with the checkpoints that its beginning was given up for."""

    def __init__(self, subsystem: str, store: HistoryReader, *, evolve_version: int = 1) -> None:
        """Raises BadMoment when nothing was ever recorded."""
        head = journal.read_head(store)
        if head is None:
            raise BadMoment(f"{subsystem} has recorded nothing yet.")
        self.subsystem = subsystem
        self.store = store
        self.head = head
        self._evolve_version = evolve_version
        # The oldest record that is there.
        self.first = journal.first_index(store) or head.index + 1

    @staticmethod
    def is_begun(store: HistoryReader) -> bool:
        """Whether anything was ever recorded in the store."""
        return journal.read_head(store) is not None

    def record(self, index: int) -> Record:
        """Raises JournalBroken."""
        data = self.store.get(JOURNAL.name, JOURNAL.pack((index,)))
        if data is None:
            raise JournalBroken(index, "missing")
        return journal.decoded(index, data)

    def hash(self, index: int) -> bytes:
        """That with which record `index` + 1 is chained to what is before it. Raises JournalBroken."""
        if index == self._lowest:
            return bytes(32) if self.oldest is None else self.oldest.hash
        data = self.store.get(JOURNAL.name, JOURNAL.pack((index,)))
        if data is None:
            raise JournalBroken(index, "missing")
        return blake3(data).digest()

    @contextmanager
    def base(self, index: int) -> Generator[StoreReader | None, None, None]:
        """What the state behind record `index` is rebuilt from: the nearest checkpoint before it, None for the first record.

        Checkpoints made by an older `evolve` are passed by as long as the journal reaches back further. Raises BadMoment.
        """
        reader = self._nearest(index)
        if reader is None and self.first > 1:
            raise self.unreachable(f"Record {index}")
        try:
            yield reader
        finally:
            if reader is not None:
                reader.close()

    def _nearest(self, index: int) -> StoreReader | None:
        older = ""
        for name in reversed(self.store.checkpoints()):
            if int(name) > index:
                continue
            # One that its owner gives up right now is none.
            with suppress(StoreError, KeyError):
                head = self._head_of(name)
                if head is None or head.index + 1 < self.first:
                    continue
                if head.evolve_version == self._evolve_version:
                    return self.store.open_checkpoint(name)
                older = name
        with suppress(StoreError, KeyError):
            return self.store.open_checkpoint(older) if older and self.first > 1 else None
        return None

    def _head_of(self, checkpoint: str) -> Head | None:
        reader = self.store.open_checkpoint(checkpoint)
        try:
            return journal.read_head(reader)
        finally:
            reader.close()

    @cached_property
    def oldest(self) -> Head | None:
        """The head of the oldest state that can be rebuilt; None: that before the first record. Raises BadMoment."""
        if self.first == 1:
            return None
        for name in self.store.checkpoints():
            with suppress(StoreError, KeyError):
                head = self._head_of(name)
                if head is not None and head.index + 1 >= self.first:
                    return head
        raise BadMoment(
            f"The journal of {self.subsystem} begins at record {self.first}, and no checkpoint holds what was before.",
            "`overseer repair` can put a copy of the store in its place that does.",
        )

    def unreachable(self, what: str) -> BadMoment:
        """The sentence about a moment that lies before all that is kept."""
        head = self.oldest
        if head is None:
            return BadMoment(f"{what} is before the first record of {self.subsystem}, of {time_text(self.record(1).time_ms)}.")
        position = head.positions.get(NODE)
        at = f", at position {position.sequence} of the stream" if position is not None else ""
        return BadMoment(
            f"{what} is before all that {self.subsystem} keeps.",
            f"The earliest moment that can be rebuilt is {self.subsystem}:{head.index}, of {time_text(head.last_ms)}{at}.",
        )

    # -------------------------------------------------------------------------------------------- where a moment is

    def at_time(self, ms: int) -> int:
        """The last record whose time is not after `ms`. Raises BadMoment."""
        oldest = self.oldest
        if oldest is not None and oldest.last_ms > ms:
            raise self.unreachable(time_text(ms))
        low, high = self._lowest, self.head.index
        while low < high:
            middle = (low + high + 1) // 2
            if self.record(middle).time_ms <= ms:
                low = middle
            else:
                high = middle - 1
        return low

    def at_position(self, sequence: int) -> int:
        """The last record that a message of the node's stream at or before `sequence` caused. Raises BadMoment."""
        there = self.head.positions.get(NODE)
        stream = "" if there is None else there.stream
        for index, record in self._backwards(self.head.index):
            if record.cause.stream == NODE:
                if record.cause.sequence <= sequence:
                    return index
            elif self._begins_behind(record, stream, sequence):
                return index
        head = self.oldest
        if head is None:
            return 0
        before = head.positions.get(NODE)
        if before is None or before.stream != stream or before.sequence > sequence:
            raise self.unreachable(f"Position {sequence}")
        return head.index

    def with_own_steps(self, index: int, until_ms: int) -> int:
        """The last of the records behind `index` that no message of the node's stream caused and that are not later than `until_ms`."""
        for record, _ in journal.records(self.store, after=index):
            if record.cause.stream == NODE or record.time_ms > until_ms:
                break
            index = record.index
        return index

    def position(self, index: int) -> int:
        """The last message of the node's stream that a record up to `index` names; what left no record is not counted."""
        for _, record in self._backwards(index):
            if record.cause.stream == NODE:
                return record.cause.sequence
        head = self.oldest
        found = None if head is None else head.positions.get(NODE)
        return 0 if found is None else found.sequence

    def time_ms(self, index: int) -> int:
        """When record `index` was made; 0 before the first."""
        if index > self._lowest:
            return self.record(index).time_ms
        return 0 if self.oldest is None else self.oldest.last_ms

    @property
    def _lowest(self) -> int:
        return 0 if self.oldest is None else self.oldest.index

    def _backwards(self, index: int) -> Iterator[tuple[int, Record]]:
        """Records from `index` down to the oldest behind a state that can be rebuilt. Raises BadMoment, JournalBroken."""
        for key, data in self.store.scan(JOURNAL.name, JOURNAL.pack((self._lowest + 1,)), JOURNAL.pack((index + 1,)), reverse=True):
            found = int.from_bytes(key, "big")
            yield found, journal.decoded(found, data)

    def _begins_behind(self, record: Record, stream: str, sequence: int) -> bool:
        """Whether it is a repair before which `sequence` was another message, or none."""
        if record.result.status != "system":
            return False
        for row in record.events:
            if row.key == RepairNoted.spec.key:
                noted = journal.event_of(self.store, row, record.index)
                assert isinstance(noted, RepairNoted)
                if noted.found.stream == stream and noted.expected.stream:
                    return noted.expected.stream != stream or sequence > noted.found.sequence
        return False


def places(moment: Moment, wanted: Sequence[StoredJournal], everyone: Sequence[StoredJournal]) -> list[Place]:
    """Where `moment` is in each of the journals `wanted`. `everyone`: those of the whole node, by which positions are known.

    Raises BadMoment, JournalBroken.
    """
    match moment:
        case AtTime(ms):
            found = [(each, each.at_time(ms)) for each in wanted]
            if all(index == 0 for _, index in found):
                raise wanted[0].unreachable(time_text(ms))
            return [_place(each, index, ms) for each, index in found]
        case Now(ms):
            return [_place(each, each.head.index, max(ms, each.head.last_ms)) for each in wanted]
        case AtIndex(_, index):
            (only,) = wanted
            if index > only.head.index:
                raise BadMoment(f"{only.subsystem} has no record {index} yet; its last one is {only.head.index}.")
            oldest = only.oldest
            if oldest is not None and index < oldest.index:
                raise only.unreachable(f"Record {index}")
            return [_place(only, index, only.time_ms(index))]
        case AtPosition(sequence):
            return _at_position(sequence, wanted, everyone)


def _at_position(sequence: int, wanted: Sequence[StoredJournal], everyone: Sequence[StoredJournal]) -> list[Place]:
    last = max((each.head.positions[NODE].sequence for each in everyone if NODE in each.head.positions), default=0)
    if sequence > last:
        raise BadMoment(
            f"No subsystem has taken message {sequence} of the stream; the last one that was taken is {last}.",
            "Give an earlier position, or a time.",
        )
    found = {each.subsystem: each.at_position(sequence) for each in wanted}
    told: list[tuple[int, int]] = []
    for each in everyone:
        with suppress(BadMoment):
            index = found[each.subsystem] if each.subsystem in found else each.at_position(sequence)
            if index >= each.first and (record := each.record(index)).cause.stream == NODE:
                told.append((record.cause.sequence, -record.time_ms))
    # The message itself if anybody tells of it, else the one before it; of several times the earliest.
    until_ms = -max(told)[1] if told else 0
    placed = [(each, each.with_own_steps(found[each.subsystem], until_ms)) for each in wanted]
    return [_place(each, index, max(until_ms, each.time_ms(index))) for each, index in placed]


def _place(of: StoredJournal, index: int, now_ms: int) -> Place:
    return Place(subsystem=of.subsystem, index=index, recorded_ms=of.time_ms(index), now_ms=now_ms, position=of.position(index))
