"""The contract of `dispute_conclusion`: what follows from a dispute's course, and its queries."""

import enum

import msgspec

from messages.message import Message, Rejection, Row, command, event, fact, query, rejection, reply
from messages.polkadot import Side, TransactionKind, Vote, VoteKind
from messages.primitives import U32, U64, BlockNumber, Hash32, SessionIndex, TimeMs, ValidatorIndex

__all__ = [
    "BlacklistRequested",
    "BlacklistSeen",
    "BlacklistedBlocksRecorded",
    "ChallengeLiftRecorded",
    "ChallengeLifted",
    "ChallengeRecorded",
    "Challenged",
    "Conclusion",
    "ConclusionConcluded",
    "ConclusionOpened",
    "ConclusionState",
    "ConclusionStep",
    "Conclusions",
    "DescendantsAnswer",
    "DescendantsAsked",
    "DescendantsPageRecorded",
    "DescendantsSeen",
    "Detection",
    "DetectionRecorded",
    "GetConclusion",
    "InclusionsRecorded",
    "ListConclusions",
    "Resolution",
    "ResolutionRecorded",
    "RevertAsked",
    "SeenDescendants",
    "SessionRecorded",
    "TransactionRef",
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


# ------------------------------------------------------------------------------------------------ facts


@fact(by="dispute_conclusion")
class ConclusionOpened(Message, frozen=True, kw_only=True):
    """A dispute was detected and is followed."""

    session: SessionIndex
    candidate: Hash32
    contradicting: ValidatorIndex


@fact(by="dispute_conclusion")
class DescendantsSeen(Message, frozen=True, kw_only=True):
    """What the cascade was seen to be when it was asked for (the closure that counts is chain_api's).

    `known` is false when the chain did not know the block: it is then no root, and is asked for again if it is imported.
    """

    session: SessionIndex
    candidate: Hash32
    block: Hash32
    count: U32
    known: bool = True
    at_ms: TimeMs = 0
    position: U64 = 0


@fact(by="dispute_conclusion")
class BlacklistRequested(Message, frozen=True, kw_only=True):
    """The blocks of one round were all answered for: `blacklist` is asked of the chain, with them as roots."""

    session: SessionIndex
    candidate: Hash32
    roots: list[Hash32]
    at_ms: TimeMs = 0
    position: U64 = 0


@fact(by="dispute_conclusion")
class ConclusionConcluded(Message, frozen=True, kw_only=True):
    """The dispute's process ended: valid (nothing blacklisted) or its blocks are blacklisted.

    Told at most once for each of the two; a candidate that is included again later is followed without telling it again.
    """

    session: SessionIndex
    candidate: Hash32
    valid: bool
    at_ms: TimeMs = 0
    position: U64 = 0


# ------------------------------------------------------------------------------------------------ journal events


@event(by="dispute_conclusion")
class DetectionRecorded(Message, frozen=True, kw_only=True):
    """A `detection`; `voters` are the votes so far without their signatures."""

    session: SessionIndex
    candidate: Hash32
    block_number: BlockNumber
    contradicting: ValidatorIndex
    voters: list[Voter]
    voted_candidates: list[Hash32]
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class ChallengeRecorded(Message, frozen=True, kw_only=True):
    """A `challenged`: from now on the candidate's inclusions are watched."""

    session: SessionIndex
    candidate: Hash32
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class ChallengeLiftRecorded(Message, frozen=True, kw_only=True):
    """The challenge is over. `blocks`: those whose early revert is lifted with it."""

    session: SessionIndex
    candidate: Hash32
    blocks: list[Hash32]
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class RevertAsked(Message, frozen=True, kw_only=True):
    """Early action: the chain is asked to stop building on these including blocks."""

    session: SessionIndex
    candidate: Hash32
    blocks: list[Hash32]
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class ResolutionRecorded(Message, frozen=True, kw_only=True):
    """A `resolution` that changed the verdict."""

    session: SessionIndex
    candidate: Hash32
    valid: bool
    voters: list[Voter]
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class DescendantsAsked(Message, frozen=True, kw_only=True):
    """A round of the cascade: the descendants of these blocks are asked for; when all are answered, they are blacklisted."""

    session: SessionIndex
    candidate: Hash32
    round: U32
    blocks: list[Hash32]
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class DescendantsPageRecorded(Message, frozen=True, kw_only=True):
    """One page of an awaited answer; its first `listed` hashes are kept for queries, the journal keeps all."""

    block: Hash32
    page: U32
    last: bool
    known: bool
    hashes: list[Hash32]
    listed: U32


@event(by="dispute_conclusion")
class BlacklistSeen(Message, frozen=True, kw_only=True):
    """These requested roots are on the chain's blacklist now (or were already)."""

    session: SessionIndex
    candidate: Hash32
    blocks: list[Hash32]
    at_ms: TimeMs
    position: U64


@event(by="dispute_conclusion")
class InclusionsRecorded(Message, frozen=True, kw_only=True):
    """An imported block and the candidates it includes."""

    block: Hash32
    number: BlockNumber
    session: SessionIndex
    blacklisted: bool
    candidates: list[Hash32]


@event(by="dispute_conclusion")
class BlacklistedBlocksRecorded(Message, frozen=True, kw_only=True):
    """A page of blocks on the blacklist, remembered with the newest session so that they can be forgotten with it."""

    session: SessionIndex
    hashes: list[Hash32]


@event(by="dispute_conclusion")
class SessionRecorded(Message, frozen=True, kw_only=True):
    """A newer session; inclusions and conclusions of sessions up to and including these are forgotten (null: none)."""

    session: SessionIndex
    inclusions_through: SessionIndex | None
    conclusions_through: SessionIndex | None


# ------------------------------------------------------------------------------------------------ queries


class ConclusionStep(Row, frozen=True):
    """One step of the process with its time and cause: sequence in the node's stream (0: a timer)."""

    at_ms: TimeMs
    position: U64
    what: str


class TransactionRef(Row, frozen=True):
    """A dispute transaction that follows from the resolution; with session and candidate this is its identity."""

    kind: TransactionKind
    validator: ValidatorIndex
    verdict: Side


class SeenDescendants(Row, frozen=True):
    """The answer for one including block: how many descendants it had, and the first of them (bounded)."""

    block: Hash32
    count: U32
    hashes: list[Hash32]


@reply(by="dispute_conclusion")
class Conclusion(Message, frozen=True, kw_only=True):
    """A dispute's process with its causes: which votes, which blocks, which transactions.

    `voters` are those of the verdict in force, or of the detection while there is none. `transactions` are those of every
    verdict so far; late votes bring single ones which are not listed here. All lists of hashes are bounded.
    """

    session: SessionIndex
    candidate: Hash32
    state: ConclusionState
    contradicting: ValidatorIndex | None
    voters: list[Voter]
    including_blocks: list[Hash32]
    # Blocks under an early revert now.
    reverted: list[Hash32]
    # Roots asked of the chain, whether it has told their cascade yet or not.
    blacklisted_roots: list[Hash32]
    steps: list[ConclusionStep]
    voted_candidates: list[Hash32] = msgspec.field(default_factory=list[bytes])
    transactions: list[TransactionRef] = msgspec.field(default_factory=list[TransactionRef])
    descendants: list[SeenDescendants] = msgspec.field(default_factory=list[SeenDescendants])


@reply(by="dispute_conclusion")
class Conclusions(Message, frozen=True, kw_only=True):
    """A page of conclusions without voters, transactions and descendants.

    `next_session`, `next_candidate`: where to continue after, null at the end (a page may be short, even empty, before it).
    """

    conclusions: list[Conclusion]
    next_session: SessionIndex | None = None
    next_candidate: Hash32 | None = None


@query(to="dispute_conclusion", reply=Conclusion)
class GetConclusion(Message, frozen=True, kw_only=True):
    """What followed from one dispute, step by step."""

    session: SessionIndex
    candidate: Hash32


@query(to="dispute_conclusion", reply=Conclusions)
class ListConclusions(Message, frozen=True, kw_only=True):
    """Open (or all) conclusions, newest session last; at most 100 a page."""

    open_only: bool = True
    after_session: SessionIndex | None = None
    after_candidate: Hash32 | None = None
    limit: U32 = 100


@rejection(by="dispute_conclusion")
class UnknownConclusion(Rejection, frozen=True, kw_only=True):
    """Nothing is known of a dispute about that candidate in that session: not detected here, or forgotten with its session."""

    session: SessionIndex
    candidate: Hash32
