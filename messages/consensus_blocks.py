"""Signatures of blocks by the serving group, as the feed of a development network asks `consensus_manager` for them (docs/consensus.md).

The feed asks what the next block must carry (`next_block`), names the one it holds for it (`sign_block`), and asks for the group's
signature of it (`block_signature`). Nothing is signed but the child of the best block.
"""

from typing import Annotated

import msgspec

from messages.chain_api import GROUP_TRANSACTION_BYTES_MAX, ImportBlock
from messages.consensus_manager import MEMBERS_MAX, G2Bytes
from messages.message import Message, Rejection, command, event, fact, network, query, rejection, reply
from messages.primitives import U32, BlockNumber, Hash32

__all__ = [
    "BlockNamed",
    "BlockProposed",
    "BlockSealed",
    "BlockSignature",
    "BlockSignatureReport",
    "BlockSigned",
    "BlocksForgotten",
    "NextBlock",
    "NextBlockReport",
    "NotNext",
    "PartialHeld",
    "PartialSaid",
    "SignBlock",
]

_Place = Annotated[int, msgspec.Meta(ge=0, le=MEMBERS_MAX - 1)]
_Transaction = Annotated[bytes, msgspec.Meta(max_length=GROUP_TRANSACTION_BYTES_MAX)]


@rejection(by="consensus_manager")
class NotNext(Rejection, frozen=True, kw_only=True):
    """Not the block that may come next.

    `reason`: parent (not the best block, or not yet) | header (number, epoch or round) | unknown (who serves).
    """

    reason: str
    best: BlockNumber

    @property
    def retriable(self) -> bool:
        return self.reason == "parent"


@command(to="consensus_manager")
class SignBlock(Message, frozen=True, kw_only=True):
    """The block that this node holds for the next one. A member of the serving group signs it, one child of each parent."""

    hash: Hash32
    parent: Hash32
    number: BlockNumber
    epoch: U32
    epoch_start: BlockNumber
    round: U32


@reply(by="consensus_manager")
class NextBlockReport(Message, frozen=True, kw_only=True):
    """What the child of `parent`, the best block, carries. `signed`: whether it needs the signature of a group."""

    parent: Hash32
    number: BlockNumber
    epoch: U32
    epoch_start: BlockNumber
    round: U32
    signed: bool
    group_transactions: list[_Transaction]


@query(to="consensus_manager", reply=NextBlockReport)
class NextBlock(Message, frozen=True, kw_only=True):
    """For who makes the next block."""


@reply(by="consensus_manager")
class BlockSignatureReport(Message, frozen=True, kw_only=True):
    """Without a signature: `parts` of it are here, which were not all looked at; `needed` are."""

    signature: G2Bytes | None
    parts: U32 = 0
    needed: U32 = 0


@query(to="consensus_manager", reply=BlockSignatureReport)
class BlockSignature(Message, frozen=True, kw_only=True):
    """The serving group's signature of a block that was named (`sign_block`), once enough members have signed it."""

    block: Hash32


@fact(by="consensus_manager")
class BlockSigned(Message, frozen=True, kw_only=True):
    """Enough members of the group of `epoch` signed the block: a light client needs no more than this and the group's key."""

    block: Hash32
    epoch: U32
    signature: G2Bytes


# ------------------------------------------------------------------------------------------------ what is recorded


@event(by="consensus_manager")
class BlockNamed(Message, frozen=True, kw_only=True):
    """The feed named the block as the next one."""

    block: Hash32
    parent: Hash32
    number: BlockNumber
    epoch: U32


@event(by="consensus_manager")
class PartialSaid(Message, frozen=True, kw_only=True):
    """This node, member `sender`, signed the block."""

    epoch: U32
    block: Hash32
    sender: _Place
    partial: G2Bytes


@event(by="consensus_manager")
class PartialHeld(Message, frozen=True, kw_only=True):
    """A part of a signature, from `node`; looked at when there are enough. `height`: that of the head, for forgetting it."""

    node: str
    block: Hash32
    sender: _Place
    partial: G2Bytes
    height: BlockNumber


@event(by="consensus_manager")
class BlocksForgotten(Message, frozen=True, kw_only=True):
    """Their signatures are not asked for any more."""

    blocks: list[Hash32]


# ------------------------------------------------------------------------------------------------ between feeds


@network(by="feed")
class BlockProposed(Message, frozen=True, kw_only=True):
    """A block for the next one. Of several children of one block the first sound one in the network's stream is meant."""

    block: ImportBlock


@network(by="feed")
class BlockSealed(Message, frozen=True, kw_only=True):
    """A block with the serving group's signature (none in epoch 0). Of several children of one block the first sound one is the chain's."""

    block: ImportBlock
