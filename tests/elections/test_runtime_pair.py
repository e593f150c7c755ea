"""The process pair, scenario by scenario: the machines in a quiet world, in which only what the row says happens."""

import msgspec
from replicated_world import KEY, LIMITS, World, decided, eight, five, voters_of

from messages.codec import encode_value
from messages.election_pairs import (
    BatchLogged,
    EpochStarted,
    Gap,
    Head,
    IdReused,
    LogEntry,
    LoggedEvent,
    NotOwnedYet,
    PositionTold,
    Record,
    Replicate,
    Replicated,
    SiteRow,
    TooFewCopies,
)
from messages.message import Rejection
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import BEGIN, behind, dump_entry, head_after
from subsystems.elections.runtime.follower import Follower
from subsystems.elections.runtime.placement import changed, placed
from subsystems.elections.runtime.recovery import best


def ask(world: World, voter: str, command_id: str, *, at: str | None = None) -> list[Record | Rejection]:
    """Send a command; what comes back, in time."""
    heard: list[Record | Rejection] = []
    world.command(at or world.writer, command_id, voter, f"{command_id} {world.now}", heard.append)
    return heard


def answered(world: World, voter: str, command_id: str, *, at: str | None = None) -> Record | Rejection:
    heard = ask(world, voter, command_id, at=at)
    world.run(lambda: bool(heard))
    return heard[0]


def votes(world: World) -> list[str]:
    return [voter for _, entry in world.log for voter in voters_of(entry)]


def moved_away(world: World, name: str) -> None:
    world.record(changed(world.topology, [SiteRow(r.name, r.data_centre, r.zone, r.name == name) for r in world.topology.sites]))


def followers(world: World) -> tuple[str, ...]:
    return placed(world.topology, KEY).followers


def test_B12_a_command_for_an_election_that_is_not_running_starts_it_and_is_processed_through_any_site() -> None:
    world = World(1, five())
    other = followers(world)[0]
    outcome = answered(world, "ann", "c1", at=other)
    assert isinstance(outcome, Record)
    assert [type(entry) for _, entry in world.log] == [EpochStarted, BatchLogged]
    assert votes(world) == ["ann"]


def test_B13_two_of_four_followers_suffice() -> None:
    world = World(2, five())
    for name in followers(world)[:2]:
        world.crash(name)
    assert isinstance(answered(world, "ann", "c1"), Record)
    assert votes(world) == ["ann"]


def test_B14_with_one_acknowledgement_there_is_no_success_nothing_is_read_anywhere_and_a_retry_has_one_effect() -> None:
    world = World(3, five())
    answered(world, "ann", "c1")
    gone = followers(world)[:3]
    for name in gone:
        world.crash(name)
    assert answered(world, "bob", "c2") == TooFewCopies(election=KEY, copies=2, needed=3)
    assert any(p.entry.number == 3 for p in world.sites[followers(world)[3]].rows.copy().prepared), "it is prepared, and void"
    assert all("bob" not in site.rows.events for site in world.sites.values())
    assert isinstance(answered(world, "eve", "c3"), TooFewCopies), "refused at once"
    assert answered(world, "ann", "c1").code == "", "what is known is still answered"
    for name in gone:
        world.restart(name)
    world.run(1_000)
    assert votes(world) == ["ann"], "and does not come to life by itself"
    assert isinstance(answered(world, "bob", "c2"), Record)
    world.run(500)
    assert votes(world) == ["ann", "bob"]
    world.check()


def test_B15_killed_between_commit_and_reply_the_same_id_gets_the_original_outcome_and_there_is_one_event() -> None:
    world = World(4, five())
    answered(world, "ann", "c1")
    heard = ask(world, "bob", "c2")
    world.run(lambda: "bob" in votes(world))
    writer = world.writer
    world.crash(writer)
    assert heard == []
    moved_away(world, writer)
    world.run(100)
    outcome = answered(world, "bob", "c2")
    assert isinstance(outcome, Record)
    assert outcome == decided(("ann",), steps.Command("c2", outcome.digest, "bob"))
    assert votes(world) == ["ann", "bob"]
    assert answered(world, "someone else", "c2") == IdReused(election=KEY, id="c2")


