"""Gateway elections, rule by rule (docs/gateways.md, G01 to G28)."""

from pathlib import Path

import pytest
from blake3 import blake3
from queue_story import QUEUE, Story, account, assigned, block, digest, key_of, proof, submit, vote, voting

from messages.elections import WrongPhase
from messages.gateways import (
    AlreadyExecuted,
    BadProof,
    InsufficientStake,
    MalformedQueue,
    NotAuthorized,
    OpenQueue,
    ProofFault,
    RequestExecuted,
    RequestsReturned,
    RequestSubmitted,
    RoundClosed,
    RoundCut,
    RoundOutcome,
    RoundPhase,
    RoundResults,
    RoundRevoked,
    RoundsSkipped,
    StakeHolding,
    Standing,
    UnknownItem,
)
from messages.signals import BestChain
from overseer.settings import ConfigError, load_config
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.gateways.config import GatewaysConfig

# ------------------------------------------------------------------------------------------------ cut


def test_G01_requests_of_the_first_blocks_are_in_the_open_queue_and_belong_to_round_0() -> None:
    story = Story()
    for height, name in enumerate("vwxyz"):
        if height:
            story.reach(height)
        [event] = story.done(submit(name)).events
        assert isinstance(event, RequestSubmitted)
        assert event.round == 0
    assert story.open("vwxyz") == "vwxyz"
    assert story.ballot() == ""


def test_G02_at_height_5_the_open_queue_is_the_ballot_and_the_open_queue_is_empty() -> None:
    story = Story()
    story.gateways(A=100, B=49)
    story.done(submit("x"), submit("y"))
    story.step_by_step(4)
    assert story.open() == "xy"
    then = story.reach(5)
    [cut] = then.sent
    assert isinstance(cut, RoundCut)
    assert (cut.round, cut.cut, cut.stakes) == (0, block(5), [StakeHolding(account("A"), 100)])
    assert (story.open(), story.ballot()) == ("", "xy")


def test_G03_a_request_after_the_cut_at_height_5_belongs_to_round_1() -> None:
    story = voting()
    [event] = story.done(submit("z")).events
    assert isinstance(event, RequestSubmitted)
    assert event.round == 1
    assert (story.open(), story.ballot()) == ("z", "xy")


def test_G04_a_vote_at_height_4_is_in_the_wrong_phase() -> None:
    story = Story()
    story.gateways(A=100)
    story.done(submit("x"))
    story.reach(4)
    refusal = story.refused(vote("A", "x", 10))
    assert isinstance(refusal, WrongPhase)
    assert refusal.phase == "collecting"


def test_G05_votes_at_heights_5_and_8_are_accepted() -> None:
    story = voting()
    story.done(vote("A", "x", 10))
    story.reach(8)
    story.done(vote("A", "y", 10))
    assert story.gateway("A").redistributed == 20


def test_a_vote_at_height_9_is_too_late() -> None:
    story = voting()
    story.reach(9)
    assert isinstance(story.refused(vote("A", "x", 10)), WrongPhase)


# ------------------------------------------------------------------------------------------------ close


def test_G07_at_height_9_results_are_recorded_and_queryable_and_published() -> None:
    story = voting()
    story.done(vote("A", "x", 70))
    then = story.reach(9)
    closed, page = then.sent
    assert isinstance(closed, RoundClosed)
    assert (closed.round, closed.cut, closed.close) == (0, block(5), block(9))
    assert isinstance(page, RoundResults)
    assert then.events[-2:] == then.sent, "what is published is what was recorded"
    x, y = page.results
    assert (x.request, x.outcome, x.winners, x.alternates) == (digest("x"), RoundOutcome.ASSIGNED, [Standing(account("A"), 70)], [])
    assert (y.request, y.outcome, y.winners) == (digest("y"), RoundOutcome.CARRIED, [])
    asked = story.results()
    assert (asked.results, asked.phase, asked.close) == (page.results, RoundPhase.CLOSED, block(9))
    assert story.assigned() == "x"


def test_G08_height_9_seen_twice_makes_no_second_event() -> None:
    story = voting()
    story.reach(9)
    before = len(story.given.history)
    then = story.when(BestChain(reverted=[], applied=[block(9)]))
    assert (then.events, then.sent) == ([], [])
    assert len(story.given.history) == before


