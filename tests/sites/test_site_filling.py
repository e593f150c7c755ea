"""A site that lacks something writes nothing until it has it: the others do, and nobody waits for long (points 4, 7 and 8)."""

from collections.abc import Callable

import anyio
import msgspec
from site_world import KEY, LIMITS, OPEN, World, ballot, eight, living

from messages.ballots import GetBallotElection
from messages.election_pairs import SiteRow, TopologyRecord
from overseer.memory.sites import MemoryTopologyBoard
from subsystems.elections.runtime.placement import placed

# The longest that a voter may wait while a site has nothing: for its lease to run out, or for it to step aside, and for the next writer.
WAIT_MS = 1_500
# A copy takes several seconds: a page for each row, and each takes its time.
SLOW = {"snapshot_rows_max": 1, "aside_after_ms": 200, "read_entries_max": 5}
SLOW_MS = 20


class Voters:
    """Vote one after another, at any site, under ids of their own. `longest_ms`: that one of them waited."""

    def __init__(self, world: World, key: str = KEY) -> None:
        self.world = world
        self.key = key
        self.cast: list[str] = []
        self.longest_ms = 0

    async def vote(self, name: str) -> None:
        began_ms = self.world.clock.now_ms()
        await self.world.done(ballot(name, key=self.key), f"{self.key} {name}")
        self.longest_ms = max(self.longest_ms, self.world.clock.now_ms() - began_ms)
        self.cast.append(name)

    async def until(self, condition: Callable[[], bool], what: str, *, ms: int = 60_000) -> None:
        """They vote until then."""
        until_ms = self.world.clock.now_ms() + ms
        while not condition():
            assert self.world.clock.now_ms() < until_ms, f"not within {ms} ms: {what}"
            await self.vote(f"late {len(self.cast):04}")
            await self.world.sleep(100)


async def grown(world: World, ballots: int = 30) -> Voters:
    """An election with a history, and who votes in it."""
    await world.done(OPEN)
    voters = Voters(world)
    for number in range(ballots):
        await voters.vote(f"v{number:03}")
    await world.level()
    await world.sleep(LIMITS.watched_ms)
    voters.longest_ms = 0
    return voters


def served_at(world: World, name: str) -> bool:
    return world.writer == name and any(key == KEY for key, _ in world.sites[name].told.served)


def away(world: World) -> set[str]:
    record = world.server.recorded.record
    assert record is not None
    return {row.name for row in record.sites if row.away}


def test_B16_a_site_that_lost_its_store_writes_when_it_has_its_copies_and_nobody_waits_for_that() -> None:
    async def story(world: World) -> None:
        voters = await grown(world)
        writer = world.writer
        world.mail_ms = SLOW_MS
        await world.kill(writer, forget=True)
        world.start(writer)
        began_ms = world.clock.now_ms()
        await voters.until(lambda: writer in away(world), "it steps aside")
        assert not world.sites[writer].site.filling.filled
        await voters.until(lambda: served_at(world, writer), "it writes again")
        assert world.clock.now_ms() - began_ms > 2 * WAIT_MS, "it took long to fetch"
        recorded = world.server.recorded.record
        assert recorded is not None
        assert recorded.version == 3, "it went and came back once, though its old lease ran on for a while"
        assert voters.longest_ms < WAIT_MS
        world.mail_ms = 1
        await world.level()
        assert {tuple(world.votes(name)) for name in world.sites} == {tuple(sorted(voters.cast))}

    living(story, **SLOW)


def test_B16_a_site_that_lost_its_store_steps_aside_even_while_its_old_lease_runs() -> None:
    async def story(world: World) -> None:
        voters = await grown(world)
        writer = world.writer
        world.mail_ms = SLOW_MS
        # Leases outlast the whole story, and so does the time until somebody is back.
        world.server.leases = dict.fromkeys(world.server.leases, world.clock.now_ms() + 100_000)
        await world.kill(writer, forget=True)
        world.start(writer)
        await voters.until(lambda: writer in away(world), "it steps aside", ms=2_000)
        for number in range(10):
            await voters.vote(f"more {number}")
        assert voters.longest_ms < WAIT_MS

    living(story, back_after_ms=100_000, **SLOW)


def test_B16_all_stores_lost_at_once_the_elections_come_back_from_the_log() -> None:
    async def story(world: World) -> None:
        voters = await grown(world)
        for name in world.sites:
            await world.kill(name, forget=True)
        for name in world.sites:
            world.start(name)
        await voters.vote("late")
        await world.until(lambda: not away(world), "all are back")
        await world.level()
        assert {tuple(world.votes(name)) for name in world.sites} == {tuple(sorted(voters.cast))}

    living(story)


def test_B22_a_site_that_is_added_writes_when_it_has_its_copies_and_until_then_nobody_elses_elections_move() -> None:
    async def story(world: World) -> None:
        keys = [f"poll-{number}" for number in range(12)]
        nine = TopologyRecord(version=1, sites=[*world.topology.sites, SiteRow("s8", "dc0", "z2")])
        for key in keys:
            await world.done(msgspec.structs.replace(OPEN, election=key))
        await world.level()
        before = {key: placed(world.sites["s1"].site.topology, key).writer for key in keys}
        key = next(key for key in keys if placed(nine, key).writer == "s8")
        for number in range(20):
            await world.done(ballot(f"v{number:03}", key=key))
        await world.sleep(world.limits.watched_ms)
        world.mail_ms = SLOW_MS
        world.join("s8", nine)
        voters = Voters(world, key)
        await world.until(lambda: "s8" in away(world), "it is recorded, as away")
        recorded = world.server.recorded.record
        assert recorded is not None
        assert {each: placed(recorded, each).writer for each in keys} == before
        await voters.until(lambda: not away(world), "it is back")
        assert world.sites["s8"].site.filling.filled
        await voters.until(lambda: key in dict(world.sites["s8"].told.served), "it writes")
        assert voters.longest_ms < WAIT_MS
        assert not [what for here in world.sites.values() for what, _ in here.told.reports if what == "site_away"], "nobody lost a lease"
        world.mail_ms = 1
        await world.level()
        for name in placed(nine, key).sites:
            assert len(world.votes(name, key)) == 20 + len(voters.cast)

    living(story, eight(), **SLOW)


