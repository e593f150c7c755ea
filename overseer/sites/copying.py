"""Copies of an election as a whole: read page by page to another site, fetched from one, verified, installed.

All pages of one snapshot are of one moment: the site that reads it keeps its place in the store's rows of that moment for a while. When it
had to begin anew meanwhile, the pages differ in `applied`, and the one who fetches begins again as well.
"""

from collections.abc import Iterator
from itertools import chain

import anyio.lowlevel
import msgspec

from messages.codec import decode, encode
from messages.election_pairs import SnapshotAsked, SnapshotMissing, SnapshotPage, SnapshotRow
from overseer.limits import SiteLimits
from overseer.memory.rows import MemoryRows
from overseer.ports.bus import BusUnavailable, Response
from overseer.ports.clock import Clock
from overseer.ports.sites import SiteMail
from overseer.sites.ledger import Ledger
from overseer.sites.tables import election_tables
from overseer.tables import View, WriteSet
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash
from subsystems.elections.runtime.entry import chained, dump_entry, load_entry
from subsystems.elections.runtime.rows import COPIES, PREPARED, CopyRow, load_copy
from subsystems.elections.runtime.steps import Copy
from subsystems.elections.subsystem import Elections

__all__ = ["MISSING", "Fetched", "SnapshotDesk", "fetch", "install", "verified"]

# The code of the response that there is no copy.
MISSING = ("404", "snapshot_missing")

_CHUNK = 2_000


class _Reading:
    """A snapshot that is being read to somebody. `at`: the row behind which the next page begins."""

    def __init__(self, copy: Copy, rows: Iterator[SnapshotRow], prepared: list[bytes]) -> None:
        self.copy = copy
        self.rows = rows
        self.prepared = prepared
        self.at: tuple[str, bytes] = ("", b"")
        self.used_ms = 0
        # Read from the store already, on the next page.
        self.next: SnapshotRow | None = next(rows, None)
        # For one that asks for the same page once more.
        self.last: tuple[tuple[str, bytes], SnapshotPage] | None = None


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
            return Response(encode(reading.last[1]))
        if reading is None or reading.at != at:
            reading = await self._begin(asked)
            if reading is None:
                missing = SnapshotMissing(election=asked.election, site=self._site, topology=topology)
                return Response(encode(missing), {}, MISSING)
            self._readings[who] = reading
        reading.used_ms = now_ms
        page = self._page(reading, asked.election, topology)
        reading.last = (at, page)
        return Response(encode(page))

    async def _begin(self, asked: SnapshotAsked) -> _Reading | None:
        """From the row that is asked for on. The store's rows are as of one moment when nothing is awaited in between."""
        key = asked.election
        others = len(self._readings.keys() - {(asked.site, key)})
        if others >= self._limits.snapshots_served_max or self._ledger.view.get(COPIES, (key,)) is None:
            return None
        await self._ledger.durable()
        store, election = self._ledger.store, key_hash(key)
        copy = load_copy(View(store), key)
        own = store.get(ELECTIONS.name, ELECTIONS.pack((key,)))
        head = [SnapshotRow(ELECTIONS.name, ELECTIONS.pack((key,)), own)] if own is not None and not asked.table else []
        end = _end(election)
        first = self._tables.index(asked.table) if asked.table in self._tables else 0
        # All of them begin now; they are used up page by page.
        scans = [(name, store.scan(name, asked.key + b"\0" if name == asked.table else election, end)) for name in self._tables[first:]]
        rows = chain(head, (SnapshotRow(name, place, value) for name, scan in scans for place, value in scan))
        reading = _Reading(copy, rows, [dump_entry(prepared.entry) for prepared in copy.prepared])
        reading.at = (asked.table, asked.key)
        return reading

    def _page(self, reading: _Reading, key: str, topology: int) -> SnapshotPage:
        rows: list[SnapshotRow] = []
        size = 0
        while reading.next is not None and len(rows) < self._limits.snapshot_rows_max:
            size += len(reading.next.key) + len(reading.next.value) + 32
            if rows and size > self._limits.snapshot_bytes_max:
                break
            rows.append(reading.next)
            reading.next = next(reading.rows, None)
        more = reading.next is not None
        if rows:
            reading.at = (rows[-1].table, rows[-1].key)
        copy = reading.copy
        return SnapshotPage(
            election=key,
            site=self._site,
            topology=topology,
            stream=copy.stream,
            applied=copy.applied,
            log_sequence=copy.log_sequence,
            rows=rows,
            prepared=[] if more else reading.prepared,
            more=more,
            told=copy.told,
        )

    def _forget(self, now_ms: int) -> None:
        old = [who for who, reading in self._readings.items() if now_ms - reading.used_ms > self._limits.snapshot_kept_ms]
        for who in old:
            del self._readings[who]


