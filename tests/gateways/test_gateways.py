"""Gateway elections, rule by rule (docs/gateways.md, G01 to G28)."""

from pathlib import Path

import pytest
from blake3 import blake3
from queue_story import QUEUE, SHORT, Story, account, digest, key_of, proof, submit, vote

from messages.elections import GovernanceHeld, UnknownElection, WrongPhase
from messages.gateway_queries import Results, UnknownRound
from messages.gateways import (
    AlreadyExecuted,
    BadProof,
    Bond,
    Claim,
    ClaimsExpired,
    DeclareGateway,
    DuplicateRequest,
    InsufficientStake,
    MalformedQueue,
    NotAuthorized,
    NotEligible,
    OpenQueue,
    ProofFault,
    QueueFull,
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
    Unbond,
    UnknownItem,
)
from messages.signals import BestChain, BlockRef, GovernanceState
from overseer.settings import ConfigError, load_config
from subsystems.elections import ElectionsConfig
from subsystems.elections.gateways.config import GatewaysConfig


def voting(config: GatewaysConfig = SHORT, **stakes: int) -> Story:
    """At height 5: x and y are in the ballot of round 0, and gateways of these stakes may vote (A and B with 100, unless told)."""
    story = Story(config)
    story.gateways(**(stakes or {"A": 100, "B": 100}))
    story.done(submit("x"), submit("y"))
    story.reach(5)
    return story


def block(number: int, branch: str = "a") -> BlockRef:
    return BlockRef(digest(f"{number}/{branch}"), number)


def assigned(**weights: int) -> Story:
    """At height 9: gateways gave x these weights, of a stake of 100 each."""
    story = voting(**dict.fromkeys(weights, 100))
    story.done(*(vote(name, "x", weight) for name, weight in weights.items()))
    story.reach(9)
    return story


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


def test_G06_a_vote_at_height_9_is_too_late() -> None:
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


def test_G11_the_last_weight_replaces_and_0_withdraws() -> None:
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


def test_G14_equal_weights_are_decided_by_a_hash_of_the_close_block_and_not_by_arrival() -> None:
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
def test_G20_a_proof_of_another_round_content_size_or_key_is_bad(bad: object, fault: ProofFault) -> None:
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


# ------------------------------------------------------------------------------------------------ what else the rules say


def test_a_claim_that_runs_out_passes_to_the_next_alternate_and_then_the_request_is_open_again_with_its_age() -> None:
    story = assigned(A=70, B=30)
    story.done(submit("z"))
    story.reach(28)
    assert story.refused(proof("B", "x")) == NotAuthorized(executor=account("B"))
    [expired] = (event for event in story.reach(29).sent if isinstance(event, ClaimsExpired))
    assert (expired.height, expired.claims) == (29, [Claim(digest("x"), [account("A")], account("B"))])
    assert (story.gateway("A").held, story.gateway("A").failures, story.gateway("B").held) == (0, 1, 30)
    assert story.refused(proof("A", "x")) == NotAuthorized(executor=account("A"))
    story.reach(48)
    [expired] = (event for event in story.reach(49).sent if isinstance(event, ClaimsExpired))
    assert expired.claims == [Claim(digest("x"), [account("B")], None)]
    assert "x" in story.open()
    story.reach(50)
    assert story.ballot()[0] == "x"
    story.replays()


def test_a_promoted_alternate_proves() -> None:
    story = assigned(A=70, B=30)
    story.reach(30)
    story.done(proof("B", "x"))
    assert story.gateway("B").held == 0


def test_in_a_long_jump_claims_run_out_in_order_of_height_with_cuts_and_closes() -> None:
    story = assigned(A=70, B=30)
    then = story.reach(50)
    at = {ClaimsExpired: lambda e: e.height, RoundCut: lambda e: e.cut.number, RoundClosed: lambda e: e.close.number}
    heights = [at[type(event)](event) for event in then.sent if type(event) in at]
    assert heights == sorted(heights)
    assert [e.height for e in then.sent if isinstance(e, ClaimsExpired)] == [29, 49]
    assert "x" in story.ballot()


def test_after_k_carries_a_request_expires_and_its_balance_goes_back() -> None:
    story = Story(GatewaysConfig(collect_blocks=4, vote_blocks=3, carries_max=2))
    story.done(submit("x", balance=77))
    outcomes = []
    for close in (9, 14, 19):
        [page] = (event for event in story.reach(close).sent if isinstance(event, RoundResults))
        outcomes.append(page.results[0])
    assert [row.outcome for row in outcomes] == [RoundOutcome.CARRIED, RoundOutcome.CARRIED, RoundOutcome.EXPIRED]
    assert (outcomes[-1].account, outcomes[-1].refund) == (digest("owner"), 77)
    assert story.open() == ""
    assert story.refused(submit("x")) == DuplicateRequest(request=digest("x"))


def test_a_request_is_taken_once_whatever_became_of_it() -> None:
    story = assigned(A=70)
    assert story.refused(submit("x")) == DuplicateRequest(request=digest("x"))
    story.done(proof("A", "x"))
    assert story.refused(submit("x")) == DuplicateRequest(request=digest("x"))


