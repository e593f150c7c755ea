"""Journals as they grow: what one subsystem, or several in the order of time, recorded since they were last looked at."""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from messages.message import Message
from overseer.history.stored import StoredNode
from overseer.ports.store import StoreError, StoreMissing
from overseer.rocks.reader import RocksReader, is_owned
from overseer.runner import journal
from overseer.runner.schema import Record

__all__ = ["Follower", "Merged", "Recorded"]

# What changes when a store is written, opened or closed: its log, which log and manifest it has, whether somebody owns it.
_Stamp = tuple[tuple[str, int, int, int], ...]


class Recorded(NamedTuple):
    """A record of a subsystem's journal, with its events."""

    subsystem: str
    record: Record
    events: list[Message]


class Follower:
    """One journal, looked at again and again: beside its owner, after it, and when it is back.

    Between two looks the store stays open, and nothing is read unless its files have changed: opening it takes some 20 ms and more.
    """

    def __init__(self, stored: StoredNode, subsystem: str, *, after: int = 0) -> None:
        self.subsystem = subsystem
        # The last record that was seen.
        self.after = after
        # What is to be said of the journal besides its records; whoever shows them takes it out.
        self.notes: list[str] = []
        self._stored = stored
        self._path = stored.stores / subsystem
        self._reader: RocksReader | None = None
        self._seen: _Stamp = ()
        self._files: _Stamp = ()
        self._unread = False
        # Index and time of the newest record, as of the last look.
        self._head = (0, 0)

    def last_index(self) -> int:
        """Of its newest record; 0 without any. Raises StoreError."""
        self.look()
        return self._head[0]

    def look(self) -> int:
        """See the store as it is now, if it has changed. Returns the time of its newest record.

        Raises StoreError, but not when the store is gone for a moment, as while it is repaired.
        """
        try:
            self._refresh()
        except StoreMissing:
            if not self._seen:
                raise
        return self._head[1]

    def new(self, until_ms: int | None = None) -> Iterator[Recorded]:
        """What is behind `after` as of the last look, lazily, up to the first record later than `until_ms`.

        To be used up before the next look. Raises StoreError, JournalBroken.
        """
        return self._records(until_ms) if self._unread and self._reader is not None else iter(())

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _records(self, until_ms: int | None) -> Iterator[Recorded]:
        reader = self._reader
        assert reader is not None
        last, first = self._head[0], journal.first_index(reader)
        if last < self.after:
            self.notes.append(f"{self.subsystem}: the journal ends at record {last} now: its store was replaced")
            self.after = last
        if first > self.after + 1:
            if self.after:
                self.notes.append(f"{self.subsystem}: the journal begins at record {first} now: what was before it was given up")
            self.after = first - 1
        for record, _ in journal.records(reader, after=self.after):
            if until_ms is not None and record.time_ms > until_ms:
                return
            self.after = record.index
            yield Recorded(self.subsystem, record, journal.events_of(reader, record))
        self._unread = False

    def _refresh(self) -> None:
        # Before anything is read: what is written meanwhile is seen at the next look.
        stamp, files = self._stamp("*.log"), self._stamp("CURRENT", "MANIFEST-*")
        if self._reader is not None and (stamp, files) == (self._seen, self._files):
            return
        # Its owner may have opened, closed or flushed it: what was flushed is then seen in scans alone (RocksDB), so it is opened anew.
        same = self._reader is not None and files == self._files and self._caught_up(self._reader)
        if not same or files != self._stamp("CURRENT", "MANIFEST-*"):
            self.close()
            files = self._stamp("CURRENT", "MANIFEST-*")
            self._reader = self._stored.open(self.subsystem)
        assert self._reader is not None
        self._seen, self._files = stamp, files
        self._unread = True
        head = journal.read_head(self._reader)
        self._head = (0, 0) if head is None else (head.index, head.last_ms)

    def _caught_up(self, reader: RocksReader) -> bool:
        try:
            return reader.catch_up()
        except StoreError:
            # It cannot always (a file was removed under it); what is wrong with the store itself shows at its opening.
            return False

    def _stamp(self, *patterns: str) -> _Stamp:
        # Without its owner it must be opened anew.
        found = [("owned", int(is_owned(self._path)), 0, 0)]
        for path in sorted(path for pattern in patterns for path in self._path.glob(pattern)):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)


class Merged:
    """Several journals as one, by time; each in its own order.

    They are written, and looked at, one after the other: so what one subsystem recorded just now is held back until the others
    were looked at once more. By their own times alone: whose clock is right does not matter.
    """

    def __init__(self, followers: Sequence[Follower]) -> None:
        self.followers = followers
        self._newest_ms: int | None = None

    def look(self) -> Iterator[Recorded]:
        """What is new, lazily; to be used up before the next look. Raises StoreError, JournalBroken."""
        until_ms, self._newest_ms = self._newest_ms, max(follower.look() for follower in self.followers)
        if len(self.followers) == 1:
            until_ms = None
        return heapq.merge(*(follower.new(until_ms) for follower in self.followers), key=_time)


def _time(recorded: Recorded) -> tuple[int, int]:
    """Of two of the same millisecond the one that was caused earlier in the stream."""
    return recorded.record.time_ms, recorded.record.cause.sequence
