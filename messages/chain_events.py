"""What `chain_api` records in its journal beside its facts, and its timer.

Where a recorded event is the cause of a signal or fact, it carries all that is told: `react` sees nothing else.
"""

from typing import Annotated

import msgspec

from messages.chain_api import GroupVerdict, ImportBlock, ResumeMode
from messages.message import Message, Row, event, timer
from messages.polkadot import DisputeRef, Transaction, Validator
from messages.primitives import U32, U64, BlockNumber, Ed25519Key, Hash32
from messages.signals import BlockRef

__all__ = [
    "BLOCK_KEY_BYTES",
    "BestChainMoved",
    "BlacklistRecorded",
    "BlockRecorded",
    "BlocksMarked",
    "ChainStarted",
    "ContinueWork",
    "Conviction",
    "DescendantsSought",
    "DescendantsTold",
    "FinalityMoved",
    "GovernanceEntry",
    "GovernanceExited",
    "GroupRecorded",
    "LeavesMoved",
    "LeavesRevived",
    "MarkCursor",
    "MarkedRun",
    "OrphanHeld",
    "TransactionMove",
    "TransactionsSubmitted",
]

# A block in bulk data: number (u32, big-endian), then hash. Their order as bytes is the order of the tables.
BLOCK_KEY_BYTES = 36
_BlockKey = Annotated[bytes, msgspec.Meta(min_length=BLOCK_KEY_BYTES, max_length=BLOCK_KEY_BYTES)]


@event(by="chain_api")
class ChainStarted(Message, frozen=True, kw_only=True):
    """The first event of every journal: the genesis block and, where configured, the validators of session 0."""

    genesis: Hash32
    validators: list[Validator] | None


@event(by="chain_api")
class BlockRecorded(Message, frozen=True, kw_only=True):
    """A block joined the tree. `skip` is an ancestor far up (see subsystems.chain_api.tree).

    `convicted_by` is the conviction whose cascade it falls into: such a block is blacklisted on import (C07, C22).
    """

    block: ImportBlock
    skip: BlockRef
    convicted_by: U32 | None


@event(by="chain_api")
class OrphanHeld(Message, frozen=True, kw_only=True):
    """A block whose parent is unknown waits for it."""

    block: ImportBlock
    age: U64


@event(by="chain_api")
class LeavesMoved(Message, frozen=True, kw_only=True):
    """The active leaves changed, as block keys, concatenated. `swept`: finality puts off no more of them.

    Deactivated are those `covered` by a child, and those `put_off`: leaves still, but blacklisted or below finality.
    """

    activated: bytes
    covered: bytes
    put_off: bytes
    swept: bool = False


@event(by="chain_api")
class LeavesRevived(Message, frozen=True, kw_only=True):
    """After governance mode, leaves that are active again, as block keys; looked through up to `cursor` (null: all)."""

    activated: bytes
    cursor: BlockRef | None


class TransactionMove(Row, frozen=True):
    """A transaction of a block that left or joined the best chain; `told` unless another block there holds it too."""

    id: Hash32
    block: Hash32
    told: bool


@event(by="chain_api")
class BestChainMoved(Message, frozen=True, kw_only=True):
    """`best` is the best block now; what is told of the way there goes on by `reverted` and `applied` (one page) to `told`.

    `search`: leaves below it are still to be looked at for a better one.
    """

    best: BlockRef
    told: BlockRef
    search: BlockRef | None
    # Block keys, concatenated.
    reverted: bytes
    applied: bytes
    returned: list[TransactionMove]
    included: list[TransactionMove]
    page: U32
    last: bool


class GovernanceEntry(Row, frozen=True):
    """Governance mode begins, or is frozen lower."""

    entry: U32
    frozen_at: BlockNumber


@event(by="chain_api")
class FinalityMoved(Message, frozen=True, kw_only=True):
    """Finality reached `block`. `bad`: convicted roots that became final with it (then governance mode begins with it).

    `sweep`: leaves are to be deactivated.
    """

    block: BlockRef
    sweep: bool
    bad: list[BlockRef]
    governance: GovernanceEntry | None


class Conviction(Row, frozen=True):
    """A convicted root; `fresh` unless it had been convicted for another cause."""

    id: U32
    hash: Hash32
    number: BlockNumber
    fresh: bool


@event(by="chain_api")
class BlacklistRecorded(Message, frozen=True, kw_only=True):
    """Roots are convicted: from here on they and all that descends from them, then or later, are blacklisted (C17, C22).

    `final`: those that were final already; `governance`: the mode entered (or lowered) with it, in this one event (C20, D22).
    """

    cascade: U32
    cascade_id: Hash32
    cause: DisputeRef
    convictions: list[Conviction]
    final: list[BlockRef]
    governance: GovernanceEntry | None


class MarkedRun(Row, frozen=True):
    """Blocks marked as fallen with a conviction, as block keys in order."""

    conviction: U32
    keys: bytes


class MarkCursor(Row, frozen=True):
    """How far the cascade of a conviction is marked: the last block looked at; `hit` if its level has a member so far."""

    conviction: U32
    last: _BlockKey
    hit: bool
    done: bool


@event(by="chain_api")
class BlocksMarked(Message, frozen=True, kw_only=True):
    """One step of the marking of a cascade. `page` is null when nothing of it is told.

    `count` and `digest` are those of all pages so far.
    """

    cascade: U32
    cascade_id: Hash32
    roots: list[Hash32]
    cause: DisputeRef
    runs: list[MarkedRun]
    cursors: list[MarkCursor]
    page: U32 | None
    last: bool
    count: U32
    digest: Hash32


@event(by="chain_api")
class GovernanceExited(Message, frozen=True, kw_only=True):
    """Governance mode ended. `rescan`: convictions whose cascades overlap with a pardoned one and are marked anew, silently."""

    entry: U32
    frozen_at: BlockNumber
    mode: ResumeMode
    author: Ed25519Key
    pardoned: list[BlockRef]
    finalized: BlockRef
    rescan: list[U32]


@event(by="chain_api")
class TransactionsSubmitted(Message, frozen=True, kw_only=True):
    """New transactions: to the pool, or (`executed`) known from a block of the best chain already."""

    pooled: list[Transaction]
    executed: list[Transaction]


@event(by="chain_api")
class GroupRecorded(Message, frozen=True, kw_only=True):
    """The verdict on a group transaction; `included` when it was accepted and its block is on the best chain."""

    block: Hash32
    transaction: Hash32
    verdict: GroupVerdict
    error: str | None
    included: TransactionMove | None


@event(by="chain_api")
class DescendantsSought(Message, frozen=True, kw_only=True):
    """`dispute_conclusion` asked for the descendants of a block."""

    block: Hash32


@event(by="chain_api")
class DescendantsTold(Message, frozen=True, kw_only=True):
    """One page of the answer: hashes concatenated; `last_seen` is the block after which the next page begins."""

    block: Hash32
    hashes: bytes
    page: U32
    last: bool
    known: bool
    last_seen: BlockRef


@timer(by="chain_api")
class ContinueWork(Message, frozen=True, kw_only=True):
    """The next step of what is too large for one."""
