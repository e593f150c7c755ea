"""Replicated elections through the whole shell of a site, in memory: what the rows of the specification say."""

import anyio
import msgspec
import pytest
from site_world import HEADER_FRESHNESS, HEADER_REQUIRED, KEY, OPEN, World, ballot, eight, living

from messages.ballots import GetBallotElection
from messages.codec import decode, encode
from messages.election_pairs import SiteRow, TopologyRecord
from messages.elections import Elections, ListElections
from messages.overseer import Busy
from messages.signals import GovernanceMode, GovernanceState
from messages.subjects import HEADER_ID
from overseer.memory.sites import LogFault
from overseer.ports.bus import BusUnavailable, Outgoing
from subsystems.elections.runtime.placement import placed


def test_B12_a_command_for_an_election_that_is_not_running_starts_it_through_the_mailroom_of_any_site() -> None:
    async def story(world: World) -> None:
        for number, name in enumerate(world.sites):
            recorded = await world.done(ballot(f"v{number}") if number else OPEN, at=name)
            assert (recorded.sequence, recorded.copies) == (number + 1, 3)
        await world.level()
        assert [await world.cast(name) for name in world.sites] == [4] * 5
        assert [sequence for sequence, _ in world.facts] == [1], "the opening is told once, by the writer"

    living(story)


def test_B13_two_of_four_followers_suffice_and_the_reply_says_three_copies() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        for name in world.members[3:]:
            await world.kill(name)
        assert (await world.done(ballot("ann"), at=world.members[1])).copies == 3
        await world.level()
        assert [await world.cast(name) for name in world.members[:3]] == [1, 1, 1]

    living(story, watched_ms=1_000_000)


def test_B14_with_one_acknowledgement_there_is_no_success_nothing_is_shown_anywhere_and_a_retry_has_one_effect() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        writer, near, *gone = world.members
        for name in gone:
            await world.kill(name)
        refused = await world.command(near, ballot("bob"), "c2")
        assert (refused.code, refused.retriable) == ("too_few_copies", True)
        assert [await world.cast(name) for name in (writer, near)] == [0, 0]
        assert (await world.command(near, ballot("eve"), "c3")).code == "too_few_copies", "the next one at once"
        assert (await world.copy(writer)).freshness.stale, "reading goes on, and says so"
        for name in gone:
            world.start(name)
        await world.sleep(1_500)
        assert world.votes(near) == [], "and does not come to life by itself"
        assert (await world.done(ballot("bob"), "c2")).sequence == 2
        await world.level()
        assert {name: world.votes(name) for name in world.sites} == {name: ["bob"] for name in world.sites}

    living(story, watched_ms=1_000_000)


def test_B15_killed_between_commit_and_reply_the_same_id_gets_the_original_outcome_and_there_is_one_event() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        await world.done(ballot("ann"))
        writer, other, *_ = world.members
        here = world.sites[writer]
        here.told.on_commit = here.die
        with pytest.raises(BusUnavailable):
            await world.ask(writer, ballot("bob"), "c2", timeout_ms=300)
        assert here.told.commits >= 3, "the log has it"
        await world.kill(writer)
        recorded = await world.done(ballot("bob"), "c2", at=other)
        assert recorded.sequence == 3
        assert world.writer != writer
        await world.level()
        assert {name: world.votes(name) for name in world.members[1:]} == {name: ["ann", "bob"] for name in world.members[1:]}
        reused = await world.command(other, ballot("someone else"), "c2")
        assert (reused.code, reused.retriable) == ("id_reused", False)

    living(story)


def test_B16_a_writer_that_lost_its_disk_with_one_follower_reachable_serves_only_with_everything_acknowledged() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        for number in range(20):
            await world.done(ballot(f"v{number:02}"))
        writer, near, *far = world.members
        for name in far:
            await world.kill(name)
        await world.kill(writer, forget=True)
        await world.kill(near, forget=True)
        world.start(near)
        world.start(writer)
        refused = await world.ask(writer, ballot("late"), "late")
        assert refused.error is not None, "two copies are too few"
        await world.until(lambda: bool(world.sites[writer].told.served), "it serves")
        assert world.votes(writer) == [f"v{number:02}" for number in range(20)]
        for name in far:
            world.start(name)
        assert (await world.done(ballot("late"), "late")).sequence == 22

    living(story, watched_ms=1_000_000)


def test_B17_the_best_reader_is_the_one_of_the_latest_epoch_and_its_snapshot_is_taken_in_pages() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        writer, best, behind, *_ = world.members
        await world.kill(behind)
        for number in range(40):
            await world.done(ballot(f"v{number:02}"))
        await world.level()
        await world.kill(writer, forget=True)
        world.start(behind)
        world.start(writer)
        await world.done(ballot("late"))
        await world.level()
        assert {name: len(world.votes(name)) for name in world.sites} == dict.fromkeys(world.sites, 41)
        read_by = {name: [who for who, _ in world.sites[name].site.desk._readings] for name in world.sites}
        assert writer in read_by[best], "from the best, not from the one that was down"
        assert writer not in read_by[behind]

    living(story, watched_ms=1_000_000, snapshot_rows_max=7, read_entries_max=5)


