"""The process after a dispute: D20 to D25 and the rules around them, on the pure core."""

from dispute_conclusion_kit import (
    CANDIDATE,
    CAUSE,
    SESSION,
    VOTERS,
    all_sent,
    answer,
    block,
    cascade,
    challenged,
    conclusion,
    detection,
    given,
    h,
    lifted,
    nothing,
    resolution,
    state,
)

from messages.chain_api import Blacklist, Descendants, LiftRevert, Revert
from messages.dispute_conclusion import (
    BlacklistRequested,
    ConclusionConcluded,
    ConclusionOpened,
    ConclusionState,
    DescendantsSeen,
)
from messages.message import Message
from messages.polkadot import DisputeRef


def test_detection_opens_a_conclusion_once() -> None:
    node = given()
    assert node.when(detection(), sender="votes_db").sent == [ConclusionOpened(session=SESSION, candidate=CANDIDATE, contradicting=1)]
    assert nothing(node.when(detection(), sender="votes_db"))
    found = conclusion(node)
    assert found.state is ConclusionState.DETECTED
    assert found.contradicting == 1
    assert found.voters == VOTERS[:2]
    assert found.voted_candidates == [h("other")]


def test_D20_a_candidate_in_two_forks_blacklists_both_blocks_in_one_request() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(block("B", CANDIDATE))
    node.when(detection())
    asked = node.when(resolution(valid=False)).sent
    assert sorted(asked, key=repr) == sorted([Descendants(block=h("A")), Descendants(block=h("B"))], key=repr)
    assert node.when(answer("A", 3)).sent_of(Blacklist) == []
    done = node.when(answer("B", 2))
    roots = sorted([h("A"), h("B")])
    assert done.sent_of(Blacklist) == [Blacklist(roots=roots, cause=CAUSE)]
    assert done.sent_of(BlacklistRequested)
    assert state(node) is ConclusionState.BLACKLISTING
    seen = all_sent(node, DescendantsSeen)
    assert {(m.block, m.count) for m in seen if isinstance(m, DescendantsSeen)} == {(h("A"), 3), (h("B"), 2)}
    assert node.when(cascade("A", "B")).sent_of(ConclusionConcluded)
    assert state(node) is ConclusionState.BLACKLISTED
    assert conclusion(node).blacklisted_roots == roots


def test_D20_descendants_come_in_pages_in_any_order_and_twice() -> None:
    node = given(descendants_listed_max=5)
    node.when(block("A", CANDIDATE))
    node.when(resolution(valid=False))
    assert node.when(answer("A", 4, page=1, last=False)).sent == []
    assert node.when(answer("A", 1, page=2, last=True)).sent == []
    assert nothing(node.when(answer("A", 4, page=1, last=False)))
    done = node.when(answer("A", 4, page=0, last=False))
    assert done.sent_of(DescendantsSeen)[0].count == 9  # type: ignore[attr-defined]
    assert len(done.sent_of(Blacklist)) == 1
    assert nothing(node.when(answer("A", 1, page=2, last=True)))
    seen = conclusion(node).descendants
    assert [(s.block, s.count, len(s.hashes)) for s in seen] == [(h("A"), 9, 5)]


def test_D21_killed_at_every_step_and_everything_redelivered_the_cascade_completes_once() -> None:
    inputs: list[Message] = [
        block("A", CANDIDATE),
        block("B", CANDIDATE),
        detection(),
        challenged(),
        resolution(valid=False),
        answer("A", 2, page=0, last=False),
        answer("A", 2, page=1),
        answer("B", 1),
        cascade("A", "B"),
    ]
    straight = given()
    for message in inputs:
        straight.when(message)
    for killed_after in range(len(inputs) + 1):
        node = given()
        for message in inputs[:killed_after]:
            node.when(message)
        history = node.history
        node = node.replayed()
        node.history = list(history)
        for message in inputs:
            node.when(message)
        assert len(all_sent(node, Blacklist)) == 1
        assert len(all_sent(node, Revert)) == 1
        assert len(all_sent(node, ConclusionConcluded)) == 1
        assert state(node) is ConclusionState.BLACKLISTED
        assert conclusion(node).blacklisted_roots == conclusion(straight).blacklisted_roots


