"""Field types shared by all messages: bounded integers and fixed-length byte strings.

Every integer on the wire is unsigned and at most 64 bits wide; every time is in milliseconds since the Unix epoch.
"""

from typing import Annotated

import msgspec

__all__ = [
    "U8",
    "U16",
    "U32",
    "U64",
    "Bitfield",
    "BlockNumber",
    "Ed25519Key",
    "Hash32",
    "Incarnation",
    "Name",
    "PublicKey",
    "SessionIndex",
    "Signature64",
    "TimeMs",
    "ValidatorIndex",
]

# An unsigned integer as CBOR major type 0; the bound is checked on decoding.
U8 = Annotated[int, msgspec.Meta(ge=0, le=2**8 - 1)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
# msgspec cannot express le=2**64-1; the CBOR decoder refuses anything wider (it would need a tag).
U64 = Annotated[int, msgspec.Meta(ge=0)]

# A blake2b-256 (Polkadot) or BLAKE3 (ours) digest.
Hash32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
# A validator's public key; its scheme (sr25519 or Ed25519) is told beside it.
PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Ed25519Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
# Least significant bit of the first byte first (Lsb0), as Polkadot's bitvec.
Bitfield = Annotated[bytes, msgspec.Meta(max_length=8192)]

SessionIndex = U32
ValidatorIndex = U32
BlockNumber = U32
TimeMs = U64

# Random, renewed whenever a store is new or restored.
Incarnation = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
# A subject token: lower snake case (\Z, as $ would let a newline pass).
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
