"""One subsystem's journal, read to look for causes: records by index, events that mention something, and who said what led to them.

Knows no subsystem. Whatever is looked for goes through the journal as bytes first; only what can be meant is decoded.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import cbor2
import msgspec

from messages.message import Message
from messages.subjects import MessageId, SubjectError
from overseer.runner import journal
from overseer.runner.errors import JournalBroken
from overseer.runner.schema import BLOBS, JOURNAL, WATERMARKS, Head, Record, TimerRow
from overseer.tables import Rows

__all__ = ["Found", "Journal", "Place", "Step"]

_TIMER = "timer:"


class Place(msgspec.Struct, frozen=True, order=True):
    """A journal record: whose, and which."""

    node: str
    subsystem: str
    index: int

    def text(self) -> str:
        return f"{self.node}/{self.subsystem}:{self.index}"


class Step(msgspec.Struct, frozen=True):
    """A record with its events."""

    place: Place
    record: Record
    events: list[Message]


class Found(msgspec.Struct, frozen=True):
    """An event that was looked for, and its record."""

    place: Place
    record: Record
    event: Message


class _Heard:
    """By sender and incarnation: the sender's record numbers, which only grow, and behind which record here each was taken."""

    def __init__(self) -> None:
        self.said = array("Q")
        self.taken = array("Q")

    def add(self, said: int, taken: int) -> None:
        self.said.append(said)
        self.taken.append(taken)

    def of(self, said: int) -> Iterator[int]:
        at = bisect_left(self.said, said)
        while at < len(self.said) and self.said[at] == said:
            yield self.taken[at]
            at += 1


class _Index:
    """Of a whole journal, made in one pass: sixteen bytes for each record, whatever is in them."""

    def __init__(self) -> None:
        self.heard: dict[tuple[str, str], _Heard] = {}
        # By stream: sequences, and the records that took them. They start over when a stream was replaced.
        self.positions: dict[str, tuple[array[int], array[int]]] = {}
        self.fired: dict[str, array[int]] = {}

    def add(self, index: int, cause: Sequence[object]) -> None:
        stream, sequence, _, text = cause[:4]
        if not isinstance(stream, str) or not isinstance(sequence, int) or not isinstance(text, str):
            raise JournalBroken(index, "its cause cannot be read")
        if not stream:
            if text.startswith(_TIMER):
                self.fired.setdefault(text.removeprefix(_TIMER), array("Q")).append(index)
            return
        sequences, records = self.positions.setdefault(stream, (array("Q"), array("Q")))
        sequences.append(sequence)
        records.append(index)
        try:
            said = MessageId.parse(text)
        except SubjectError:
            return
        self.heard.setdefault((said.sender, said.incarnation), _Heard()).add(said.sequence, index)


