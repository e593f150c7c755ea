"""Whole stories through the three real subsystems: what they come to is what a model of its own says (D01-D28, C01-C22)."""

import pytest

from messages.chain_api import ImportBlock, ResumeMode, SubmitTransaction
from messages.dispute_conclusion import Challenged, Detection, GetConclusion, Resolution
from messages.polkadot import Side, TransactionKind
from messages.signals import BlocksBlacklisted, GovernanceMode, GovernanceState
from messages.transaction import transaction_id
from messages.votes_db import Dispute, DoubleVoteSeen, RegisterVote
from overseer.feeds.author import Author
from overseer.feeds.camps import against, approving, backing
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.endless import EndlessChain, EndlessShape
from overseer.feeds.make import make_authority
from overseer.feeds.story import Story
from overseer.subsystem import Check
from overseer.testing.wired import Wired
from overseer.verification import verify_check
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.votes_db.subsystem import VotesDb

SHAPES = {
    "ten": Shape(validators=10),
    "hundred": Shape(validators=100),
    "least": Shape(validators=4, sessions=1, disputes_for=0, disputes_against=0, subtree_depth=1, blocks_after=0),
    "abandon": Shape(validators=7, resume=ResumeMode.ABANDON, sessions=2, session_blocks=5, inclusion_delay=1, finality_lag=1),
    "single votes": Shape(validators=30, resume=None, bundle_votes=1, churn=0, ed25519_every=1, disputes_against=3),
    "one bundle": Shape(validators=12, bundle_votes=100),
    "single votes of nine": Shape(validators=9, bundle_votes=1),
    "many sessions": Shape(validators=9, sessions=6, session_blocks=4, finality_lag=6, candidates_per_block=1, disputes_for=3),
}
STORIES = {name: DevChain(name, shape).story() for name, shape in SHAPES.items()}
_known: dict[Check, bool] = {}


def verify(check: Check) -> bool:
    """As the runner's memo: each signature is checked once."""
    if check not in _known:
        _known[check] = verify_check(check)
    return _known[check]


def node(genesis: bytes, authority: bytes, *, seed: int | None = None) -> Wired:
    config = ChainConfig(genesis=genesis, governance_authority=authority)
    return Wired([ChainApi(config), VotesDb(), DisputeConclusion()], seed=seed, verify=verify)


def played(story: Story, *, seed: int | None = None) -> Wired:
    wired = node(story.genesis, story.authority.public, seed=seed)
    wired.play(story)
    return wired


@pytest.mark.parametrize("turns", [None, 1, 2, 3])
@pytest.mark.parametrize("name", list(STORIES))
def test_a_story_comes_to_what_the_model_says_whoever_is_ahead(name: str, turns: int | None) -> None:
    story = STORIES[name]
    assert played(story, seed=turns).unanswered(story) == []


@pytest.mark.parametrize("turns", [None, 1])
@pytest.mark.parametrize("name", list(STORIES))
def test_what_was_told_on_the_way_is_what_the_model_says(name: str, turns: int | None) -> None:
    tell_alike(STORIES[name], played(STORIES[name], seed=turns))


def tell_alike(story: Story, wired: Wired) -> None:
    """The messages that were sent are those that the model expects, each once."""
    expected = story.expected
    told = [transaction for m in wired.sent(SubmitTransaction) if isinstance(m, SubmitTransaction) for transaction in m.transactions]
    identities = {
        kind: {(t.session, t.candidate, t.validator, t.verdict is Side.VALID) for t in told if t.kind is kind} for kind in TransactionKind
    }
    assert identities == {TransactionKind.REWARD: expected.rewards, TransactionKind.SLASH: expected.slashes}
    assert len(told) == len({transaction_id(t) for t in told}) == len(expected.transactions)
    assert {transaction_id(t) for t in told} == expected.transactions
    blacklisted = [h for m in wired.sent(BlocksBlacklisted) if isinstance(m, BlocksBlacklisted) for h in m.hashes]
    assert len(blacklisted) == len(set(blacklisted))
    at_import = {m.hash for m in wired.sent(ImportBlock) if isinstance(m, ImportBlock)} & expected.ever_blacklisted - set(blacklisted)
    assert set(blacklisted) | at_import == expected.ever_blacklisted
    detections = [(m.session, m.candidate) for m in wired.sent(Detection) if isinstance(m, Detection)]
    assert sorted(detections) == sorted(expected.disputes)
    resolutions = [(m.session, m.candidate, m.valid) for m in wired.sent(Resolution) if isinstance(m, Resolution)]
    assert sorted(resolutions) == sorted((*key, valid) for key, valid in expected.resolutions)
    challenges = [(m.session, m.candidate) for m in wired.sent(Challenged) if isinstance(m, Challenged)]
    assert sorted(challenges) == sorted(expected.challenged)
    doubles = [(m.session, m.candidate, m.validator) for m in wired.sent(DoubleVoteSeen) if isinstance(m, DoubleVoteSeen)]
    assert sorted(doubles) == sorted(expected.double_voters)
    gossip = [(e.message.session_index, e.message.candidate_hash) for e in wired.network if isinstance(e.message, Dispute)]
    assert sorted(gossip) == sorted(expected.disputes)
    modes = [(m.state, m.entry) for m in wired.sent(GovernanceMode) if isinstance(m, GovernanceMode)]
    entries = range(1, expected.governance_entries + 1)
    assert modes == [(state, entry) for entry in entries for state in (GovernanceState.ENTERED, GovernanceState.LEFT)]


