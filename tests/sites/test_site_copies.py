"""Copies that go from one site to another: fetched page by page, checked as they come, put in their place in parts."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from messages.codec import decode, encode
from messages.election_pairs import Head, PairMessage, SnapshotAsked, SnapshotPage, SnapshotRows
from overseer.limits import SiteLimits
from overseer.memory.store import CommitStep, MemoryDisk, MemoryStore
from overseer.ports.bus import BusUnavailable, Response
from overseer.ports.store import StoreError
from overseer.sites.copying import MISSING, SnapshotDesk, discard_torn, install, verified
from overseer.sites.fetching import Fetched, fetch
from overseer.sites.ledger import Ledger
from overseer.sites.tables import table_names
from overseer.system.clock import SystemClock
from overseer.tables import Tables
from subsystems.elections.ballots.rows import BALLOTS, Ballot
from subsystems.elections.rows import ELECTIONS, EVENTS, ElectionRow, key_hash
from subsystems.elections.runtime.entry import chained
from subsystems.elections.runtime.rows import COPIES, CopyRow, load_copy
from subsystems.elections.runtime.steps import BLANK
from subsystems.elections.subsystem import Elections

pytestmark = pytest.mark.anyio

KEY, OTHER = "mayor-2026", "poll"
ELECTIONS_OF = Elections()
# Pages of a few rows, parts of a few pages, and nothing of it in memory.
LIMITS = SiteLimits(snapshot_rows_max=7, install_bytes_max=200, snapshot_memory_bytes=64)
EVENTS_OF = [f"event {number}".encode() for number in range(1, 41)]
ASKED = SnapshotAsked(election=KEY, site="b", topology=1)


class Disk:
    """A site's rows on a disk of its own, written by a ledger."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self.store = MemoryStore(table_names(ELECTIONS_OF), disk=self.disk)
        self.ledger = Ledger(self.store, SystemClock(), LIMITS)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator["Disk"]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.ledger.run)
            yield self
            tasks.cancel_scope.cancel()

    def fill(self, key: str, events: list[bytes], *, applied: int | None = None) -> None:
        """A copy of this election; its place says that it has applied so many."""
        change = self.ledger.change()
        election, digest = key_hash(key), chained(bytes(32), events)
        row = ElectionRow(kind="ballots", sequence=len(events), digest=digest, created_ms=1, last_ms=2)
        change.put(ELECTIONS, (key,), row)
        for number, event in enumerate(events, 1):
            change.put(EVENTS, (election, number), event)
            change.put(BALLOTS, (election, 1, b"voter %d" % number), Ballot("Ada"))
        change.put(COPIES, (key,), CopyRow("log-1", Head(1, 1, applied or len(events), digest), 9, 3))
        self.ledger.put(change)

    def change(self, work: Callable[[Tables], None]) -> None:
        change = self.ledger.change()
        work(change)
        self.ledger.put(change)

    def rows_of(self, key: str) -> dict[str, list[tuple[bytes, bytes]]]:
        """All rows of an election by table, its own one and its place among them."""
        election = key_hash(key)
        found = {
            name: [row for row in self.ledger.scan(name, b"", None) if row[0].startswith(election) or row[0] == key.encode()]
            for name in table_names(ELECTIONS_OF)
        }
        return {name: rows for name, rows in found.items() if rows}


class Mail:
    """From the desk of a site. `spoil`: what becomes of a page on the way; it may raise BusUnavailable."""

    def __init__(self, source: Disk, spoil: Callable[[SnapshotPage], SnapshotPage] = lambda page: page) -> None:
        self.desk = SnapshotDesk("a", ELECTIONS_OF, source.ledger, SystemClock(), LIMITS)
        self.asked: list[tuple[str, bytes]] = []
        self._spoil = spoil

    async def ask(self, to: str, message: PairMessage, timeout_ms: int) -> Response:
        assert isinstance(message, SnapshotAsked)
        self.asked.append((message.table, message.key))
        response = await self.desk.answer(message, 1)
        if response.error is not None:
            return response
        page = decode(SnapshotPage.spec, response.body)
        assert isinstance(page, SnapshotPage)
        return Response(encode(self._spoil(page)))

    async def fetched(self, folder: Path | None = None) -> Fetched | None:
        return await fetch(self, ASKED, "a", ELECTIONS_OF, LIMITS, folder=folder)  # pyright: ignore[reportArgumentType]