def test_D24_a_candidate_included_after_its_conclusion_is_blacklisted_then() -> None:
    node = given()
    node.when(detection())
    assert node.when(resolution(valid=False)).sent == []
    assert state(node) is ConclusionState.AWAITING_INCLUSION
    assert node.when(block("A", h("unrelated"), CANDIDATE)).sent == [Descendants(block=h("A"))]
    assert nothing(node.when(block("A", h("unrelated"), CANDIDATE)))
    assert node.when(answer("A")).sent_of(Blacklist) == [Blacklist(roots=[h("A")], cause=CAUSE)]
    assert node.when(cascade("A")).sent_of(ConclusionConcluded)


def test_D24_an_inclusion_during_a_cascade_does_not_hold_it_up() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(resolution(valid=False))
    assert node.when(block("B", CANDIDATE)).sent == [Descendants(block=h("B"))]
    assert node.when(answer("A")).sent_of(Blacklist) == [Blacklist(roots=[h("A")], cause=CAUSE)]
    assert node.when(cascade("A")).sent == []
    assert state(node) is ConclusionState.ASKING_DESCENDANTS
    assert node.when(answer("B")).sent_of(Blacklist) == [Blacklist(roots=[h("B")], cause=CAUSE)]
    assert node.when(cascade("B")).sent_of(ConclusionConcluded)
    later = node.when(block("C", CANDIDATE))
    assert later.sent == [Descendants(block=h("C"))]
    assert state(node) is ConclusionState.ASKING_DESCENDANTS
    node.when(answer("C"))
    assert node.when(cascade("C")).sent_of(ConclusionConcluded) == []
    assert state(node) is ConclusionState.BLACKLISTED


def test_a_block_the_chain_does_not_know_is_no_root_and_is_asked_for_again_when_imported() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(block("B", CANDIDATE))
    node.when(resolution(valid=False))
    node.when(answer("A", known=False))
    assert node.when(answer("B")).sent_of(Blacklist) == [Blacklist(roots=[h("B")], cause=CAUSE)]
    assert node.when(block("A", CANDIDATE)).sent == [Descendants(block=h("A"))]
    assert node.when(answer("A", 1)).sent_of(Blacklist) == [Blacklist(roots=[h("A")], cause=CAUSE)]


def test_a_cascade_whose_only_block_is_unknown_awaits_inclusion() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(resolution(valid=False))
    done = node.when(answer("A", known=False))
    assert [type(m) for m in done.sent] == [DescendantsSeen]
    assert state(node) is ConclusionState.AWAITING_INCLUSION


def test_the_last_open_round_ends_without_a_root_and_the_conclusion_concludes() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(resolution(valid=False))
    node.when(block("B", CANDIDATE))
    node.when(answer("A"))
    node.when(cascade("A"))
    assert node.when(answer("B", known=False)).sent_of(ConclusionConcluded)
    assert state(node) is ConclusionState.BLACKLISTED


def test_D25_a_challenge_reverts_the_including_blocks_and_a_valid_resolution_lifts_it() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(block("B", CANDIDATE, number=2))
    node.when(detection())
    assert node.when(challenged()).sent == [Revert(blocks=[h("A"), h("B")], cause=CAUSE)]
    assert nothing(node.when(challenged()))
    assert node.when(block("C", CANDIDATE, number=3)).sent == [Revert(blocks=[h("C")], cause=CAUSE)]
    assert nothing(node.when(block("C", CANDIDATE, number=3)))
    assert state(node) is ConclusionState.CHALLENGED
    assert len(conclusion(node).reverted) == 3
    done = node.when(resolution(valid=True))
    assert done.sent_of(LiftRevert) == [LiftRevert(blocks=sorted([h("A"), h("B"), h("C")]), cause=CAUSE)]
    assert done.sent_of(ConclusionConcluded) == [
        ConclusionConcluded(session=SESSION, candidate=CANDIDATE, valid=True, at_ms=1_000_000, position=8)
    ]
    assert nothing(node.when(lifted()))
    assert node.when(block("D", CANDIDATE, number=4)).sent == []
    assert conclusion(node).reverted == []


def test_D25_challenge_lifted_before_the_resolution_lifts_the_revert_once() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(challenged())
    assert node.when(lifted()).sent == [LiftRevert(blocks=[h("A")], cause=CAUSE)]
    assert node.when(resolution(valid=True)).sent_of(LiftRevert) == []


