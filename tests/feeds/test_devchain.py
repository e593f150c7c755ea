"""The development chain is the same for the same seed, what it sends is valid, and what it expects is not trivial."""

import time
from collections.abc import Callable, Iterator

import pytest

from messages.chain_api import ImportBlock, Resume, ResumeMode
from messages.codec import encode
from messages.governance import resume_payload
from messages.polkadot import Validator
from messages.scale import candidate_hash
from messages.signals import GovernanceState
from messages.votes_db import DisputeStatus, Outcome, RegisterVote
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.endless import EndlessChain, EndlessShape, ticks
from overseer.feeds.story import Send, Story
from overseer.subsystem import Check
from overseer.verification import verify_check

Checks = Callable[[RegisterVote, list[Validator]], Iterator[Check]]
SMALL = Shape(validators=10)
SHAPES = [
    SMALL,
    Shape(validators=4, sessions=1, disputes_for=0, disputes_against=0, subtree_depth=1, blocks_after=0),
    Shape(validators=7, resume=ResumeMode.ABANDON, sessions=2, session_blocks=5, inclusion_delay=1, finality_lag=1),
    Shape(validators=31, resume=None, bundle_votes=1, churn=0, ed25519_every=1, disputes_against=3),
    Shape(validators=10, sessions=6, session_blocks=4, finality_lag=6, candidates_per_block=1, disputes_for=3),
]
STORIES = [DevChain("seed", shape).story() for shape in SHAPES]


def bytes_of(story: Story) -> list[bytes]:
    return [encode(m) for m in story.messages]


def test_the_same_seed_and_shape_give_the_same_bytes() -> None:
    again = DevChain("seed", SMALL).story()
    assert bytes_of(again) == bytes_of(STORIES[0])
    assert again.expected == STORIES[0].expected
    assert (again.genesis, again.authority.public) == (STORIES[0].genesis, STORIES[0].authority.public)


def test_another_seed_gives_another_chain() -> None:
    other = DevChain("other", SMALL).story()
    assert other.genesis != STORIES[0].genesis
    assert not {b.hash for b in other.messages if isinstance(b, ImportBlock)} & {
        b.hash for b in STORIES[0].messages if isinstance(b, ImportBlock)
    }


@pytest.mark.parametrize("story", STORIES, ids=range(len(STORIES)))
def test_every_vote_that_is_meant_to_be_good_verifies_and_no_other(story: Story, checks_of: Checks) -> None:
    bundles = [s for s in story.steps if isinstance(s, Send) and isinstance(s.message, RegisterVote) and s.votes]
    for step in bundles:
        message = step.message
        assert isinstance(message, RegisterVote)
        assert step.votes is not None
        assert candidate_hash(message.candidate) == message.candidate_hash
        validators = story.expected.sessions[message.session_index]
        if Outcome.STORED in step.votes and set(step.votes) <= {Outcome.STORED, Outcome.DOUBLE_VOTE}:
            assert {verify_check(check) for check in checks_of(message, validators)} == {True}
    assert sum(len(step.votes or ()) for step in bundles) == story.expected.outcomes.total()


@pytest.mark.parametrize("story", STORIES, ids=range(len(STORIES)))
def test_the_tree_is_one_and_every_session_starts_on_it(story: Story) -> None:
    known = {story.genesis: 0}
    for message in story.messages:
        if isinstance(message, ImportBlock):
            assert message.number == known[message.parent] + 1
            assert message.hash not in known
            known[message.hash] = message.number
    assert len(known) == story.expected.blocks + 1
    assert known[story.expected.finalized] == story.expected.finalized_number
    assert len(story.expected.sessions) >= 1


@pytest.mark.parametrize("story", STORIES, ids=range(len(STORIES)))
def test_no_chain_executes_a_transaction_twice(story: Story) -> None:
    blocks = {m.hash: m for m in story.messages if isinstance(m, ImportBlock)}
    for block in blocks.values():
        executed: list[bytes] = []
        at: ImportBlock | None = block
        while at is not None:
            executed += at.transactions
            at = blocks.get(at.parent)
        assert len(executed) == len(set(executed))