@pytest.mark.parametrize("bundle_votes", [1, 100])
@pytest.mark.parametrize("validators", [7, 9, 10])
def test_D08_a_candidate_confirmed_and_then_condemned_by_turncoats_is_judged_twice(validators: int, bundle_votes: int) -> None:
    author = Author("turncoats", Shape(validators=validators, bundle_votes=bundle_votes))
    candidate, order = author.include("turncoats"), author.order("turncoats")
    supermajority = validators - (validators - 1) // 3
    author.cast_all(candidate, [*backing(order[:2]), *against(order[-1:])], approving(order[2:supermajority]))
    author.decided(candidate)
    author.cast_all(candidate, against(order[:1]), against(order[1 : supermajority - 1]))
    author.decided(candidate)
    story = author.finished()
    assert {valid for _, valid in story.expected.resolutions} == {True, False}
    tell_alike(story, played(story))
    assert played(story).unanswered(story) == []


@pytest.mark.parametrize("name", ["ten", "abandon"])
def test_D28_tables_rebuilt_from_the_events_alone_are_the_same(name: str) -> None:
    for given in played(STORIES[name], seed=5).given.values():
        again = given.replayed()
        for table in given.rows.tables():
            assert list(again.rows.scan(table, b"", None)) == list(given.rows.scan(table, b"", None)), (given.subsystem, table)


@pytest.mark.parametrize("name", ["ten", "abandon"])
def test_D28_all_blocks_and_votes_sent_once_more_change_nothing(name: str) -> None:
    story = STORIES[name]
    wired = played(story)
    before = len(wired.log)
    again = [m for m in story.messages if isinstance(m, ImportBlock | RegisterVote)]
    for message in again:
        wired.send(message)
    assert [e.message for e in wired.log[before:]] == again
    assert wired.unanswered(story) == []


@pytest.mark.parametrize("turns", [None, 1])
def test_the_endless_chain_decides_every_dispute_and_its_pool_stays_small(turns: int | None) -> None:
    chain = EndlessChain("endless", EndlessShape(validators=7, dispute_every=6, session_blocks=9))
    wired = node(chain.hash(0), make_authority("endless").public, seed=turns)
    open_keys: list[tuple[int, bytes, bool]] = []
    for number in range(1, 91):
        for message in chain.tick(number).messages:
            then = wired.send(message, settle=False)
            if then.rejection is not None and then.rejection.retriable:
                wired.settle()
                then = wired.send(message)
            assert then.rejection is None
            if isinstance(message, RegisterVote):
                open_keys.append((message.session_index, message.candidate_hash, not chain.invalid(number)))
        wired.settle()
    for session, candidate, valid in set(open_keys):
        conclusion = wired.ask(GetConclusion(session=session, candidate=candidate))
        assert getattr(conclusion, "state", None) == ("concluded_for" if valid else "blacklisted"), (session, conclusion)
    told = {transaction_id(t) for m in wired.sent(SubmitTransaction) if isinstance(m, SubmitTransaction) for t in m.transactions}
    assert told == {t for n in range(1, 91) if chain.disputed(n) for t in chain.transactions(n)}