def test_G09_voting_longer_than_collecting_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vote_blocks is 5: it must not exceed collect_blocks \(4\)"):
        GatewaysConfig(collect_blocks=4, vote_blocks=5)
    file = tmp_path / "overseer.toml"
    file.write_text("[elections.gateways]\ncollect_blocks = 4\nvote_blocks = 5\n")
    with pytest.raises(ConfigError, match="vote_blocks is 5"):
        load_config(file, environ={}, sections={"elections": ElectionsConfig})


def test_G09_a_queue_with_such_rules_is_not_opened() -> None:
    story = Story(opened=False)
    refusal = story.refused(OpenQueue(election=QUEUE, collect_blocks=4, vote_blocks=5))
    assert isinstance(refusal, MalformedQueue)
    assert "must not exceed" in refusal.detail
    assert isinstance(story.refused(OpenQueue(election=QUEUE, vote_blocks=3, window_blocks=5)), MalformedQueue)


def test_G10_no_more_than_the_stake_is_redistributed() -> None:
    story = voting()
    story.done(vote("A", "x", 60))
    assert story.refused(vote("A", "y", 50)) == InsufficientStake(available=40)


def test_the_last_weight_replaces_and_0_withdraws() -> None:
    story = voting()
    story.done(vote("A", "x", 60), vote("A", "x", 30), vote("A", "y", 70), vote("A", "x", 0))
    assert story.gateway("A").redistributed == 70
    assert story.done(vote("A", "y", 70)).events == [], "it is so already"
    story.reach(9)
    assert [row.outcome for row in story.results().results] == [RoundOutcome.CARRIED, RoundOutcome.ASSIGNED]


def test_G12_exactly_the_stake_is_accepted() -> None:
    story = voting()
    story.done(vote("A", "x", 100))
    assert (story.gateway("A").redistributed, story.gateway("A").free) == (100, 0)


def test_G13_the_greater_weight_wins_and_the_other_is_alternate() -> None:
    story = assigned(B=30, A=70)
    row = story.results().results[0]
    assert row.winners == [Standing(account("A"), 70)]
    assert row.alternates == [Standing(account("B"), 30)]


def test_G13_equal_weights_are_decided_by_a_hash_of_the_close_block_and_not_by_arrival() -> None:
    gateways = "ABCDEFG"
    first, second = assigned(**dict.fromkeys(gateways, 50)), assigned(**dict.fromkeys(reversed(gateways), 50))
    ranking = [*first.results().results[0].winners, *first.results().results[0].alternates]
    assert ranking == [*second.results().results[0].winners, *second.results().results[0].alternates]
    tied = sorted(map(account, gateways), key=lambda each: blake3(block(9).hash + digest("x") + each).digest())
    assert [each.gateway for each in ranking] == tied


def test_G15_a_request_without_votes_is_carried_and_first_in_the_next_ballot() -> None:
    story = voting()
    story.done(submit("z"))
    story.reach(9)
    assert story.open() == "xyz"
    story.reach(10)
    assert story.ballot() == "xyz", "by age: what was carried is ahead"


def test_G16_nobody_can_propose_winners() -> None:
    declared = Story().given.subsystem.declaration
    fields = {(message.spec.name, field) for message in declared.consumes for field in message.__struct_fields__}
    assert not [each for each in fields if "winner" in each[1] and each[0] != "open_queue"]
    assert {message.spec.name for message in declared.consumes if message.spec.owner == "elections"} & {
        "close_round",
        "round_results",
    } == set()


# ------------------------------------------------------------------------------------------------ execution


def test_G17_the_proof_of_one_that_did_not_win_is_refused_and_the_item_stays() -> None:
    story = assigned(A=70, B=30)
    assert story.refused(proof("B", "x")) == NotAuthorized(executor=account("B"))
    assert story.refused(proof("stranger", "x")) == NotAuthorized(executor=account("stranger"))
    assert story.assigned() == "x"


