"""The contract of `votes_db`: dispute gossip in, votes stored and queried, what is told to the others."""

import enum
from typing import Annotated

import msgspec

from messages.message import Message, Rejection, Row, command, fact, network, query, rejection, reply
from messages.polkadot import CandidateReceipt, Vote, VoteKind
from messages.primitives import U8, U32, Bitfield, BlockNumber, Hash32, PublicKey, SessionIndex, Signature64, TimeMs, ValidatorIndex

__all__ = [
    "ActiveDisputes",
    "Attestation",
    "AttestationKind",
    "CandidateHashes",
    "Candidates",
    "Dispute",
    "DisputeStatus",
    "DisputeSummaries",
    "DisputeSummary",
    "DoubleVoteSeen",
    "MalformedBundle",
    "Outcome",
    "QueryBySession",
    "QueryByValidatorAndSessionIndex",
    "QueryByValidatorId",
    "QueryVotes",
    "RecentDisputes",
    "RegisterVote",
    "SessionOutOfWindow",
    "SessionsPruned",
    "SpamRefused",
    "StoredCandidate",
    "UnknownDispute",
    "VoteOutcome",
    "VoteRecord",
    "VotesRegistered",
    "VotesSnapshot",
]

# A bundle of 1000 votes is about 100 KiB; twice that is our bound for one message.
VOTES_PER_BUNDLE_MAX = 2000
# Hashes that one approval of several candidates may name: as many as a transaction can carry as evidence.
CANDIDATES_PER_VOTE_MAX = 64


class AttestationKind(enum.StrEnum):
    """A backing attestation: implicit (the validator seconded it) or explicit (it found it valid)."""

    IMPLICIT = "implicit"
    EXPLICIT = "explicit"


class Attestation(Row, frozen=True):
    kind: AttestationKind
    signature: Signature64


Attestations = Annotated[list[Attestation], msgspec.Meta(max_length=VOTES_PER_BUNDLE_MAX)]
Votes = Annotated[list[Vote], msgspec.Meta(max_length=VOTES_PER_BUNDLE_MAX)]


class Outcome(enum.StrEnum):
    """What became of one vote of a bundle."""

    STORED = "stored"
    ALREADY_PRESENT = "already_present"
    DOUBLE_VOTE = "double_vote"  # stored, and the validator had voted the other side
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_VALIDATOR = "unknown_validator"
    WRONG_CANDIDATE = "wrong_candidate"  # an approval of several that does not name this candidate
    BAD_KIND = "bad_kind"  # e.g. hashes with a kind that has none


class VoteOutcome(Row, frozen=True):
    validator: ValidatorIndex
    kind: VoteKind
    outcome: Outcome


class DisputeStatus(enum.StrEnum):
    """The state of a dispute; `none` while only one side has voted."""

    NONE = "none"
    ACTIVE = "active"
    CONFIRMED = "confirmed"
    CONCLUDED_FOR = "concluded_for"
    CONCLUDED_AGAINST = "concluded_against"


@reply(by="votes_db")
class VotesRegistered(Message, frozen=True, kw_only=True):
    """One outcome per vote carried: attestations first (in the order of their bits), then explicit votes."""

    session: SessionIndex
    candidate: Hash32
    outcomes: list[VoteOutcome]
    status: DisputeStatus


@command(to="votes_db", reply=VotesRegistered)
class RegisterVote(Message, frozen=True, kw_only=True):
    """The dispute gossip: a candidate receipt with backing attestations and explicit votes; at least one of the two.

    The i-th attestation belongs to the i-th set bit of `backing_validators` (Lsb0).
    """

    candidate: CandidateReceipt
    candidate_hash: Hash32
    # A hint, checked against the chain.
    block_number: BlockNumber
    session_index: SessionIndex
    validity_votes: Annotated[list[Attestation], msgspec.Meta(max_length=VOTES_PER_BUNDLE_MAX)] = msgspec.field(
        default_factory=list[Attestation]
    )
    backing_validators: Bitfield = b""
    explicit_votes: Votes = msgspec.field(default_factory=list[Vote])
    # blake2b-256 of the proof of validity, whose bytes are in the object bucket.
    pov: Hash32 | None = None


@network(by="votes_db")
class Dispute(Message, frozen=True, kw_only=True):
    """A new dispute, gossiped once to the network; other nodes feed it to their own `register_vote`."""

    candidate: CandidateReceipt
    candidate_hash: Hash32
    block_number: BlockNumber
    session_index: SessionIndex
    votes: list[Vote]


@fact(by="votes_db")
class DoubleVoteSeen(Message, frozen=True, kw_only=True):
    """A validator voted both ways in one dispute."""

    session: SessionIndex
    candidate: Hash32
    validator: ValidatorIndex


@fact(by="votes_db")
class DisputeStatusChanged(Message, frozen=True, kw_only=True):
    """A transition of a dispute's status, once each."""

    session: SessionIndex
    candidate: Hash32
    status: DisputeStatus
    previous: DisputeStatus
    at_ms: TimeMs