def _end(election: bytes) -> bytes | None:
    """The smallest key behind all of this election's."""
    return (int.from_bytes(election, "big") + 1).to_bytes(len(election) + 1, "big")[1:] if election.strip(b"\xff") else None


# ------------------------------------------------------------------------------------------------ fetching


class Fetched(msgspec.Struct, frozen=True):
    """A snapshot that is here, beside the rows. `sound`: its hash chain ends in `copy.applied`."""

    copy: Copy
    rows: WriteSet
    sound: bool


async def fetch(mail: SiteMail, asked: SnapshotAsked, source: str, elections: Elections, limits: SiteLimits) -> Fetched | None:
    """All pages of the copy at `source`; None when there is none, or no answer. `asked`: by whom, for which election."""
    for _ in range(limits.snapshot_attempts_max):
        pages: list[SnapshotPage] = []
        table, key = "", b""
        while not pages or pages[-1].more:
            try:
                response = await mail.ask(source, msgspec.structs.replace(asked, table=table, key=key), limits.ask_ms)
            except BusUnavailable:
                return None
            if response.error is not None:
                return None
            page = decode(SnapshotPage.spec, response.body)
            assert isinstance(page, SnapshotPage)
            if pages and page.applied != pages[0].applied:
                break
            pages.append(page)
            if page.rows:
                table, key = page.rows[-1].table, page.rows[-1].key
        else:
            return await _fetched(asked.election, pages, elections)
    return None


async def _fetched(key: str, pages: list[SnapshotPage], elections: Elections) -> Fetched:
    election, tables = key_hash(key), {table.name for table in election_tables(elections)}
    own = (ELECTIONS.name, ELECTIONS.pack((key,)))
    rows, sound = WriteSet(), True
    for page in pages:
        for row in page.rows:
            # Rows of another election would be put over its own.
            sound = sound and ((row.table, row.key) == own or (row.table in tables and row.key.startswith(election)))
            rows.put(row.table, row.key, row.value)
    last = pages[-1]
    prepared = [load_entry(data) for data in last.prepared]
    copy = Copy.stored(last.stream, last.applied, last.log_sequence, last.told, prepared)
    fetched = MemoryRows([*tables, ELECTIONS.name])
    if sound:
        fetched.apply(rows)
    return Fetched(copy, rows, sound and await verified(View(fetched), key, copy))


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


def install(ledger: Ledger, elections: Elections, key: str, copy: Copy, rows: WriteSet) -> None:
    """Put a copy in place of all rows of the election. `rows` may be empty: then the copy is a blank one."""
    change, election = ledger.change(), key_hash(key)
    for table in (*election_tables(elections), PREPARED):
        change.delete_range(table, (election,))
    change.delete(ELECTIONS, (key,))
    change.delete(COPIES, (key,))
    change.writes.merge(rows)
    if copy.stream:
        change.put(COPIES, (key,), CopyRow(copy.stream, copy.applied, copy.log_sequence, copy.told))
    for prepared in copy.prepared:
        change.put(PREPARED, (election, prepared.entry.number), dump_entry(prepared.entry))
    ledger.put(change)
