"""What can be asked of `chain_api`, and its answers (all by `qry`; every answer is bounded)."""

from typing import Annotated

import msgspec

from messages.message import Message, Row, query, reply
from messages.polkadot import DisputeRef, Transaction, Validator
from messages.primitives import U32, BlockNumber, Hash32, SessionIndex
from messages.signals import GovernanceState

__all__ = [
    "HASHES_PER_PAGE",
    "AncestorsOf",
    "Best",
    "BlacklistStatus",
    "DescendantsOf",
    "Epoch",
    "EpochStatus",
    "Finalized",
    "FinalizedHash",
    "GetHeader",
    "GovernanceReport",
    "GovernanceStatus",
    "Hashes",
    "Header",
    "IncludedIn",
    "IsBlacklisted",
    "Leaves",
    "PendingTransactions",
    "PooledTransaction",
    "Session",
    "SessionValidators",
    "TransactionPool",
]

# Hashes in one page of an answer or fact: 32 KiB.
HASHES_PER_PAGE = 1000


@reply(by="chain_api")
class Header(Message, frozen=True, kw_only=True):
    """A block as the chain knows it (headers, not bodies)."""

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    session: SessionIndex


@query(to="chain_api", reply=Header)
class GetHeader(Message, frozen=True, kw_only=True):
    """The block of that hash, on whichever fork."""

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
    k: Annotated[int, msgspec.Meta(ge=0, le=HASHES_PER_PAGE)]


@query(to="chain_api", reply=Hashes)
class DescendantsOf(Message, frozen=True, kw_only=True):
    """Tree-wide, dead forks too, nearest child first.

    To go on, pass the last hash of the page before as `cursor` (cheap), or `next` as `after`, the hashes to skip (walks them).
    """

    hash: Hash32
    limit: Annotated[int, msgspec.Meta(ge=1, le=HASHES_PER_PAGE)] = HASHES_PER_PAGE
    after: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    cursor: Hash32 | None = None


@query(to="chain_api", reply=Header)
class Finalized(Message, frozen=True, kw_only=True):
    """The highest final block."""


@query(to="chain_api", reply=Header)
class FinalizedHash(Message, frozen=True, kw_only=True):
    """The final block of that number; `unknown_block` when none is final there."""

    number: BlockNumber


@query(to="chain_api", reply=Hashes)
class Leaves(Message, frozen=True, kw_only=True):
    """The active leaves as told by `active_leaves`, lowest first; `after` = leaves to skip."""

    after: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0


@query(to="chain_api", reply=Header)
class Best(Message, frozen=True, kw_only=True):
    """The head of the best chain."""


@query(to="chain_api", reply=Hashes)
class IncludedIn(Message, frozen=True, kw_only=True):
    """The blocks that included `candidate`, on all forks; `after` = blocks to skip."""

    candidate: Hash32
    after: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0


@reply(by="chain_api")
class BlacklistStatus(Message, frozen=True, kw_only=True):
    """`path` leads from the block up to the convicted root; `cause` is the dispute that convicted it.

    A path longer than HASHES_PER_PAGE is cut there (`truncated`); go on from its last hash.
    """

    hash: Hash32
    blacklisted: bool
    root: Hash32 | None = None
    path: list[Hash32] = msgspec.field(default_factory=list[bytes])
    truncated: bool = False
    cause: DisputeRef | None = None


@query(to="chain_api", reply=BlacklistStatus)
class IsBlacklisted(Message, frozen=True, kw_only=True):
    """Whether a block is convicted, itself or by an ancestor, and by which dispute."""

    hash: Hash32


@reply(by="chain_api")
class SessionValidators(Message, frozen=True, kw_only=True):
    """A session's validators in the order of their indices."""

    index: SessionIndex
    validators: list[Validator]


@query(to="chain_api", reply=SessionValidators)
class Session(Message, frozen=True, kw_only=True):
    """The validators of a session."""

    index: SessionIndex


@reply(by="chain_api")
class EpochStatus(Message, frozen=True, kw_only=True):
    """The epoch that the best block is in, as its header tells: number, the block it began with, round."""

    epoch: U32
    epoch_start: BlockNumber
    round: U32


@query(to="chain_api", reply=EpochStatus)
class Epoch(Message, frozen=True, kw_only=True):
    """The epoch that the best block is in, as its header tells."""


class PooledTransaction(Row, frozen=True):
    id: Hash32
    transaction: Transaction


@reply(by="chain_api")
class TransactionPool(Message, frozen=True, kw_only=True):
    """A page of the pool; `total` counts all, `next` continues (pass as `after`), null at the end."""

    transactions: list[PooledTransaction]
    total: U32
    next: Hash32 | None = None


@query(to="chain_api", reply=TransactionPool)
class PendingTransactions(Message, frozen=True, kw_only=True):
    """Transactions that wait for a block, by identity; `after` continues."""

    after: Hash32 | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=500)] = 500


@reply(by="chain_api")
class GovernanceReport(Message, frozen=True, kw_only=True):
    """`roots`: the blacklisted final roots that a pardon must name (the lowest HASHES_PER_PAGE). `blacklisted`: blocks marked."""

    state: GovernanceState
    entry: U32
    frozen_at: BlockNumber | None
    roots: list[Hash32]
    chain: Hash32
    authority: Hash32 | None
    blacklisted: U32


@query(to="chain_api", reply=GovernanceReport)
class GovernanceStatus(Message, frozen=True, kw_only=True):
    """Whether governance mode is on, since when, and what must be signed to end it."""
