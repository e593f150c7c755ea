"""The scenarios of the chain: C01 to C22 (C16 is the runner's), and what D20, D22 and D23 ask of it."""

import pytest
from chain_story import GENESIS, Story, cause, digest, final_to_9, names, transaction
from msgspec.structs import replace
from nacl.signing import SigningKey

from messages.chain_api import (
    BadBlock,
    BlockImported,
    BlocksBlacklistedFact,
    ConflictingFinality,
    Descendants,
    FinalizeBlock,
    FinalizedBlocksBlacklisted,
    GovernanceModeEntered,
    GovernanceModeLeft,
    GovernanceModeRefusal,
    GovernanceStatus,
    GroupJudged,
    GroupVerdict,
    ImportResult,
    IsBlacklisted,
    OrphanDropped,
    PendingTransactions,
    ResumeMode,
    ResumeRefused,
    SubmitTransaction,
    TransactionIncluded,
    TransactionQueued,
    TransactionReturned,
    UnknownBlock,
)
from messages.chain_events import BlacklistRecorded, FinalityMoved
from messages.dispute_conclusion import DescendantsAnswer
from messages.signals import ActiveLeaves, BestChain, BlockFinalized, BlockRef, BlocksBlacklisted, GovernanceMode, GovernanceState
from messages.transaction import transaction_id


def ref(name: object, number: int) -> BlockRef:
    return BlockRef(digest(name), number)


def test_C01_a_child_is_activated_and_its_parent_deactivated_in_one_signal() -> None:
    story = Story()
    assert story.imports("A").sent_of(ActiveLeaves) == [ActiveLeaves(activated=[ref("A", 1)], deactivated=[])]
    assert story.imports("B", on="A").sent_of(ActiveLeaves) == [ActiveLeaves(activated=[ref("B", 2)], deactivated=[ref("A", 1)])]


def test_C01_import_of_a_known_block_is_no_news() -> None:
    story = Story()
    story.imports("A")
    then = story.when(story.block("A"))
    assert then.events == []
    assert then.reply.result is ImportResult.KNOWN


def test_C02_finality_is_told_first_and_then_one_update_deactivates_the_lower_leaves() -> None:
    story = Story()
    story.imports("a")
    story.imports("b1", "b2")
    story.imports("c1", "c2", "c3")
    then = story.finalize("c3")
    signals = [m for m in then.sent if isinstance(m, BlockFinalized | ActiveLeaves)]
    assert signals[0] == BlockFinalized(hash=digest("c3"), number=3)
    [update] = signals[1:]
    assert update.activated == []
    assert {r.hash for r in update.deactivated} == set(names("a", "b2"))


def test_C03_of_two_leaves_only_the_one_not_finalized_is_deactivated() -> None:
    story = Story()
    story.imports("a")
    story.imports("b")
    then = story.finalize("a")
    assert then.sent_of(ActiveLeaves) == [ActiveLeaves(activated=[], deactivated=[ref("b", 1)])]
    assert story.best == digest("a")


def test_C04_no_update_of_leaves_when_finality_touches_none() -> None:
    story = Story()
    story.imports("a", "b")
    then = story.finalize("a")
    assert then.sent_of(BlockFinalized)
    assert then.sent_of(ActiveLeaves) == []


def test_C05_ancestors_nearest_first() -> None:
    story = Story()
    story.imports("1", "2", "3")
    assert story.ancestors("3", 4) == [*names("2", "1"), GENESIS]
    assert story.ancestors("2", 1) == names("1")
    assert story.ancestors("genesis", 5) == []


def chain_with_2_blacklisted() -> Story:
    story = Story()
    story.imports("1", "2", "3")
    story.blacklist("2")
    return story


def test_C06_a_blacklisted_block_takes_its_descendants_along_and_the_best_falls_back() -> None:
    story = Story()
    story.imports("1", "2", "3")
    then = story.blacklist("2")
    [page] = then.sent_of(BlocksBlacklisted)
    assert (page.roots, page.hashes, page.last, page.count) == (names("2"), names("2", "3"), True, 2)
    [fact] = then.sent_of(BlocksBlacklistedFact)
    assert fact.hashes == page.hashes
    assert then.sent_of(BestChain) == [BestChain(reverted=[ref("3", 3), ref("2", 2)], applied=[])]
    assert then.sent_of(ActiveLeaves) == [ActiveLeaves(activated=[ref("1", 1)], deactivated=[ref("3", 3)])]
    assert story.best == digest("1")
    assert [story.is_blacklisted(n) for n in "123"] == [False, True, True]


