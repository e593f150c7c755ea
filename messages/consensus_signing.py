"""The bytes that are signed, or hashed to names, in elections of consensus groups. Each purpose has a domain of its own.

| what                | bytes                                                                                            |
|---------------------|--------------------------------------------------------------------------------------------------|
| a network message   | `overseer consensus v1` 00, its name, 00, its body as CBOR without `signature`                    |
| session id          | BLAKE3 of `overseer session v1` 00 and CBOR [chain, epoch, attempt, seed, members]                |
| statement           | `overseer group v1` 00 and CBOR [chain, epoch, session, attempt, members, key, transcript, qualified, absent] |
| block               | `overseer block v1` 00, chain (32), epoch (u32, little-endian), block hash (32)                   |
| transaction id      | blake2b-256 of `overseer group transaction v1` 00 and the transaction                             |

CBOR is canonical, rows are arrays. Messages are signed with Ed25519 under the sender's identity; statements so as well, and by
the group; blocks by the group alone.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
from blake3 import blake3

from messages.codec import encode_value
from messages.consensus_manager import Attempt, Equivocation, Member, OfAttempt
from messages.message import Row

__all__ = ["Statement", "block_payload", "next_seed", "session_id", "signed_bytes", "statement_payload", "transaction_name"]

_MESSAGE = b"overseer consensus v1\x00"
_SESSION = b"overseer session v1\x00"
_SEED = b"overseer seed v1\x00"
_STATEMENT = b"overseer group v1\x00"
_BLOCK = b"overseer block v1\x00"
_TRANSACTION = b"overseer group transaction v1\x00"


def signed_bytes(message: OfAttempt) -> bytes:
    """What the sender of `message` signs: all of it but the signature, so its name, session and sender too (E21)."""
    body: dict[str, object] = {name: getattr(message, name) for name in message.__struct_fields__ if name != "signature"}
    if isinstance(message, Equivocation):
        body |= {"first": msgspec.structs.asdict(message.first), "second": msgspec.structs.asdict(message.second)}
    return _MESSAGE + message.spec.name.encode() + b"\x00" + encode_value(body)


class _Session(Row, frozen=True):
    chain: bytes
    epoch: int
    attempt: Attempt
    seed: bytes
    members: list[Member]


def session_id(*, chain: bytes, epoch: int, attempt: Attempt, seed: bytes, members: Sequence[Member]) -> bytes:
    """The name of one DKG. `chain` is the genesis hash, `epoch` the one that the group is to serve, `seed` from `next_seed`."""
    return blake3(_SESSION + encode_value(_Session(chain, epoch, attempt, seed, list(members)))).digest()


def next_seed(block: bytes, round: int) -> bytes:
    """The seed of an attempt: the hash of block H + D, for later rounds hashed with their number."""
    return block if round == 0 else blake3(_SEED + block + round.to_bytes(4, "little")).digest()


class Statement(Row, frozen=True):
    """What a member confirms: that this is the outcome of the attempt."""

    chain: bytes
    epoch: int
    session: bytes
    attempt: Attempt
    members: list[Member]
    key: bytes
    transcript: bytes
    qualified: bytes
    absent: list[int]


def statement_payload(statement: Statement) -> bytes:
    """What each approving member signs with its identity, and the group with its key."""
    return _STATEMENT + encode_value(statement)


def block_payload(*, chain: bytes, epoch: int, block: bytes) -> bytes:
    """What the group of `epoch` signs for a block."""
    return _BLOCK + chain + epoch.to_bytes(4, "little") + block


def transaction_name(transaction: bytes) -> bytes:
    """The identity of a group transaction: of all its bytes, so that a forgery never takes the place of the right one."""
    return blake2b(_TRANSACTION + transaction, digest_size=32).digest()
