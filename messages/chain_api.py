"""The contract of `chain_api`: the block tree, finality, the blacklist, sessions, the transaction pool, governance mode."""

import enum
from typing import Annotated

import msgspec

from messages.message import Message, Rejection, Row, command, fact, query, rejection, reply
from messages.polkadot import DisputeRef, Transaction, Validator
from messages.primitives import U8, U32, BlockNumber, Hash32, SessionIndex, Signature64
from messages.signals import BlockRef, GovernanceState

__all__ = [
    "AncestorsOf",
    "Best",
    "Blacklist",
    "BlacklistStatus",
    "BlockImported",
    "BlocksReverted",
    "Descendants",
    "DescendantsOf",
    "Epoch",
    "EpochStatus",
    "FinalizeBlock",
    "Finalized",
    "FinalizedBlocksBlacklisted",
    "FinalizedHash",
    "GetHeader",
    "GovernanceModeEntered",
    "GovernanceModeLeft",
    "GovernanceStatus",
    "GroupJudged",
    "Hashes",
    "Header",
    "ImportBlock",
    "IncludedIn",
    "IsBlacklisted",
    "Leaves",
    "LiftRevert",
    "OrphanDropped",
    "PendingTransactions",
    "Resume",
    "ResumeMode",
    "Revert",
    "RevertLifted",
    "Session",
    "SessionStarted",
    "SessionValidators",
    "SubmitTransaction",
    "TransactionIncluded",
    "TransactionPool",
    "TransactionQueued",
    "TransactionReturned",
]

# Hashes in one page of an answer or fact: 32 KiB.
HASHES_PER_PAGE = 1000


class Header(Message, frozen=True, kw_only=True):
    """A block as the chain knows it (headers, not bodies)."""

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    session: SessionIndex


# ------------------------------------------------------------------------------------------------ commands


class ImportResult(enum.StrEnum):
    IMPORTED = "imported"
    KNOWN = "known"
    ORPHANED = "orphaned"


@reply(by="chain_api")
class BlockImportOutcome(Message, frozen=True, kw_only=True):
    result: ImportResult
    blacklisted: bool = False


@command(to="chain_api", reply=BlockImportOutcome)
class ImportBlock(Message, frozen=True, kw_only=True):
    """A block from the feed. `session_start` is the validator set when this block starts `session`."""

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    session: SessionIndex
    backed: list[Hash32] = msgspec.field(default_factory=list[bytes])
    included: list[Hash32] = msgspec.field(default_factory=list[bytes])
    session_start: list[Validator] | None = None
    # Consensus epoch: its index, the block that began it, the round in it.
    epoch: U32 = 0
    epoch_start: BlockNumber = 0
    round: U32 = 0
    group_transactions: list[bytes] = msgspec.field(default_factory=list[bytes])
    epoch_signature: bytes | None = None
    # Identities of the pooled transactions that this block executes.
    transactions: list[Hash32] = msgspec.field(default_factory=list[bytes])
    # Whether the feed is catching up, and to what height.
    sync: bool = False
    target_height: BlockNumber = 0


@command(to="chain_api")
class FinalizeBlock(Message, frozen=True, kw_only=True):
    hash: Hash32


@command(to="chain_api")
class Revert(Message, frozen=True, kw_only=True):
    """From dispute_conclusion: stop building on these blocks until lifted."""

    blocks: list[Hash32]
    cause: DisputeRef


@command(to="chain_api")
class LiftRevert(Message, frozen=True, kw_only=True):
    blocks: list[Hash32]
    cause: DisputeRef


@command(to="chain_api")
class Blacklist(Message, frozen=True, kw_only=True):
    """From dispute_conclusion alone: these blocks and all that descends from them, now and ever."""

    roots: list[Hash32]
    cause: DisputeRef


@command(to="chain_api")
class SubmitTransaction(Message, frozen=True, kw_only=True):
    """From votes_db: dispute transactions for the pool; each is pooled once by its identity."""

    transactions: Annotated[list[Transaction], msgspec.Meta(max_length=2000)]


@command(to="chain_api")
class Descendants(Message, frozen=True, kw_only=True):
    """From dispute_conclusion; answered by the command `descendants_answer`."""

    block: Hash32


