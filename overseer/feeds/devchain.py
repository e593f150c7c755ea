"""The development chain: a whole story from a seed, with real signatures, and what it must come to.

    story = DevChain("a seed", Shape(validators=10)).story()

Sessions with changing validator sets; blocks and forks; candidates backed and included some blocks later; disputes decided
for and against by honest and lying voters; an invalid block with a deep subtree; a candidate convicted before it is included;
a dispute that is challenged and turns; hostile votes; and, at the end, a final block found bad, governance mode, and its end.
The same seed and shape give the same bytes.
"""

from collections.abc import Callable

import msgspec

from messages.chain_api import FinalizeBlock, ResumeMode
from messages.dispute_conclusion import ConclusionState
from messages.polkadot import Vote, VoteKind
from messages.signals import GovernanceState
from messages.votes_db import Outcome
from overseer.feeds import barriers
from overseer.feeds.author import Author, Candidate
from overseer.feeds.camps import against, approving, backing, camps_of, condemning, confirming
from overseer.feeds.keyring import derive
from overseer.feeds.shape import Shape
from overseer.feeds.story import Send, Story

__all__ = ["DevChain", "Shape"]


class DevChain:
    """The development chain of one seed and shape."""

    def __init__(self, seed: str, shape: Shape | None = None) -> None:
        self.seed = seed
        self.shape = shape or Shape()

    def story(self, *more: Callable[[Author], None]) -> Story:
        """The whole of it, written anew on every call: steps, outcome and questions. `more` goes on at its end, part by part."""
        author = Author(self.seed, self.shape)
        _opening(author)
        for i in range(self.shape.disputes_for):
            _decided_for(author, f"for {i}")
        _next_session(author)
        for i in range(self.shape.disputes_against):
            _decided_against(author, f"against {i}", forked=i % 2 == 1)
        _convicted_before_inclusion(author, "early")
        _next_session(author)
        _turned(author, "turned")
        _hostile(author, "hostile")
        while author.session < self.shape.sessions:
            author.grow()
        if self.shape.resume is not None:
            _final_bad_block(author, "final", self.shape.resume)
        for part in more:
            part(author)
        return author.finished()


# ------------------------------------------------------------------------------------------------ scenes


def _condemn(author: Author, candidate: Candidate, label: str) -> None:
    """The liars back the candidate, the honest vote against it."""
    author.cast_all(candidate, *condemning(camps_of(author.order(label), author.shape)))


def _opening(author: Author) -> None:
    author.scene("The chain begins: a session starts, candidates are backed, included, finalized.")
    for _ in range(author.shape.inclusion_delay + author.shape.finality_lag):
        author.grow()


def _next_session(author: Author) -> None:
    if author.session < author.shape.sessions:
        author.scene(f"Session {author.session + 1}: some validators leave, others join, most change their index.")
        before = author.session
        while author.session == before:
            author.grow()


def _decided_for(author: Author, label: str) -> None:
    author.scene("Liars dispute a valid candidate; the others confirm it. Liars are slashed, the rest rewarded, late voters too.")
    candidate, camps = author.include(label), camps_of(author.order(label), author.shape)
    author.cast_all(candidate, *confirming(camps))
    author.cast(candidate, [*approving(camps.absent[:1]), *against(camps.absent[1:2])])
    author.decided(candidate)
    author.grow()


def _decided_against(author: Author, label: str, *, forked: bool) -> None:
    """C06, C07, D20: the invalid block is the best chain until it is disputed, and has many descendants."""
    author.scene("Liars back an invalid candidate on a fork and build on it; the block and all its descendants are blacklisted.")
    author.room(1)
    candidate = author.candidate(label, author.tip, author.height + 1)
    first = author.fork(author.tip, backed=[candidate.hash], label=label)
    second = author.fork(first, label=label)
    deepest = branch = author.fork(second, included=[candidate.hash], label=label)
    for _ in range(author.shape.subtree_depth):
        deepest = author.fork(deepest, label=label)
    for _ in range(2):
        branch = author.fork(branch, label=label + " branch")
    if forked:
        other = author.fork(first, label=label + " other")
        branch = author.fork(author.fork(other, included=[candidate.hash], label=label), label=label)
    _condemn(author, candidate, label)
    author.decided(candidate)
    author.wait(barriers.blacklisted(deepest))
    author.wait(barriers.blacklisted(branch))
    author.scene("A block built on it later is blacklisted as it arrives; the chain goes on beside it.")
    author.fork(deepest, label=label + " later")
    _outgrow(author, author.ledger.number(second))


def _outgrow(author: Author, number: int) -> None:
    """Grow the main chain beyond what is left of a fork, so that it is the best again."""
    while author.height <= number:
        author.grow()
    author.wait(barriers.best_is(author.tip))


