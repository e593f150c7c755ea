"""Copies of an election as a whole: read page by page to another site, put in the place of what is here, verified.

All pages of one snapshot are of one moment: the site that reads it keeps its place in the store's rows of that moment for a while. When it
had to begin anew meanwhile, the pages differ in `applied`, and the one who fetches begins again as well.

A long copy is put in its place in several commits. Before the first one the copy is marked as torn, and is blank from then on to whoever
looks; its place and the election's own row come with the last. What a crash leaves in between goes before anything else is done.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import anyio.lowlevel

from messages.codec import encode
from messages.election_pairs import SnapshotAsked, SnapshotMissing, SnapshotPage, SnapshotRows
from overseer.limits import SiteLimits
from overseer.ports.bus import Response
from overseer.ports.clock import Clock
from overseer.sites.ledger import Change, Ledger
from overseer.sites.tables import election_tables
from overseer.tables import View, after
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash
from subsystems.elections.runtime.entry import BEGIN, chained, dump_entry
from subsystems.elections.runtime.rows import COPIES, PREPARED, CopyRow, load_copy
from subsystems.elections.runtime.steps import Copy
from subsystems.elections.subsystem import Elections

__all__ = ["MISSING", "SnapshotDesk", "clear", "discard_torn", "install", "verified"]

# The code of the response that there is no copy.
MISSING = ("404", "snapshot_missing")

_CHUNK = 2_000
# The place of a copy that is not all there: it reads as a blank one.
_TORN = CopyRow("", BEGIN, 0, 0)

# Rows read at a time.
_BATCH = 256

_Rows = Iterator[tuple[bytes, bytes]]


class _Reading:
    """A snapshot that is being read to somebody. `at`: the row behind which the next page begins."""

    def __init__(self, copy: Copy, tables: list[tuple[str, _Rows]], prepared: list[bytes]) -> None:
        self.copy = copy
        self.prepared = prepared
        self.at: tuple[str, bytes] = ("", b"")
        self.used_ms = 0
        # For one that asks for the same page once more.
        self.last: tuple[tuple[str, bytes], bytes] | None = None
        self._tables = deque(tables)
        # Read from the store already, of the first table: the next ones.
        self._read: deque[tuple[bytes, bytes]] = deque()
        self._look()

    @property
    def more(self) -> bool:
        """Whether there is another row."""
        return bool(self._read)

    def page(self, rows_max: int, bytes_max: int) -> list[SnapshotRows]:
        """The next rows: one at least, if there is one, and no more than fit."""
        parts: list[SnapshotRows] = []
        count = size = 0
        while self._read and count < rows_max:
            name, taken = self._tables[0][0], list[bytes]()
            while self._read and count < rows_max:
                place, value = self._read[0]
                size += len(place) + len(value) + 16
                if count and size > bytes_max:
                    break
                taken += self._read.popleft()
                count += 1
                if not self._read:
                    self._read.extend(islice(self._tables[0][1], _BATCH))
            if taken:
                parts.append(SnapshotRows(name, taken))
                self.at = (name, taken[-2])
            if self._read:
                break
            self._look()
        return parts

    def _look(self) -> None:
        """Go on to the table that has a row."""
        while not self._read and self._tables:
            self._read.extend(islice(self._tables[0][1], _BATCH))
            if not self._read:
                self._tables.popleft()


class SnapshotDesk:
    """Reads snapshots to other sites."""

    def __init__(self, site: str, elections: Elections, ledger: Ledger, clock: Clock, limits: SiteLimits) -> None:
        self._site = site
        self._tables = [table.name for table in election_tables(elections)]
        self._ledger = ledger
        self._clock = clock
        self._limits = limits
        self._readings: dict[tuple[str, str], _Reading] = {}

    async def answer(self, asked: SnapshotAsked, topology: int) -> Response:
        """The page behind the row that is named."""
        now_ms, who, at = self._clock.now_ms(), (asked.site, asked.election), (asked.table, asked.key)
        self._forget(now_ms)
        reading = self._readings.get(who)
        if reading is not None and reading.last is not None and reading.last[0] == at:
            return Response(reading.last[1])
        if reading is None or reading.at != at:
            reading = await self._begin(asked)
            if reading is None:
                missing = SnapshotMissing(election=asked.election, site=self._site, topology=topology)
                return Response(encode(missing), {}, MISSING)
            self._readings[who] = reading
        reading.used_ms = now_ms
        body = encode(self._page(reading, asked.election, topology))
        reading.last = (at, body)
        return Response(body)

    async def _begin(self, asked: SnapshotAsked) -> _Reading | None:
        """From the row that is asked for on. The store's rows are as of one moment when nothing is awaited in between."""
        key = asked.election
        if not self._room_for((asked.site, key)):
            return None
        await self._ledger.durable()
        store, election = self._ledger.store, key_hash(key)
        # As the store has it: what is on its way there may be the first part of another copy.
        copy = load_copy(View(store), key)
        if not copy.stream:
            return None
        own = store.get(ELECTIONS.name, ELECTIONS.pack((key,)))
        head = [(ELECTIONS.name, iter([(ELECTIONS.pack((key,)), own)]))] if own is not None and not asked.table else []
        first = self._tables.index(asked.table) if asked.table in self._tables else 0
        # All of them begin now; they are used up page by page.
        end = after(election)
        scans = [(name, store.scan(name, asked.key + b"\0" if name == asked.table else election, end)) for name in self._tables[first:]]
        reading = _Reading(copy, [*head, *scans], [dump_entry(prepared.entry) for prepared in copy.prepared])
        reading.at = (asked.table, asked.key)
        return reading

    def _page(self, reading: _Reading, key: str, topology: int) -> SnapshotPage:
        parts = reading.page(self._limits.snapshot_rows_max, self._limits.snapshot_bytes_max)
        copy, more = reading.copy, reading.more
        return SnapshotPage(
            election=key,
            site=self._site,
            topology=topology,
            stream=copy.stream,
            applied=copy.applied,
            log_sequence=copy.log_sequence,
            rows=parts,
            prepared=[] if more else reading.prepared,
            more=more,
            told=copy.told,
        )

    def _room_for(self, who: tuple[str, str]) -> bool:
        """Those that were read to their end hold nothing but their last page, and make room."""
        others = [other for other in self._readings if other != who]
        ended = [other for other in others if not self._readings[other].more]
        for other in ended[: max(0, len(others) + 1 - self._limits.snapshots_served_max)]:
            del self._readings[other]
        return len(others) - len(ended) < self._limits.snapshots_served_max

    def _forget(self, now_ms: int) -> None:
        old = [who for who, reading in self._readings.items() if now_ms - reading.used_ms > self._limits.snapshot_kept_ms]
        for who in old:
            del self._readings[who]


