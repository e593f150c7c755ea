"""What `votes_db` records: its journal events and timers. Published facts are in `messages.votes_db`.

Votes are carried in bulk form: a bundle of 1000 is one event of parallel lists.
"""

import msgspec

from messages.message import Message, Row, event, timer
from messages.polkadot import CandidateReceipt, Side
from messages.primitives import U32, BlockNumber, Hash32, SessionIndex, TimeMs, ValidatorIndex
from messages.votes_db import Dispute

__all__ = [
    "CandidateOpened",
    "CandidatesKnown",
    "CascadeTold",
    "ChallengeEnded",
    "ChallengeRaised",
    "DisputeDetected",
    "DisputeResolved",
    "GossipHeld",
    "GossipReleased",
    "ImportHeld",
    "PackedVotes",
    "PovRecorded",
    "PruneStep",
    "PrunedRange",
    "RowsPruned",
    "SessionOpened",
    "TransactionsIssued",
    "VotesImported",
]


class PackedVotes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Votes in bulk, as parallel lists: the i-th validator's vote is of the i-th kind, signed by the i-th 64 bytes.

    `kinds` has one letter per vote: V explicit valid, I explicit invalid, S backing seconded, B backing valid, A approval,
    M approval of several candidates; `several` holds the hashes of each M, in order.
    """

    validators: list[ValidatorIndex]
    kinds: str
    signatures: bytes
    several: list[list[Hash32]] = msgspec.field(default_factory=list[list[bytes]])


@event(by="votes_db")
class SessionOpened(Message, frozen=True, kw_only=True):
    """A session's validator set: 33 bytes each, scheme (00 sr25519, 01 Ed25519) and key. `current`: the newest session now.

    `oldest` is the first session of the window from now on; what is below it is refused, hidden and pruned (D18).
    """

    session: SessionIndex
    validators: bytes
    current: SessionIndex
    oldest: SessionIndex


@event(by="votes_db")
class CandidateOpened(Message, frozen=True, kw_only=True):
    """The first vote on a candidate in a session is about to be recorded. `known`: the chain has backed or included it."""

    session: SessionIndex
    candidate: Hash32
    receipt: CandidateReceipt
    pov: Hash32 | None
    block_number: BlockNumber
    # Size of the session's validator set.
    validators: U32
    known: bool


@event(by="votes_db")
class PovRecorded(Message, frozen=True, kw_only=True):
    """Where a candidate's proof of validity is: its hash in the object bucket."""

    session: SessionIndex
    candidate: Hash32
    pov: Hash32


@event(by="votes_db")
class VotesImported(Message, frozen=True, kw_only=True):
    """Verified votes that were news. `slots`: the validators that take a spam slot for this dispute with it."""

    session: SessionIndex
    candidate: Hash32
    votes: PackedVotes
    slots: list[ValidatorIndex]
    at_ms: TimeMs


@event(by="votes_db")
class DisputeDetected(Message, frozen=True, kw_only=True):
    """Both sides have voted now. `gossip` is the receipt to tell the network of it, null when it is not to be told."""

    session: SessionIndex
    candidate: Hash32
    block_number: BlockNumber
    contradicting: ValidatorIndex
    votes: PackedVotes
    voted_candidates: list[Hash32]
    gossip: CandidateReceipt | None


@event(by="votes_db")
class ChallengeRaised(Message, frozen=True, kw_only=True):
    """Invalid votes exceed f for the first time."""

    session: SessionIndex
    candidate: Hash32


@event(by="votes_db")
class ChallengeEnded(Message, frozen=True, kw_only=True):
    """A challenged dispute was concluded for."""

    session: SessionIndex
    candidate: Hash32


@event(by="votes_db")
class DisputeResolved(Message, frozen=True, kw_only=True):
    """A side crossed the supermajority. Parallel lists of all voters: index, letter of the valid, of the invalid vote (`-`: none)."""

    session: SessionIndex
    candidate: Hash32
    valid: bool
    validators: list[ValidatorIndex]
    valid_kinds: str
    invalid_kinds: str


@event(by="votes_db")
class TransactionsIssued(Message, frozen=True, kw_only=True):
    """Rewards and slashes with the vote that is the evidence of each; at most 1000 in one event."""

    session: SessionIndex
    candidate: Hash32
    verdict: Side
    rewards: PackedVotes
    slashes: PackedVotes


@event(by="votes_db")
class CandidatesKnown(Message, frozen=True, kw_only=True):
    """Candidates that a block backs or includes and that were not known as such before in its session."""

    session: SessionIndex
    number: BlockNumber
    backed: list[Hash32]
    included: list[Hash32]


@event(by="votes_db")
class CascadeTold(Message, frozen=True, kw_only=True):
    """The chain told that blocks are blacklisted because of this dispute."""

    session: SessionIndex
    candidate: Hash32


@event(by="votes_db")
class GossipHeld(Message, frozen=True, kw_only=True):
    """Another node told of a dispute in a session that has not started here yet: kept until it has."""

    dispute: Dispute


@event(by="votes_db")
class GossipReleased(Message, frozen=True, kw_only=True):
    """The session has started: the held dispute was imported, or refused as `refused` says."""

    session: SessionIndex
    candidate: Hash32
    refused: str | None


class PrunedRange(Row, frozen=True):
    """Rows of a table deleted: those of the session up to the key `end` (exclusive), all of them when it is empty."""

    table: str
    end: bytes


@event(by="votes_db")
class RowsPruned(Message, frozen=True, kw_only=True):
    """One bounded step of pruning a session; `ids_from`, `ids_to`: the indices whose validator ids are forgotten."""

    session: SessionIndex
    ranges: list[PrunedRange]
    ids_from: U32
    ids_to: U32


# ------------------------------------------------------------------------------------------------ timers


@timer(by="votes_db")
class PruneStep(Message, frozen=True, kw_only=True):
    """Prune a bounded number of rows of sessions that left the window."""


@timer(by="votes_db")
class ImportHeld(Message, frozen=True, kw_only=True):
    """Import one dispute that was held until its session started."""
