"""Types of Polkadot's disputes that several messages share: validators, vote kinds, candidate receipts, transactions.

Field order and meaning follow Polkadot's primitives (v5 candidate receipts); `messages.scale` encodes them.
"""

import enum
from typing import Annotated

import msgspec

from messages.message import Row
from messages.primitives import U32, Hash32, PublicKey, SessionIndex, Signature64, ValidatorIndex

__all__ = [
    "CandidateCommitments",
    "CandidateDescriptor",
    "CandidateReceipt",
    "DisputeRef",
    "HorizontalMessage",
    "Scheme",
    "Side",
    "Transaction",
    "TransactionKind",
    "Validator",
    "Vote",
    "VoteKind",
]


class Scheme(enum.StrEnum):
    """A validator key's signature scheme."""

    SR25519 = "sr25519"
    ED25519 = "ed25519"


class Validator(Row, frozen=True):
    """One member of a session's validator set; its index is its place in the list."""

    key: PublicKey
    scheme: Scheme = Scheme.SR25519


class Side(enum.StrEnum):
    VALID = "valid"
    INVALID = "invalid"


class VoteKind(enum.StrEnum):
    """The kinds of dispute statements; each has its own signed bytes. There is no invalid kind but explicit."""

    EXPLICIT_VALID = "explicit_valid"
    EXPLICIT_INVALID = "explicit_invalid"
    BACKING_SECONDED = "backing_seconded"
    BACKING_VALID = "backing_valid"
    APPROVAL = "approval"
    APPROVAL_MULTIPLE = "approval_multiple"

    @property
    def side(self) -> Side:
        return Side.INVALID if self is VoteKind.EXPLICIT_INVALID else Side.VALID


class Vote(Row, frozen=True):
    """A validator's statement: who, what kind, signature; for an approval of several candidates their hashes in signed order."""

    validator: ValidatorIndex
    kind: VoteKind
    signature: Signature64
    candidates: list[Hash32] = msgspec.field(default_factory=list[bytes])


class CandidateDescriptor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """292 bytes in SCALE."""

    para_id: U32
    relay_parent: Hash32
    collator: PublicKey
    persisted_validation_data_hash: Hash32
    pov_hash: Hash32
    erasure_root: Hash32
    signature: Signature64
    para_head: Hash32
    validation_code_hash: Hash32


class HorizontalMessage(Row, frozen=True):
    recipient: U32
    data: bytes


class CandidateCommitments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    upward_messages: list[bytes]
    horizontal_messages: list[HorizontalMessage]
    new_validation_code: bytes | None
    head_data: bytes
    processed_downward_messages: U32
    hrmp_watermark: U32


class CandidateReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A candidate with its commitments, or (plain, for large ones) with their hash alone: exactly one of the two."""

    descriptor: CandidateDescriptor
    commitments: CandidateCommitments | None = None
    commitments_hash: Hash32 | None = None


class DisputeRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dispute that is the cause of what is asked."""

    session: SessionIndex
    candidate: Hash32


class TransactionKind(enum.StrEnum):
    REWARD = "reward"
    SLASH = "slash"


class Transaction(Row, frozen=True):
    """An unsigned, self-authenticating dispute transaction: the vote with its signature is the evidence.

    Its identity (what is pooled and executed once) is (kind, session, candidate, validator, verdict).
    """

    kind: TransactionKind
    session: SessionIndex
    candidate: Hash32
    validator: ValidatorIndex
    # The dispute's outcome: was the candidate valid?
    verdict: Side
    vote: VoteKind
    signature: Signature64
    # Only for a vote that approves several candidates.
    candidates: Annotated[list[Hash32], msgspec.Meta(max_length=64)] = msgspec.field(default_factory=list[bytes])
