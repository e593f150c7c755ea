"""Cascades, reverts and pardons beyond the plain scenarios: D20, D22, D23, D25, overlapping roots, work left over in steps."""

from chain_story import AUTHORITY, GENESIS, Story, cause, digest, final_to_9, names

from messages.chain_api import (
    BadBlock,
    BlocksReverted,
    DescendantsOf,
    GovernanceStatus,
    IsBlacklisted,
    LiftRevert,
    Resume,
    ResumeMode,
    ResumeRefused,
    Revert,
    UnknownBlock,
)
from messages.chain_events import BlacklistRecorded
from messages.governance import resume_payload
from messages.polkadot import Validator
from messages.signals import BlocksBlacklisted, GovernanceMode, SessionChange


def test_D20_the_union_over_two_forks_is_blacklisted_each_once() -> None:
    story = Story()
    story.imports("a1", "a2", "a3")
    story.imports("b1", "b2")
    story.imports("c1")
    [page] = story.blacklist("a1", "b1", "a2").sent_of(BlocksBlacklisted)
    assert sorted(page.hashes) == sorted(names("a1", "a2", "a3", "b1", "b2"))
    assert (page.last, page.count) == (True, 5)
    assert story.best == digest("c1")


def test_D22_governance_mode_begins_in_the_event_of_the_blacklist() -> None:
    story = final_to_9()
    then = story.blacklist(9)
    assert [e.governance.frozen_at for e in then.events if isinstance(e, BlacklistRecorded)] == [8]
    assert len(then.sent_of(GovernanceMode)) == 1


def test_D23_no_governance_mode_when_the_block_is_not_final() -> None:
    story = final_to_9()
    story.imports(10, on=9)
    assert story.blacklist(10).sent_of(GovernanceMode) == []
    assert not story.in_governance()
    assert story.best == digest(9)


def test_D25_an_early_revert_is_lifted_again_and_counts_once_for_each_cause() -> None:
    story = Story()
    story.imports("a1", "a2", "a3")
    story.imports("b1")
    one, other = cause("one"), cause("other")
    assert story.when(Revert(blocks=names("a2"), cause=one)).sent_of(BlocksReverted)
    assert story.best == digest("a1") or story.best == digest("b1")
    assert story.when(Revert(blocks=names("a2"), cause=one)).events == []
    story.when(Revert(blocks=names("a2"), cause=other))
    story.imports("a4", on="a3")
    assert len(story.heard.best) == 2
    story.when(LiftRevert(blocks=names("a2"), cause=one))
    assert len(story.heard.best) == 2
    story.when(LiftRevert(blocks=names("a2"), cause=other))
    assert story.best == digest("a4")
    assert not story.is_blacklisted("a2")
    story.replays()


def test_D25_an_early_revert_ends_with_the_conviction_so_that_a_pardon_lets_the_chain_proceed() -> None:
    story = final_to_9()
    story.when(Revert(blocks=names(5), cause=cause()))
    assert story.best == digest(4)
    story.blacklist(5)
    assert story.when(story.resume(ResumeMode.PARDON, 5)).rejection is None
    assert story.best == digest(9)
    story.replays()


def test_D25_a_revert_after_the_conviction_for_the_same_cause_does_nothing() -> None:
    story = final_to_9()
    story.blacklist(5)
    assert story.when(Revert(blocks=names(5), cause=cause())).events == []


def test_the_best_may_be_what_a_reverted_block_was_built_on() -> None:
    story = Story()
    story.imports("b1", "b2", "b3", "b4")
    story.when(Revert(blocks=names("b4"), cause=cause("one")))
    story.imports("a1", "a2", "a3", "a4", "a5")
    story.imports("c1")
    assert story.best == digest("a5")
    story.blacklist("a1")
    assert story.best == digest("b3")


def test_a_revert_during_the_search_for_the_best_is_seen_by_it() -> None:
    story = Story(search_step=1)
    story.imports("a1", "a2")
    story.imports("b1", "b2", "b3")
    story.imports("b3'", on="b2")
    story.when(Revert(blocks=names("b1"), cause=cause("one")))
    story.when(Revert(blocks=names("a2"), cause=cause("two")))
    story.settle()
    assert story.best == digest("a1")


def test_C13_many_leaves_revive_in_steps_after_governance_mode() -> None:
    story = Story(leaves_step=1)
    story.imports(*range(1, 10))
    for n in range(5):
        story.imports(f"x{n}", on=5)
    story.finalize(9)
    story.settle()
    assert story.leaves == {digest(9)}
    story.blacklist(7)
    assert story.when(story.resume(ResumeMode.ABANDON)).rejection is None
    story.settle()
    assert (story.finalized, story.best) == (6, digest(6))
    assert story.leaves == story.heard.leaves == {digest(6)}
    story.blacklist(6, candidate="second")
    assert story.when(story.resume(ResumeMode.ABANDON)).rejection is None
    story.settle()
    assert story.leaves == story.heard.leaves == set(names(*(f"x{n}" for n in range(5))))
    assert story.best == max(story.leaves)
    story.replays()


def test_a_lower_leaf_is_not_better_than_what_the_best_fell_back_to() -> None:
    story = Story()
    story.imports("a1", "a2", "a3")
    story.imports("b1")
    story.when(Revert(blocks=names("a3"), cause=cause()))
    assert story.best == digest("a2")