class GroupVerdict(enum.StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"


@command(to="chain_api")
class GroupJudged(Message, frozen=True, kw_only=True):
    """From consensus_manager alone: the verdict on a group transaction in a block."""

    block: Hash32
    transaction: Hash32
    verdict: GroupVerdict
    error: str | None = None


class ResumeMode(enum.StrEnum):
    PARDON = "pardon"
    ABANDON = "abandon"


@command(to="chain_api")
class Resume(Message, frozen=True, kw_only=True):
    """The one exit of governance mode, signed by the governance authority (Ed25519); `chain` is the genesis hash.

    Signed bytes: `messages.governance.resume_payload`.
    """

    mode: ResumeMode
    chain: Hash32
    entry: U32
    frozen_at: BlockNumber
    roots: list[Hash32]
    signature: Signature64


# ------------------------------------------------------------------------------------------------ facts


@fact(by="chain_api")
class BlockImported(Message, frozen=True, kw_only=True):
    """A block joined the tree, with all that a subscriber needs of it."""

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    session: SessionIndex
    backed: list[Hash32]
    included: list[Hash32]
    blacklisted: bool
    epoch: U32 = 0
    epoch_start: BlockNumber = 0
    round: U32 = 0
    group_transactions: list[bytes] = msgspec.field(default_factory=list[bytes])
    epoch_signature: bytes | None = None
    sync: bool = False
    target_height: BlockNumber = 0


@fact(by="chain_api")
class OrphanDropped(Message, frozen=True, kw_only=True):
    hash: Hash32
    number: BlockNumber


@fact(by="chain_api")
class FinalizedBlocksBlacklisted(Message, frozen=True, kw_only=True):
    """Blocks that were already final are on the blacklist (the reason of governance mode)."""

    blocks: list[BlockRef]


@fact(by="chain_api")
class SessionStarted(Message, frozen=True, kw_only=True):
    index: SessionIndex
    block: Hash32
    validators: list[Validator]


@fact(by="chain_api")
class BlocksReverted(Message, frozen=True, kw_only=True):
    blocks: list[Hash32]
    cause: DisputeRef


@fact(by="chain_api")
class RevertLifted(Message, frozen=True, kw_only=True):
    blocks: list[Hash32]
    cause: DisputeRef


@fact(by="chain_api")
class GovernanceModeEntered(Message, frozen=True, kw_only=True):
    entry: U32
    frozen_at: BlockNumber
    blocks: list[Hash32]


@fact(by="chain_api")
class GovernanceModeLeft(Message, frozen=True, kw_only=True):
    entry: U32
    mode: ResumeMode
    roots: list[Hash32]
    # The authority's public key.
    author: Hash32


@fact(by="chain_api")
class TransactionQueued(Message, frozen=True, kw_only=True):
    """`id` is `messages.transaction.transaction_id`."""

    id: Hash32
    transaction: Transaction


@fact(by="chain_api")
class TransactionIncluded(Message, frozen=True, kw_only=True):
    id: Hash32
    block: Hash32


@fact(by="chain_api")
class TransactionReturned(Message, frozen=True, kw_only=True):
    """The block that had included it left the best chain or is blacklisted: pooled again."""

    id: Hash32
    block: Hash32


# ------------------------------------------------------------------------------------------------ queries


@query(to="chain_api", reply=Header)
class GetHeader(Message, frozen=True, kw_only=True):
    hash: Hash32


@reply(by="chain_api")
class Hashes(Message, frozen=True, kw_only=True):
    """A page of hashes; `next` is to be passed as `after` for the next page, null at the end."""

    hashes: list[Hash32]
    next: U32 | None = None


@query(to="chain_api", reply=Hashes)
class AncestorsOf(Message, frozen=True, kw_only=True):
    """The `k` nearest ancestors, parent first."""

    hash: Hash32
    k: Annotated[U32, msgspec.Meta(le=HASHES_PER_PAGE)]


@query(to="chain_api", reply=Hashes)
class DescendantsOf(Message, frozen=True, kw_only=True):
    """Tree-wide, dead forks too, nearest child first; `after` = number of hashes to skip."""

    hash: Hash32
    limit: Annotated[U32, msgspec.Meta(le=HASHES_PER_PAGE)] = HASHES_PER_PAGE
    after: U32 = 0


@query(to="chain_api", reply=Header)
class Finalized(Message, frozen=True, kw_only=True):
    pass


@query(to="chain_api", reply=Header)
class FinalizedHash(Message, frozen=True, kw_only=True):
    number: BlockNumber


@query(to="chain_api", reply=Hashes)
class Leaves(Message, frozen=True, kw_only=True):
    pass


@query(to="chain_api", reply=Header)
class Best(Message, frozen=True, kw_only=True):
    pass


@query(to="chain_api", reply=Hashes)
class IncludedIn(Message, frozen=True, kw_only=True):
    """The blocks that included `candidate`."""

    candidate: Hash32


@reply(by="chain_api")
class BlacklistStatus(Message, frozen=True, kw_only=True):
    """`path` leads from the block up to the convicted root; `cause` is the dispute that convicted it."""

    hash: Hash32
    blacklisted: bool
    root: Hash32 | None = None
    path: list[Hash32] = msgspec.field(default_factory=list[bytes])
    cause: DisputeRef | None = None


@query(to="chain_api", reply=BlacklistStatus)
class IsBlacklisted(Message, frozen=True, kw_only=True):
    hash: Hash32


@reply(by="chain_api")
class SessionValidators(Message, frozen=True, kw_only=True):
    index: SessionIndex
    validators: list[Validator]


@query(to="chain_api", reply=SessionValidators)
class Session(Message, frozen=True, kw_only=True):
    index: SessionIndex


@reply(by="chain_api")
class EpochStatus(Message, frozen=True, kw_only=True):
    epoch: U32
    epoch_start: BlockNumber
    round: U32


@query(to="chain_api", reply=EpochStatus)
class Epoch(Message, frozen=True, kw_only=True):
    pass


class PooledTransaction(Row, frozen=True):
    id: Hash32
    transaction: Transaction


@reply(by="chain_api")
class TransactionPool(Message, frozen=True, kw_only=True):
    transactions: list[PooledTransaction]
    total: U32
    next: Hash32 | None = None


@query(to="chain_api", reply=TransactionPool)
class PendingTransactions(Message, frozen=True, kw_only=True):
    after: Hash32 | None = None
    limit: Annotated[U32, msgspec.Meta(le=500)] = 500


@reply(by="chain_api")
class GovernanceReport(Message, frozen=True, kw_only=True):
    """`roots`: the blacklisted final roots that a pardon must name."""

    state: GovernanceState
    entry: U32
    frozen_at: BlockNumber | None
    roots: list[Hash32]
    chain: Hash32
    authority: Hash32 | None
    blacklisted: U32


@query(to="chain_api", reply=GovernanceReport)
class GovernanceStatus(Message, frozen=True, kw_only=True):
    pass


# ------------------------------------------------------------------------------------------------ rejections


@rejection(by="chain_api")
class UnknownBlock(Rejection, frozen=True, kw_only=True):
    hash: Hash32


@rejection(by="chain_api")
class BadBlock(Rejection, frozen=True, kw_only=True):
    """The block contradicts its parent or itself (number, session, duplicate hash with other content)."""

    hash: Hash32
    detail: str


@rejection(by="chain_api")
class ConflictingFinality(Rejection, frozen=True, kw_only=True):
    """Not on the finalized chain."""

    hash: Hash32
    finalized: Hash32


@rejection(by="chain_api", name="governance_mode")
class GovernanceModeRefusal(Rejection, frozen=True, kw_only=True):
    """Refused while governance mode lasts."""

    frozen_at: BlockNumber

    @property
    def retriable(self) -> bool:
        return True


@rejection(by="chain_api")
class ResumeRefused(Rejection, frozen=True, kw_only=True):
    """`reason`: not_in_governance_mode | wrong_chain | wrong_entry | bad_signature | roots_missing | no_authority."""

    reason: str


@rejection(by="chain_api")
class UnknownSession(Rejection, frozen=True, kw_only=True):
    index: SessionIndex


@rejection(by="chain_api")
class TooManyPending(Rejection, frozen=True, kw_only=True):
    """A bounded table is full."""

    what: str
    limit: U32
    severity: U8 = 0
