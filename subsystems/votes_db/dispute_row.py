"""The one row per (session, candidate) that every import reads and writes: status, flags, voter sets as bitmasks.

Its size depends on the validator set alone, so the thousandth vote costs what the first did. A set is an integer whose
i-th bit is validator i.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from messages.votes_db import DisputeStatus

__all__ = ["DisputeRow", "dump_dispute", "load_dispute", "mask_of", "members"]

# status, flags, block number, size of the validator set, concluded at (ms)
_HEAD = struct.Struct(">BBIIQ")
_STATUSES: tuple[DisputeStatus, ...] = tuple(DisputeStatus)
_PLACE = {status: place for place, status in enumerate(_STATUSES)}
_KNOWN, _CHALLENGED, _LIFTED, _CONCLUDED, _CASCADE = 1, 2, 4, 8, 16
# Up to so many members a set is taken apart bit by bit, beyond by its digits: late votes come one at a time.
_FEW = 32


class DisputeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the votes on one candidate in one session, disputed or not."""

    # Size of the session's validator set.
    validators: int
    block_number: int
    status: DisputeStatus = DisputeStatus.NONE
    # The chain has backed or included the candidate.
    known: bool = False
    challenged: bool = False
    # The challenge was lifted.
    lifted: bool = False
    # The chain told of a cascade because of this dispute.
    cascade: bool = False
    # When it was first concluded, either way.
    concluded_at_ms: int | None = None
    valid: int = 0
    invalid: int = 0
    # Validators holding a spam slot for this dispute.
    slotted: int = 0
    # Rewards and slashes issued for the verdict valid, and for the verdict invalid.
    rewarded_for: int = 0
    slashed_for: int = 0
    rewarded_against: int = 0
    slashed_against: int = 0


def dump_dispute(row: DisputeRow) -> bytes:
    flags = (
        (_KNOWN if row.known else 0)
        | (_CHALLENGED if row.challenged else 0)
        | (_LIFTED if row.lifted else 0)
        | (_CONCLUDED if row.concluded_at_ms is not None else 0)
        | (_CASCADE if row.cascade else 0)
    )
    size = (row.validators + 7) // 8
    return _HEAD.pack(_PLACE[row.status], flags, row.block_number, row.validators, row.concluded_at_ms or 0) + b"".join(
        (
            row.valid.to_bytes(size, "little"),
            row.invalid.to_bytes(size, "little"),
            row.slotted.to_bytes(size, "little"),
            row.rewarded_for.to_bytes(size, "little"),
            row.slashed_for.to_bytes(size, "little"),
            row.rewarded_against.to_bytes(size, "little"),
            row.slashed_against.to_bytes(size, "little"),
        )
    )


@lru_cache(maxsize=256)
def load_dispute(data: bytes) -> DisputeRow:
    head: tuple[int, int, int, int, int] = _HEAD.unpack_from(data)
    place, flags, block_number, validators, concluded_at_ms = head
    size = (validators + 7) // 8
    masks = [int.from_bytes(data[at : at + size], "little") for at in range(_HEAD.size, _HEAD.size + 7 * size, size or 1)] or [0] * 7
    return DisputeRow(
        validators=validators,
        block_number=block_number,
        status=_STATUSES[place],
        known=bool(flags & _KNOWN),
        challenged=bool(flags & _CHALLENGED),
        lifted=bool(flags & _LIFTED),
        cascade=bool(flags & _CASCADE),
        concluded_at_ms=concluded_at_ms if flags & _CONCLUDED else None,
        valid=masks[0],
        invalid=masks[1],
        slotted=masks[2],
        rewarded_for=masks[3],
        slashed_for=masks[4],
        rewarded_against=masks[5],
        slashed_against=masks[6],
    )


def mask_of(validators: Iterable[int]) -> int:
    mask = 0
    for validator in validators:
        mask |= 1 << validator
    return mask


def members(mask: int) -> list[int]:
    """The validators of a set, ascending."""
    if mask.bit_count() <= _FEW:
        few: list[int] = []
        while mask:
            few.append((mask & -mask).bit_length() - 1)
            mask &= mask - 1
        return few
    return [place for place, bit in enumerate(bin(mask)[:1:-1]) if bit == "1"]