def test_B19_split_two_and_two_at_most_one_side_commits_and_both_agree_afterwards() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        writer, one, *rest = world.members
        world.cut(writer, one)
        outcomes: dict[str, str | None] = {}

        async def try_at(name: str, voter: str) -> None:
            try:
                outcomes[voter] = (await world.command(name, ballot(voter), voter)).code
            except (BusUnavailable, AssertionError):
                outcomes[voter] = "no answer"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(try_at, writer, "minority")
            tasks.start_soon(try_at, rest[0], "majority")
        assert outcomes["minority"] is not None
        assert (await world.done(ballot("majority"), "majority", at=rest[0])).sequence == 2
        world.heal()
        await world.done(ballot("later"))
        await world.level()
        shown = {tuple(world.votes(name)) for name in world.sites}
        assert shown == {("later", "majority")}

    living(story)


def test_B21_a_writer_that_was_cut_off_past_its_lease_is_fenced_when_it_comes_back_and_forks_nothing() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        writer, other, *_ = world.members
        world.server.faults(writer).appends.extend([LogFault.LATE] * 99)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.ask, writer, ballot("stale"), "stale")
            await world.until(lambda: bool(world.server._late), "the append is on its way")
            world.cut(writer)
            fresh = await world.done(ballot("fresh"), at=other)
            assert fresh.sequence == 2
            assert world.writer == other or world.writer != writer
            assert world.server.release() == 0, "the log does not take it"
            world.server.faults(writer).appends.clear()
            world.heal()
        await world.until(lambda: any(reason == "fenced" for _, reason in world.sites[writer].told.let_go), "it steps down")
        await world.level()
        assert {tuple(world.votes(name)) for name in world.sites} == {("fresh",)}
        await world.until(lambda: world.writer == writer, "back for good, it writes again")
        assert (await world.done(ballot("stale"), "stale")).sequence == 3

    living(story)


def test_B23_a_follower_that_was_down_for_long_is_backfilled_and_counts_again() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        behind, *others = world.members[1:]
        await world.kill(behind)
        for number in range(60):
            await world.done(ballot(f"v{number:02}"))
        world.start(behind)
        for name in others[1:]:
            await world.kill(name)
        # Two acknowledgements are needed, and there are but two followers.
        assert (await world.done(ballot("late"))).copies == 3
        await world.level()
        assert len(world.votes(behind)) == 61
        report = await world.copy(behind)
        assert (report.freshness.applied, report.freshness.committed) == (62, 62)

    living(story, watched_ms=1_000_000)


def test_point_8_the_polls_close_by_themselves_at_the_writer_that_took_over_and_everything_is_told_under_its_number() -> None:
    async def story(world: World) -> None:
        closes_at = world.clock.now_ms() + 3_000
        await world.done(msgspec.structs.replace(OPEN, closes_at=closes_at))
        await world.done(ballot("ann"))
        await world.level()
        # Their time comes while nobody writes.
        await world.clock.sleep_until(closes_at - 50)
        await world.kill(world.members[0])
        await world.until(lambda: "election_closed" in {m.spec.name for _, m in world.facts}, "the polls close")
        told = [(sequence, message.spec.name) for sequence, message in world.facts]
        # Whoever takes over says again what may not have been said.
        assert set(told) == {(1, "election_opened"), (3, "election_closed")}
        assert len(told) <= 3
        assert (await world.command(world.members[1], ballot("late"), "late")).code == "wrong_phase"

    living(story)


def test_point_9_a_reader_learns_how_fresh_the_answer_is_and_may_require_an_event() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        await world.level()
        follower = world.members[2]
        response = await world.ask(follower, GetBallotElection(election=KEY))
        applied, committed, age_ms, stale = response.headers[HEADER_FRESHNESS].split()
        assert (applied, committed, stale) == ("1", "1", "0")
        assert int(age_ms) <= 1_000
        refused = await world.ask(follower, GetBallotElection(election=KEY), **{HEADER_REQUIRED: "2"})
        assert refused.error == ("400", "not_applied_yet")
        world.cut(follower)
        await world.sleep(3_000)
        response = await world.ask(follower, GetBallotElection(election=KEY))
        assert response.headers[HEADER_FRESHNESS].endswith(" 1"), "stale"

    living(story)


def test_a_site_without_a_copy_forwards_commands_and_queries() -> None:
    async def story(world: World) -> None:
        outside = [name for name in world.sites if name not in world.members]
        assert len(outside) == 3
        for name in outside:
            await world.done(ballot(name) if world.server.entries else OPEN, at=name)
        await world.level()
        assert [await world.cast(name) for name in world.sites] == [2] * 8
        assert all(world.votes(name) == [] for name in outside)

    living(story, eight())


