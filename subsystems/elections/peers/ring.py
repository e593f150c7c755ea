"""The ring of ids: distances, segments, tickets, and what is drawn from recorded entropy.

Ids of peers and tokens are u64 on one ring. Nothing here knows elections.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from blake3 import blake3

from messages.peers import RING

__all__ = ["HALF", "RING", "Draw", "distance", "le8", "nearest", "segment_of", "segment_start", "ticket"]

# No two ids are farther apart.
HALF = 1 << 63

_T = TypeVar("_T")


def distance(a: int, b: int) -> int:
    """The shorter way around the ring between two ids, at most 2^63 (P01)."""
    gap = (a - b) % RING
    return min(gap, RING - gap)


def le8(*numbers: int) -> bytes:
    """Each number as 8 bytes, little-endian, one behind the other."""
    return b"".join([number.to_bytes(8, "little") for number in numbers])


def nearest(place: int, ids: Iterable[int]) -> list[int]:
    """`ids` by distance from `place`, the nearest first; ties by id."""
    return sorted(ids, key=lambda each: (distance(place, each), each))


def ticket(token: int, first_hop: int, nonce: int, secret: bytes) -> int:
    """The number of a channel, which only who knows the election's secret can tell ahead (P02).

    0 where the hash begins with zeros: no ticket, the caller takes the next nonce.
    """
    return int.from_bytes(blake3(le8(token, first_hop, nonce) + secret).digest()[:8], "little")


def segment_of(place: int, segments: int) -> int:
    """In which of `segments` equal arcs of the ring an id lies."""
    return place * segments >> 64


def segment_start(segment: int, segments: int) -> int:
    """The first id of an arc."""
    return -(-(segment << 64) // segments)


class Draw:
    """Choices out of recorded entropy: the same bytes choose the same, on every machine and at every replay."""

    def __init__(self, entropy: bytes, purpose: str) -> None:
        self._seed = blake3(purpose.encode() + b"\0" + entropy)
        self._taken = 0

    def u64(self) -> int:
        self._taken += 1
        return int.from_bytes(self._seed.digest(8, seek=8 * (self._taken - 1)), "little")

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        return self.u64() * count >> 64

    def secret(self, token: int) -> bytes:
        """32 bytes for an election about `token`, whatever was drawn before."""
        return blake3(b"secret" + self._seed.digest() + le8(token)).digest()

    def one_of(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[_T], weights: Sequence[int]) -> _T:
        """One item, each as likely as its weight; the weights are positive."""
        at = self.below(sum(weights))
        for item, weight in zip(items, weights, strict=True):
            at -= weight
            if at < 0:
                return item
        raise AssertionError("below() is below the sum")
