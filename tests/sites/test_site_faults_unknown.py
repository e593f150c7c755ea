"""Commands for elections that were never opened: refused as ever, and without a trace; whoever mistypes a key for ever fills nothing."""

import msgspec
from site_world import KEY, OPEN, World, ballot, living

from messages.ballots import CloseElection
from messages.elections import ArchiveElection, OfElection
from overseer.sites.tables import KNOWN
from subsystems.elections.rows import key_hash
from subsystems.elections.runtime.rows import COPIES, TIMERS, TimerRow

TYPOS = 40


def kept(world: World) -> tuple[int, int]:
    """Entries of the log, and rows of elections at all sites."""
    views = [here.site.view for here in world.sites.values()]
    return len(world.server.entries), sum(len(list(view.scan(table))) for view in views for table in (COPIES, KNOWN))


def test_commands_for_elections_that_were_never_opened_are_refused_at_every_site_and_leave_nothing_behind() -> None:
    async def story(world: World) -> None:
        names = list(world.sites)
        mistyped: dict[str, OfElection] = {
            "wrong_phase": ballot("ann", key="typo"),
            "unknown_election": ArchiveElection(election="typo"),
            "malformed_election": msgspec.structs.replace(OPEN, election="typo", choices=["yes", "yes"]),
        }
        for number in range(TYPOS):
            for code, command in mistyped.items():
                outcome = await world.command(names[number % 5], command, f"{code} {number}")
                assert (outcome.code, outcome.retriable) == (code, False)
            closing = CloseElection(election=f"typo-{number}")
            assert (await world.command(names[number % 5], closing, f"close {number}")).code == "wrong_phase"
        await world.sleep(2_000)
        assert kept(world) == (0, 0)

    living(story)


def test_an_election_that_is_opened_after_all_takes_the_ballot_that_was_refused_before_under_the_same_id() -> None:
    async def story(world: World) -> None:
        writer, other, *_ = world.members
        assert (await world.command(other, ballot("ann"), "c1")).code == "wrong_phase"
        await world.done(OPEN)
        assert (await world.done(ballot("ann"), "c1")).sequence == 2
        assert (await world.done(ballot("ann"), "c1")).sequence == 2, "one effect"
        # Of an election that there is, refusals are recorded as ever.
        entries = len(world.server.entries)
        for _ in range(2):
            assert (await world.command(writer, ballot("ann"), "c2")).code == "already_cast"
        assert len(world.server.entries) == entries + 1

    living(story)


def test_an_election_that_lost_its_log_is_not_taken_for_one_that_never_was() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        await world.done(ballot("ann"))
        await world.level()
        world.server.replace("log-2")
        outcome = await world.command(world.writer, ballot("ann"), "c2")
        while outcome.retriable:
            await world.sleep(50)
            outcome = await world.command(world.writer, ballot("ann"), "c2")
        assert outcome.code == "already_cast"

    living(story)


def test_what_was_told_is_not_told_again_at_every_start_and_adds_nothing_to_the_log() -> None:
    """A site tells it once more when it takes over, as nobody else may know; never twice."""

    async def story(world: World) -> None:
        await world.done(OPEN)
        await world.done(CloseElection(election=KEY))
        await world.until(lambda: len(world.facts) == 2, "both are told")
        entries = len(world.server.entries)
        for _ in range(12):
            for name in world.sites:
                await world.kill(name)
            for name in world.sites:
                world.start(name)
            await world.sleep(4_000)
            await world.level()
        assert len(world.facts) <= 2 + len(world.sites), [sequence for sequence, _ in world.facts]
        assert len(world.server.entries) <= entries + 2 * len(world.sites)

    living(story)


def test_a_timer_that_only_a_newer_release_knows_is_reported_once_and_stops_neither_its_site_nor_its_election() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        await world.level()
        here = world.sites[world.writer]
        change = here.site._around.ledger.change()
        row = TimerRow(KEY, world.clock.now_ms(), "elections.timer.of_tomorrow", 1, b"")
        change.put(TIMERS, (key_hash(KEY), "odd"), row)
        here.site._around.ledger.put(change)
        here.site.timetable.add(KEY, "odd", row.at_ms)
        await world.sleep(3_000)
        assert [str(failure) for failure in here.told.failures] == ["elections.timer.of_tomorrow is of a newer release"]
        here.told.failures.clear()
        assert (await world.done(ballot("ann"), at=here.name)).sequence == 2

    living(story)