def test_governance_mode_is_refused_by_whoever_writes() -> None:
    async def story(world: World) -> None:
        signal = GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=7)
        headers = {HEADER_ID: f"chain_api {'0' * 32} 1 0"}
        world.broker.publish(Outgoing("overseer.n1.chain_api.sig.governance_mode", headers, encode(signal)))
        await world.until(lambda: all(here.disk.rows.get("governance", b"\0") for here in world.sites.values()), "all have seen it")
        for name in world.sites:
            outcome = await world.command(name, OPEN, f"open at {name}")
            assert (outcome.code, outcome.retriable) == ("governance_mode", True)

    living(story)


def test_more_elections_than_are_held_in_memory_all_work() -> None:
    async def story(world: World) -> None:
        keys = [f"poll-{number}" for number in range(12)]
        for key in keys:
            await world.done(msgspec.structs.replace(OPEN, election=key))
        began_ms = world.clock.now_ms()
        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(world.done, ballot("ann", key=key))
        assert world.clock.now_ms() - began_ms < world.limits.command_ms, "nobody's outcome got lost"
        await world.level()
        assert all(len(here.site.hosting) <= 3 for here in world.sites.values())
        for name in world.sites:
            page = decode(Elections.spec, (await world.ask(name, ListElections())).body)
            assert isinstance(page, Elections)
            assert [(row.election, row.sequence) for row in page.elections] == [(key, 2) for key in sorted(keys)]

    living(story, elections_active_max=3)


def test_a_lost_log_goes_on_from_what_the_pair_holds() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        for number in range(5):
            await world.done(ballot(f"v{number}"))
        await world.level()
        world.server.replace("log-2")
        assert (await world.done(ballot("late"))).sequence == 7
        await world.level()
        assert {tuple(world.votes(name)) for name in world.sites} == {("late", "v0", "v1", "v2", "v3", "v4")}

    living(story)


def test_an_election_whose_rules_raise_harms_nobody_and_its_command_fails_once() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        here = world.sites[world.writer].site._elections
        decide = here.decide_one
        here.decide_one = lambda *given: 1 // 0
        failed = await world.command(world.writer, ballot("ann"), "c1")
        here.decide_one = decide
        assert (failed.status.value, failed.code) == ("parked", "handler_failed")
        assert (await world.command(world.writer, ballot("ann"), "c1")).code == "handler_failed"
        assert (await world.done(ballot("ann"))).sequence == 2

    living(story)


def test_point_8_a_ninth_site_takes_over_its_elections_and_no_command_is_refused_for_long() -> None:
    async def story(world: World) -> None:
        keys = [f"poll-{number}" for number in range(30)]
        for key in keys:
            await world.done(msgspec.structs.replace(OPEN, election=key))
        nine = TopologyRecord(version=1, sites=[*world.topology.sites, SiteRow("s8", "dc0", "z2")])
        world.join("s8", nine)
        slowest_ms = 0
        for key in keys:
            began_ms = world.clock.now_ms()
            assert (await world.done(ballot("ann", key=key), at="s1")).sequence == 2
            slowest_ms = max(slowest_ms, world.clock.now_ms() - began_ms)
        assert slowest_ms < 2_000
        await world.until(lambda: not any(row.away for row in world.sites["s1"].site.topology.sites), "the ninth has what it is to write")
        await world.until(lambda: len({here.site.topology.version for here in world.sites.values()}) == 1, "all know it")
        moved = [key for key in keys if placed(world.sites["s1"].site.topology, key).writer == "s8"]
        assert 0 < len(moved) < 10
        for key in moved:
            assert (await world.done(ballot("bob", key=key), at="s8")).sequence == 3
            assert (await world.copy("s8", key)).serving
        await world.level()
        for key in keys:
            counts = {len(world.votes(name, key)) for name in placed(world.sites["s1"].site.topology, key).sites}
            assert counts == {2 if key in moved else 1}, "every member has it, new ones as well"

    living(story, eight())


def test_a_site_whose_disk_is_stuck_gives_no_sign_of_life_and_another_one_writes() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        writer, other, *_ = world.members
        freed = anyio.Event()
        world.sites[writer].disk.syncing = freed.wait
        assert (await world.done(ballot("ann"), at=other)).sequence == 2
        assert world.writer != writer
        freed.set()
        world.sites[writer].disk.syncing = None
        await world.until(lambda: world.writer == writer, "it is back")
        assert (await world.done(ballot("bob"))).sequence == 3
        await world.level()
        assert {tuple(world.votes(name)) for name in world.sites} == {("ann", "bob")}

    living(story, stuck_ms=300)


def test_a_site_whose_store_failed_and_that_has_not_ended_yet_says_that_it_stops_and_to_try_again() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        other = world.members[1]
        world.sites[other].store.die("no space left")
        response = await world.ask(other, GetBallotElection(election=KEY))
        assert response.error == ("429", "busy")
        assert decode(Busy.spec, response.body) == Busy(reason="stopping")
        await world.kill(other)
        assert (await world.done(ballot("ann"))).sequence == 2

    living(story)