# ------------------------------------------------------------------------------------------------ verifying


async def verified(view: View, key: str, copy: Copy) -> bool:
    """Whether the chain over the stored events ends in what the copy says it has applied. Others run meanwhile."""
    row = view.get(ELECTIONS, (key,))
    if row is not None and row.archived:
        # Its events are gone; what is left is its head.
        return row.sequence == copy.applied.sequence
    election, digest, count = key_hash(key), bytes(32), 0
    while True:
        # Begun anew behind each pause: a scan of rows that others change is not carried over one.
        events: list[bytes] = []
        for (_, number), data in view.scan(EVENTS, prefix=(election,), start=(election, count + 1)):
            if number != count + len(events) + 1 or number > copy.applied.sequence:
                break
            events.append(data)
            if len(events) == _CHUNK:
                break
        digest, count = chained(digest, events), count + len(events)
        if len(events) < _CHUNK:
            return (count, digest) == (copy.applied.sequence, copy.applied.digest)
        await anyio.lowlevel.checkpoint()


# ------------------------------------------------------------------------------------------------ installing


def clear(ledger: Ledger, elections: Elections, key: str) -> None:
    """Take all rows of the election away: the copy is a blank one."""
    change = ledger.change()
    _clear(change, elections, key)
    ledger.put(change)


def discard_torn(ledger: Ledger, elections: Elections, key: str) -> None:
    """Take away what an installation left that was not finished."""
    if ledger.view.get(COPIES, (key,)) == _TORN:
        clear(ledger, elections, key)


async def install(ledger: Ledger, elections: Elections, key: str, copy: Copy, pages: Iterable[SnapshotPage], limits: SiteLimits) -> None:
    """Put a copy in place of all rows of the election: durable when this returns, and not there before its last commit."""
    change, waiting = ledger.change(), 0
    _clear(change, elections, key)
    change.put(COPIES, (key,), _TORN)
    own: tuple[bytes, bytes] | None = None
    for page in pages:
        for part in page.rows:
            if part.table == ELECTIONS.name:
                own = (part.rows[0], part.rows[1])
                continue
            put = change.writes.put
            for place, value in zip(part.rows[::2], part.rows[1::2], strict=True):
                put(part.table, place, value)
        waiting += sum(map(len, (data for part in page.rows for data in part.rows)))
        if waiting >= limits.install_bytes_max:
            ledger.put(change)
            await ledger.durable()
            change, waiting = ledger.change(), 0
    if own is not None:
        change.put_packed(ELECTIONS, *own)
    change.put(COPIES, (key,), CopyRow(copy.stream, copy.applied, copy.log_sequence, copy.told))
    for prepared in copy.prepared:
        change.put(PREPARED, (key_hash(key), prepared.entry.number), dump_entry(prepared.entry))
    ledger.put(change)
    await ledger.durable()


def _clear(change: Change, elections: Elections, key: str) -> None:
    for table in (*election_tables(elections), PREPARED):
        change.delete_range(table, (key_hash(key),))
    change.delete(ELECTIONS, (key,))
    change.delete(COPIES, (key,))