async def installed(target: Disk, found: Fetched) -> None:
    try:
        await install(target.ledger, ELECTIONS_OF, KEY, found.copy, found.pages(), LIMITS)
    finally:
        found.close()


async def test_a_copy_is_fetched_checked_and_put_in_the_place_of_another_and_nothing_of_others_is_touched(tmp_path: Path) -> None:
    async with Disk().writing() as source, Disk().writing() as target:
        source.fill(KEY, EVENTS_OF)
        source.fill(OTHER, [b"another"])
        target.fill(KEY, [b"quite another history", *EVENTS_OF[1:]] * 2)
        target.fill(OTHER, [b"mine"])
        mine = target.rows_of(OTHER)
        found = await Mail(source).fetched(tmp_path)
        assert found is not None
        assert found.sound
        assert list(tmp_path.iterdir()) == [], "its file has no name"
        await installed(target, found)
        assert target.rows_of(KEY) == source.rows_of(KEY)
        assert target.rows_of(OTHER) == mine
        copy = load_copy(target.ledger.view, KEY)
        assert (copy.stream, copy.applied.sequence, copy.log_sequence, copy.told) == ("log-1", 40, 9, 3)
        assert await verified(target.ledger.view, KEY, copy)


def _changed(page: SnapshotPage, table: str, change: Callable[[list[bytes]], list[bytes]]) -> SnapshotPage:
    parts = [SnapshotRows(part.table, change(part.rows) if part.table == table else part.rows) for part in page.rows]
    return SnapshotPage(**{name: getattr(page, name) for name in page.__struct_fields__} | {"rows": parts})


def _renamed(page: SnapshotPage, name: str) -> SnapshotPage:
    parts = [SnapshotRows(name, part.rows) for part in page.rows]
    return SnapshotPage(**{name: getattr(page, name) for name in page.__struct_fields__} | {"rows": parts})


def _of_another_number(rows: list[bytes]) -> list[bytes]:
    """The last event of all."""
    return [*rows[:-2], rows[-2][:-2] + b"\1\0", rows[-1]] if rows[-2][-1] == len(EVENTS_OF) else rows


def _of_another(rows: list[bytes]) -> list[bytes]:
    return [*rows, key_hash(OTHER) + rows[-2][32:], rows[-1]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda page: _changed(page, "events", lambda rows: [*rows[:-1], rows[-1] + b"!"]),
        lambda page: _changed(page, "events", lambda rows: rows[2:]),
        lambda page: _changed(page, "events", lambda rows: rows[:-1]),
        lambda page: _changed(page, "events", _of_another_number),
        lambda page: _changed(page, "events", _of_another),
        lambda page: _changed(page, BALLOTS.name, _of_another),
        lambda page: _renamed(page, "places"),
        lambda page: _changed(page, "elections", lambda rows: [OTHER.encode(), rows[1]]),
        lambda page: _changed(page, BALLOTS.name, lambda rows: [rows[-2], rows[-1], *rows[:-2]] if len(rows) > 2 else rows),
    ],
    ids=[
        "an event changed",
        "an event gone",
        "a half row",
        "another number",
        "another's event",
        "another's ballot",
        "another table",
        "another's head",
        "out of order",
    ],
)
async def test_a_copy_with_anything_wrong_in_it_is_not_sound(spoil: Callable[[SnapshotPage], SnapshotPage]) -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        found = await Mail(source, spoil).fetched()
        assert found is not None
        found.close()
        assert not found.sound


async def test_a_copy_that_says_it_has_more_than_it_has_is_not_sound() -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF, applied=41)
        found = await Mail(source).fetched()
        assert found is not None
        found.close()
        assert not found.sound


async def test_a_page_that_does_not_come_is_asked_for_again_and_too_many_of_them_end_it() -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        lost = [3, 4]
        count = 0

        def lose(page: SnapshotPage) -> SnapshotPage:
            nonlocal count
            count += 1
            if count in lost:
                raise BusUnavailable("lost")
            return page

        mail = Mail(source, lose)
        found = await mail.fetched()
        assert found is not None
        found.close()
        assert found.sound
        assert mail.asked[2] == mail.asked[3] == mail.asked[4]
        assert mail.asked.count(("", b"")) == 1
        lost, count = [3, 4, 5], 0
        assert await Mail(source, lose).fetched() is None