def test_a_site_that_was_cut_off_for_long_is_back_when_it_has_caught_up_and_not_before() -> None:
    async def story(world: World) -> None:
        voters = await grown(world, 5)
        writer = world.writer
        world.cut(writer)
        await voters.until(lambda: writer in away(world), "it is away")
        for number in range(30):
            await voters.vote(f"v{number + 5:03}")
        world.mail_ms = SLOW_MS
        world.heal()
        behind = len(voters.cast)
        while writer in away(world):
            await voters.vote(f"late {len(voters.cast):04}")
            await world.sleep(100)
        assert len(world.votes(writer)) >= behind
        await voters.until(lambda: served_at(world, writer), "it writes again")
        assert voters.longest_ms < WAIT_MS

    living(story, **SLOW)


def test_one_election_that_nobody_can_bring_up_to_date_does_not_keep_a_site_from_the_others_for_ever() -> None:
    async def story(world: World) -> None:
        voters = await grown(world)
        writer = world.writer
        world.mail_ms = SLOW_MS
        await world.kill(writer, forget=True)
        world.start(writer)
        here = world.sites[writer]
        # Whatever comes for it, it takes nothing.
        await world.until(lambda: hasattr(here.site, "hosting"), "it is there")
        here.site.hosting.find(KEY).member.follower.stop("an operator has to look")
        await world.until(lambda: writer in away(world), "it steps aside")
        await voters.vote("meanwhile")
        await world.until(lambda: writer not in away(world), "it is back")
        assert ("copy_behind", f"{KEY}: nobody brings the copy at {writer} up to date") in here.told.reports

    living(story, fill_patience_ms=2_000, **SLOW)


def test_a_reader_at_a_site_whose_copy_is_being_replaced_is_answered_by_another_site_or_not_at_all() -> None:
    async def story(world: World) -> None:
        voters = await grown(world)
        name = world.members[3]
        await world.kill(name, forget=True)
        here = world.sites[name]
        reached, freed = anyio.Event(), anyio.Event()

        async def syncing() -> None:
            hosted = here.site.hosting.there(KEY)
            if hosted is not None and hosted.installing:
                reached.set()
                await freed.wait()

        here.disk.syncing = syncing
        world.start(name)
        await world.until(reached.is_set, "the first part is written")
        assert await world.cast(name) == len(voters.cast), "another site answers"
        assert (await world.copy(name)).head.sequence == 0
        world.office.split((name,))
        response = await world.ask(name, GetBallotElection(election=KEY), timeout_ms=20_000)
        assert response.error is not None
        assert response.error[1] == "not_owned_yet"
        world.office.split()
        here.disk.syncing = None
        freed.set()
        await world.level()
        assert len(world.votes(name)) == len(voters.cast)

    living(story, install_bytes_max=200, watched_ms=1_000_000, read_entries_max=5)


def test_a_snapshot_is_fetched_once_by_whoever_wants_it_and_a_lost_page_is_asked_for_again() -> None:
    async def story(world: World) -> None:
        voters = await grown(world)
        writer = world.writer
        begun: list[str] = []
        lost: list[bytes] = []
        for name, here in world.sites.items():
            answer = here.site.desk.answer

            async def counted(asked, topology, *, answer=answer, name=name):
                if not asked.table:
                    begun.append(name)
                response = await answer(asked, topology)
                if asked.table and len(lost) < 2 and asked.key not in lost:
                    lost.append(asked.key)
                    # Until nobody waits for it any more.
                    await world.sleep(world.limits.ask_ms + 10)
                return response

            here.site.desk.answer = counted
        await world.kill(writer, forget=True)
        world.start(writer)
        # A command makes it recover, while it fills as well.
        await voters.until(lambda: served_at(world, writer), "it writes")
        assert len(begun) == 1
        assert len(lost) == 2

    living(story, watched_ms=1_000_000, aside_after_ms=100_000, snapshot_rows_max=20, read_entries_max=5)


def test_a_lease_is_renewed_by_sites_that_are_filled_alone() -> None:
    async def story(world: World) -> None:
        await grown(world)
        writer = world.writer
        world.mail_ms = SLOW_MS
        await world.kill(writer, forget=True)
        world.server.leases.pop(writer)
        world.start(writer)
        here = world.sites[writer]
        await world.sleep(1_000)
        board = MemoryTopologyBoard(world.server, "s0")
        assert not here.site.filling.filled
        assert writer not in await board.alive()
        await world.until(lambda: here.site.filling.filled, "it is filled")
        await world.sleep(200)
        assert await board.alive() == set(world.sites)

    living(story, **SLOW)


def test_a_site_that_was_away_for_a_few_entries_waits_until_its_reader_was_at_the_logs_end_since() -> None:
    async def story(world: World) -> None:
        voters = await grown(world, 3)
        writer = world.writer
        filling = world.sites[writer].site.filling
        world.cut(writer)
        await voters.until(lambda: writer in away(world), "it is away")
        assert filling.filled, "it does not know"
        world.heal()
        await world.until(lambda: not filling.filled, "it knows", ms=500)
        await world.until(lambda: filling.filled, "it has read what came meanwhile")
        await voters.until(lambda: served_at(world, writer), "it writes again")
        assert voters.longest_ms < WAIT_MS

    living(story)