def _convicted_before_inclusion(author: Author, label: str) -> None:
    """D24."""
    author.scene("A candidate is found invalid before any block includes it; the block that then does is blacklisted.")
    author.room(1)
    candidate = author.candidate(label, author.tip, author.height + 1)
    first = author.fork(author.tip, backed=[candidate.hash], label=label)
    _condemn(author, candidate, label)
    author.decided(candidate)
    including = author.fork(first, included=[candidate.hash], label=label)
    author.wait(barriers.blacklisted(including))
    author.wait(barriers.concluded(candidate.key, ConclusionState.BLACKLISTED))
    _outgrow(author, author.ledger.number(first))


def _turned(author: Author, label: str) -> None:
    """D07, D25: more than f vote against, so the including block is reverted; then the candidate is confirmed after all."""
    author.scene("So many vote against a candidate that its block is reverted; then the others confirm it, and it is best again.")
    author.room(author.shape.inclusion_delay + 2)
    author.grow(finalize=False)
    candidate = author.include(label, finalize=False)
    order, faulty = author.order(label), author.shape.faulty_max
    doubters, others = order[: faulty + 1], order[faulty + 1 :]
    author.cast(candidate, [*backing(others[:2]), *against(doubters)])
    author.wait(barriers.concluded(candidate.key, ConclusionState.CHALLENGED))
    (including,) = author.ledger.including(candidate.hash)
    author.wait(barriers.best_is(author.ledger.blocks[including].parent))
    author.cast(candidate, approving(others[2:]))
    author.scene("One of the doubters votes both ways: it counts on both sides, and is slashed.")
    author.cast(candidate, [(doubters[0], VoteKind.EXPLICIT_VALID)])
    author.decided(candidate)
    author.wait(barriers.best_is(author.tip))
    author.grow()


def _hostile(author: Author, label: str) -> None:
    """D06, D11, D12, D14, D15."""
    author.scene("Hostile votes: forged, by nobody, twice, malformed. Each is named; good ones are stored.")
    candidate = author.include(label)
    validators = author.shape.validators
    good = author.bundle(candidate, [(v, VoteKind.EXPLICIT_VALID) for v in range(4)])
    votes = good.explicit_votes
    forged = Vote(0, VoteKind.EXPLICIT_VALID, votes[1].signature)
    other_kind = Vote(1, VoteKind.EXPLICIT_INVALID, votes[1].signature)
    nobody = Vote(validators + 5, VoteKind.EXPLICIT_VALID, votes[0].signature)
    elsewhere = author.approval_of(candidate, 2, [derive(author.seed, "one"), derive(author.seed, "two")])
    misfit = Vote(3, VoteKind.EXPLICIT_VALID, votes[3].signature, [candidate.hash])
    bad = [
        (forged, Outcome.BAD_SIGNATURE),
        (other_kind, Outcome.BAD_SIGNATURE),
        (nobody, Outcome.UNKNOWN_VALIDATOR),
        (elsewhere, Outcome.WRONG_CANDIDATE),
        (misfit, Outcome.BAD_KIND),
    ]
    author.cast_with_defects(msgspec.structs.replace(good, explicit_votes=[*(v for v, _ in bad), votes[0]]), [o for _, o in bad])
    author.cast_with_defects(msgspec.structs.replace(good, explicit_votes=[votes[0]]), [])
    author.refused(msgspec.structs.replace(good, candidate_hash=bytes(32)), "malformed_bundle")
    author.refused(msgspec.structs.replace(good, explicit_votes=[]), "malformed_bundle")
    author.refused(msgspec.structs.replace(good, session_index=author.shape.sessions + 1), "session_out_of_window")


def _final_bad_block(author: Author, label: str, mode: ResumeMode) -> None:
    """C11, C13, D22."""
    author.scene("A finalized block turns out to have included an invalid candidate: governance mode.")
    candidate = author.include(label)
    (bad,) = author.ledger.including(candidate.hash)
    while author.ledger.number(author.ledger.finalized) <= author.ledger.number(bad):
        author.grow()
    _condemn(author, candidate, label)
    author.wait(barriers.governance(GovernanceState.ENTERED, author.ledger.entries))
    author.decided(candidate)
    author.scene("Blocks still arrive but none is made best, and nothing is finalized.")
    author.grow(finalize=False)
    author.refused(FinalizeBlock(hash=author.tip), "governance_mode")
    author.scene(f"The governance authority ends it: {mode.value}.")
    resume = author.resume(mode, [bad])
    author.wait(barriers.governance(GovernanceState.LEFT, author.ledger.entries))
    author.steps.append(Send(resume.message, "resume_refused"))
    author.ledger.refuse("resume_refused")
    author.scene("The chain proceeds.")
    for _ in range(author.shape.blocks_after):
        author.grow()