def test_D25_without_early_action_nothing_is_reverted_nor_lifted() -> None:
    node = given(early_action=False)
    node.when(block("A", CANDIDATE))
    assert node.when(challenged()).sent == []
    assert node.when(block("B", CANDIDATE)).sent == []
    assert node.when(resolution(valid=True)).sent_of(LiftRevert) == []


def test_D25_many_including_blocks_are_reverted_in_bounded_commands() -> None:
    node = given(blocks_per_round_max=2)
    for index in range(5):
        node.when(block(f"block {index}", CANDIDATE, number=index))
    sent = node.when(challenged()).sent_of(Revert)
    assert [len(m.blocks) for m in sent if isinstance(m, Revert)] == [2, 2, 1]
    node.when(resolution(valid=False))
    for index in range(5):
        node.when(answer(f"block {index}"))
    roots = [m.roots for m in all_sent(node, Blacklist) if isinstance(m, Blacklist)]
    assert sorted(root for some in roots for root in some) == sorted(h(f"block {i}") for i in range(5))
    assert [len(some) for some in roots] == [2, 2, 1]


def test_valid_wins_is_recorded_and_nothing_is_blacklisted() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(detection())
    done = node.when(resolution(valid=True))
    assert [type(m) for m in done.sent] == [ConclusionConcluded]
    assert state(node) is ConclusionState.VALID
    assert nothing(node.when(resolution(valid=True)))


def test_D08_a_verdict_that_flips_to_against_is_followed() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(challenged())
    node.when(resolution(valid=True))
    assert node.when(resolution(valid=False)).sent == [Descendants(block=h("A"))]
    assert node.when(answer("A")).sent_of(Blacklist)
    assert node.when(cascade("A")).sent_of(ConclusionConcluded)
    assert state(node) is ConclusionState.BLACKLISTED


def test_D09_a_verdict_against_never_flips_back_nor_lifts_a_revert() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(challenged())
    node.when(resolution(valid=False))
    assert nothing(node.when(resolution(valid=True)))
    assert nothing(node.when(lifted()))
    assert conclusion(node).reverted == [h("A")]


def test_a_challenge_after_the_verdict_is_recorded_without_a_revert() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(resolution(valid=True))
    assert node.when(challenged()).sent == []
    assert state(node) is ConclusionState.VALID


def test_C08_a_root_blacklisted_by_another_cascade_concludes_without_a_signal_of_its_own() -> None:
    node = given()
    other = h("other candidate")
    node.when(block("A", CANDIDATE, other))
    node.when(resolution(valid=False))
    node.when(answer("A"))
    node.when(cascade("A"))
    node.when(resolution(valid=False, candidate=other))
    done = node.when(answer("A"))
    assert len(done.sent_of(Blacklist)) == 1
    assert done.sent_of(ConclusionConcluded)
    assert state(node, other) is ConclusionState.BLACKLISTED


def test_a_root_taken_along_as_a_descendant_counts_as_blacklisted() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(resolution(valid=False))
    node.when(answer("A"))
    by_other = cascade("Z", hashes=(h("A"),), cause=DisputeRef(session=SESSION, candidate=h("other")))
    assert node.when(by_other).sent_of(ConclusionConcluded)


def test_a_block_imported_on_the_blacklist_counts_as_blacklisted() -> None:
    node = given()
    node.when(resolution(valid=False))
    node.when(block("A", CANDIDATE, blacklisted=True))
    assert node.when(answer("A")).sent_of(ConclusionConcluded)


def test_one_answer_serves_two_conclusions_that_wait_for_the_same_block() -> None:
    node = given()
    other = h("other candidate")
    node.when(block("A", CANDIDATE, other))
    node.when(resolution(valid=False))
    node.when(resolution(valid=False, candidate=other))
    assert len(node.when(answer("A", 1)).sent_of(Blacklist)) == 2
    assert nothing(node.when(answer("A", 1)))
    done = node.when(cascade("A"))
    assert len(done.sent_of(ConclusionConcluded)) == 2


def test_an_answer_nobody_waits_for_and_a_signal_already_seen_change_nothing() -> None:
    node = given()
    assert nothing(node.when(answer("A", 3)))
    node.when(cascade("A"))
    assert nothing(node.when(cascade("A")))
    assert nothing(node.when(block("B")))
