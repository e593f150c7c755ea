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
    "Conclude",
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


@signal(by="chain_api")
class BlockFinalized(Message, frozen=True, kw_only=True):
    hash: Hash32
    number: BlockNumber


@signal(by="chain_api")
class SessionChange(Message, frozen=True, kw_only=True):
    index: SessionIndex
    validators: list[Validator]


@signal(by="chain_api")
class BlocksBlacklisted(Message, frozen=True, kw_only=True):
    """One page of a cascade: `roots` and their closure. The last page carries the count and BLAKE3 hash of all hashes in order.

    `cascade` identifies the cascade (the same on all its pages).
    """

    cascade: Hash32
    roots: list[Hash32]
    hashes: list[Hash32]
    cause: DisputeRef
    page: U32
    last: bool
    count: U32 | None = None
    digest: Hash32 | None = None


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
