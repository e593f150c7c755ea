"""The contract of `chain_api`: the block tree, finality, the blacklist, sessions, the transaction pool, governance mode."""

import enum
from typing import Annotated

import msgspec

from messages.chain_queries import (
    HASHES_PER_PAGE,
    AncestorsOf,
    Best,
    BlacklistStatus,
    DescendantsOf,
    Epoch,
    EpochStatus,
    Finalized,
    FinalizedHash,
    GetHeader,
    GovernanceReport,
    GovernanceStatus,
    Hashes,
    Header,
    IncludedIn,
    IsBlacklisted,
    Leaves,
    PendingTransactions,
    PooledTransaction,
    Session,
    SessionValidators,
    TransactionPool,
)
from messages.message import Message, Rejection, command, fact, rejection, reply
from messages.polkadot import DisputeRef, Transaction, Validator
from messages.primitives import U8, U32, BlockNumber, Hash32, SessionIndex, Signature64
from messages.signals import BlockRef, CascadePage, FinalityAdvance

__all__ = [
    "HASHES_PER_PAGE",
    "ROOTS_MAX",
    "AncestorsOf",
    "BadBlock",
    "Best",
    "Blacklist",
    "BlacklistStatus",
    "BlockFinalizedFact",
    "BlockImportOutcome",
    "BlockImported",
    "BlocksBlacklistedFact",
    "BlocksReverted",
    "ConflictingFinality",
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
    "GovernanceModeRefusal",
    "GovernanceReport",
    "GovernanceStatus",
    "GroupJudged",
    "GroupVerdict",
    "Hashes",
    "Header",
    "ImportBlock",
    "ImportResult",
    "IncludedIn",
    "IsBlacklisted",
    "Leaves",
    "LiftRevert",
    "NotFinalized",
    "OrphanDropped",
    "PendingTransactions",
    "PooledTransaction",
    "Resume",
    "ResumeMode",
    "ResumeRefused",
    "Revert",
    "RevertLifted",
    "Session",
    "SessionStarted",
    "SessionValidators",
    "SubmitTransaction",
    "TooManyPending",
    "TransactionIncluded",
    "TransactionPool",
    "TransactionQueued",
    "TransactionReturned",
    "UnknownBlock",
    "UnknownSession",
]

# Bounds of one block: all at their maximum, it still fits one message (BODY_BYTES_MAX).
CANDIDATES_PER_BLOCK_MAX = 2000
TRANSACTIONS_PER_BLOCK_MAX = 4000
VALIDATORS_PER_SESSION_MAX = 3000
GROUP_TRANSACTIONS_PER_BLOCK_MAX = 8
GROUP_TRANSACTION_BYTES_MAX = 32 * 1024
# Blocks of one conviction (the forks that included the candidate), or roots of one pardon.
ROOTS_MAX = 1000

_Candidates = Annotated[list[Hash32], msgspec.Meta(max_length=CANDIDATES_PER_BLOCK_MAX)]
_Roots = Annotated[list[Hash32], msgspec.Meta(max_length=ROOTS_MAX)]
_GroupTransactions = Annotated[
    list[Annotated[bytes, msgspec.Meta(max_length=GROUP_TRANSACTION_BYTES_MAX)]],
    msgspec.Meta(max_length=GROUP_TRANSACTIONS_PER_BLOCK_MAX),
]
_GroupSignature = Annotated[bytes, msgspec.Meta(max_length=1024)]


# ------------------------------------------------------------------------------------------------ commands


class ImportResult(enum.StrEnum):
    IMPORTED = "imported"
    KNOWN = "known"
    ORPHANED = "orphaned"


@reply(by="chain_api")
class BlockImportOutcome(Message, frozen=True, kw_only=True):
    """What became of an imported block, and whether it descends from a convicted one."""

    result: ImportResult
    blacklisted: bool = False


@command(to="chain_api", reply=BlockImportOutcome)
class ImportBlock(Message, frozen=True, kw_only=True):
    """A block from the feed. `session_start` is the validator set when this block starts `session`."""

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    session: SessionIndex
    backed: _Candidates = msgspec.field(default_factory=list[bytes])
    included: _Candidates = msgspec.field(default_factory=list[bytes])
    session_start: Annotated[list[Validator], msgspec.Meta(max_length=VALIDATORS_PER_SESSION_MAX)] | None = None
    # Consensus epoch: its index, the block that began it, the round in it.
    epoch: U32 = 0
    epoch_start: BlockNumber = 0
    round: U32 = 0
    group_transactions: _GroupTransactions = msgspec.field(default_factory=list[bytes])
    epoch_signature: _GroupSignature | None = None
    # Identities of the pooled transactions that this block executes.
    transactions: Annotated[list[Hash32], msgspec.Meta(max_length=TRANSACTIONS_PER_BLOCK_MAX)] = msgspec.field(default_factory=list[bytes])
    # Whether the feed is catching up, and to what height.
    sync: bool = False
    target_height: BlockNumber = 0


@command(to="chain_api")
class FinalizeBlock(Message, frozen=True, kw_only=True):
    """Move finality to this block, and so to its ancestors. Refused when it is unknown, on another chain, or in governance mode."""

    hash: Hash32


