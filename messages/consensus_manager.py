"""The contract of `consensus_manager`: the elections of consensus groups, told between nodes, on chain and to who asks.

An *attempt* at electing the group of an epoch is named by four numbers (`Attempt`), and its DKG by a session id that binds chain,
attempt, seed and the ordered members (`messages.consensus_signing`). What nodes tell each other is signed by the sender's identity
key over canonical bytes (same module); `sender` is the place among the members, but in `stalled`, where it is the validator's index.
"""

import enum
from typing import Annotated

import msgspec

from messages.message import Message, Rejection, Row, network, query, rejection, reply
from messages.primitives import U16, U32, BlockNumber, Ed25519Key, Hash32, Signature64, ValidatorIndex

__all__ = [
    "BOX_BYTES",
    "MEMBERS_MAX",
    "PROOF_BYTES",
    "STALLS_MAX",
    "Approval",
    "Attempt",
    "AttemptReport",
    "AttemptState",
    "Attempts",
    "AttemptsReport",
    "Bitmap",
    "BlockPartial",
    "BoxKey",
    "Complaint",
    "ComplaintReason",
    "Confirm",
    "Deal",
    "DuplicateGroup",
    "ElectionTooEarly",
    "Epoch",
    "EpochReport",
    "EpochUnknown",
    "Equivocation",
    "G1Bytes",
    "G2Bytes",
    "Group",
    "GroupMismatch",
    "GroupReport",
    "GroupTransaction",
    "GroupVerificationFailed",
    "GroupsOnDisk",
    "GroupsReport",
    "Identity",
    "Justify",
    "Member",
    "NotTaken",
    "NotTakenReason",
    "OfAttempt",
    "Opened",
    "Phase",
    "PhaseClosed",
    "ScalarBytes",
    "Stalled",
    "TxnTooOld",
    "UnknownGroup",
]

# Members of one group at most: a group transaction of so many, none confirming twice, stays below 32 KiB.
MEMBERS_MAX = 256
# Proofs of a stall in one group transaction: 2f + 1 of as many validators as fit beside the rest.
STALLS_MAX = 256
# A share (32 bytes), encrypted and authenticated.
BOX_BYTES = 48
# A Schnorr proof: challenge and response, two scalars.
PROOF_BYTES = 64

