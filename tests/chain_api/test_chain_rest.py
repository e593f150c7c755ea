"""Sessions, epochs, sender restrictions, the pool's bound and the answers to queries."""

from chain_story import AUTHORITY, GENESIS, Story, cause, digest, names, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.chain_api import (
    BadBlock,
    Blacklist,
    Descendants,
    Epoch,
    EpochStatus,
    FinalizedHash,
    GetHeader,
    GroupJudged,
    GroupVerdict,
    Header,
    IncludedIn,
    IsBlacklisted,
    LiftRevert,
    NotFinalized,
    PendingTransactions,
    ResumeMode,
    ResumeRefused,
    Revert,
    Session,
    SessionStarted,
    SessionValidators,
    SubmitTransaction,
    TooManyPending,
    TransactionIncluded,
    TransactionReturned,
    UnknownBlock,
    UnknownSession,
)
from messages.dispute_conclusion import DescendantsAnswer
from messages.polkadot import Validator
from messages.signals import ActiveLeaves, SessionChange
from messages.transaction import transaction_id
from overseer.subsystem import Check
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi

ALICE, BOB = (Validator(digest(name)) for name in ("alice", "bob"))


def test_a_session_starts_with_the_block_that_carries_its_validators() -> None:
    story = Story()
    then = story.imports("a", session=1, session_start=[ALICE])
    assert then.sent_of(SessionStarted) == [SessionStarted(index=1, block=digest("a"), validators=[ALICE])]
    assert then.sent_of(SessionChange) == [SessionChange(index=1, validators=[ALICE])]
    kinds = [type(m) for m in then.sent]
    assert kinds.index(SessionChange) < kinds.index(ActiveLeaves)
    assert story.given.ask(Session(index=1)) == SessionValidators(index=1, validators=[ALICE])
    assert story.given.ask(Session(index=2)) == UnknownSession(index=2)
    story.replays()


def test_the_validators_of_session_0_may_be_those_of_genesis() -> None:
    story = Story(genesis_validators=(ALICE,))
    assert story.imports("a").sent_of(SessionChange) == [SessionChange(index=0, validators=[ALICE])]
    assert story.imports("b", on="a").sent_of(SessionChange) == []
    assert story.given.ask(Session(index=0)).validators == [ALICE]


def test_a_session_told_by_a_blacklisted_block_is_told_anew_by_another() -> None:
    story = Story()
    story.imports("a", session=1, session_start=[ALICE])
    story.blacklist("a")
    assert story.imports("b", session=1, session_start=[BOB]).sent_of(SessionChange) == [SessionChange(index=1, validators=[BOB])]
    assert story.given.ask(Session(index=1)).validators == [BOB]


def test_the_validators_of_the_best_chain_count_where_forks_differ() -> None:
    story = Story()
    story.imports("a", session=1, session_start=[ALICE])
    story.imports("b", session=1, session_start=[BOB])
    then = story.imports("b2", on="b", session=1)
    told = [m for e in story.given.history for m in story.given.subsystem.react(e) if isinstance(m, SessionChange)]
    assert told[-1] == SessionChange(index=1, validators=[BOB])
    assert len(told) == 2
    assert then.rejection is None
    story.replays()


def test_the_same_validators_on_another_fork_are_told_once() -> None:
    story = Story()
    story.imports("a", session=1, session_start=[ALICE])
    story.imports("b", session=1, session_start=[ALICE])
    story.imports("b2", on="b", session=1)
    told = [m for e in story.given.history for m in story.given.subsystem.react(e) if isinstance(m, SessionChange)]
    assert len(told) == 1


def test_a_block_that_contradicts_its_parent_is_refused() -> None:
    story = Story()
    story.imports("a", session=3)
    assert isinstance(story.when(story.block("b", "a", session=2)).rejection, BadBlock)
    story.numbers[digest("a")] = 5
    assert isinstance(story.when(story.block("c", "a", session=3)).rejection, BadBlock)
    assert isinstance(story.when(story.block("a", "genesis", session=3, transactions=[])).rejection, type(None))
    story.numbers[GENESIS] = 7
    assert isinstance(story.when(story.block("a", "genesis", session=3)).rejection, BadBlock)


def test_the_epoch_is_that_of_the_best_block() -> None:
    story = Story()
    assert story.given.ask(Epoch()) == EpochStatus(epoch=0, epoch_start=0, round=0)
    story.imports("a", epoch=3, epoch_start=1, round=2)
    assert story.given.ask(Epoch()) == EpochStatus(epoch=3, epoch_start=1, round=2)
    story.blacklist("a")
    assert story.given.ask(Epoch()).epoch == 0