@command(to="chain_api")
class Revert(Message, frozen=True, kw_only=True):
    """From dispute_conclusion: stop building on these blocks until lifted."""

    blocks: _Roots
    cause: DisputeRef


@command(to="chain_api")
class LiftRevert(Message, frozen=True, kw_only=True):
    """Take an early revert back: the dispute was decided for the candidate. Reverts for other disputes stay."""

    blocks: _Roots
    cause: DisputeRef


@command(to="chain_api")
class Blacklist(Message, frozen=True, kw_only=True):
    """From dispute_conclusion alone: these blocks and all that descends from them, now and ever."""

    roots: _Roots
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

    Signed bytes: `messages.governance.resume_payload`. A pardon takes `roots` (those that are convicted) and their cascades
    off the blacklist; every blacklisted final root must be among them. An abandon moves finality back to `frozen_at`.
    """

    mode: ResumeMode
    chain: Hash32
    entry: U32
    frozen_at: BlockNumber
    roots: _Roots
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
    """A block that waited for its parent is given up. `reason`: pool_full | contradicts_parent."""

    hash: Hash32
    number: BlockNumber
    reason: str = "pool_full"


@fact(by="chain_api", name="block_finalized")
class BlockFinalizedFact(FinalityAdvance, frozen=True, kw_only=True):
    """Finality reached this block; body as the signal."""


@fact(by="chain_api", name="blocks_blacklisted")
class BlocksBlacklistedFact(CascadePage, frozen=True, kw_only=True):
    """A page of a cascade; body as the signal."""


@fact(by="chain_api")
class FinalizedBlocksBlacklisted(Message, frozen=True, kw_only=True):
    """Blocks that were already final are on the blacklist (the reason of governance mode)."""

    blocks: list[BlockRef]


@fact(by="chain_api")
class SessionStarted(Message, frozen=True, kw_only=True):
    """A session began with this block; its validators in the order of their indices."""

    index: SessionIndex
    block: Hash32
    validators: list[Validator]


@fact(by="chain_api")
class BlocksReverted(Message, frozen=True, kw_only=True):
    """Nothing builds on these blocks for the time being, because of this dispute."""

    blocks: list[Hash32]
    cause: DisputeRef


@fact(by="chain_api")
class RevertLifted(Message, frozen=True, kw_only=True):
    """The revert of these blocks for this dispute is taken back."""

    blocks: list[Hash32]
    cause: DisputeRef


@fact(by="chain_api")
class GovernanceModeEntered(Message, frozen=True, kw_only=True):
    """Governance mode began, or (same `entry`) was frozen lower. `blocks`: the final blocks now found bad."""

    entry: U32
    frozen_at: BlockNumber
    blocks: list[Hash32]


@fact(by="chain_api")
class GovernanceModeLeft(Message, frozen=True, kw_only=True):
    """`roots`: the convicted roots that were taken off the blacklist (pardon). `finalized`: the finalized block from now on."""

    entry: U32
    mode: ResumeMode
    roots: list[Hash32]
    # The authority's public key.
    author: Hash32
    finalized: BlockRef


@fact(by="chain_api")
class TransactionQueued(Message, frozen=True, kw_only=True):
    """`id` is `messages.transaction.transaction_id`."""

    id: Hash32
    transaction: Transaction


@fact(by="chain_api")
class TransactionIncluded(Message, frozen=True, kw_only=True):
    """A block on the best chain executed the pooled transaction of this identity."""

    id: Hash32
    block: Hash32


@fact(by="chain_api")
class TransactionReturned(Message, frozen=True, kw_only=True):
    """The block that had included it left the best chain or is blacklisted: pooled again."""

    id: Hash32
    block: Hash32


# ------------------------------------------------------------------------------------------------ rejections


@rejection(by="chain_api")
class UnknownBlock(Rejection, frozen=True, kw_only=True):
    """No block of that hash is in the tree (one that waits for its parent is not)."""

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


@rejection(by="chain_api")
class NotFinalized(Rejection, frozen=True, kw_only=True):
    """Finality has not reached this number."""

    number: BlockNumber
    finalized: BlockNumber


@rejection(by="chain_api", name="governance_mode")
class GovernanceModeRefusal(Rejection, frozen=True, kw_only=True):
    """Refused while governance mode lasts."""

    frozen_at: BlockNumber

    @property
    def retriable(self) -> bool:
        return True


@rejection(by="chain_api")
class ResumeRefused(Rejection, frozen=True, kw_only=True):
    """Governance mode goes on.

    `reason`: not_in_governance_mode | no_authority | wrong_chain | wrong_entry | wrong_frozen_at | bad_signature | roots_missing.
    """

    reason: str


@rejection(by="chain_api")
class UnknownSession(Rejection, frozen=True, kw_only=True):
    """No block has started that session."""

    index: SessionIndex


@rejection(by="chain_api")
class TooManyPending(Rejection, frozen=True, kw_only=True):
    """A bounded table is full."""

    what: str
    limit: U32
    severity: U8 = 0
