"""The ElectionLog contract: compare-and-set on the election's last sequence and on the stream's id, reading, following."""

import contextlib

import anyio
import pytest

from overseer.ports.bus import BusUnavailable, MessageTooLarge, OutcomeUnknown, StreamFull, WrongLastSequence
from overseer.ports.envelope import BODY_BYTES_MAX
from overseer.ports.sites import Logged, StreamReplaced
from tests.ports.bus.bus_worlds import until
from tests.ports.sites.sites_worlds import Following, World, append_numbered

pytestmark = pytest.mark.anyio


async def test_an_election_without_entries_has_no_last_one_but_the_log_has_an_id(world: World) -> None:
    stream, last = await world.log("a").last("mayor-2026")
    assert stream
    assert last is None
    assert (await world.log("b").last("mayor-2026"))[0] == stream


async def test_an_append_returns_the_sequence_that_the_elections_next_one_expects(world: World) -> None:
    log = world.log("a")
    stream, _ = await log.last("x")
    assert await log.append("x", b"1", stream=stream, expected=0) == 1
    assert await log.append("y", b"1", stream=stream, expected=0) == 2
    assert await log.append("x", b"2", stream=stream, expected=1) == 3
    assert await world.log("b").append("y", b"2", stream=stream, expected=2) == 4
    assert await log.last("x") == (stream, Logged(3, "x", b"2"))
    assert await log.last("y") == (stream, Logged(4, "y", b"2"))


async def test_keys_that_differ_in_case_or_in_an_ending_are_different_elections(world: World) -> None:
    log = world.log("a")
    stream, _ = await log.last("x")
    for sequence, key in enumerate(("Mayor", "mayor", "mayor-1", "mayor_1", "1"), start=1):
        assert await log.append(key, key.encode(), stream=stream, expected=0) == sequence
        assert await log.last(key) == (stream, Logged(sequence, key, key.encode()))


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_B21_a_stale_append_is_refused_and_stores_nothing(world: World, expected: int) -> None:
    log = world.log("a")
    await append_numbered(log, "x", 2)
    stream, last = await log.last("x")
    with pytest.raises(WrongLastSequence):
        await log.append("x", b"stale", stream=stream, expected=expected)
    assert await log.last("x") == (stream, last)


async def test_B19_of_writers_that_append_at_once_exactly_one_wins(world: World) -> None:
    stream, _ = await world.log("a").last("x")
    won: list[tuple[int, bytes]] = []

    async def write(site: str) -> None:
        with contextlib.suppress(WrongLastSequence):
            won.append((await world.log(site).append("x", site.encode(), stream=stream, expected=0), site.encode()))

    async with anyio.create_task_group() as tasks:
        for site in ("a", "b", "c"):
            tasks.start_soon(write, site)
    assert len(won) == 1
    assert await world.log("a").last("x") == (stream, Logged(won[0][0], "x", won[0][1]))


async def test_an_append_to_a_stream_that_was_replaced_since_it_was_read_is_refused_though_the_sequence_fits(world: World) -> None:
    log, other = world.log("a"), world.log("b")
    await append_numbered(log, "x", 3)
    old, last = await log.last("x")
    assert last is not None
    await world.replace()
    await append_numbered(other, "x", 3)
    new, kept = await other.last("x")
    # By its sequence it would fit.
    assert (new != old, kept) == (True, last)
    with pytest.raises(StreamReplaced) as refused:
        await log.append("x", b"forked", stream=old, expected=3)
    assert refused.value.stream == new
    assert await log.last("x") == (new, kept)


async def test_an_elections_first_entry_does_not_get_into_a_replaced_stream_either(world: World) -> None:
    log = world.log("a")
    old, _ = await log.last("x")
    await world.replace()
    with pytest.raises(StreamReplaced):
        await log.append("x", b"1", stream=old, expected=0)
    new, last = await log.last("x")
    assert last is None
    assert await log.append("x", b"1", stream=new, expected=0) == 1


