"""The tables of `chain_api`.

A *block key* is number (u32, big-endian) and hash: 36 bytes, whose order is the order by height. Blocks are referred to by it
wherever both are needed.
"""

import struct
from typing import NamedTuple

from messages.chain_api import GroupVerdict, ImportBlock
from messages.message import Row
from messages.polkadot import DisputeRef, Transaction, Validator
from messages.primitives import U32, U64, BlockNumber, Hash32
from messages.signals import BlockRef
from overseer.tables import HASH, U8, Table
from overseer.tables import U32 as U32_KEY
from overseer.tables import U64 as U64_KEY

__all__ = [
    "ACTIVE",
    "ASKED",
    "BLOCKS",
    "BLOCK_TRANSACTIONS",
    "CASCADES",
    "CAUSES",
    "CONVICTED",
    "DORMANT",
    "FINAL_ROOTS",
    "INCLUDED_IN",
    "INCLUSIONS",
    "JUDGED",
    "KIDS",
    "LEVELS",
    "MARKS",
    "ORPHANS",
    "ORPHANS_OF",
    "ORPHAN_AGES",
    "PENDING",
    "POOL",
    "PRESENT",
    "READY",
    "REVERTED",
    "ROOT_OF",
    "SEARCH_ALL",
    "SESSIONS",
    "SESSION_STARTS",
    "STATE",
    "TABLES",
    "TRANSACTIONS",
    "Block",
    "Cascade",
    "ChainState",
    "ConvictedRoot",
    "Judged",
    "Orphan",
    "block_key",
    "hash_of",
    "hashes_in",
    "key_of",
    "keys_in",
    "number_of",
    "pack_block",
    "ref_of",
    "refs_in",
    "unpack_block",
]

# The value of rows whose key says it all.
PRESENT = b"\x01"
# A cursor above every leaf.
SEARCH_ALL = b"\xff" * 36


_KEY = struct.Struct("36s")
_KEY_HASH = struct.Struct("4x32s")
_KEY_PARTS = struct.Struct(">I32s")


def block_key(number: int, block: bytes) -> bytes:
    return number.to_bytes(4, "big") + block


def number_of(key: bytes) -> int:
    return int.from_bytes(key[:4], "big")


def hash_of(key: bytes) -> bytes:
    return key[4:36]


def keys_in(keys: bytes) -> list[bytes]:
    """Concatenated block keys, one by one."""
    return [key for (key,) in _KEY.iter_unpack(keys)]


def hashes_in(keys: bytes) -> list[bytes]:
    """The hashes of concatenated block keys."""
    return [block for (block,) in _KEY_HASH.iter_unpack(keys)]


def refs_in(keys: bytes) -> list[BlockRef]:
    """Concatenated block keys as references."""
    return [BlockRef(block, number) for number, block in _KEY_PARTS.iter_unpack(keys)]


def ref_of(key: bytes) -> BlockRef:
    return BlockRef(key[4:], int.from_bytes(key[:4], "big"))


def key_of(ref: BlockRef) -> bytes:
    return ref.number.to_bytes(4, "big") + ref.hash


class Block(NamedTuple):
    """A stored header. `skip` is an ancestor far up (tree.py); `starts_session` is 1 when it carries a validator set."""

    number: int
    parent: bytes
    skip_number: int
    skip: bytes
    session: int
    starts_session: int
    epoch: int
    epoch_start: int
    round: int


_BLOCK = struct.Struct(">I32sI32sIBIII")


def pack_block(block: Block) -> bytes:
    return _BLOCK.pack(*block)


def unpack_block(data: bytes) -> Block:
    return Block._make(_BLOCK.unpack(data))


class ChainState(Row, frozen=True):
    """The one row of scalars. Blocks as block keys."""

    genesis: Hash32
    # The best block, and the end of the best chain as far as told by `best_chain` pages (the same but during long reorgs).
    best: bytes
    told: bytes
    finalized: bytes
    # Page of the `best_chain` move in progress.
    page: U32 = 0
    # Leaves below this key may be better than `best`.
    search: bytes | None = None
    # Dormant leaves from this key on may be active again.
    revive: bytes | None = None
    # Active leaves at or below the finalized number are to be deactivated.
    sweeping: bool = False
    governance: bool = False
    entry: U32 = 0
    frozen_at: BlockNumber = 0
    # The next id of each.
    conviction: U32 = 1
    cascade: U32 = 1
    orphan_age: U64 = 0
    # How many rows there are: tells without a look that there are none.
    cascades: U32 = 0
    asked: U32 = 0
    orphans: U32 = 0
    reverted: U32 = 0
    pooled: U32 = 0
    blacklisted: U32 = 0