def test_G18_the_winners_valid_proof_removes_the_item_and_releases_its_stake() -> None:
    story = assigned(A=70, B=30)
    assert (story.gateway("A").held, story.gateway("B").held) == (70, 0)
    [event] = story.done(proof("A", "x")).sent
    assert isinstance(event, RequestExecuted)
    assert (event.executor, event.height, event.sequence) == (account("A"), 9, len(story.history()))
    assert story.assigned() == ""
    assert (story.gateway("A").held, story.gateway("A").free) == (0, 100)
    assert story.executions().executions[0].executor == account("A")


def test_G19_the_same_proof_again_is_already_executed_and_counts_once() -> None:
    story = assigned(A=70)
    story.done(proof("A", "x"))
    assert story.refused(proof("A", "x")) == AlreadyExecuted(executor=account("A"))
    assert story.history().count("request_executed") == 1


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (proof("A", "x", round=1), ProofFault.ROUND),
        (proof("A", "x", content="another"), ProofFault.CONTENT),
        (proof("A", "x", size=101), ProofFault.SIZE),
        (proof("A", "x", key=key_of("B")), ProofFault.SIGNATURE),
    ],
)
def test_G17_a_proof_of_another_round_content_size_or_key_is_bad(bad: object, fault: ProofFault) -> None:
    story = assigned(A=70)
    assert story.refused(bad) == BadProof(fault=fault)  # type: ignore[arg-type]
    assert story.assigned() == "x"


def test_a_proof_of_something_unknown_or_not_yet_assigned_is_refused() -> None:
    story = voting()
    assert story.refused(proof("A", "nothing")) == UnknownItem(item=digest("nothing"))
    assert story.refused(proof("A", "x")) == NotAuthorized(executor=account("A"))


# ------------------------------------------------------------------------------------------------ the chain


def test_G21_a_jump_from_4_to_12_cuts_and_closes_in_order_with_the_blocks_of_each() -> None:
    story = Story()
    story.gateways(A=100)
    story.done(submit("x"))
    story.reach(4)
    then = story.reach(12)
    cut, closed, page, next = then.sent
    assert isinstance(cut, RoundCut)
    assert isinstance(closed, RoundClosed)
    assert isinstance(page, RoundResults)
    assert isinstance(next, RoundCut)
    assert (cut.cut, closed.cut, closed.close, next.cut) == (block(5), block(5), block(9), block(10))
    assert (story.ballot(), story.queue().round) == ("x", 1)


def test_G22_when_the_close_block_is_blacklisted_after_assignment_the_round_is_revoked_and_the_item_is_open_and_the_stake_free() -> None:
    story = assigned(A=70, B=30)
    then = story.drop(8)
    revoked, returned = then.sent
    assert isinstance(revoked, RoundRevoked)
    assert (revoked.round, revoked.close) == (0, block(9))
    assert isinstance(returned, RequestsReturned)
    assert (returned.returned, returned.executed, returned.last) == ([digest("x")], [], True)
    assert (story.open(), story.assigned()) == ("xy", "")
    assert (story.gateway("A").free, story.gateway("A").held) == (100, 0)
    assert story.refused(proof("A", "x")) == NotAuthorized(executor=account("A"))
    assert story.results().phase is RoundPhase.REVOKED
    story.replays()


def test_G22_the_cut_block_leaves_while_votes_are_taken_and_the_round_is_held_again_at_another_block() -> None:
    story = voting()
    story.done(vote("A", "x", 70))
    then = story.reach(6, "b", keep=4)
    revoked, cut = then.sent
    assert isinstance(revoked, RoundRevoked)
    assert isinstance(cut, RoundCut)
    assert (revoked.cut, cut.cut, cut.round, cut.ballot) == (block(5), block(5, "b"), 0, 2)
    assert story.ballot() == "xy"
    assert story.gateway("A").redistributed == 0, "votes of the revoked ballot do not count in the new one"
    story.done(vote("B", "x", 20))
    story.reach(9, "b")
    assert story.results().results[0].winners == [Standing(account("B"), 20)]


def test_G22_a_revoked_round_is_never_held_again_under_the_same_identity() -> None:
    story = assigned(A=70)
    then = story.reach(9, "b", keep=8)
    assert [type(event) for event in then.events if not isinstance(event, RoundRevoked | RequestsReturned)][1:] == [RoundsSkipped]
    assert story.open() == "xy"
    story.reach(10, "b")
    assert (story.ballot(), story.queue().round) == ("xy", 1)
    assert story.history().count("round_cut") == 2