async def test_the_last_entry_is_never_one_of_a_replaced_stream(world: World) -> None:
    log = world.log("a")
    await append_numbered(log, "x", 3)
    old, _ = await log.last("x")
    await world.replace()
    new, last = await log.last("x")
    assert (new != old, last) == (True, None)


async def test_an_elections_entries_are_read_in_pages_and_no_others_come(world: World) -> None:
    log = world.log("a")
    for _ in range(5):
        await append_numbered(log, "x", 1)
        await append_numbered(log, "y", 2)
    stream, _ = await log.last("x")
    page = await log.read("x", after=0, entries=3)
    assert (page.stream, page.remaining > 0) == (stream, True)
    assert [(e.sequence, e.election, e.body) for e in page.entries] == [(1, "x", b"x 1"), (4, "x", b"x 2"), (7, "x", b"x 3")]
    rest = await log.read("x", after=7, entries=3)
    assert [(e.sequence, e.body) for e in rest.entries] == [(10, b"x 4"), (13, b"x 5")]
    assert rest.remaining == 0
    assert [e.sequence for e in (await log.read("x", after=5, entries=1)).entries] == [7]
    assert (await log.read("x", after=13, entries=3)).entries == ()
    assert (await log.read("nothing", after=0, entries=3)).entries == ()


async def test_a_log_that_is_full_says_so_and_stores_nothing(world: World) -> None:
    log = world.log("a")
    await append_numbered(log, "x", 2)
    await world.bound(2)
    stream, last = await log.last("x")
    with pytest.raises(StreamFull):
        await log.append("x", b"3", stream=stream, expected=2)
    with pytest.raises(StreamFull):
        await log.append("y", b"1", stream=stream, expected=0)
    assert await log.last("x") == (stream, last)


async def test_an_entry_that_is_too_large_is_refused_before_it_is_sent(world: World) -> None:
    log = world.log("a")
    stream, _ = await log.last("x")
    with pytest.raises(MessageTooLarge):
        await log.append("x", bytes(BODY_BYTES_MAX + 1), stream=stream, expected=0)
    assert await log.append("x", bytes(BODY_BYTES_MAX), stream=stream, expected=0) == 1
    assert (await log.read("x", after=0, entries=1)).entries[0].body == bytes(BODY_BYTES_MAX)


# ------------------------------------------------------------------------------------------------ following