class Orphan(Row, frozen=True):
    age: U64
    block: ImportBlock


class ConvictedRoot(Row, frozen=True):
    """A root on the blacklist, its first cause, and how many blocks are marked as fallen with it."""

    id: U32
    cause: DisputeRef
    count: U32


class Cascade(Row, frozen=True):
    """A cascade whose marking is not complete. A silent one marks anew what was told before."""

    id: Hash32
    cause: DisputeRef
    roots: list[Hash32]
    silent: bool = False
    page: U32 = 0
    count: U32 = 0
    digest: Hash32 = bytes(32)


class Judged(Row, frozen=True):
    verdict: GroupVerdict
    error: str | None


STATE = Table("state", key=(U8,), value=ChainState)

# Every block by hash: a packed Block.
BLOCKS = Table("blocks", key=(HASH,), value=bytes, reads=unpack_block)
# Every block in order of height -> parent.
LEVELS = Table("levels", key=(U32_KEY, HASH), value=bytes)
# Block -> how many of its children are not convicted roots (u32); no row for 0.
KIDS = Table("kids", key=(HASH,), value=bytes)
# Blocks without such children: those told as active leaves, and the others (final, dead or blacklisted).
ACTIVE = Table("active", key=(U32_KEY, HASH), value=bytes)
DORMANT = Table("dormant", key=(U32_KEY, HASH), value=bytes)
# (candidate, block that included it).
INCLUDED_IN = Table("included_in", key=(HASH, HASH), value=bytes)

# Session -> the block whose validator set was told; (session, block) -> validators.
SESSIONS = Table("sessions", key=(U32_KEY,), value=bytes)
SESSION_STARTS = Table("session_starts", key=(U32_KEY, HASH), value=list[Validator])

ORPHANS = Table("orphans", key=(HASH,), value=Orphan)
# Age -> hash; (parent, hash); and (number, hash) of those whose parent is known by now.
ORPHAN_AGES = Table("orphan_ages", key=(U64_KEY,), value=bytes)
ORPHANS_OF = Table("orphans_of", key=(HASH, HASH), value=bytes)
READY = Table("ready", key=(U32_KEY, HASH), value=bytes)

# The blacklist: convicted roots, by block key and by conviction id (-> block key), with every cause.
CONVICTED = Table("convicted", key=(U32_KEY, HASH), value=ConvictedRoot)
ROOT_OF = Table("root_of", key=(U32_KEY,), value=bytes)
CAUSES = Table("causes", key=(HASH, U32_KEY, HASH), value=bytes)
# Block -> id (u32) of the conviction it fell with. Valid while that conviction stands: a pardon voids marks by removing it.
MARKS = Table("marks", key=(U32_KEY, HASH), value=bytes)
# Cascades being marked, and (cascade, conviction) -> the last block key looked at and whether its level has a member.
CASCADES = Table("cascades", key=(U32_KEY,), value=Cascade)
PENDING = Table("pending", key=(U32_KEY, U32_KEY), value=bytes)
# In governance mode: convicted roots that are final.
FINAL_ROOTS = Table("final_roots", key=(U32_KEY, HASH), value=bytes)
# (block, session, candidate) -> number (u32): reverted for that dispute.
REVERTED = Table("reverted", key=(HASH, U32_KEY, HASH), value=bytes)

# Every transaction ever submitted; those pending; (transaction, block of the told best chain that holds it).
TRANSACTIONS = Table("transactions", key=(HASH,), value=Transaction)
POOL = Table("pool", key=(HASH,), value=bytes)
INCLUSIONS = Table("inclusions", key=(HASH, HASH), value=bytes)
# Block -> its transactions' ids, concatenated (executed ones and accepted group transactions).
BLOCK_TRANSACTIONS = Table("block_transactions", key=(U32_KEY, HASH), value=bytes)
JUDGED = Table("judged", key=(HASH, HASH), value=Judged)
# Block whose descendants are being told -> next page (u32) and the last block key told.
ASKED = Table("asked", key=(HASH,), value=bytes)

TABLES = (
    STATE,
    BLOCKS,
    LEVELS,
    KIDS,
    ACTIVE,
    DORMANT,
    INCLUDED_IN,
    SESSIONS,
    SESSION_STARTS,
    ORPHANS,
    ORPHAN_AGES,
    ORPHANS_OF,
    READY,
    CONVICTED,
    ROOT_OF,
    CAUSES,
    MARKS,
    CASCADES,
    PENDING,
    FINAL_ROOTS,
    REVERTED,
    TRANSACTIONS,
    POOL,
    INCLUSIONS,
    BLOCK_TRANSACTIONS,
    JUDGED,
    ASKED,
)
