"""The tokens of the whole network, and what each peer holds of them, without a copy for each."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from random import Random

from subsystems.elections.peers.ring import HALF, RING, distance
from subsystems.elections.peers.tokens import SUFFIXES, low

__all__ = ["Holding", "Universe"]

_MASK = RING - 1


class Universe:
    """`count` tokens at random places, each mapping to a block; the same for the same seed.

    `torn_percent`: of so many tokens only one half of the network knows (see Holding.camp), as after a partition.
    """

    def __init__(self, seed: int, count: int, torn_percent: int = 0) -> None:
        random = Random(f"{seed} universe")
        self.ring = sorted({random.getrandbits(64) for _ in range(count)})
        self.suffixes: list[list[int]] = [[] for _ in range(SUFFIXES)]
        for token in self.ring:
            self.suffixes[low(token)].append(token)
        self._block_salt = random.getrandbits(64)
        self._torn_salt = random.getrandbits(64)
        self._torn = RING * torn_percent // 100

    def block_of(self, token: int) -> int:
        return _mixed(token ^ self._block_salt)

    def camp_of(self, token: int) -> int | None:
        """The one camp that knows this token; None where both do."""
        if not self._torn:
            return None
        mixed = _mixed(token ^ self._torn_salt)
        return mixed & 1 if mixed < self._torn else None


class Holding:
    """What one peer holds: a share of `density_percent` of the universe, in `reach_percent` of the ring around its id."""

    def __init__(
        self, universe: Universe, *, salt: int, density_percent: int, peer: int = 0, reach_percent: int = 100, camp: int | None = None
    ) -> None:
        self._universe = universe
        self._salt = salt
        self._share = RING * density_percent // 100
        self._peer = peer
        self._reach = HALF * reach_percent // 100
        self._camp = camp
        self._ring = universe.ring if self._reach >= HALF else _arc(universe.ring, peer - self._reach, peer + self._reach)

    def holds(self, token: int) -> bool:
        if _mixed(token ^ self._salt) >= self._share or (self._reach < HALF and distance(token, self._peer) > self._reach):
            return False
        return self._camp is None or self._universe.camp_of(token) in (None, self._camp)

    def block_of(self, token: int) -> int | None:
        ring = self._universe.ring
        at = bisect_left(ring, token)
        return self._universe.block_of(token) if at < len(ring) and ring[at] == token and self.holds(token) else None

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[int]:
        return (token for token in _from(self._universe.suffixes[bits], after, upward) if token != after and self.holds(token))

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        return (token for token in _from(self._ring, place, upward) if self.holds(token))


def _arc(ring: list[int], first: int, last: int) -> list[int]:
    """The tokens of an arc, sorted: what lies beyond it is not walked over."""
    start, end = bisect_left(ring, first % RING), bisect_left(ring, last % RING + 1)
    return ring[start:end] if first % RING <= last % RING else ring[:end] + ring[start:]


def _from(tokens: list[int], place: int, upward: bool) -> Iterator[int]:
    at = bisect_left(tokens, place)
    # By index: an islice would first walk to where it begins.
    order = chain(range(at, len(tokens)), range(at)) if upward else chain(range(at - 1, -1, -1), range(len(tokens) - 1, at - 1, -1))
    return (tokens[n] for n in order)


def _mixed(number: int) -> int:
    """A number that looks random (the finalizer of splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