def test_G22_the_very_chain_that_was_left_comes_back_and_its_rounds_stay_revoked() -> None:
    story = assigned(A=70)
    story.drop(3)
    story.reach(9)
    assert (story.open(), story.queue().round, story.results().phase) == ("xy", None, RoundPhase.REVOKED)
    story.reach(10)
    assert story.ballot() == "xy"
    story.replays()


def test_G22_several_rounds_are_revoked_the_last_first() -> None:
    story = assigned(A=70)
    story.reach(10)
    story.done(vote("A", "y", 30, round=1))
    story.reach(14)
    assert story.assigned() == "xy"
    then = story.reach(6, "b", keep=4)
    assert [event.round for event in then.sent if isinstance(event, RoundRevoked)] == [1, 0]
    assert story.ballot() == "xy"
    assert story.gateway("A").held == 0


def test_G23_what_was_executed_stays_so_and_is_flagged_and_the_rest_is_revoked() -> None:
    story = voting()
    story.done(vote("A", "x", 50), vote("A", "y", 40))
    story.reach(9)
    story.done(proof("A", "x"))
    then = story.drop(8)
    returned = then.sent[-1]
    assert isinstance(returned, RequestsReturned)
    assert (returned.returned, returned.executed) == ([digest("y")], [digest("x")])
    first, second = story.executions().executions
    assert (first.executor, first.revoked) == (account("A"), True)
    assert (second.executor, second.revoked) == (None, False)
    assert story.open() == "y"
    assert story.refused(proof("A", "x")) == AlreadyExecuted(executor=account("A"))


def test_G24_unbonding_during_the_vote_waits_for_the_close() -> None:
    story = voting()
    story.done(vote("A", "x", 30))
    story.unbond("A", 100)
    assert (story.gateway("A").bonded, story.gateway("A").unbonding) == (100, 100)
    story.done(vote("A", "y", 20))
    story.reach(9)
    assert (story.gateway("A").bonded, story.gateway("A").unbonding, story.gateway("A").unbonded) == (50, 50, 50)
    story.done(proof("A", "x"), proof("A", "y"))
    assert (story.gateway("A").bonded, story.gateway("A").unbonded) == (0, 100)


def test_G26_with_a_window_of_2_a_vote_in_the_quiet_blocks_is_in_the_wrong_phase() -> None:
    story = voting(GatewaysConfig(collect_blocks=4, vote_blocks=3, window_blocks=2))
    story.reach(6)
    story.done(vote("A", "x", 10))
    for height in (7, 8):
        story.reach(height)
        refusal = story.refused(vote("A", "x", 20))
        assert isinstance(refusal, WrongPhase)
        assert refusal.phase == "quiet"


def test_G27_two_winners_in_order_and_one_alternate_and_one_proof_ends_the_item() -> None:
    story = voting(GatewaysConfig(collect_blocks=4, vote_blocks=3, winners_max=2), A=100, B=100, C=100)
    story.done(vote("C", "x", 20), vote("B", "x", 30), vote("A", "x", 50))
    story.reach(9)
    row = story.results().results[0]
    assert row.winners == [Standing(account("A"), 50), Standing(account("B"), 30)]
    assert row.alternates == [Standing(account("C"), 20)]
    story.done(proof("B", "x"))
    assert story.refused(proof("A", "x")) == AlreadyExecuted(executor=account("B"))
    assert story.gateway("A").held == 0


def test_G28_counting_starts_at_the_origin() -> None:
    story = Story(GatewaysConfig(collect_blocks=4, vote_blocks=3, origin=100))
    story.gateways(A=100)
    story.reach(99)
    story.done(submit("w"))
    for height, name in zip(range(100, 105), "vxyz", strict=False):
        story.reach(height)
        [event] = story.done(submit(name)).events
        assert isinstance(event, RequestSubmitted)
        assert event.round == 0
    assert "round_cut" not in story.history()
    story.reach(105)
    assert (story.ballot("vwxyz"), story.open("vwxyz")) == ("wvxyz", "")
