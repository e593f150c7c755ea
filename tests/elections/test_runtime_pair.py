"""The process pair, scenario by scenario: the machines in a quiet world, in which only what the row says happens."""

import msgspec
from replicated_world import KEY, LIMITS, VoterWorld, decided, eight, five, voters_of

from messages.codec import encode_value
from messages.election_pairs import (
    BatchLogged,
    EpochEnded,
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
from subsystems.elections.runtime.member import Member
from subsystems.elections.runtime.placement import changed, placed
from subsystems.elections.runtime.recovery import best


def ask(world: VoterWorld, voter: str, command_id: str, *, at: str | None = None) -> list[Record | Rejection]:
    """Send a command; what comes back, in time."""
    heard: list[Record | Rejection] = []
    world.command(at or world.home, command_id, voter, f"{command_id} {world.now}", heard.append)
    return heard


def answered(world: VoterWorld, voter: str, command_id: str, *, at: str | None = None) -> Record | Rejection:
    heard = ask(world, voter, command_id, at=at)
    world.run(lambda: bool(heard))
    return heard[0]


def votes(world: VoterWorld) -> list[str]:
    return [voter for entry in world.entries for voter in voters_of(entry)]


def moved_away(world: VoterWorld, name: str) -> None:
    world.record(changed(world.topology, [SiteRow(r.name, r.data_centre, r.zone, r.name == name) for r in world.topology.sites]))


def followers(world: VoterWorld) -> tuple[str, ...]:
    return placed(world.topology, KEY).followers


def test_B12_a_command_for_an_election_that_is_not_running_starts_it_and_is_processed_through_any_site() -> None:
    world = VoterWorld(1, five())
    other = followers(world)[0]
    outcome = answered(world, "ann", "c1", at=other)
    assert isinstance(outcome, Record)
    assert [type(entry) for entry in world.entries] == [EpochStarted, BatchLogged]
    assert votes(world) == ["ann"]


def test_B13_two_of_four_followers_suffice() -> None:
    world = VoterWorld(2, five())
    for name in followers(world)[:2]:
        world.crash(name)
    assert isinstance(answered(world, "ann", "c1"), Record)
    assert votes(world) == ["ann"]


def test_B14_with_one_acknowledgement_there_is_no_success_nothing_is_read_anywhere_and_a_retry_has_one_effect() -> None:
    world = VoterWorld(3, five())
    answered(world, "ann", "c1")
    gone = followers(world)[:3]
    for name in gone:
        world.crash(name)
    assert answered(world, "bob", "c2") == TooFewCopies(election=KEY, copies=2, needed=3)
    assert any(p.entry.number == 3 for p in world.rows(followers(world)[3]).copy().prepared), "it is prepared, and void"
    assert all("bob" not in world.rows(name).events for name in world.sites)
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
    world = VoterWorld(4, five())
    answered(world, "ann", "c1")
    heard = ask(world, "bob", "c2")
    world.run(lambda: "bob" in votes(world))
    writer = world.home
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
    world = VoterWorld(5, five())
    for n in range(8):
        answered(world, f"v{n}", f"c{n}")
    writer, (near, *far) = world.home, followers(world)
    world.crash(writer, forget=True)
    for name in far:
        world.crash(name)
    world.crash(near, forget=True)
    world.restart(writer)
    world.give_to(writer, steps.Start())
    world.run(lambda: len(world.served) > 1)
    assert world.rows(writer).events == tuple(f"v{n}" for n in range(8))
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
        world = VoterWorld(6, eight())
        answered(world, "ann", "c1")
        left = {row.name for row in world.topology.sites if row.data_centre in ("dc0", "dc1")}
        world.weather.groups, world.weather.log_group = {name: int(name not in left) for name in world.sites}, group
        heard = {name: ask(world, f"v-{name}", f"c-{name}", at=name) for name in world.sites}
        world.run(5_000)
        taken = {name for name, outcomes in heard.items() if any(isinstance(outcome, Record) for outcome in outcomes)}
        side = {name for name in world.sites if world.weather.groups[name] == group}
        assert taken == (side if world.home in side else set()), "only where both the log and the writer are"
        assert sorted(votes(world)) == sorted(["ann", *(f"v-{name}" for name in taken)])


def test_B21_a_writer_that_was_paused_is_fenced_when_it_wakes_steps_down_and_forks_nothing() -> None:
    world = VoterWorld(7, five())
    answered(world, "ann", "c1")
    old = world.home
    heard = ask(world, "late", "c2")
    world.run(2)
    world.pause(old, 60_000)
    world.run(100)
    moved_away(world, old)
    world.run(200)
    assert world.home != old
    assert isinstance(answered(world, "bob", "c3"), Record)
    # It has two acknowledgements, believes itself the writer, and appends.
    world.run(60_000)
    assert ("late" in votes(world)) == any(isinstance(outcome, Record) for outcome in heard)
    assert world.member_at(old).writer is None
    assert isinstance(answered(world, "late", "c2"), Record)
    assert sorted(votes(world)) == ["ann", "bob", "late"]
    world.check()


def test_a_move_in_good_order_is_recorded_and_cuts_nothing_off() -> None:
    world = VoterWorld(8, five())
    answered(world, "ann", "c1")
    heard = ask(world, "bob", "c2")
    world.run(3)
    old = world.home
    moved_away(world, old)
    assert isinstance(answered(world, "eve", "c3"), Record | NotOwnedYet)
    world.run(500)
    assert isinstance(answered(world, "eve", "c3"), Record)
    assert isinstance(heard[0], Record)
    assert ("Released", "moved") in [(type(e).__name__, getattr(e, "reason", "")) for name, e in world.effects if name == old]
    assert sorted(votes(world)) == ["ann", "bob", "eve"]


def test_a_writer_that_gave_a_batch_up_and_leaves_does_so_in_an_epoch_in_which_that_batch_is_not() -> None:
    """Found by the simulation (seed 3850): its last entry had the place of the void batch, which a lost log then brought to life."""
    world = VoterWorld(12, five())
    answered(world, "ann", "c1")
    for name in followers(world)[:3]:
        world.crash(name)
    assert isinstance(answered(world, "bob", "c2"), TooFewCopies)
    void = world.member_at(world.home).follower.copy.prepared[0].entry
    moved_away(world, world.home)
    world.run(500)
    (ended,) = (entry for entry in world.entries if isinstance(entry, EpochEnded))
    assert ended.number == void.number
    assert ended.epoch > void.epoch


def test_a_barrier_that_only_its_writer_saw_in_a_log_that_was_lost_stops_nothing() -> None:
    """Found by the simulation: the restarted log knew nothing of that epoch, and was taken for a contradiction."""
    world = VoterWorld(10, five())
    answered(world, "ann", "c1")
    world.run(200)
    old = world.home
    # It hears the log and nobody else, and begins one epoch after the other.
    world.weather.groups, world.weather.log_group = {old: 1}, 1
    for _ in range(2):
        world.crash(old, survive=lambda written: written)
        world.restart(old)
        world.give_to(old, steps.Start())
        world.run(600)
    assert world.rows(old).applied.epoch == 3
    world.weather.log_group = 0
    world.log.lose()
    moved_away(world, old)
    world.run(200)
    world.give_to(world.home, steps.Start())
    assert isinstance(answered(world, "bob", "c2"), Record)
    world.weather.groups = {}
    world.run(2_000)
    assert isinstance(answered(world, "eve", "c3"), Record)
    world.run(500)
    assert {world.rows(name).events for name in world.sites} == {("ann", "bob", "eve")}


def test_B21_one_that_was_paused_in_its_recovery_does_not_begin_a_lost_log_anew_from_what_it_heard_before() -> None:
    """Found by the simulation (seed 91587897): another had written meanwhile, and its events were forgotten."""
    world = VoterWorld(13, five())
    answered(world, "ann", "c1")
    moved_away(world, world.home)
    world.run(200)
    paused = world.home
    world.weather.log_group = 1
    world.give_to(paused, steps.Start())
    assert world.run(lambda: has_heard_all(world, paused))
    # The others and the log go on without it; when it wakes the log is lost, and nobody else is near.
    world.pause(paused, 2_000)
    world.weather.groups, world.weather.log_group = {paused: 1}, 0
    moved_away(world, paused)
    world.run(200)
    assert isinstance(answered(world, "bob", "c2"), Record)
    world.log.lose()
    world.weather.log_group = 1
    world.run(4_000)
    world.weather.groups, world.weather.log_group = {}, 0
    world.run(500)
    assert isinstance(answered(world, "eve", "c3"), Record)
    world.run(500)
    assert {world.rows(name).events for name in world.sites} == {("ann", "bob", "eve")}


def has_heard_all(world: VoterWorld, name: str) -> bool:
    recovery = world.member_at(name).recovery
    return recovery is not None and len(recovery.positions) == len(followers(world))


def test_B21_a_writer_whose_copy_went_past_it_by_a_snapshot_steps_down() -> None:
    """Found by the simulation (seeds 1201, 1231): it took the snapshot's epoch for its own, and wrote beside the writer of that epoch."""
    world = VoterWorld(11, five())
    answered(world, "ann", "c1")
    member = world.member_at(world.home)
    mine = member.follower.copy
    assert member.writer is not None
    ahead = steps.Copy(mine.stream, Head(2, mine.applied.number + 2, 2, b"\1" * 32), mine.log_sequence + 2)
    effects = member.handle(steps.SnapshotFetched("s9", ahead, True), world.now)
    assert steps.Released("fenced") in effects
    assert member.writer is None
    assert not member.follower.writing


def test_what_is_read_while_the_copy_lacks_what_the_log_brought_is_stale() -> None:
    """Found by the simulation: a lost log left a copy behind, and its readers were told that nothing was missing."""
    log = history(3, 1)
    member = Member(KEY, "s0", placed(five(), KEY), 1, limits=LIMITS)
    fresh = {"caught_up_ms": 0, "now_ms": 0, "stale_after_ms": 1_000}
    member.handle(steps.Fill(), 0)
    assert member.freshness(**fresh).stale, "nobody knows what there is"
    member.handle(steps.LogRead("log", 0, tuple(log[:2])), 0)
    assert not member.freshness(**fresh).stale
    member.handle(steps.LogDelivered("log", *log[3]), 0)
    assert member.freshness(**fresh).stale, "one is missing in between"
    member.handle(steps.LogRead("log", 2, tuple(log[2:])), 0)
    assert not member.freshness(**fresh).stale
    member.handle(steps.LogReplaced("another"), 0)
    assert member.freshness(**fresh).stale, "until the new log says how it goes on"


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
    world = VoterWorld(9, five())
    answered(world, "ann", "c1")
    world.run(200)
    member = world.member_at(followers(world)[0])
    assert member.readable(1) is None
    refusal = member.readable(2)
    assert refusal is not None
    assert (refusal.applied, refusal.required, refusal.retriable) == (1, 2, True)
    fresh = member.freshness(caught_up_ms=1_000, now_ms=1_500, stale_after_ms=1_000)
    assert (fresh.applied, fresh.committed, fresh.age_ms, fresh.stale) == (1, 1, 500, False)
    assert member.freshness(caught_up_ms=1_000, now_ms=3_000, stale_after_ms=1_000).stale