async def test_B16_a_follower_gets_everything_in_order_and_is_told_when_it_is_at_the_end(world: World) -> None:
    log, following = world.log("a"), Following()
    for _ in range(10):
        await append_numbered(log, "x", 3)
        await append_numbered(log, "y", 2)
    stream, _ = await log.last("x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, world.log("b", page_entries=7).follow(after=0, stream=stream))
        await following.until(lambda: bool(following.pages) and not following.pages[-1].entries)
        assert [entry.sequence for entry in following.entries] == list(range(1, 51))
        assert [e.body for e in following.entries if e.election == "x"] == [b"x %d" % n for n in range(1, 31)]
        assert {page.stream for page in following.pages} == {stream}
        assert max(len(page.entries) for page in following.pages) <= 7
        assert following.pages[0].remaining > 0
        assert following.pages[-1].remaining == 0
        # Live.
        await append_numbered(log, "y", 1)
        await following.until(lambda: len(following.entries) == 51)
        tasks.cancel_scope.cancel()


async def test_a_follower_at_the_end_is_told_so_at_least_every_second(world: World) -> None:
    following = Following()
    stream, _ = await world.log("a").last("x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, world.log("a").follow(after=0, stream=stream))
        await following.until(lambda: len(following.pages) == 1)
        with anyio.fail_after(2.5):
            await following.until(lambda: len(following.pages) == 3)
        tasks.cancel_scope.cancel()
    assert all((page.stream, page.entries, page.remaining) == (stream, (), 0) for page in following.pages)


async def test_a_follower_goes_on_where_it_was(world: World) -> None:
    log, following = world.log("a"), Following()
    await append_numbered(log, "x", 10)
    stream, _ = await log.last("x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, log.follow(after=7, stream=stream))
        await following.until(lambda: len(following.entries) >= 3)
        tasks.cancel_scope.cancel()
    assert [entry.sequence for entry in following.entries] == [8, 9, 10]


@pytest.mark.parametrize("known", ["another", ""])
async def test_a_follower_of_another_stream_begins_at_the_beginning(world: World, known: str) -> None:
    log, following = world.log("a"), Following()
    await append_numbered(log, "x", 10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, log.follow(after=7, stream=known))
        await following.until(lambda: len(following.entries) >= 10)
        tasks.cancel_scope.cancel()
    assert [entry.sequence for entry in following.entries] == list(range(1, 11))


async def test_a_follower_is_told_of_a_replaced_stream_and_gets_it_from_its_beginning(world: World) -> None:
    log, following = world.log("a"), Following()
    await append_numbered(log, "x", 10)
    old, _ = await log.last("x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, world.log("b").follow(after=0, stream=old))
        await following.until(lambda: len(following.entries) == 10)
        await world.replace()
        await append_numbered(log, "x", 12)
        new, _ = await log.last("x")
        await following.until(lambda: len(following.entries) == 22)
        tasks.cancel_scope.cancel()
    by_stream = {s: [e.sequence for p in following.pages if p.stream == s for e in p.entries] for s in (old, new)}
    assert by_stream == {old: list(range(1, 11)), new: list(range(1, 13))}
    assert [page.stream for page in following.pages] == sorted((page.stream for page in following.pages), key=[old, new].index)


# ------------------------------------------------------------------------------------------------ a server that dies


class TestOutages:
    """On a server of the test's own."""

    async def test_everything_says_at_once_that_there_is_no_server_and_works_when_it_is_back(self, mortal: World) -> None:
        log, board = mortal.log("a"), mortal.board("a")
        await append_numbered(log, "x", 2)
        stream, last = await log.last("x")
        await mortal.stop()
        with pytest.raises((BusUnavailable, OutcomeUnknown)):
            await log.append("x", b"x 3", stream=stream, expected=2)
        for attempt in (lambda: log.last("x"), lambda: log.read("x", after=0, entries=1), board.topology, board.alive):
            with anyio.fail_after(5), pytest.raises(BusUnavailable):
                await attempt()
        await mortal.start()

        async def back() -> bool:
            try:
                return await log.last("x") == (stream, last)
            except BusUnavailable:
                return False

        await until(back, 15)
        assert await log.append("x", b"x 3", stream=stream, expected=2) == 3

    async def test_a_follower_neither_misses_nor_repeats_anything_over_deaths_of_the_server(self, mortal: World) -> None:
        log, following = mortal.log("a"), Following()
        await append_numbered(log, "x", 5)
        stream, _ = await log.last("x")

        async def write(total: int) -> None:
            """As a writer does: after an unknown outcome it looks at the last entry."""
            while True:
                try:
                    _, last = await log.last("x")
                    assert last is not None
                    while last.sequence < total:
                        body = b"x %d" % (last.sequence + 1)
                        last = Logged(await log.append("x", body, stream=stream, expected=last.sequence), "x", body)
                    return
                except (BusUnavailable, OutcomeUnknown):
                    await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(following.run, mortal.log("b", page_entries=3).follow(after=0, stream=stream))
            for total in (40, 80, 120):
                async with anyio.create_task_group() as writing:
                    writing.start_soon(write, total)
                    await following.until(lambda total=total: len(following.entries) >= total - 30)
                    await mortal.stop()
                    await mortal.start()
            await following.until(lambda: len(following.entries) >= 120)
            await following.until(lambda: not following.pages[-1].entries)
            tasks.cancel_scope.cancel()
        assert [(e.sequence, e.body) for e in following.entries] == [(n, b"x %d" % n) for n in range(1, 121)]