def test_B16_a_writer_that_lost_its_disk_with_one_follower_reachable_serves_only_with_everything_acknowledged() -> None:
    world = World(5, five())
    for n in range(8):
        answered(world, f"v{n}", f"c{n}")
    writer, (near, *far) = world.writer, followers(world)
    world.crash(writer, forget=True)
    for name in far:
        world.crash(name)
    world.crash(near, forget=True)
    world.restart(writer)
    world.give(world.sites[writer], steps.Start())
    world.run(lambda: len(world.served) > 1)
    assert world.sites[writer].rows.events == tuple(f"v{n}" for n in range(8))
    world.restart(near)
    assert answered(world, "v3", "c3").code == "", "and knows the commands"
    assert isinstance(answered(world, "new", "c9"), TooFewCopies)


def told(site: str, epoch: int, number: int) -> PositionTold:
    head = Head(epoch, number, number, bytes(32))
    return PositionTold(election=KEY, site=site, topology=1, stream="log", applied=BEGIN, log_sequence=0, last=head)


def test_B17_the_best_reader_is_the_one_of_the_highest_epoch_not_the_longest() -> None:
    found = best([told("s1", 1, 9), told("s2", 2, 7), told("s3", 2, 6)])
    assert found is not None
    assert found.site == "s2"


def test_B19_of_data_centres_split_two_and_two_at_most_one_side_commits() -> None:
    for group in (0, 1):
        world = World(6, eight())
        answered(world, "ann", "c1")
        left = {row.name for row in world.topology.sites if row.data_centre in ("dc0", "dc1")}
        world.groups, world.log_group = {name: int(name not in left) for name in world.sites}, group
        heard = {name: ask(world, f"v-{name}", f"c-{name}", at=name) for name in world.sites}
        world.run(5_000)
        taken = {name for name, outcomes in heard.items() if any(isinstance(outcome, Record) for outcome in outcomes)}
        side = {name for name in world.sites if world.groups[name] == group}
        assert taken == (side if world.writer in side else set()), "only where both the log and the writer are"
        assert sorted(votes(world)) == sorted(["ann", *(f"v-{name}" for name in taken)])


def test_B21_a_writer_that_was_paused_is_fenced_when_it_wakes_steps_down_and_forks_nothing() -> None:
    world = World(7, five())
    answered(world, "ann", "c1")
    old = world.writer
    heard = ask(world, "late", "c2")
    world.run(2)
    world.pause(old, 60_000)
    world.run(100)
    moved_away(world, old)
    world.run(200)
    assert world.writer != old
    assert isinstance(answered(world, "bob", "c3"), Record)
    # It has two acknowledgements, believes itself the writer, and appends.
    world.run(60_000)
    assert ("late" in votes(world)) == any(isinstance(outcome, Record) for outcome in heard)
    assert world.sites[old].member is not None
    assert world.sites[old].member.writer is None
    assert isinstance(answered(world, "late", "c2"), Record)
    assert sorted(votes(world)) == ["ann", "bob", "late"]
    world.check()


def test_a_move_in_good_order_is_recorded_and_cuts_nothing_off() -> None:
    world = World(8, five())
    answered(world, "ann", "c1")
    heard = ask(world, "bob", "c2")
    world.run(3)
    old = world.writer
    moved_away(world, old)
    assert isinstance(answered(world, "eve", "c3"), Record | NotOwnedYet)
    world.run(500)
    assert isinstance(answered(world, "eve", "c3"), Record)
    assert isinstance(heard[0], Record)
    assert ("Released", "moved") in [(type(e).__name__, getattr(e, "reason", "")) for name, e in world.effects if name == old]
    assert sorted(votes(world)) == ["ann", "bob", "eve"]


# ------------------------------------------------------------------------------------------------ one copy


def batch(head: Head, voters: list[str], *, epoch: int = 1) -> BatchLogged:
    events = [LoggedEvent("elections.event.cast", 1, voter.encode()) for voter in voters]
    record = Record(f"{head.number}", bytes(32), "op", 0, "", encode_value(0), events)
    return BatchLogged(**behind(head, election=KEY, epoch=epoch, site="w", topology=1, told=0), copies=3, records=[record])


def history(batches: int, size: int) -> list[tuple[int, LogEntry]]:
    entry: LogEntry = EpochStarted(**behind(BEGIN, election=KEY, epoch=1, site="w", topology=1, told=0))
    log = [(1, entry)]
    for n in range(batches):
        entry = batch(head_after(entry), [f"{n} {m}" for m in range(size)])
        log.append((n + 2, entry))
    return log


def replicate(entry: LogEntry, committed: Head) -> Replicate:
    return Replicate(election=KEY, site="w", topology=1, entry=dump_entry(entry), committed=committed)


