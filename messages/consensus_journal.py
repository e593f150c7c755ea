"""What `consensus_manager` records: of attempts and of the chain. Nothing of it is published, and secrets are in it only sealed.

Results of expensive checks are recorded with what was checked, so that applying an event computes nothing.
"""

import enum

from messages.consensus_manager import Approval, Attempt, Bitmap, ComplaintReason, Deal, G1Bytes, G2Bytes, Member, Phase, ScalarBytes
from messages.message import Message, Row, event, timer
from messages.polkadot import Validator
from messages.primitives import U32, U64, BlockNumber, Hash32, SessionIndex, Signature64, TimeMs
from messages.signals import BlockRef

__all__ = [
    "AnswerTaken",
    "AttemptEvent",
    "AttemptFailed",
    "AttemptOpened",
    "AttemptsForgotten",
    "BlockSeen",
    "ChainEntered",
    "ChainForgotten",
    "ClosingHeard",
    "ComplaintTaken",
    "ConfirmTaken",
    "DealTaken",
    "DealerConvicted",
    "Fault",
    "GovernanceHeard",
    "GroupAccepted",
    "GroupCompleted",
    "GroupRefused",
    "HeadMoved",
    "KeyFormed",
    "MessageHeld",
    "MessagesReleased",
    "Penalty",
    "ShareChecked",
    "ShareHeld",
    "Spoken",
    "StallDue",
    "ValidatorsSeen",
]


class Fault(enum.StrEnum):
    """Why a dealer is not qualified."""

    SILENT = "silent"
    MALFORMED = "malformed"
    EQUIVOCATED = "equivocated"
    UNANSWERED = "unanswered"
    WRONG_ANSWER = "wrong_answer"
    # More complaints than there can be faulty members: one of them is right.
    TOO_MANY_COMPLAINTS = "too_many_complaints"


class AttemptEvent(Message, frozen=True, kw_only=True):
    """The parent of every event of an attempt."""

    session: Hash32


@event(by="consensus_manager")
class AttemptOpened(AttemptEvent, frozen=True, kw_only=True):
    """An attempt is known from here on, and followed unless it is `lossy`: a part of what its members said is not here.

    `place`: this node's among the members; None as well of one that has lost what it said in it.
    """

    attempt: Attempt
    epoch: U32
    # The hash of block H + D.
    begins_with: Hash32
    members: list[Member]
    # Signing keys of the session's validators, by index.
    validators: list[Hash32]
    stalls: list[Approval]
    place: U32 | None
    lossy: bool


@event(by="consensus_manager")
class DealTaken(AttemptEvent, frozen=True, kw_only=True):
    """A dealer's first deal, in time. `digest` is BLAKE3 of its signed bytes; `fault` when it is malformed."""

    deal: Deal
    digest: Hash32
    fault: Fault | None


@event(by="consensus_manager")
class DealerConvicted(AttemptEvent, frozen=True, kw_only=True):
    """There are two deals of this dealer (E08)."""

    dealer: U32


@event(by="consensus_manager")
class ShareChecked(AttemptEvent, frozen=True, kw_only=True):
    """This node's box of the deal was opened. `reason`: what is wrong with it."""

    dealer: U32
    reason: ComplaintReason | None


@event(by="consensus_manager")
class ComplaintTaken(AttemptEvent, frozen=True, kw_only=True):
    """A member's complaint about a deal counts; both by their places among the members."""

    dealer: U32
    complainer: U32


@event(by="consensus_manager")
class AnswerTaken(AttemptEvent, frozen=True, kw_only=True):
    """The dealer's first answer to a complaint; `holds`: the share fits the commitments."""

    dealer: U32
    complainer: U32
    share: ScalarBytes
    holds: bool


@event(by="consensus_manager")
class ClosingHeard(AttemptEvent, frozen=True, kw_only=True):
    """A member's `phase_closed`, or a validator's `stalled` (with its signature). `closes`: it was the last one needed.

    `position`: its place in the network's stream.
    """

    position: U64
    phase: Phase
    sender: U32
    stalled: Signature64 | None
    closes: bool


@event(by="consensus_manager")
class KeyFormed(AttemptEvent, frozen=True, kw_only=True):
    """The last phase closed with enough qualified dealers. `commitments` are the sums of theirs, the key first.

    `absent`: members of earlier attempts at the same election who dealt nothing, as the stream tells up to here.
    """

    qualified: Bitmap
    commitments: list[G1Bytes]
    transcript: Hash32
    absent: list[U32]


@event(by="consensus_manager")
class AttemptFailed(AttemptEvent, frozen=True, kw_only=True):
    """The last phase closed with too few qualified dealers."""

    qualified: Bitmap