def test_who_is_not_bonded_declared_and_there_at_the_cut_may_not_vote() -> None:
    story = Story()
    story.gateways(A=100, small=49, paused=100)
    story.done(DeclareGateway(election=QUEUE, gateway=account("paused"), paused=True))
    story.done(Bond(election=QUEUE, gateway=account("undeclared"), amount=100))
    story.done(submit("x"))
    story.reach(5)
    story.gateways(late=100)
    for name in ("small", "paused", "undeclared", "late", "unknown"):
        assert story.refused(vote(name, "x", 1)) == NotEligible(gateway=account(name))
    assert story.refused(vote("A", "z", 1)) == UnknownItem(item=digest("z"))


def test_a_later_bond_is_not_part_of_the_snapshot() -> None:
    story = voting()
    story.done(Bond(election=QUEUE, gateway=account("A"), amount=900))
    assert story.refused(vote("A", "x", 101)) == InsufficientStake(available=100)
    assert story.gateway("A").free == 1000


def test_no_more_is_unbonded_than_is_there() -> None:
    story = Story()
    story.gateways(A=100)
    story.unbond("A", 60)
    assert story.refused(Unbond(election=QUEUE, gateway=account("A"), amount=41)) == InsufficientStake(available=40)
    assert story.refused(Unbond(election=QUEUE, gateway=account("B"), amount=1)) == InsufficientStake(available=0)


def test_a_gateway_that_left_the_sessions_set_loses_eligibility_at_the_next_cut() -> None:
    story = Story()
    story.session("A", "B")
    story.gateways(A=100, B=100, C=100)
    story.reach(5)
    assert story.gateway("A").snapshot == 100
    story.session("B")
    assert story.gateway("A").snapshot == 100, "not before the next cut"
    [cut] = (event for event in story.reach(10).sent if isinstance(event, RoundCut))
    assert {each.gateway for each in cut.stakes} == {account("B"), account("C")}, "C never was one of the set"


def test_in_governance_mode_phases_hold_requests_are_taken_and_rounds_without_their_blocks_are_revoked() -> None:
    story = assigned(A=70)
    story.governance(GovernanceState.ENTERED)
    story.reach(12)
    assert story.queue().round == 0
    story.done(submit("z"))
    then = story.drop(8)
    assert isinstance(then.sent[0], RoundRevoked)
    assert story.open() == "xyz"
    assert story.refused(OpenQueue(election="ejection")) == GovernanceHeld()
    story.governance(GovernanceState.LEFT)
    story.reach(10)
    assert story.ballot() == "xyz"


def test_what_governance_mode_held_back_follows_when_it_is_left() -> None:
    story = Story()
    story.governance(GovernanceState.ENTERED)
    story.reach(6)
    assert story.queue().round is None
    then = story.governance(GovernanceState.LEFT)
    assert [type(event) for event in then.sent] == [RoundCut]


def test_a_queue_is_opened_once_with_what_is_asked_for_or_configured() -> None:
    story = Story(GatewaysConfig())
    rules = story.queue().rules
    assert (rules.collect_blocks, rules.vote_blocks, rules.window_blocks, rules.origin) == (10, 7, 8, 0)
    assert (rules.stake_min, rules.carries_max, rules.claim_blocks, rules.winners_max) == (50, 5, 20, 1)
    assert isinstance(story.refused(OpenQueue(election=QUEUE)), WrongPhase)
    story.done(OpenQueue(election="ejection", collect_blocks=3, vote_blocks=2, winners_max=2))
    assert story.refused(submit("x", queue="nothing")) == UnknownElection(election="nothing")


def test_a_queue_opened_late_begins_with_the_next_cut() -> None:
    story = Story(opened=False)
    story.reach(12)
    story.done(OpenQueue(election=QUEUE), submit("x"))
    assert story.reach(14).sent == []
    story.reach(15)
    assert (story.queue().round, story.ballot()) == (2, "x")
    assert story.given.ask(Results(election=QUEUE, round=1)) == UnknownRound(round=1)


def test_what_a_queue_holds_is_bounded() -> None:
    story = Story(GatewaysConfig(collect_blocks=4, vote_blocks=3, requests_max=2, gateways_max=1, queues_max=1))
    story.done(submit("x"), submit("y"))
    assert story.refused(submit("z")) == QueueFull(what="requests", limit=2)
    story.gateways(A=100)
    assert story.refused(Bond(election=QUEUE, gateway=account("B"), amount=1)) == QueueFull(what="gateways", limit=1)
    assert story.refused(OpenQueue(election="ejection")) == QueueFull(what="queues", limit=1)


def test_queues_do_not_touch_each_other() -> None:
    story = Story()
    story.done(OpenQueue(election="ejection", collect_blocks=2, vote_blocks=2))
    story.gateways(A=100)
    story.done(submit("x"), submit("x", queue="ejection"))
    then = story.reach(5)
    cuts = {event.election: event for event in then.sent if isinstance(event, RoundCut)}
    assert (cuts["ejection"].cut, cuts[QUEUE].cut) == (block(3), block(5))
    assert (cuts["ejection"].stakes, len(cuts[QUEUE].stakes)) == ([], 1)


def test_votes_and_results_too_far_back_are_forgotten_but_never_a_round_that_was_held() -> None:
    story = Story(GatewaysConfig(collect_blocks=4, vote_blocks=3, rounds_kept=2))
    story.gateways(A=100)
    story.done(submit("x"))
    story.step_by_step(30)
    assert story.given.ask(Results(election=QUEUE, round=0)) == UnknownRound(round=0)
    assert story.results(4).results != []
    story.replays()