def test_B23_a_follower_that_was_down_for_10_000_events_acknowledges_nothing_over_the_gap_is_backfilled_and_counts_again() -> None:
    log = history(100, 100)
    follower = Follower(KEY, "f", limits=LIMITS)
    for sequence, entry in log[:1]:
        follower.logged("log", sequence, entry)
    last = head_after(log[-1][1])
    following = batch(last, ["next"])
    effects = follower.replicate(replicate(following, last))
    assert [type(getattr(e, "message", e)) for e in effects] == [Gap, steps.ReadLog]
    assert follower.committed == 10_000, "and knows how far behind it is"
    said: list[steps.Effect] = []
    pending = [effect for effect in effects if isinstance(effect, steps.ReadLog)]
    while pending:
        after = pending.pop().after
        rest = [each for each in log if each[0] > after]
        out = follower.read(steps.LogRead("log", after, tuple(rest[:30]), len(rest[30:])))
        said += [effect for effect in out if isinstance(effect, steps.Send | steps.Store)]
        pending += [effect for effect in out if isinstance(effect, steps.ReadLog)]
    assert follower.copy.applied == last
    assert [type(getattr(e, "message", e)) for e in said] == [steps.Store, Replicated], "stored first, then acknowledged"


def test_one_that_is_too_far_behind_takes_a_snapshot_and_the_log_where_there_is_none() -> None:
    log = history(100, 1)
    follower = Follower(KEY, "f", limits=LIMITS)
    follower.source = "w"
    page = steps.LogRead("log", 0, tuple(log[:5]), 95)
    assert follower.read(page) == [steps.FetchSnapshot("w")]
    assert follower.not_fetched() == [steps.ReadLog("", 0)]
    follower.read(page)
    assert follower.copy.applied.number == 5


def test_what_was_prepared_in_an_earlier_epoch_goes_when_the_barrier_is_applied_and_a_lower_epoch_is_fenced() -> None:
    log = history(1, 1)
    follower = Follower(KEY, "f", limits=LIMITS)
    for sequence, entry in log:
        follower.logged("log", sequence, entry)
    head = head_after(log[-1][1])
    given_up = batch(head, ["given up"])
    assert [type(e) for e in follower.replicate(replicate(given_up, head))] == [steps.Store, steps.Send]
    barrier = EpochStarted(**behind(head, election=KEY, epoch=2, site="w", topology=1, told=0))
    (applied,) = follower.logged("log", 3, barrier)
    assert isinstance(applied, steps.Apply)
    assert (applied.kept, follower.copy.prepared) == ((), ())
    (refusal,) = follower.replicate(replicate(given_up, head))
    assert isinstance(refusal, steps.Send)
    assert refusal.message.spec.name == "fenced"


def test_one_committed_sequence_with_two_hashes_stops_the_election_and_a_damaged_copy_is_excluded_instead() -> None:
    for sound in (True, False):
        log = history(2, 1)
        follower = Follower(KEY, "f", limits=LIMITS)
        for sequence, entry in log[:2]:
            follower.logged("log", sequence, entry)
        forged = msgspec.structs.replace(log[2][1], before=b"\1" * 32)
        assert follower.logged("log", 3, forged) == [steps.VerifyCopy()]
        effects = follower.verified(steps.CopyVerified(sound))
        if sound:
            assert isinstance(effects[0], steps.FailStop)
            assert follower.logged("log", 3, log[2][1]) == []
        else:
            assert [type(effect) for effect in effects] == [steps.Report, steps.Install, steps.ReadLog]
            follower.read(steps.LogRead("log", 0, tuple(log)))
            assert follower.copy.applied == head_after(log[2][1])


def test_a_reader_may_require_an_event_and_is_told_how_fresh_it_is() -> None:
    world = World(9, five())
    answered(world, "ann", "c1")
    world.run(200)
    member = world.sites[followers(world)[0]].member
    assert member is not None
    assert member.readable(1) is None
    refusal = member.readable(2)
    assert refusal is not None
    assert (refusal.applied, refusal.required, refusal.retriable) == (1, 2, True)
    fresh = member.freshness(caught_up_ms=1_000, now_ms=1_500, stale_after_ms=1_000)
    assert (fresh.applied, fresh.committed, fresh.age_ms, fresh.stale) == (1, 1, 500, False)
    assert member.freshness(caught_up_ms=1_000, now_ms=3_000, stale_after_ms=1_000).stale
