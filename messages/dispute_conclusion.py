"""The contract of `dispute_conclusion`: what follows from a dispute's course, and its queries."""

import enum

from messages.message import Message, Rejection, Row, command, fact, query, rejection, reply
from messages.polkadot import Vote, VoteKind
from messages.primitives import U32, U64, BlockNumber, Hash32, SessionIndex, TimeMs, ValidatorIndex

__all__ = [
    "BlacklistRequested",
    "ChallengeLifted",
    "Challenged",
    "Conclusion",
    "ConclusionConcluded",
    "ConclusionOpened",
    "ConclusionState",
    "ConclusionStep",
    "Conclusions",
    "DescendantsAnswer",
    "DescendantsSeen",
    "Detection",
    "GetConclusion",
    "ListConclusions",
    "Resolution",
    "UnknownConclusion",
    "Voter",
]


class Voter(Row, frozen=True):
    """How one validator stands in a dispute: its vote kind on each side it voted on."""

    validator: ValidatorIndex
    valid: VoteKind | None
    invalid: VoteKind | None


@command(to="dispute_conclusion")
class Detection(Message, frozen=True, kw_only=True):
    """From votes_db, once, when the second side first appears. All that is needed is carried: nobody waits for answers."""

    session: SessionIndex
    candidate: Hash32
    block_number: BlockNumber
    contradicting: ValidatorIndex
    votes: list[Vote]
    # The other candidates on which the contradicting validator voted in this session (bounded, newest last).
    voted_candidates: list[Hash32]


@command(to="dispute_conclusion")
class Challenged(Message, frozen=True, kw_only=True):
    """From votes_db, once, when invalid votes first exceed f."""

    session: SessionIndex
    candidate: Hash32


@command(to="dispute_conclusion")
class ChallengeLifted(Message, frozen=True, kw_only=True):
    """From votes_db, once, if a challenged dispute is then concluded for."""

    session: SessionIndex
    candidate: Hash32


@command(to="dispute_conclusion")
class Resolution(Message, frozen=True, kw_only=True):
    """From votes_db, once per transition to concluded_for or concluded_against."""

    session: SessionIndex
    candidate: Hash32
    valid: bool
    voters: list[Voter]


@command(to="dispute_conclusion")
class DescendantsAnswer(Message, frozen=True, kw_only=True):
    """From chain_api: descendants of `block` as of its commit, nearest first, paged. For an unknown block `known` is false."""

    block: Hash32
    hashes: list[Hash32]
    page: U32
    last: bool
    known: bool = True


class ConclusionState(enum.StrEnum):
    """The recorded process that follows a dispute."""

    DETECTED = "detected"
    CHALLENGED = "challenged"
    VALID = "concluded_for"
    # Against, but no block is known yet that included the candidate.
    AWAITING_INCLUSION = "awaiting_inclusion"
    ASKING_DESCENDANTS = "asking_descendants"
    BLACKLISTING = "blacklisting"
    BLACKLISTED = "blacklisted"


@fact(by="dispute_conclusion")
class ConclusionOpened(Message, frozen=True, kw_only=True):
    """A dispute was detected and is followed."""

    session: SessionIndex
    candidate: Hash32
    contradicting: ValidatorIndex


@fact(by="dispute_conclusion")
class DescendantsSeen(Message, frozen=True, kw_only=True):
    """What the cascade was seen to be when it was asked for (the closure that counts is chain_api's)."""

    session: SessionIndex
    candidate: Hash32
    block: Hash32
    count: U32


@fact(by="dispute_conclusion")
class BlacklistRequested(Message, frozen=True, kw_only=True):
    session: SessionIndex
    candidate: Hash32
    roots: list[Hash32]


@fact(by="dispute_conclusion")
class ConclusionConcluded(Message, frozen=True, kw_only=True):
    """The dispute's process ended: valid (nothing blacklisted) or its blocks are blacklisted."""

    session: SessionIndex
    candidate: Hash32
    valid: bool


class ConclusionStep(Row, frozen=True):
    """One step of the process with its time and cause: sequence in the node's stream (0: a timer)."""

    at_ms: TimeMs
    position: U64
    what: str


@reply(by="dispute_conclusion")
class Conclusion(Message, frozen=True, kw_only=True):
    session: SessionIndex
    candidate: Hash32
    state: ConclusionState
    contradicting: ValidatorIndex | None
    voters: list[Voter]
    including_blocks: list[Hash32]
    reverted: list[Hash32]
    blacklisted_roots: list[Hash32]
    steps: list[ConclusionStep]


@reply(by="dispute_conclusion")
class Conclusions(Message, frozen=True, kw_only=True):
    """A page of conclusions without voters; `next` is the candidate to continue after, or null."""

    conclusions: list[Conclusion]
    next_session: SessionIndex | None = None
    next_candidate: Hash32 | None = None


@query(to="dispute_conclusion", reply=Conclusion)
class GetConclusion(Message, frozen=True, kw_only=True):
    session: SessionIndex
    candidate: Hash32


@query(to="dispute_conclusion", reply=Conclusions)
class ListConclusions(Message, frozen=True, kw_only=True):
    """Open (or all) conclusions, newest session last."""

    open_only: bool = True
    after_session: SessionIndex | None = None
    after_candidate: Hash32 | None = None
    limit: U32 = 100


@rejection(by="dispute_conclusion")
class UnknownConclusion(Rejection, frozen=True, kw_only=True):
    session: SessionIndex
    candidate: Hash32