class Journal:
    """The journal in `rows`, as of when they were opened. What it raises: JournalBroken, StoreError."""

    def __init__(self, node: str, subsystem: str, rows: Rows) -> None:
        self.node = node
        self.subsystem = subsystem
        self._rows = rows
        self._head = journal.read_head(rows) or Head(incarnation=b"")
        # 0 without any record.
        self.first = journal.first_index(rows)
        self.last = self._head.index
        self._index: _Index | None = None

    @property
    def begins(self) -> str:
        """From where on it is there, in a sentence."""
        return f"the journal of {self.subsystem} begins with record {self.first}: what was before went behind a checkpoint"

    # -------------------------------------------------------------------------------------------- one record

    def step(self, index: int) -> Step | None:
        """The record with its events; None when it is not there (any more)."""
        data = self._rows.get(JOURNAL.name, JOURNAL.pack((index,)))
        return None if data is None else self._step(journal.decoded(index, data))

    def _step(self, record: Record) -> Step:
        return Step(Place(self.node, self.subsystem, record.index), record, journal.events_of(self._rows, record))

    # -------------------------------------------------------------------------------------------- looking for something

    def find(self, kinds: Sequence[type[Message]], *needles: bytes, backwards: bool = False) -> Iterator[Found]:
        """Events of these kinds in whose bytes all needles are, in order."""
        names = [kind.spec.key.encode() for kind in kinds]
        keys = {kind.spec.key for kind in kinds}
        in_blobs = self._blobs(needles)
        for key, data in self._rows.scan(JOURNAL.name, b"", None, reverse=backwards):
            index = int.from_bytes(key, "big")
            if not any(name in data for name in names) or not (index in in_blobs or all(needle in data for needle in needles)):
                continue
            record = journal.decoded(index, data)
            rows = [row for row in record.events if row.key in keys]
            for row in reversed(rows) if backwards else rows:
                body = self._rows.get(BLOBS.name, BLOBS.pack((index, row.body))) if row.blob else row.body
                if body is not None and all(needle in body for needle in needles):
                    yield Found(Place(self.node, self.subsystem, index), record, journal.event_of(self._rows, row, index))

    def _blobs(self, needles: Sequence[bytes]) -> set[int]:
        """Records with a large event that holds all needles."""
        return {
            int.from_bytes(key[:8], "big")
            for key, data in self._rows.scan(BLOBS.name, b"", None)
            if all(needle in data for needle in needles)
        }

    def set_by(self, timer: str, before: int) -> int:
        """The record that set a timer which fired in record `before`; 0: not there any more."""
        needle = timer.encode()
        for key, data in self._rows.scan(JOURNAL.name, b"", JOURNAL.pack((before,)), reverse=True):
            if needle in data and any(_sets(row, timer) for row in journal.decoded(int.from_bytes(key, "big"), data).timers):
                return int.from_bytes(key, "big")
        return 0

    # -------------------------------------------------------------------------------------------- who said what

    def lacks(self, said: MessageId) -> str:
        """Why the record that said this is not here; "" when it is."""
        incarnation, known = self._head.incarnation.hex(), {past.hex() for past in self._head.past}
        # Records before this incarnation's first are those of the incarnations before it.
        if said.incarnation != incarnation and (said.incarnation not in known or said.sequence >= self._head.began):
            return f"{self.subsystem} said it under incarnation {said.incarnation[:8]}, of which this store kept nothing"
        if said.sequence < self.first:
            return self.begins
        if said.sequence > self.last:
            return f"the journal of {self.subsystem} ends with record {self.last}"
        return ""

    def incarnations_of(self, index: int) -> list[str]:
        """Under which the record's messages may have gone out."""
        if index >= self._head.began:
            return [self._head.incarnation.hex()]
        return [past.hex() for past in self._head.past]

    def followers(self, sender: str, incarnation: str, said: int) -> list[int]:
        """Records here whose input was said by that record of the sender."""
        heard = self._indexed().heard.get((sender, incarnation))
        return [] if heard is None else list(heard.of(said))

    def took(self, stream: str, sequence: int) -> list[int]:
        """Records here that took the message at that place of a stream: one, or more where the stream was replaced since."""
        sequences, records = self._indexed().positions.get(stream, (array("Q"), array("Q")))
        return [record for at, record in zip(sequences, records, strict=True) if at == sequence]

    def span(self, stream: str) -> tuple[int, int]:
        """The first and the last place of a stream that was taken here, as far as the journal goes back; zeros without any."""
        sequences, _ = self._indexed().positions.get(stream, (array("Q"), array("Q")))
        return (min(sequences), max(sequences)) if sequences else (0, 0)

    def fired(self, record: Record) -> list[int]:
        """Records of the timers that this one set."""
        found: list[int] = []
        for timer in record.timers:
            fires = self._indexed().fired.get(timer.key)
            if timer.at_ms is None or fires is None:
                continue
            at = bisect_left(fires, record.index + 1)
            # Set anew before it fired, it was the later setting that fired.
            if at < len(fires) and self.set_by(timer.key, fires[at]) == record.index:
                found.append(fires[at])
        return found

    def node_of(self, sender: str, incarnation: str) -> str:
        """The other node in whose name that was said; "" when this store does not know."""
        suffix = f":{sender}/{incarnation}".encode()
        for key, _ in self._rows.scan(WATERMARKS.name, b"", None):
            if key.endswith(suffix):
                return key[: -len(suffix)].decode()
        return ""

    def _indexed(self) -> _Index:
        if self._index is None:
            self._index = _Index()
            for key, data in self._rows.scan(JOURNAL.name, b"", None):
                # Only the cause is looked at: a third of the time.
                self._index.add(int.from_bytes(key, "big"), cbor2.loads(data)[3])
        return self._index


def _sets(row: TimerRow, timer: str) -> bool:
    return row.key == timer and row.at_ms is not None