# A compressed point of BLS12-381; whether it is one, in the subgroup, and not the identity is checked where it is used (E20).
G1Bytes = Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
G2Bytes = Annotated[bytes, msgspec.Meta(min_length=96, max_length=96)]
# A scalar of the field of the group's order, big-endian.
ScalarBytes = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
# X25519 public key.
BoxKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
# A set of members, lowest bit of the first byte first; as long as it must be and no longer.
Bitmap = Annotated[bytes, msgspec.Meta(max_length=MEMBERS_MAX // 8)]

_Place = Annotated[int, msgspec.Meta(ge=0, le=MEMBERS_MAX - 1)]
_Box = Annotated[bytes, msgspec.Meta(min_length=BOX_BYTES, max_length=BOX_BYTES)]
_Proof = Annotated[bytes, msgspec.Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]


class Identity(Row, frozen=True):
    """What a validator is known by in elections of groups: the key that it signs with, and the one that boxes are sealed to."""

    signing: Ed25519Key
    box: BoxKey


class Member(Row, frozen=True):
    """A member of a group: its index in the validator set of the attempt's session, and its identity."""

    validator: ValidatorIndex
    identity: Identity


class Attempt(Row, frozen=True):
    """One try at electing the group that follows the one accepted in block `epoch_start`.

    `due` (H) is the height of the election, `delay` (D) how much later this attempt began; it begins at block `due + delay`, whose
    hash is its seed. `round` (r) counts the tries of this attempt while no block came.
    """

    epoch_start: BlockNumber
    due: BlockNumber
    delay: U32
    round: U32


class Phase(enum.StrEnum):
    """What members may still do in an attempt. Confirming ends with the attempt."""

    DEAL = "deal"
    COMPLAIN = "complain"
    JUSTIFY = "justify"
    CONFIRM = "confirm"


class OfAttempt(Message, frozen=True, kw_only=True):
    """The parent of what members tell each other. `signature`: `messages.consensus_signing.signed_bytes` under the identity."""

    session: Hash32
    sender: U32
    signature: Signature64


# ------------------------------------------------------------------------------------------------ between nodes


@network(by="consensus_manager")
class Opened(OfAttempt, frozen=True, kw_only=True):
    """This member takes part. Nothing is decided by it: others see that the attempt lives."""

    attempt: Attempt


@network(by="consensus_manager")
class Deal(OfAttempt, frozen=True, kw_only=True):
    """A dealer's polynomial: commitments to its coefficients (constant first), and a share for every member, in their order.

    `ephemeral` is the key that the boxes were sealed with; `proof` shows that the dealer knows the constant.
    """

    commitments: Annotated[list[G1Bytes], msgspec.Meta(min_length=1, max_length=MEMBERS_MAX)]
    ephemeral: BoxKey
    boxes: Annotated[list[_Box], msgspec.Meta(max_length=MEMBERS_MAX)]
    proof: _Proof


class ComplaintReason(enum.StrEnum):
    """What is wrong with the complainer's box."""

    UNREADABLE = "unreadable"
    WRONG_SHARE = "wrong_share"


@network(by="consensus_manager")
class Complaint(OfAttempt, frozen=True, kw_only=True):
    """The share of `dealer` for the sender is not there, or does not fit the commitments."""

    dealer: _Place
    reason: ComplaintReason


@network(by="consensus_manager")
class Justify(OfAttempt, frozen=True, kw_only=True):
    """The sender, a dealer, shows the share it gave to `complainer`."""

    complainer: _Place
    share: ScalarBytes


@network(by="consensus_manager")
class Equivocation(OfAttempt, frozen=True, kw_only=True):
    """Two deals of one dealer in one session, both signed by it."""

    first: Deal
    second: Deal


@network(by="consensus_manager")
class PhaseClosed(OfAttempt, frozen=True, kw_only=True):
    """The sender's best block is at or beyond the height at which `phase` ends. The (f + 1)-th member's closes it."""

    phase: Phase


@network(by="consensus_manager")
class Stalled(OfAttempt, frozen=True, kw_only=True):
    """No block came to the sender, a validator, for `stall_ms`, while the attempt was in `phase`.

    2f + 1 of them close the phase; in the phase `confirm` they begin the attempt's next round.
    """

    attempt: Attempt
    phase: Phase


@network(by="consensus_manager")
class Confirm(OfAttempt, frozen=True, kw_only=True):
    """The sender holds its share of `key`. `approval` and `partial` are over the whole statement (`statement_payload`)."""

    qualified: Bitmap
    key: G1Bytes
    transcript: Hash32
    approval: Signature64
    partial: G2Bytes


class Approval(Row, frozen=True):
    """A signature, and whose: of a member by its place, of a validator by its index."""

    signer: U32
    signature: Signature64


@network(by="consensus_manager")
class GroupTransaction(Message, frozen=True, kw_only=True):
    """The outcome of an attempt, to be taken into a block (`group_transactions` there holds the same bytes).

    `members` are indices in the validator set of the session in which block `due + delay` is; `absent` those members of earlier
    attempts at the same election who dealt nothing. `stalls`, of later rounds alone: that 2f + 1 validators gave up the one before.
    """

    attempt: Attempt
    members: Annotated[list[ValidatorIndex], msgspec.Meta(min_length=1, max_length=MEMBERS_MAX)]
    key: G1Bytes
    transcript: Hash32
    qualified: Bitmap
    absent: Annotated[list[ValidatorIndex], msgspec.Meta(max_length=MEMBERS_MAX)]
    approvals: Annotated[list[Approval], msgspec.Meta(max_length=MEMBERS_MAX)]
    signature: G2Bytes
    stalls: Annotated[list[Approval], msgspec.Meta(max_length=STALLS_MAX)]


@network(by="consensus_manager")
class BlockPartial(Message, frozen=True, kw_only=True):
    """A member's part of the serving group's signature of a block. It proves itself: no other signature is needed."""

    epoch: U32
    block: Hash32
    sender: _Place
    partial: G2Bytes


# ------------------------------------------------------------------------------------------------ why a group transaction is refused


@rejection(by="consensus_manager")
class ElectionTooEarly(Rejection, frozen=True, kw_only=True):
    """The block is not beyond the one that begins the attempt (E12)."""

    number: BlockNumber
    begins: BlockNumber


@rejection(by="consensus_manager")
class DuplicateGroup(Rejection, frozen=True, kw_only=True):
    """Not the election that is due: served already, or far ahead (E13); or the second in its block (E15)."""

    due: BlockNumber
    expected: BlockNumber


@rejection(by="consensus_manager")
class TxnTooOld(Rejection, frozen=True, kw_only=True):
    """The attempt is superseded (E11)."""

    number: BlockNumber
    last: BlockNumber


@rejection(by="consensus_manager")
class GroupMismatch(Rejection, frozen=True, kw_only=True):
    """Not the members that the attempt has, in their order. `detail`: delay | members | absent | stalls."""

    detail: str


@rejection(by="consensus_manager")
class GroupVerificationFailed(Rejection, frozen=True, kw_only=True):
    """Malformed, or not signed by enough members (E14). `detail`: encoding | qualified | signers | approvals | key | signature."""

    detail: str


# ------------------------------------------------------------------------------------------------ why a network message is not taken


class NotTakenReason(enum.StrEnum):
    """A message of an attempt that changes nothing."""

    FOREIGN_SESSION = "foreign_session"
    NO_MEMBER = "no_member"
    BAD_SIGNATURE = "bad_signature"
    # Said before, in the same words.
    REPEATED = "repeated"
    # Its phase is over, or has not begun.
    OUT_OF_PHASE = "out_of_phase"
    # A complaint about a dealer that has no sound deal, an answer to no complaint, two deals that are one.
    GROUNDLESS = "groundless"
    # A confirmation of another outcome than the stream gives, or of none.
    DIVERGENT = "divergent"


@rejection(by="consensus_manager")
class NotTaken(Rejection, frozen=True, kw_only=True):
    """A message of another node that has no effect."""

    session: Hash32
    sender: U32
    reason: NotTakenReason


# ------------------------------------------------------------------------------------------------ queries


@reply(by="consensus_manager")
class GroupReport(Message, frozen=True, kw_only=True):
    """A group. `serving`: its accepting block is the latest such on the best chain. `held`: this node has a share of its key."""

    epoch: U32
    block: Hash32
    number: BlockNumber
    attempt: Attempt
    members: list[Member]
    key: G1Bytes
    serving: bool
    held: bool


@query(to="consensus_manager", reply=GroupReport)
class Group(Message, frozen=True, kw_only=True):
    """The group of an epoch, on the best chain."""

    epoch: U32


@reply(by="consensus_manager")
class GroupsReport(Message, frozen=True, kw_only=True):
    """Epochs of the groups whose shares this node holds, newest first."""

    epochs: list[U32]


@query(to="consensus_manager", reply=GroupsReport)
class GroupsOnDisk(Message, frozen=True, kw_only=True):
    """Which groups this node could serve in."""


class AttemptState(enum.StrEnum):
    """Where an attempt is; `stopped`: superseded by K younger ones, or by governance mode."""

    RUNNING = "running"
    FAILED = "failed"
    COMPLETE = "complete"
    STOPPED = "stopped"


class AttemptReport(Row, frozen=True):
    """`place` is this node's among the members, null when it is none."""

    session: Hash32
    attempt: Attempt
    state: AttemptState
    phase: Phase
    members: U16
    place: U16 | None
    dealt: U16
    confirmed: U16


@reply(by="consensus_manager")
class AttemptsReport(Message, frozen=True, kw_only=True):
    """The attempts at the group that is due now, by delay and round, as this node sees them."""

    attempts: list[AttemptReport]


@query(to="consensus_manager", reply=AttemptsReport)
class Attempts(Message, frozen=True, kw_only=True):
    """The attempts at the election that is due, oldest first."""


@reply(by="consensus_manager")
class EpochReport(Message, frozen=True, kw_only=True):
    """`due` is the height at which the next election starts. Epoch 0 has no group."""

    epoch: U32
    epoch_start: BlockNumber
    due: BlockNumber
    group: GroupReport | None


@query(to="consensus_manager", reply=EpochReport)
class Epoch(Message, frozen=True, kw_only=True):
    """The epoch that serves, on the best chain."""


@rejection(by="consensus_manager")
class EpochUnknown(Rejection, frozen=True, kw_only=True):
    """This node cannot tell who serves: what it has of the chain begins behind a group's acceptance, with block `known_from`."""

    known_from: BlockNumber


@rejection(by="consensus_manager")
class UnknownGroup(Rejection, frozen=True, kw_only=True):
    """No group is known to have served that epoch."""

    epoch: U32