def test_answers_before_the_first_event_know_genesis() -> None:
    story = Story()
    assert story.best == GENESIS
    assert story.finalized == 0
    assert story.given.ask(GetHeader(hash=GENESIS)) == Header(hash=GENESIS, parent=bytes(32), number=0, session=0)
    assert story.leaves == set()


def test_finalized_hashes_by_number() -> None:
    story = Story()
    story.imports(1, 2, 3)
    story.finalize(2)
    assert story.given.ask(FinalizedHash(number=1)).hash == digest(1)
    assert story.given.ask(FinalizedHash(number=3)) == NotFinalized(number=3, finalized=2)


def test_inclusions_are_found_on_all_forks() -> None:
    story = Story()
    story.imports("a", included=names("candidate"))
    story.imports("b", included=names("candidate", "other"))
    assert set(story.given.ask(IncludedIn(candidate=digest("candidate"))).hashes) == set(names("a", "b"))
    assert story.given.ask(IncludedIn(candidate=digest("none"))).hashes == []


def test_a_blacklist_answer_names_path_root_and_cause() -> None:
    story = Story()
    story.imports(1, 2, 3)
    story.blacklist(2, candidate="bad")
    status = story.given.ask(IsBlacklisted(hash=digest(3)))
    assert (status.root, status.path, status.cause) == (digest(2), names(3, 2), cause("bad"))
    assert story.given.ask(IsBlacklisted(hash=digest("nowhere"))) == UnknownBlock(hash=digest("nowhere"))


def test_the_pool_is_bounded_and_paged() -> None:
    story = Story(pool_max=3)
    story.when(SubmitTransaction(transactions=[transaction(n) for n in range(3)]))
    assert story.when(SubmitTransaction(transactions=[transaction(9)])).rejection == TooManyPending(what="transactions", limit=3)
    first = story.given.ask(PendingTransactions(limit=2))
    rest = story.given.ask(PendingTransactions(limit=2, after=first.next))
    assert [p.id for p in [*first.transactions, *rest.transactions]] == sorted(transaction_id(transaction(n)) for n in range(3))
    assert (first.total, rest.next) == (3, None)


def test_a_transaction_that_a_block_executed_before_it_was_submitted_is_not_pooled_until_it_returns() -> None:
    story = Story()
    identity = transaction_id(transaction(1))
    story.imports("a", transactions=[identity])
    assert story.when(SubmitTransaction(transactions=[transaction(1)])).sent == []
    assert story.blacklist("a").sent_of(TransactionReturned)
    assert [p.id for p in story.given.ask(PendingTransactions()).transactions] == [identity]


def test_a_transaction_held_by_two_blocks_of_the_best_chain_returns_when_both_left() -> None:
    story = Story()
    identity = transaction_id(transaction(1))
    assert story.imports("a", transactions=[identity]).sent_of(TransactionIncluded)
    assert story.imports("b", on="a", transactions=[identity]).sent_of(TransactionIncluded) == []
    assert story.blacklist("b").sent_of(TransactionReturned) == []
    assert story.blacklist("a").sent_of(TransactionReturned) == [TransactionReturned(id=identity, block=digest("a"))]
    story.replays()


def accepted(block: str, group: str = "g") -> GroupJudged:
    return GroupJudged(block=digest(block), transaction=digest(group), verdict=GroupVerdict.ACCEPTED)


def test_a_group_transaction_accepted_in_two_blocks_of_the_best_chain_is_included_once() -> None:
    story = Story()
    story.imports("a", "b")
    assert len(story.when(accepted("a")).sent_of(TransactionIncluded)) == 1
    assert story.when(accepted("b")).sent_of(TransactionIncluded) == []
    assert story.blacklist("b").sent_of(TransactionReturned) == []
    assert len(story.blacklist("a").sent_of(TransactionReturned)) == 1


def test_a_group_transaction_accepted_on_a_fork_is_included_when_the_fork_becomes_best() -> None:
    story = Story()
    story.imports("a1", "a2")
    story.imports("b1")
    assert story.when(accepted("b1")).sent == []
    story.imports("b2", "b3", on="b1")
    told = [m for e in story.given.history for m in story.given.subsystem.react(e) if isinstance(m, TransactionIncluded)]
    assert told == [TransactionIncluded(id=digest("g"), block=digest("b1"))]