@fact(by="votes_db")
class SessionsPruned(Message, frozen=True, kw_only=True):
    """All votes of sessions up to and including `through` are gone."""

    through: SessionIndex


# ------------------------------------------------------------------------------------------------ queries


class StoredCandidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    session: SessionIndex
    candidate: Hash32
    receipt: CandidateReceipt
    pov: Hash32 | None = None


@reply(by="votes_db")
class Candidates(Message, frozen=True, kw_only=True):
    """Candidates voted on; `next` continues (pass as `after`), null at the end."""

    candidates: list[StoredCandidate]
    next: Hash32 | None = None


@reply(by="votes_db")
class CandidateHashes(Message, frozen=True, kw_only=True):
    """A page of hashes, ascending; `next` continues (pass as `after`), null at the end."""

    hashes: list[Hash32]
    next: Hash32 | None = None


@query(to="votes_db", reply=CandidateHashes)
class QueryByValidatorAndSessionIndex(Message, frozen=True, kw_only=True):
    """The candidates that a validator of a session voted on, by hash; `after` continues."""

    session: SessionIndex
    validator: ValidatorIndex
    after: Hash32 | None = None


@query(to="votes_db", reply=Candidates)
class QueryByValidatorId(Message, frozen=True, kw_only=True):
    """All candidates a validator voted on, over all sessions and indices it had; unknown validator: none."""

    validator_id: PublicKey
    after: Hash32 | None = None


@query(to="votes_db", reply=CandidateHashes)
class QueryBySession(Message, frozen=True, kw_only=True):
    """The candidates voted on in a session, by hash; `after` continues."""

    session: SessionIndex
    after: Hash32 | None = None


class VoteRecord(Row, frozen=True):
    """A stored vote."""

    validator: ValidatorIndex
    kind: VoteKind
    signature: Signature64
    candidates: list[Hash32] = msgspec.field(default_factory=list[bytes])


@reply(by="votes_db")
class VotesSnapshot(Message, frozen=True, kw_only=True):
    """Who voted how. `pro` and `cons` are unique validator indices of the session, ascending, and always complete.

    `votes` is by validator, and paged: `next` continues (pass as `after`), null at the end.
    """

    session: SessionIndex
    candidate: Hash32
    pro: list[ValidatorIndex]
    cons: list[ValidatorIndex]
    votes: list[VoteRecord]
    status: DisputeStatus
    # Size of the session's validator set.
    validators: U32
    concluded_at_ms: TimeMs | None = None
    # Whether the chain told that blocks are blacklisted because of this dispute.
    cascade_told: bool = False
    next: ValidatorIndex | None = None


@query(to="votes_db", reply=VotesSnapshot)
class QueryVotes(Message, frozen=True, kw_only=True):
    """Who voted how about one candidate; `after` continues with the votes behind that validator."""

    session: SessionIndex
    candidate: Hash32
    after: ValidatorIndex | None = None


class DisputeSummary(Row, frozen=True):
    session: SessionIndex
    candidate: Hash32
    status: DisputeStatus
    valid_votes: U32
    invalid_votes: U32
    concluded_at_ms: TimeMs | None


@reply(by="votes_db")
class DisputeSummaries(Message, frozen=True, kw_only=True):
    """A page; `next_session`, `next_candidate` continue, null at the end (a page may be short, even empty, before it)."""

    disputes: list[DisputeSummary]
    next_session: SessionIndex | None = None
    next_candidate: Hash32 | None = None


@query(to="votes_db", reply=DisputeSummaries)
class RecentDisputes(Message, frozen=True, kw_only=True):
    """All disputes of the window, by (session, candidate)."""

    after_session: SessionIndex | None = None
    after_candidate: Hash32 | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1000


@query(to="votes_db", reply=DisputeSummaries)
class ActiveDisputes(Message, frozen=True, kw_only=True):
    """Disputes not concluded, or concluded at most 180 s ago."""

    after_session: SessionIndex | None = None
    after_candidate: Hash32 | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1000


# ------------------------------------------------------------------------------------------------ rejections


@rejection(by="votes_db")
class MalformedBundle(Rejection, frozen=True, kw_only=True):
    """`reason`: no_votes | bitfield_zero | bitfield_length | attestation_count | candidate_hash | receipt_form."""

    reason: str
    detail: str


@rejection(by="votes_db")
class SessionOutOfWindow(Rejection, frozen=True, kw_only=True):
    """`reason`: too_old | unknown."""

    session: SessionIndex
    reason: str
    oldest: SessionIndex | None
    current: SessionIndex | None

    @property
    def retriable(self) -> bool:
        return self.reason == "unknown"


@rejection(by="votes_db")
class SpamRefused(Rejection, frozen=True, kw_only=True):
    """None of the bundle's invalid voters has a spam slot left."""

    session: SessionIndex
    candidate: Hash32
    slots: U8


@rejection(by="votes_db", name="unknown_dispute")
class UnknownDispute(Rejection, frozen=True, kw_only=True):
    """No vote about that candidate is stored for that session: none came, or the session is pruned."""

    session: SessionIndex
    candidate: Hash32