def test_the_story_has_every_part_that_it_promises() -> None:
    expected = STORIES[0].expected
    assert set(expected.statuses.values()) == {DisputeStatus.NONE, DisputeStatus.CONCLUDED_FOR, DisputeStatus.CONCLUDED_AGAINST}
    assert set(expected.outcomes) == set(Outcome)
    assert set(expected.refusals) == {"malformed_bundle", "session_out_of_window", "governance_mode", "resume_refused"}
    assert len(expected.concluded_against) == 4
    assert len(expected.concluded_for) == 3
    assert expected.double_voters
    assert expected.blacklisted < expected.ever_blacklisted
    assert len(expected.blacklisted) > SMALL.subtree_depth
    assert expected.rewards
    assert expected.slashes
    assert not expected.rewards & expected.slashes
    assert (expected.governance, expected.governance_entries) == (GovernanceState.LEFT, 1)
    assert expected.frozen_at is not None
    assert expected.finalized_number > expected.frozen_at


def test_C13_abandon_leaves_the_bad_blocks_blacklisted_and_pardon_does_not() -> None:
    pardoned, abandoned = STORIES[0].expected, STORIES[2].expected
    assert pardoned.blacklisted != pardoned.ever_blacklisted
    assert abandoned.blacklisted == abandoned.ever_blacklisted


@pytest.mark.parametrize("story", [STORIES[0], STORIES[2]], ids=["pardon", "abandon"])
def test_C13_the_resume_is_signed_by_the_storys_authority(story: Story) -> None:
    resume = next(m for m in story.messages if isinstance(m, Resume))
    payload = resume_payload(resume.mode, chain=story.genesis, entry=1, frozen_at=story.expected.frozen_at or 0, roots=resume.roots)
    assert verify_check(Check("ed25519", story.authority.public, payload, resume.signature))


@pytest.mark.parametrize(
    "fields",
    [{"validators": 3}, {"sessions": 0}, {"sessions": 7}, {"inclusion_delay": 0}, {"session_blocks": 2}, {"finality_lag": 0}],
)
def test_a_shape_that_cannot_be_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields)).split("_")[0].rstrip("s")):
        Shape(**fields)


def test_a_hundred_validators_sign_their_whole_story_within_two_seconds_of_processor_time() -> None:
    began = time.process_time()
    DevChain("speed", Shape(validators=100)).story()
    assert time.process_time() - began < 2


def test_the_endless_chain_goes_on_at_any_height_as_if_it_had_never_stopped() -> None:
    shape = EndlessShape(validators=7, dispute_every=5, session_blocks=6)
    first = ticks("seed", shape)
    run = [next(first) for _ in range(60)]
    for height in (1, 10, 31, 60):
        assert next(ticks("seed", shape, first=height)) == run[height - 1]


def test_the_endless_chain_is_one_tree_whose_votes_verify(checks_of: Checks) -> None:
    shape = EndlessShape(validators=7, dispute_every=5, session_blocks=6, ed25519_every=2)
    chain = EndlessChain("seed", shape)
    known = {chain.hash(0): 0}
    sessions: dict[int, list[Validator]] = {}
    bundles = 0
    for number in range(1, 61):
        for message in chain.tick(number).messages:
            if isinstance(message, ImportBlock):
                assert message.number == known[message.parent] + 1
                known[message.hash] = message.number
                if message.session_start is not None:
                    assert sessions.setdefault(message.session, message.session_start) == message.session_start
                assert message.session in sessions
            if isinstance(message, RegisterVote):
                assert {verify_check(check) for check in checks_of(message, sessions[message.session_index])} == {True}
                bundles += 1
    assert max(sessions) == 10
    assert bundles > 0
