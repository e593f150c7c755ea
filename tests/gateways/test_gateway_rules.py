"""What else the rules of gateway elections say, beside the numbered scenarios (docs/gateways.md)."""

from queue_story import QUEUE, Story, account, assigned, block, digest, proof, submit, vote, voting

from messages.elections import GovernanceHeld, UnknownElection, WrongPhase
from messages.gateway_queries import Results, UnknownRound
from messages.gateways import (
    Bond,
    Claim,
    ClaimsExpired,
    DeclareGateway,
    DuplicateRequest,
    InsufficientStake,
    NotAuthorized,
    NotEligible,
    OpenQueue,
    QueueFull,
    RoundClosed,
    RoundCut,
    RoundOutcome,
    RoundResults,
    RoundRevoked,
    Unbond,
    UnknownItem,
)
from messages.signals import GovernanceState
from subsystems.elections.gateways.config import GatewaysConfig


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