def test_the_search_for_the_best_goes_on_in_steps_by_itself() -> None:
    story = Story(search_step=1)
    story.imports("a1", "a2")
    for n in range(6):
        story.imports(f"x{n}", on="a2")
    story.imports("b1")
    story.imports("c1", "c2", "c3", "c4")
    story.when(Revert(blocks=names("a1"), cause=cause("one")))
    story.when(Revert(blocks=names("c2"), cause=cause("two")))
    story.settle()
    assert story.best == max(names("b1", "c1"))
    assert story.heard.best == [GENESIS, story.best]


def test_genesis_cannot_be_convicted_and_unknown_roots_are_named() -> None:
    story = Story()
    assert isinstance(story.blacklist("genesis").rejection, BadBlock)
    assert story.blacklist("nowhere").rejection == UnknownBlock(hash=digest("nowhere"))


def test_descendants_are_paged_by_cursor_and_by_count() -> None:
    story = Story()
    story.imports(*range(9))
    story.imports("x", on=0)
    everything = story.given.ask(DescendantsOf(hash=digest(0))).hashes
    assert len(everything) == 9
    by_count = story.given.ask(DescendantsOf(hash=digest(0), limit=4))
    assert (by_count.hashes, by_count.next) == (everything[:4], 4)
    assert story.given.ask(DescendantsOf(hash=digest(0), limit=4, after=4)).hashes == everything[4:8]
    by_cursor = story.given.ask(DescendantsOf(hash=digest(0), cursor=everything[4]))
    assert (by_cursor.hashes, by_cursor.next) == (everything[5:], None)
    assert story.given.ask(DescendantsOf(hash=digest("nowhere"))) == UnknownBlock(hash=digest("nowhere"))


def test_C13_a_resume_for_another_chain_is_refused() -> None:
    story = final_to_9()
    story.blacklist(5)
    other = digest("another chain")
    payload = resume_payload(ResumeMode.PARDON, chain=other, entry=1, frozen_at=4, roots=names(5))
    signature = AUTHORITY.sign(payload).signature
    resume = Resume(mode=ResumeMode.PARDON, chain=other, entry=1, frozen_at=4, roots=names(5), signature=signature)
    assert story.when(resume).rejection == ResumeRefused(reason="wrong_chain")


def test_C13_after_an_abandon_a_longer_fork_that_was_dead_becomes_best() -> None:
    story = final_to_9()
    story.imports(*(f"{n}'" for n in range(5, 12)), on=4)
    assert story.best == digest(9)
    story.blacklist(5)
    assert story.when(story.resume(ResumeMode.ABANDON)).rejection is None
    assert story.best == digest("11'")


def test_C13_a_pardoned_root_covers_the_leaf_that_was_its_parent() -> None:
    story = final_to_9()
    story.imports(*(f"{n}'" for n in range(5, 12)), on=4)
    story.blacklist("11'", candidate="fork")
    assert story.leaves == {digest(9), digest("10'")}
    story.blacklist(5)
    assert story.when(story.resume(ResumeMode.PARDON, 5, "11'")).rejection is None
    assert story.leaves == story.heard.leaves == {digest(9), digest("11'")}
    story.replays()


def test_C13_what_was_pardoned_may_be_convicted_again_even_for_the_same_cause() -> None:
    story = final_to_9()
    story.blacklist(5)
    assert story.when(story.resume(ResumeMode.PARDON, 5)).rejection is None
    story.blacklist(7, candidate="other")
    assert story.given.ask(GovernanceStatus()).roots == names(7)
    assert story.when(story.resume(ResumeMode.PARDON, 7)).rejection is None
    assert story.blacklist(5).sent_of(BlocksBlacklisted)
    assert story.is_blacklisted(9)
    story.replays()


def overlapping(*, marked: bool) -> Story:
    """6 is convicted first, then 4 above it, then 2, which is final; 4 is the only one not to be pardoned."""
    story = Story(mark_step=100 if marked else 1)
    story.imports(*range(1, 10))
    story.imports(*(f"{n}'" for n in range(6, 12)), on=5)
    story.finalize(2)
    story.blacklist(6, candidate="inner")
    story.settle()
    story.blacklist(4, candidate="middle")
    if marked:
        story.settle()
    story.blacklist(2, candidate="outer")
    return story


def test_a_pardon_inside_another_cascade_is_marked_anew_by_that_one_and_told_to_nobody() -> None:
    story = overlapping(marked=True)
    assert story.when(story.resume(ResumeMode.PARDON, 2, 6)).rejection is None
    assert story.settle().sent_of(BlocksBlacklisted) == []
    assert [story.is_blacklisted(n) for n in range(1, 10)] == [False] * 3 + [True] * 6
    assert story.given.ask(GovernanceStatus()).blacklisted == 12
    assert story.given.ask(IsBlacklisted(hash=digest(8))).cause == cause("middle")
    story.replays()


def test_a_pardon_inside_a_cascade_half_marked_restarts_its_marking() -> None:
    story = overlapping(marked=False)
    # Past the level of 6, not at its end.
    for _ in range(2):
        story.step()
    assert 2 < len(story.heard.blacklisted) - 4 < 8
    assert story.when(story.resume(ResumeMode.PARDON, 2, 6)).rejection is None
    story.settle()
    assert [story.is_blacklisted(n) for n in range(1, 10)] == [False] * 3 + [True] * 6
    assert story.given.ask(GovernanceStatus()).blacklisted == 12
    story.replays()


def test_a_blacklisted_block_starts_no_session() -> None:
    story = Story()
    story.imports("a")
    story.blacklist("a")
    then = story.imports("b", on="a", session=1, session_start=[Validator(digest("alice"))])
    assert then.sent_of(SessionChange) == []