def test_a_transaction_named_by_a_block_and_by_a_verdict_returns_once() -> None:
    story = Story()
    story.imports("a", transactions=names("g"))
    assert story.when(accepted("a")).sent == []
    assert story.blacklist("a").sent_of(TransactionReturned) == [TransactionReturned(id=digest("g"), block=digest("a"))]
    story.replays()


def test_descendants_asked_again_while_they_are_told_are_told_once() -> None:
    story = Story(descendants_page=2)
    story.imports(*range(8))
    pages = story.when(Descendants(block=digest(0))).sent_of(DescendantsAnswer)
    assert story.when(Descendants(block=digest(0))).sent == []
    pages += story.settle().sent_of(DescendantsAnswer)
    assert [h for page in pages for h in page.hashes] == names(*range(1, 8))


def test_what_only_a_subsystem_may_say() -> None:
    declared = ChainApi(ChainConfig(genesis=GENESIS)).declaration
    assert declared.restricted == {
        Revert: ("dispute_conclusion",),
        LiftRevert: ("dispute_conclusion",),
        Blacklist: ("dispute_conclusion",),
        Descendants: ("dispute_conclusion",),
        SubmitTransaction: ("votes_db",),
        GroupJudged: ("consensus_manager",),
    }
    assert set(declared.requests) < set(declared.consumes)


def test_a_resume_announces_the_signature_it_needs_and_without_an_authority_is_refused() -> None:
    story = Story()
    story.imports(1)
    story.finalize(1)
    story.blacklist(1)
    resume = story.resume(ResumeMode.PARDON, 1)
    [check] = story.given.subsystem.checks(story.given.view, resume)
    assert isinstance(check, Check)
    assert (check.scheme, check.key, check.signature) == ("ed25519", bytes(AUTHORITY.verify_key), resume.signature)
    story = Story(governance_authority=None)
    story.imports(1)
    story.finalize(1)
    story.blacklist(1)
    assert story.when(resume).rejection == ResumeRefused(reason="no_authority")


def test_a_pardon_leaves_what_another_root_convicts_and_marks_it_anew() -> None:
    story = Story(mark_step=2)
    story.imports(*range(1, 9))
    story.finalize(2)
    story.blacklist(5, candidate="below")
    story.blacklist(2, candidate="above")
    story.settle()
    assert story.when(story.resume(ResumeMode.PARDON, 2)).rejection is None
    assert [story.is_blacklisted(n) for n in range(1, 9)] == [False] * 4 + [True] * 4
    story.settle()
    assert [story.is_blacklisted(n) for n in range(1, 9)] == [False] * 4 + [True] * 4
    assert story.given.ask(IsBlacklisted(hash=digest(8))).cause == cause("below")
    assert sorted(story.heard.blacklisted) == sorted(names(*range(2, 9)))
    story.replays()


@settings(max_examples=100, deadline=None)
@given(
    blocks=st.lists(st.tuples(st.integers(0, 50), st.sets(st.integers(0, 4), max_size=3)), min_size=1, max_size=15),
    cuts=st.lists(st.integers(0, 14), max_size=3),
    page=st.integers(1, 3),
)
def test_the_pool_holds_what_no_block_of_the_best_chain_executed(blocks: list[tuple[int, set[int]]], cuts: list[int], page: int) -> None:
    story = Story(best_page=page)
    identities = [transaction_id(transaction(n)) for n in range(5)]
    pooled: set[bytes] = set()
    executed: dict[bytes, set[bytes]] = {GENESIS: set()}

    def hear(sent: list) -> None:  # type: ignore[type-arg]
        for message in sent:
            if isinstance(message, TransactionReturned):
                assert message.id not in pooled
                pooled.add(message.id)
            if isinstance(message, TransactionIncluded):
                assert message.id in pooled
                pooled.remove(message.id)

    story.when(SubmitTransaction(transactions=[transaction(n) for n in range(5)]))
    pooled |= set(identities)
    for n, (parent, held) in enumerate(blocks):
        above = "genesis" if parent % (n + 1) == n else parent % (n + 1)
        executed[digest(n)] = {identities[i] for i in held}
        hear(story.when(story.block(n, above, transactions=sorted(executed[digest(n)]))).sent)
    for cut in cuts:
        if cut < len(blocks):
            hear(story.blacklist(cut).sent)
    hear(story.settle().sent)
    held_now = set().union(*(executed[block] for block in story.heard.best))
    assert pooled == set(identities) - held_now
    pool = story.given.ask(PendingTransactions())
    assert {p.id for p in pool.transactions} == pooled
    assert pool.total == len(pooled)
    story.replays()
