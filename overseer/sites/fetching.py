"""A copy of an election fetched from another site, page by page: one page is asked for while the one before is looked at.

What has come waits beside the rows, beyond a bound in a file without a name, until the machine says that it is to be installed. The
hash chain is computed over the events as they come.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec

from messages.codec import CodecError, decode, decode_value
from messages.election_pairs import Head, SnapshotAsked, SnapshotPage
from overseer.limits import SiteLimits
from overseer.ports.bus import BusUnavailable
from overseer.ports.sites import SiteMail
from overseer.sites.tables import election_tables
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash
from subsystems.elections.runtime.entry import chained, load_entry
from subsystems.elections.runtime.steps import Copy
from subsystems.elections.subsystem import Elections

__all__ = ["Fetched", "fetch"]

_LENGTH_BYTES = 4
_HASH_BYTES = 32


class Fetched:
    """A snapshot that is here, beside the rows. `sound`: its hash chain ends in `copy.applied`, and all rows are of this election.

    Close it: it may hold a file.
    """

    def __init__(self, election: str, elections: Elections, *, memory_bytes: int, folder: Path | None) -> None:
        """`memory_bytes` of it are held in memory; if it is more, it is in a file without a name in `folder`."""
        self.copy = Copy()
        # Closed with this.
        self._spool = tempfile.SpooledTemporaryFile(max_size=memory_bytes, dir=None if folder is None else str(folder))  # noqa: SIM115
        self._hash = key_hash(election)
        self._own = ELECTIONS.pack((election,))
        # In the order in which they come, the election's own row first.
        self._tables = {name: place for place, name in enumerate((ELECTIONS.name, *(table.name for table in election_tables(elections))))}
        self._last = (-1, b"")
        # Whether there is anything wrong with it yet.
        self.intact = True
        self._archived_at: int | None = None
        # The chain over the events so far.
        self._events = 0
        self._digest = bytes(_HASH_BYTES)

    def take(self, page: SnapshotPage, body: bytes) -> None:
        """The next page, and its bytes. Raises OSError."""
        for part in page.rows:
            self.intact = self.intact and len(part.rows) % 2 == 0 and self._ours(part.table, part.rows[::2])
            if not self.intact:
                return
            if part.table == EVENTS.name:
                self._chain(part.rows)
            elif part.table == ELECTIONS.name:
                row = ELECTIONS.load(part.rows[1])
                self._archived_at = row.sequence if row.archived else None
        self._spool.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        if not page.more:
            prepared = [load_entry(data) for data in page.prepared]
            self.copy = Copy.stored(page.stream, page.applied, page.log_sequence, page.told, prepared)

    def _ours(self, table: str, keys: list[bytes]) -> bool:
        """Rows of another election would be put over its own. They come in order: no row twice, however many pages there are."""
        place = self._tables.get(table)
        if place is None or not keys or keys != sorted(keys) or (place, keys[0]) <= self._last:
            return False
        self._last = (place, keys[-1])
        if table == ELECTIONS.name:
            return keys == [self._own]
        # They are in order: what is between two of this election's is this election's.
        return keys[0].startswith(self._hash) and keys[-1].startswith(self._hash)

    def _chain(self, rows: list[bytes]) -> None:
        """They come in the order of their numbers, without a gap."""
        count = self._events
        for number, key in enumerate(rows[::2], count + 1):
            if int.from_bytes(key[_HASH_BYTES:], "big") != number:
                self.intact = False
                return
        self._digest, self._events = chained(self._digest, rows[1::2]), count + len(rows) // 2

    @property
    def sound(self) -> bool:
        applied = self.copy.applied
        if not self.intact:
            return False
        if self._archived_at is not None:
            # Its events are gone; what is left is its head.
            return self._archived_at == applied.sequence
        return (self._events, self._digest) == (applied.sequence, applied.digest)

    def pages(self) -> Iterator[SnapshotPage]:
        """All of them again, one in memory at a time. Raises OSError, CodecError."""
        self._spool.seek(0)
        while head := self._spool.read(_LENGTH_BYTES):
            yield decode_value(SnapshotPage, self._spool.read(int.from_bytes(head, "big")))

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._spool.close()


class _Pages:
    """The pages of the copy at one site, in order. `asked`: by whom, for which election."""

    def __init__(self, mail: SiteMail, asked: SnapshotAsked, source: str, limits: SiteLimits) -> None:
        self._mail = mail
        self._asked = asked
        self._source = source
        self._limits = limits

    async def behind(self, table: str, key: bytes) -> bytes | None:
        """The page behind a row; None when there is none, or no answer."""
        asked = msgspec.structs.replace(self._asked, table=table, key=key)
        for _ in range(self._limits.snapshot_attempts_max):
            try:
                response = await self._mail.ask(self._source, asked, self._limits.ask_ms)
            except BusUnavailable:
                # The same page once more: beginning anew with the first would cost more.
                continue
            return response.body if response.error is None else None
        return None


async def fetch(
    mail: SiteMail,
    asked: SnapshotAsked,
    source: str,
    elections: Elections,
    limits: SiteLimits,
    *,
    folder: Path | None = None,
    moved: Callable[[], None] = lambda: None,
) -> Fetched | None:
    """All pages of the copy at `source`; None when there is none, or no answer. Raises OSError when there is no room for it in `folder`.

    `moved` is called with every page.
    """
    pages = _Pages(mail, asked, source, limits)
    for _ in range(limits.snapshot_attempts_max):
        body = await pages.behind("", b"")
        if body is None:
            return None
        found = Fetched(asked.election, elections, memory_bytes=limits.snapshot_memory_bytes, folder=folder)
        try:
            complete = await _taken(found, pages, body, moved)
        except BaseException:
            found.close()
            raise
        if complete:
            return found
        found.close()
        if complete is None:
            return None
    return None


async def _taken(found: Fetched, pages: _Pages, body: bytes, moved: Callable[[], None]) -> bool | None:
    """Take all pages, this one first, or until one is no good. Whether they are of one moment; None when one did not come.

    Raises OSError.
    """
    applied: Head | None = None
    while True:
        page = _page(body)
        if page is None:
            return None
        if page.applied != (applied := applied or page.applied):
            return False
        moved()
        if not page.more:
            found.take(page, body)
            return True
        following, trouble = await _beside(pages, page, lambda page=page, body=body: found.take(page, body))
        if trouble is not None:
            raise trouble
        if not found.intact:
            return True
        if following is None:
            return None
        body = following


def _page(body: bytes) -> SnapshotPage | None:
    """None of what is no page, or none that another one could come behind."""
    try:
        page = decode(SnapshotPage.spec, body)
    except CodecError:
        return None
    assert isinstance(page, SnapshotPage)
    return None if page.more and not (page.rows and len(page.rows[-1].rows) >= 2) else page


async def _beside(pages: _Pages, page: SnapshotPage, work: Callable[[], None]) -> tuple[bytes | None, OSError | None]:
    """The page behind this one, asked for before `work` is done; and what kept that from being done."""
    heard: list[bytes | None] = []
    trouble: OSError | None = None
    last = page.rows[-1]

    async def ask() -> None:
        heard.append(await pages.behind(last.table, last.rows[-2]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        # It goes out first.
        await anyio.lowlevel.checkpoint()
        try:
            work()
        except OSError as error:
            # Not out of the task group: it would come as a group.
            trouble = error
    return heard[0], trouble