def test_C07_a_child_of_a_blacklisted_block_is_blacklisted_on_import_and_a_sibling_becomes_best() -> None:
    story = chain_with_2_blacklisted()
    then = story.imports("4", on="3")
    [imported] = then.sent_of(BlockImported)
    assert imported.blacklisted
    assert then.reply.blacklisted
    assert then.sent_of(ActiveLeaves) == then.sent_of(BestChain) == []
    story.imports("2'", on="1")
    assert story.best == digest("2'")
    assert story.leaves == {digest("2'")}


def test_C08_the_same_blacklist_again_is_no_fact() -> None:
    story = chain_with_2_blacklisted()
    assert story.blacklist("2").events == []


def test_C08_another_cause_for_the_same_root_is_recorded_and_names_no_block_twice() -> None:
    story = chain_with_2_blacklisted()
    [page] = story.blacklist("2", candidate="other").sent_of(BlocksBlacklisted)
    assert (page.roots, page.hashes, page.last, page.count) == (names("2"), [], True, 0)
    assert story.blacklist("2", candidate="other").events == []


def test_C09_an_orphan_is_imported_in_order_once_its_parent_comes() -> None:
    story = Story()
    a, b, c = story.block("a"), story.block("b", "a"), story.block("c", "b")
    assert story.when(c).reply.result is ImportResult.ORPHANED
    assert story.when(b).reply.result is ImportResult.ORPHANED
    assert story.when(b).events == []
    then = story.when(a)
    assert [m.hash for m in then.sent_of(BlockImported)] == names("a", "b", "c")
    assert story.best == digest("c")


def test_C09_the_orphan_pool_is_bounded_and_the_oldest_is_dropped_with_a_fact() -> None:
    story = Story(orphans_max=2)
    story.numbers[digest("unknown")] = 7
    for name in ("x", "y"):
        story.when(story.block(name, "unknown"))
    assert story.when(story.block("z", "unknown")).sent_of(OrphanDropped) == [OrphanDropped(hash=digest("x"), number=8)]
    story.replays()


def test_C09_a_long_line_of_orphans_is_adopted_in_steps() -> None:
    story = Story(adopt_step=3)
    blocks = [story.block(n, n - 1 if n else "genesis") for n in range(10)]
    for block in blocks[1:]:
        story.when(block)
    assert len(story.when(blocks[0]).sent_of(BlockImported)) == 4
    assert [m.hash for m in story.settle().sent_of(BlockImported)] == names(*range(4, 10))
    assert story.best == digest(9)
    story.replays()


def test_C09_an_orphan_that_contradicts_its_parent_is_dropped() -> None:
    story = Story()
    story.numbers[digest("p")] = 5
    story.when(story.block("o", "p"))
    then = story.when(story.block("p"))
    assert then.sent_of(OrphanDropped) == [OrphanDropped(hash=digest("o"), number=6, reason="contradicts_parent")]


def test_C09_another_block_under_the_hash_of_one_that_waits_is_refused_aloud() -> None:
    story = Story()
    story.numbers[digest("p")] = 5
    waiting = story.block("o", "p")
    story.when(waiting)
    assert isinstance(story.when(replace(waiting, number=waiting.number + 1)).rejection, BadBlock)
    assert story.when(waiting).reply.result is ImportResult.ORPHANED


def test_C10_finality_that_is_unknown_or_conflicts_is_refused() -> None:
    story = Story()
    story.imports("a1", "a2")
    story.imports("b1", "b2", "b3")
    story.finalize("a2")
    assert story.finalize("b3").rejection == ConflictingFinality(hash=digest("b3"), finalized=digest("a2"))
    assert story.finalize("b1").rejection == ConflictingFinality(hash=digest("b1"), finalized=digest("a2"))
    assert story.finalize("nowhere").rejection == UnknownBlock(hash=digest("nowhere"))
    assert story.finalize("a1").events == []


def test_C10_the_best_chain_follows_finality_to_a_shorter_fork() -> None:
    story = Story()
    story.imports("a1", "a2")
    story.imports("b1", "b2", "b3")
    assert story.best == digest("b3")
    story.finalize("a1")
    assert story.best == digest("a2")
    story.imports("b4", on="b3")
    assert story.best == digest("a2")