async def test_a_copy_that_changes_while_it_is_read_anew_is_fetched_anew() -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        mail = Mail(source)
        pages = 0

        def forget(page: SnapshotPage) -> SnapshotPage:
            nonlocal pages
            pages += 1
            if pages == 3:
                # It was not asked for too long, and went on meanwhile.
                mail.desk._readings.clear()
                source.fill(KEY, [*EVENTS_OF, b"one more"])
            return page

        mail._spoil = forget
        found = await mail.fetched()
        assert found is not None
        found.close()
        assert (found.sound, found.copy.applied.sequence) == (True, 41)
        assert mail.asked.count(("", b"")) == 2


async def test_what_is_no_page_ends_the_fetching() -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        assert await Mail(source, lambda page: _without_rows(page)).fetched() is None


def _without_rows(page: SnapshotPage) -> SnapshotPage:
    return SnapshotPage(**{name: getattr(page, name) for name in page.__struct_fields__} | {"rows": [], "more": True})


async def test_a_source_that_repeats_itself_is_not_believed() -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        first: list[SnapshotPage] = []

        def repeat(page: SnapshotPage) -> SnapshotPage:
            if page.rows[0].table == BALLOTS.name:
                first.append(page)
            return first[0] if first else page

        with anyio.fail_after(10):
            found = await Mail(source, repeat).fetched()
        assert found is not None
        found.close()
        assert not found.sound


async def test_any_number_of_copies_are_read_to_a_site_one_after_the_other() -> None:
    async with Disk().writing() as source:
        mail = Mail(source)
        for number in range(LIMITS.snapshots_served_max + 3):
            key = f"poll-{number}"
            source.fill(key, EVENTS_OF)
            found = await fetch(mail, SnapshotAsked(election=key, site="b", topology=1), "a", ELECTIONS_OF, LIMITS)  # pyright: ignore
            assert found is not None
            found.close()
            assert found.sound
        begun = [SnapshotAsked(election=f"poll-{number}", site="c", topology=1) for number in range(LIMITS.snapshots_served_max + 1)]
        answers = [await mail.desk.answer(asked, 1) for asked in begun]
        assert [answer.error for answer in answers] == [None] * LIMITS.snapshots_served_max + [MISSING], "at once only so many"


async def test_a_site_has_no_copy_to_give_while_its_own_is_being_replaced() -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        source.change(lambda tables: tables.put(COPIES, (KEY,), CopyRow("", BLANK.applied, 0, 0)))
        assert await Mail(source).fetched() is None


@pytest.mark.parametrize("commit", range(1, 12))
@pytest.mark.parametrize("step", [CommitStep.WRITTEN, CommitStep.SYNCED])
async def test_whenever_a_site_ends_while_a_copy_is_put_in_its_place_it_has_the_old_one_or_nothing_or_the_new_one(
    commit: int, step: CommitStep
) -> None:
    async with Disk().writing() as source:
        source.fill(KEY, EVENTS_OF)
        found = await Mail(source).fetched()
        assert found is not None
        target = Disk()
        async with target.writing():
            target.fill(KEY, EVENTS_OF[:9])
            await target.ledger.durable()
            before = target.rows_of(KEY)
        count = 0

        def end(at: CommitStep) -> None:
            nonlocal count
            count += at is step
            if at is step and count == commit:
                raise StoreError("the power is gone")

        target.disk.on_step = end

        async def interrupted() -> None:
            async with target.writing():
                await installed(target, found)
                # It has fewer commits than that.
                raise StoreError("it was all done")

        with pytest.raises(ExceptionGroup):
            await interrupted()
        found.close()
        target.disk.on_step = None
        target.disk.crash()
        after = Disk(target.disk)
        copy = load_copy(after.ledger.view, KEY)
        if copy == BLANK:
            async with after.writing():
                discard_torn(after.ledger, ELECTIONS_OF, KEY)
                await after.ledger.durable()
            assert after.rows_of(KEY) == {}
        else:
            assert after.rows_of(KEY) in (before, source.rows_of(KEY))
