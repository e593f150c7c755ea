"""Signals: what every subsystem hears, in one order with everything else (`overseer.<node>.<sender>.sig.<signal>`).

Those of the chain are sent by `chain_api` itself, in one batch with the facts they come from.
"""

import enum

from messages.message import Message, Row, signal
from messages.polkadot import DisputeRef, Validator
from messages.primitives import U32, BlockNumber, Hash32, SessionIndex

__all__ = [
    "ActiveLeaves",
    "BestChain",
    "BlockFinalized",
    "BlockRef",
    "BlocksBlacklisted",
    "CascadePage",
    "Conclude",
    "FinalityAdvance",
    "GovernanceMode",
    "GovernanceState",
    "SessionChange",
]


class BlockRef(Row, frozen=True):
    hash: Hash32
    number: BlockNumber


@signal(by="chain_api")
class ActiveLeaves(Message, frozen=True, kw_only=True):
    """Leaves of the block tree that came and went. Never both empty."""

    activated: list[BlockRef]
    deactivated: list[BlockRef]


@signal(by="chain_api")
class BestChain(Message, frozen=True, kw_only=True):
    """Every block that left the best chain (highest first) and joined it (lowest first); paged in that order."""

    reverted: list[BlockRef]
    applied: list[BlockRef]
    page: U32 = 0
    last: bool = True


class FinalityAdvance(Message, frozen=True, kw_only=True):
    """The body shared by the signal and the fact `block_finalized`."""

    hash: Hash32
    number: BlockNumber


@signal(by="chain_api")
class BlockFinalized(FinalityAdvance, frozen=True, kw_only=True):
    """Finality reached this block; its ancestors are final with it."""


@signal(by="chain_api")
class SessionChange(Message, frozen=True, kw_only=True):
    """A new session began; its validators in the order of their indices."""

    index: SessionIndex
    validators: list[Validator]


class CascadePage(Message, frozen=True, kw_only=True):
    """The body shared by the signal and the fact `blocks_blacklisted`: one page of a cascade, `roots` and their closure.

    `cascade` identifies the cascade (the same on all its pages). `hashes` are the blocks that were not on the blacklist
    before; there may be none. The last page carries the count of all hashes and a digest that chains the pages:
    d(n) = BLAKE3(d(n-1) + hashes of page n in order), before the first page 32 zero bytes.
    """

    cascade: Hash32
    roots: list[Hash32]
    hashes: list[Hash32]
    cause: DisputeRef
    page: U32
    last: bool
    count: U32 | None = None
    digest: Hash32 | None = None


@signal(by="chain_api")
class BlocksBlacklisted(CascadePage, frozen=True, kw_only=True):
    """A page of a cascade: these blocks are blacklisted, now and ever (until a pardon)."""


class GovernanceState(enum.StrEnum):
    ENTERED = "entered"
    LEFT = "left"


@signal(by="chain_api")
class GovernanceMode(Message, frozen=True, kw_only=True):
    """Governance mode began (or was frozen lower), or ended. `entry` counts the times it was entered, from 1."""

    state: GovernanceState
    entry: U32
    frozen_at: BlockNumber


@signal(by="overseer")
class Conclude(Message, frozen=True, kw_only=True):
    """The run `run_id` ends: finish what is in hand and stop. Ignored by processes of another run."""

    run_id: str