def test_C11_a_blacklisted_final_block_brings_governance_mode() -> None:
    story = final_to_9()
    then = story.blacklist(5)
    [recorded] = [e for e in then.events if isinstance(e, BlacklistRecorded)]
    assert recorded.governance is not None
    assert then.sent_of(GovernanceModeEntered) == [GovernanceModeEntered(entry=1, frozen_at=4, blocks=names(5))]
    assert then.sent_of(GovernanceMode) == [GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=4)]
    assert then.sent_of(FinalizedBlocksBlacklisted) == [FinalizedBlocksBlacklisted(blocks=[ref(5, 5)])]
    assert story.finalized == 9
    assert story.best == digest(4)
    then = story.imports("5'", "6'", on=4)
    assert then.sent_of(BlockImported)
    assert story.best == digest(4)
    assert story.heard.best == [GENESIS, *names(1, 2, 3, 4)]


def test_C12_frozen_at_only_lowers() -> None:
    story = Story()
    story.imports(*range(1, 13))
    story.finalize(12)
    story.blacklist(11)
    assert story.given.ask(GovernanceStatus()).frozen_at == 10
    assert story.blacklist(12).sent_of(GovernanceMode) == []
    assert story.given.ask(GovernanceStatus()).frozen_at == 10
    then = story.blacklist(10)
    assert then.sent_of(GovernanceMode) == [GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=9)]
    story.blacklist(9)
    assert story.blacklist(8).sent_of(GovernanceMode) == [GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=7)]
    assert story.best == digest(7)
    story.replays()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"key": SigningKey(bytes(32))}, "bad_signature"),
        ({"entry": 2}, "wrong_entry"),
        ({"frozen_at": 5}, "wrong_frozen_at"),
    ],
)
def test_C13_a_resume_signed_wrongly_is_refused(settings: dict[str, object], reason: str) -> None:
    story = final_to_9()
    story.blacklist(5)
    resume = story.resume(ResumeMode.PARDON, 5, **settings)  # type: ignore[arg-type]
    assert story.when(resume).rejection == ResumeRefused(reason=reason)
    assert story.in_governance()


def test_C13_a_pardon_must_name_every_final_root() -> None:
    story = final_to_9()
    story.blacklist(5)
    story.blacklist(7)
    assert story.when(story.resume(ResumeMode.PARDON, 5)).rejection == ResumeRefused(reason="roots_missing")
    assert story.when(story.resume(ResumeMode.PARDON, 5, 7)).rejection is None


def test_C13_a_pardon_takes_the_cascade_off_the_blacklist_and_the_chain_proceeds() -> None:
    story = final_to_9()
    story.imports(10, on=9)
    story.blacklist(5)
    story.imports("5'", on=4)
    then = story.when(story.resume(ResumeMode.PARDON, 5))
    [left] = then.sent_of(GovernanceModeLeft)
    assert (left.mode, left.roots, left.finalized) == (ResumeMode.PARDON, names(5), ref(9, 9))
    assert not any(story.is_blacklisted(n) for n in range(1, 11))
    assert (story.finalized, story.best) == (9, digest(10))
    assert story.leaves == story.heard.leaves == {digest(10)}
    story.imports(11, on=10)
    assert story.best == digest(11)
    assert story.finalize(11).rejection is None
    assert story.given.ask(GovernanceStatus()).blacklisted == 0
    story.replays()


def test_C13_an_abandon_moves_finality_back_and_lets_the_rest_compete() -> None:
    story = final_to_9()
    story.imports("5'", "6'", on=4)
    story.blacklist(5)
    then = story.when(story.resume(ResumeMode.ABANDON))
    [left] = then.sent_of(GovernanceModeLeft)
    assert (left.mode, left.finalized) == (ResumeMode.ABANDON, ref(4, 4))
    assert (story.finalized, story.best) == (4, digest("6'"))
    assert story.is_blacklisted(9)
    assert story.leaves == {digest("6'")}
    story.imports("7'", on="6'")
    story.heard.finalized = 4
    assert story.finalize("7'").rejection is None
    assert story.best == digest("7'")
    story.replays()


def test_C13_a_resume_that_was_used_is_refused() -> None:
    story = final_to_9()
    story.blacklist(5)
    resume = story.resume(ResumeMode.PARDON, 5)
    assert story.when(resume).rejection is None
    assert story.when(resume).rejection == ResumeRefused(reason="not_in_governance_mode")


def test_C13_governance_mode_refuses_finality_and_group_verdicts_for_now() -> None:
    story = final_to_9()
    story.imports(10, on=9)
    story.blacklist(5)
    refusal = story.when(FinalizeBlock(hash=digest(10))).rejection
    assert refusal == GovernanceModeRefusal(frozen_at=4)
    assert refusal.retriable
    judged = GroupJudged(block=digest(10), transaction=digest("group"), verdict=GroupVerdict.ACCEPTED)
    assert story.when(judged).rejection == GovernanceModeRefusal(frozen_at=4)


