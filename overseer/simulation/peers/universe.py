"""The tokens of the whole network, and what each peer holds of them, without a copy for each."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from random import Random

from messages.peers import TokenMapping
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
        self._owner_salt = random.getrandbits(64)
        self._owned: dict[int, list[list[int]]] = {}

    def block_of(self, token: int) -> int:
        return _mixed(token ^ self._block_salt)

    def owner_of(self, token: int, owners: int) -> int:
        """Which of so many peers had this token first, where no genesis is shared."""
        return _mixed(token ^ self._owner_salt) % owners

    def owned(self, owner: int, owners: int) -> list[int]:
        """The tokens that this one of so many peers had first, sorted."""
        if owners not in self._owned:
            lists: list[list[int]] = [[] for _ in range(owners)]
            for token in self.ring:
                lists[self.owner_of(token, owners)].append(token)
            self._owned[owners] = lists
        return self._owned[owners][owner] if owner < owners else []

    def camp_of(self, token: int) -> int | None:
        """The one camp that knows this token; None where both do."""
        if not self._torn:
            return None
        mixed = _mixed(token ^ self._torn_salt)
        return mixed & 1 if mixed < self._torn else None


class Holding:
    """What one peer holds: a share of `density_percent` of the universe, in `reach_percent` of the ring around its id.

    `owner`: the peer's number among `owners` where no genesis is shared: every token is somebody's own at first, and held by that peer.
    `fill` says how much of the rest it has taken over.
    """

    def __init__(
        self,
        universe: Universe,
        *,
        salt: int,
        density_percent: int,
        peer: int = 0,
        reach_percent: int = 100,
        camp: int | None = None,
        owner: int | None = None,
        owners: int = 1,
    ) -> None:
        self._universe = universe
        self._salt = salt
        self._density_percent = density_percent
        self._share = RING * density_percent // 100 if owner is None else 0
        self._peer = peer
        self._reach = HALF * reach_percent // 100
        self._camp = camp
        self._owner, self._owners = owner, owners
        self._arc_of_ring = self._arc(universe.ring)

    def fill(self, percent: int) -> None:
        """So many percent of what it will hold in the end are there by now."""
        self._share = RING * self._density_percent * percent // 10_000

    def holds(self, token: int) -> bool:
        if self._reach < HALF and distance(token, self._peer) > self._reach:
            return False
        if self._camp is not None and self._universe.camp_of(token) not in (None, self._camp):
            return False
        return _mixed(token ^ self._salt) < self._share or self._is_own(token)

    def _is_own(self, token: int) -> bool:
        return self._owner is not None and self._universe.owner_of(token, self._owners) == self._owner

    def block_of(self, token: int) -> int | None:
        ring = self._universe.ring
        at = bisect_left(ring, token)
        return self._universe.block_of(token) if at < len(ring) and ring[at] == token and self.holds(token) else None

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        universe, tokens = self._universe, self._universe.suffixes[bits]
        if self._owner is not None and not self._share:
            tokens = [token for token in universe.owned(self._owner, self._owners) if low(token) == bits]
        held = self._held(tokens, self._arc(tokens), after, upward)
        return (TokenMapping(token, universe.block_of(token)) for token in held if token != after)

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        if self._owner is not None and not self._share:
            # A few out of many: all others are not looked at.
            own = self._universe.owned(self._owner, self._owners)
            return self._held(own, self._arc(own), place, upward)
        return self._held(self._universe.ring, self._arc_of_ring, place, upward)

    def _arc(self, tokens: list[int]) -> tuple[int, int]:
        """Where its reach begins in a sorted list, and how many of the list it spans, going around."""
        if self._reach >= HALF:
            return 0, len(tokens)
        first, last = (self._peer - self._reach) % RING, (self._peer + self._reach) % RING
        start, end = bisect_left(tokens, first), bisect_right(tokens, last)
        return start, end - start if first <= last else end - start + len(tokens)

    def _held(self, tokens: list[int], arc: tuple[int, int], place: int, upward: bool) -> Iterator[int]:
        """Those of a sorted list that it holds, once around the ring: upward from `place`, downward from below it.

        This is where a simulation spends its time, so the mixing (see _mixed) stands here in full.
        """
        start, count = arc
        if not count:
            return
        salt, share, camp, owner = self._salt, self._share, self._camp, self._owner
        split = min((bisect_left(tokens, place) - start) % len(tokens), count)
        order = chain(range(split, count), range(split)) if upward else chain(range(split - 1, -1, -1), range(count - 1, split - 1, -1))
        # Below zero an index counts from the end: so the list goes around.
        first = start - len(tokens)
        for n in order:
            token = tokens[first + n]
            mixed = ((token ^ salt) + 0x9E3779B97F4A7C15) & _MASK
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
            if (mixed ^ (mixed >> 31)) >= share and (owner is None or not self._is_own(token)):
                continue
            if camp is None or self._universe.camp_of(token) in (None, camp):
                yield token


def _mixed(number: int) -> int:
    """A number that looks random (the finalizer of splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