@event(by="consensus_manager")
class ConfirmTaken(AttemptEvent, frozen=True, kw_only=True):
    """A member's confirmation counts: its identity signature and its part of the group's signature."""

    sender: U32
    approval: Signature64
    partial: G2Bytes


@event(by="consensus_manager")
class GroupCompleted(AttemptEvent, frozen=True, kw_only=True):
    """Enough members confirmed. `transaction` is the body of `group_transaction`: the same bytes at every node."""

    transaction: bytes


@event(by="consensus_manager")
class ShareHeld(AttemptEvent, frozen=True, kw_only=True):
    """This node has its share of the key; it is sealed here."""

    sealed: bytes


@event(by="consensus_manager")
class Spoken(AttemptEvent, frozen=True, kw_only=True):
    """This node says something, once: the body of the network message `name`. `about` makes it one of its kind.

    With a deal, `sealed` is the seed that it comes from.
    """

    name: str
    about: str
    body: bytes
    sealed: bytes | None = None


# ------------------------------------------------------------------------------------------------ the chain


@event(by="consensus_manager")
class BlockSeen(Message, frozen=True, kw_only=True):
    """A block of the tree, on whatever fork; its group transactions are judged when it joins the best chain.

    `target`: the height that its feed catches up to.
    """

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    session: SessionIndex
    round: U32
    target: BlockNumber
    group_transactions: list[bytes]


@event(by="consensus_manager")
class ValidatorsSeen(Message, frozen=True, kw_only=True):
    """The validators of a session, from whom members are drawn."""

    session: SessionIndex
    validators: list[Validator]


@event(by="consensus_manager")
class HeadMoved(Message, frozen=True, kw_only=True):
    """Blocks that left the best chain and that joined it (a page of both)."""

    reverted: list[BlockRef]
    applied: list[BlockRef]


@event(by="consensus_manager")
class GovernanceHeard(Message, frozen=True, kw_only=True):
    """Governance mode was entered, or left."""

    entered: bool


class Penalty(Row, frozen=True):
    """How often the validator with this signing key failed since it last took part."""

    signing: Hash32
    count: U32


@event(by="consensus_manager")
class GroupAccepted(Message, frozen=True, kw_only=True):
    """The block accepts the group: it begins `epoch` for its descendants. `penalties`: as they are behind it."""

    block: Hash32
    number: BlockNumber
    transaction: Hash32
    epoch: U32
    session: Hash32
    attempt: Attempt
    key: G1Bytes
    members: list[Member]
    penalties: list[Penalty]


@event(by="consensus_manager")
class GroupRefused(Message, frozen=True, kw_only=True):
    """`error`: the name of the rejection."""

    block: Hash32
    transaction: Hash32
    error: str


@event(by="consensus_manager")
class ChainEntered(Message, frozen=True, kw_only=True):
    """This store's chain begins in the middle: with block `number`. `epoch`: the one that the block says it is of."""

    number: BlockNumber
    epoch: U32


@event(by="consensus_manager")
class ChainForgotten(Message, frozen=True, kw_only=True):
    """Of what is so far behind finality that no block asks for it any more: some blocks with their verdicts, groups, sessions' validators.

    `below`: all blocks before that number were forgotten, but for those that accepted a group which is kept. `groups`: by their accepting
    blocks. `rootless`: one of them was on the chain, so a chain without any group that is known is not one of epoch 0.
    """

    below: BlockNumber
    blocks: list[BlockRef]
    groups: list[Hash32]
    sessions: list[SessionIndex]
    rootless: bool


# ------------------------------------------------------------------------------------------------ what waits


@event(by="consensus_manager")
class MessageHeld(AttemptEvent, frozen=True, kw_only=True):
    """A message of an attempt that is not known yet, from `node`. `height`: that of the head, for forgetting it.

    `instead_of`: which of that node's, the oldest, gave room to it.
    """

    node: str
    position: U64
    name: str
    body: bytes
    instead_of: U64 | None
    height: BlockNumber


@event(by="consensus_manager")
class MessagesReleased(AttemptEvent, frozen=True, kw_only=True):
    """The attempt is known now: what was held for it is applied with this."""


@event(by="consensus_manager")
class AttemptsForgotten(Message, frozen=True, kw_only=True):
    """Nothing can come of these any more."""

    sessions: list[Hash32]


@timer(by="consensus_manager")
class StallDue(Message, frozen=True, kw_only=True):
    """No block came since the timer was set, to fire at `at_ms`."""

    at_ms: TimeMs