def test_C15_a_transaction_is_pooled_once_by_its_identity() -> None:
    story = Story()
    one = transaction(3)
    assert story.when(SubmitTransaction(transactions=[one, one])).sent_of(TransactionQueued) == [
        TransactionQueued(id=transaction_id(one), transaction=one)
    ]
    assert story.when(SubmitTransaction(transactions=[one])).events == []
    assert story.when(SubmitTransaction(transactions=[transaction(3, signature=b"\x01" * 64)])).events == []
    pool = story.given.ask(PendingTransactions())
    assert ([p.id for p in pool.transactions], pool.total) == ([transaction_id(one)], 1)


def test_C17_blocks_that_came_after_the_answer_are_in_the_cascade() -> None:
    story = Story()
    story.imports(*range(11))
    [page] = story.when(Descendants(block=digest(0))).sent_of(DescendantsAnswer)
    assert (page.hashes, page.page, page.last, page.known) == (names(*range(1, 11)), 0, True, True)
    story.imports(11, 12, on=10)
    [cascade] = story.blacklist(0).sent_of(BlocksBlacklisted)
    assert cascade.hashes == names(*range(13))


def test_C17_descendants_of_an_unknown_block_and_of_many_in_pages() -> None:
    story = Story(descendants_page=3)
    [nothing] = story.when(Descendants(block=digest("nowhere"))).sent_of(DescendantsAnswer)
    assert (nothing.hashes, nothing.last, nothing.known) == ([], True, False)
    story.imports(*range(8))
    story.imports("x", "y", on=0)
    pages = [*story.when(Descendants(block=digest(0))).sent_of(DescendantsAnswer), *story.settle().sent_of(DescendantsAnswer)]
    assert [p.page for p in pages] == list(range(len(pages)))
    assert [p.last for p in pages] == [False] * (len(pages) - 1) + [True]
    found = [hash for p in pages for hash in p.hashes]
    assert (len(found), set(found)) == (9, set(names(*range(1, 8), "x", "y")))
    story.replays()


def test_C18_a_reorganisation_tells_every_height_in_order() -> None:
    story = Story()
    story.imports("a1", "a2", "a3")
    story.imports("b1", "b2", "b3")
    before = list(story.heard.best)
    fork = "a" if before[-1] == digest("b3") else "b"
    then = story.imports(f"{fork}4", on=f"{fork}3")
    other = "b" if fork == "a" else "a"
    [moved] = then.sent_of(BestChain)
    assert moved.reverted == [ref(f"{other}{n}", n) for n in (3, 2, 1)]
    assert moved.applied == [ref(f"{fork}{n}", n) for n in (1, 2, 3, 4)]


def test_C18_a_long_reorganisation_goes_in_pages() -> None:
    story = Story(best_page=4)
    story.imports(*[f"a{n}" for n in range(10)])
    story.imports(*[f"b{n}" for n in range(9)])
    story.blacklist("a0")
    assert story.best == digest("b8")
    story.settle()
    pages = [m for e in story.given.history[-40:] for m in story.given.subsystem.react(e) if isinstance(m, BestChain)]
    assert [p.page for p in pages[-5:]] == [0, 1, 2, 3, 4]
    assert story.heard.best == [GENESIS, *names(*[f"b{n}" for n in range(9)])]
    story.replays()


def test_C19_a_transaction_returns_to_the_pool_once_when_its_block_leaves_the_best_chain() -> None:
    story = Story()
    one = transaction(1)
    identity = transaction_id(one)
    story.when(SubmitTransaction(transactions=[one]))
    then = story.imports("a1", transactions=[identity])
    assert then.sent_of(TransactionIncluded) == [TransactionIncluded(id=identity, block=digest("a1"))]
    assert story.given.ask(PendingTransactions()).transactions == []
    then = story.imports("b1", "b2")
    returned = [m for e in story.given.history for m in story.given.subsystem.react(e) if isinstance(m, TransactionReturned)]
    assert returned == [TransactionReturned(id=identity, block=digest("a1"))]
    assert [p.id for p in story.given.ask(PendingTransactions()).transactions] == [identity]
    assert story.blacklist("a1").sent_of(TransactionReturned) == []
    story.replays()


