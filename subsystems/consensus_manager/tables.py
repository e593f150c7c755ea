"""The tables of `consensus_manager`: the chain as far as elections need it, groups, and attempts."""

from msgspec import Struct

from messages.consensus_manager import Approval, Attempt, Deal, Member, Phase
from messages.polkadot import Validator
from overseer.tables import HASH, TEXT, U8, U32, U64, Table
from subsystems.consensus_manager.handover import Acceptance
from subsystems.consensus_manager.progress import Mine, Progress

__all__ = [
    "ACCEPTED",
    "ATTEMPTS",
    "AWAITED",
    "BLOCKS",
    "CHAIN",
    "DEALS",
    "FLOOR",
    "HEAD",
    "HELD",
    "HELD_BY",
    "JUDGED",
    "LOST",
    "MINE",
    "NAMED",
    "PARTIALS",
    "PARTIALS_BY",
    "PROGRESS",
    "TABLES",
    "VALIDATORS",
    "AttemptRow",
    "AwaitedRow",
    "BlockRow",
    "FloorRow",
    "HeadRow",
    "HeldRow",
    "NamedRow",
    "PartialRow",
]


class HeadRow(Struct, frozen=True, kw_only=True):
    """The best block. `next_held`: the next free place in `held`."""

    hash: bytes
    number: int = 0
    round: int = 0
    target: int = 0
    governance: bool = False
    next_held: int = 0


class BlockRow(Struct, frozen=True, kw_only=True):
    parent: bytes
    number: int
    session: int
    round: int
    group_transactions: list[bytes] = []


class FloorRow(Struct, frozen=True, kw_only=True):
    """Blocks before `number` are not there any more, or never were; without this row, all are there from genesis on.

    `rootless`: groups were accepted before of which nothing is known: a chain without a group that is known is not one of epoch 0.
    """

    number: int
    rootless: bool


class AttemptRow(Struct, frozen=True, kw_only=True):
    """The terms of an attempt; `block` begins it. `stalled`: phases in which this node, a validator, said that no block comes.

    `lossy`: this node does not follow it, as it lacks a part and would find something else than the others.
    """

    attempt: Attempt
    epoch: int
    block: bytes
    members: tuple[Member, ...]
    validators: tuple[bytes, ...]
    stalls: tuple[Approval, ...] = ()
    stalled: tuple[Phase, ...] = ()
    lossy: bool = False


class NamedRow(Struct, frozen=True, kw_only=True):
    """A block that the feed holds for the next one. `signed_here`: this node gave its part."""

    parent: bytes
    number: int
    epoch: int
    signed_here: bool = False
    signature: bytes | None = None


class PartialRow(Struct, frozen=True, kw_only=True):
    """A part of a block's signature, not looked at. `height`: where the head was."""

    partial: bytes
    height: int


class HeldRow(Struct, frozen=True, kw_only=True):
    """`position`: its place in the network's stream; `height`: where the head was."""

    session: bytes
    node: str
    position: int
    name: str
    body: bytes
    height: int


class AwaitedRow(Struct, frozen=True, kw_only=True):
    """`first`: where the first message of the attempt is in the network's stream; `held`: how many of them are held."""

    first: int
    held: int = 0


# (0)
HEAD = Table("head", key=(U8,), value=HeadRow)
BLOCKS = Table("blocks", key=(HASH,), value=BlockRow)
# The best chain: number -> hash.
CHAIN = Table("chain", key=(U32,), value=bytes)
# (0)
FLOOR = Table("floor", key=(U8,), value=FloorRow)
VALIDATORS = Table("validators", key=(U32,), value=list[Validator])
# By the accepting block.
ACCEPTED = Table("accepted", key=(HASH,), value=Acceptance)
# (block, transaction): which were judged.
JUDGED = Table("judged", key=(HASH, HASH), value=bytes)
# By session id, all of these.
ATTEMPTS = Table("attempts", key=(HASH,), value=AttemptRow)
PROGRESS = Table("progress", key=(HASH,), value=Progress)
MINE = Table("mine", key=(HASH,), value=Mine)
DEALS = Table("deals", key=(HASH, U32), value=Deal)
# Messages of attempts that are not known yet, in their order.
HELD = Table("held", key=(U64,), value=HeldRow)
# The attempts that they are of.
AWAITED = Table("awaited", key=(HASH,), value=AwaitedRow)
# The place in the network's stream of the last one of a node that had to give room.
LOST = Table("lost", key=(TEXT,), value=int)
# How many of them are of a node.
HELD_BY = Table("held_by", key=(TEXT,), value=int)
# Blocks to be signed by the serving group.
NAMED = Table("named", key=(HASH,), value=NamedRow)
# (block, place of the member, node that said it: only one of them is the member itself)
PARTIALS = Table("partials", key=(HASH, U32, TEXT), value=PartialRow)
# How many of them are of a node.
PARTIALS_BY = Table("partials_by", key=(TEXT,), value=int)

TABLES = (
    HEAD,
    BLOCKS,
    CHAIN,
    FLOOR,
    VALIDATORS,
    ACCEPTED,
    JUDGED,
    ATTEMPTS,
    PROGRESS,
    MINE,
    DEALS,
    HELD,
    AWAITED,
    LOST,
    HELD_BY,
    NAMED,
    PARTIALS,
    PARTIALS_BY,
)
