"""Votes as bytes: slots in table rows, parallel lists in events.

A *slot* is one vote of one validator: the letter of its kind, its signature (64 bytes) and, for an approval of several
candidates, their number (one byte) and hashes in signed order. A vote row holds the valid slot, the invalid slot, or both
in this order. Everything here is for votes in bulk: no structs until someone outside is told.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from messages.polkadot import Vote, VoteKind
from messages.votes_db import VoteRecord
from messages.votes_db_journal import PackedVotes

__all__ = [
    "INVALID",
    "KIND",
    "LETTER",
    "Slot",
    "merge_slot",
    "pack_slot",
    "pack_votes",
    "read_row",
    "split_row",
    "to_records",
    "to_vote",
    "to_votes",
    "unpack_slots",
]

LETTER: dict[VoteKind, bytes] = {
    VoteKind.EXPLICIT_VALID: b"V",
    VoteKind.EXPLICIT_INVALID: b"I",
    VoteKind.BACKING_SECONDED: b"S",
    VoteKind.BACKING_VALID: b"B",
    VoteKind.APPROVAL: b"A",
    VoteKind.APPROVAL_MULTIPLE: b"M",
}
KIND: dict[int, VoteKind] = {letter[0]: kind for kind, letter in LETTER.items()}
INVALID = LETTER[VoteKind.EXPLICIT_INVALID][0]
_SEVERAL = LETTER[VoteKind.APPROVAL_MULTIPLE][0]
_PLAIN_BYTES = 65


def pack_slot(kind: VoteKind, signature: bytes, hashes: Sequence[bytes]) -> bytes:
    if kind is not VoteKind.APPROVAL_MULTIPLE:
        return LETTER[kind] + signature
    return b"M" + signature + bytes((len(hashes),)) + b"".join(hashes)


def _hashes(slot: bytes) -> list[bytes]:
    return [slot[at : at + 32] for at in range(_PLAIN_BYTES + 1, len(slot), 32)]


def split_row(row: bytes) -> tuple[bytes, bytes]:
    """The valid and the invalid slot of a vote row, empty where there is none."""
    if row[0] == INVALID:
        return b"", row
    end = _PLAIN_BYTES if row[0] != _SEVERAL else _PLAIN_BYTES + 1 + 32 * row[_PLAIN_BYTES]
    return row[:end], row[end:]


def merge_slot(row: bytes, slot: bytes) -> bytes:
    """The row with `slot` in its place: beside the other side's, instead of the same side's."""
    valid, invalid = split_row(row) if row else (b"", b"")
    return valid + slot if slot[0] == INVALID else slot + invalid


def pack_votes(votes: Iterable[tuple[int, bytes]]) -> PackedVotes:
    """(validator, slot) in bulk, as an event carries them."""
    validators: list[int] = []
    kinds = bytearray()
    signatures: list[bytes] = []
    several: list[list[bytes]] = []
    for validator, slot in votes:
        validators.append(validator)
        kinds.append(slot[0])
        signatures.append(slot[1:_PLAIN_BYTES])
        if slot[0] == _SEVERAL:
            several.append(_hashes(slot))
    return PackedVotes(validators=validators, kinds=kinds.decode(), signatures=b"".join(signatures), several=several)


def unpack_slots(votes: PackedVotes) -> Iterator[tuple[int, bytes]]:
    """The (validator, slot) of each vote, in order."""
    kinds = votes.kinds.encode()
    signatures = votes.signatures
    several = iter(votes.several)
    at = 0
    for place, validator in enumerate(votes.validators):
        slot = kinds[place : place + 1] + signatures[at : at + 64]
        at += 64
        if kinds[place] == _SEVERAL:
            hashes = next(several)
            slot += bytes((len(hashes),)) + b"".join(hashes)
        yield validator, slot


def to_vote(validator: int, slot: bytes) -> Vote:
    return Vote(validator, KIND[slot[0]], slot[1:_PLAIN_BYTES], _hashes(slot))


def to_votes(votes: PackedVotes) -> list[Vote]:
    return [to_vote(validator, slot) for validator, slot in unpack_slots(votes)]


class Slot(NamedTuple):
    """One vote of a row, unpacked: `hashes` are those of an approval of several candidates."""

    kind: VoteKind
    signature: bytes
    hashes: list[bytes]


def read_row(row: bytes) -> list[Slot]:
    """The votes of one vote row, valid before invalid."""
    return [Slot(KIND[slot[0]], slot[1:_PLAIN_BYTES], _hashes(slot)) for slot in split_row(row) if slot]


def to_records(validator: int, row: bytes) -> list[VoteRecord]:
    """What a query shows of one vote row, valid before invalid."""
    return [VoteRecord(validator, *slot) for slot in read_row(row)]