def test_C19_a_transaction_of_a_blacklisted_block_returns_and_is_included_again() -> None:
    story = Story()
    one = transaction(1)
    identity = transaction_id(one)
    story.when(SubmitTransaction(transactions=[one]))
    story.imports("a1", transactions=[identity])
    assert story.blacklist("a1").sent_of(TransactionReturned) == [TransactionReturned(id=identity, block=digest("a1"))]
    then = story.imports("b1", transactions=[identity])
    assert then.sent_of(TransactionIncluded) == [TransactionIncluded(id=identity, block=digest("b1"))]
    assert story.when(SubmitTransaction(transactions=[one])).events == []


def test_C19_a_group_transaction_is_included_only_when_accepted() -> None:
    story = Story()
    story.imports("a1", group_transactions=[b"group"])
    refused = GroupJudged(block=digest("a1"), transaction=digest("g0"), verdict=GroupVerdict.REFUSED, error="duplicate_group")
    then = story.when(refused)
    assert (len(then.events), then.sent) == (1, [])
    accepted = GroupJudged(block=digest("a1"), transaction=digest("g"), verdict=GroupVerdict.ACCEPTED)
    assert story.when(accepted).sent == [TransactionIncluded(id=digest("g"), block=digest("a1"))]
    assert story.when(accepted).events == []
    story.imports("b1", "b2")
    returned = [m for e in story.given.history for m in story.given.subsystem.react(e) if isinstance(m, TransactionReturned)]
    assert returned == [TransactionReturned(id=digest("g"), block=digest("a1"))]
    story.replays()


def test_C20_a_root_that_became_final_meanwhile_brings_governance_mode_in_the_same_event() -> None:
    story = Story()
    story.imports(1, 2, 3)
    story.when(Descendants(block=digest(2)))
    story.finalize(3)
    [recorded] = [e for e in story.blacklist(2).events if isinstance(e, BlacklistRecorded)]
    assert (recorded.final, recorded.governance.frozen_at) == ([ref(2, 2)], 1)


def test_C20_finalizing_a_blacklisted_block_is_recorded_and_brings_governance_mode() -> None:
    story = Story()
    story.imports(1, 2, 3, 4)
    story.blacklist(2)
    then = story.finalize(4)
    [moved] = [e for e in then.events if isinstance(e, FinalityMoved)]
    assert (moved.bad, moved.governance.frozen_at) == ([ref(2, 2)], 1)
    assert (story.finalized, story.best) == (4, digest(1))
    assert story.given.ask(GovernanceStatus()).roots == names(2)
    assert story.when(story.resume(ResumeMode.PARDON, 2)).rejection is None
    assert story.best == digest(4)
    story.replays()


def test_C21_the_signature_of_an_earlier_governance_mode_ends_no_later_one() -> None:
    story = final_to_9()
    story.blacklist(5)
    old = story.resume(ResumeMode.PARDON, 5)
    assert story.when(old).rejection is None
    story.blacklist(5, candidate="second")
    assert story.given.ask(GovernanceStatus()).entry == 2
    assert story.when(old).rejection == ResumeRefused(reason="wrong_entry")
    assert story.in_governance()


def half_marked() -> Story:
    story = Story(mark_step=10)
    story.imports(*range(1, 41))
    story.blacklist(3)
    story.step()
    assert story.given.ask(GovernanceStatus()).blacklisted < 30
    return story


def test_C22_a_block_not_marked_yet_is_blacklisted_for_every_question() -> None:
    story = half_marked()
    status = story.given.ask(IsBlacklisted(hash=digest(40)))
    assert (status.blacklisted, status.root, status.cause) == (True, digest(3), cause())
    assert status.path == [digest(n) for n in range(40, 2, -1)]
    assert story.best == digest(2)
    assert story.imports(41, on=40).reply.blacklisted
    assert story.best == digest(2)
    [moved] = [e for e in story.finalize(40).events if isinstance(e, FinalityMoved)]
    assert moved.governance.frozen_at == 2
    story.settle()
    assert sorted(story.heard.blacklisted) == sorted(names(*range(3, 41)))
    story.replays()


def test_C22_pages_of_a_cascade_are_numbered_and_end_with_their_count() -> None:
    story = Story(mark_step=10)
    story.imports(*range(1, 41))
    pages = [*story.blacklist(3).sent_of(BlocksBlacklisted), *story.settle().sent_of(BlocksBlacklisted)]
    assert [p.page for p in pages] == list(range(len(pages)))
    assert len({p.cascade for p in pages}) == 1
    assert [p.last for p in pages] == [False] * (len(pages) - 1) + [True]
    assert pages[-1].count == 38
    assert [h for p in pages for h in p.hashes] == names(*range(3, 41))
