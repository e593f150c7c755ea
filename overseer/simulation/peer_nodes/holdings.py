"""What simulated nodes hold: most of a universe that all share, without a copy for each, and in their tables what they are told to hold.

Twenty thousand tokens are needed for a proof to exist; in every node's journal they would be most of a run.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from random import Random

from messages.peers import TokenMapping
from overseer.feeds.keyring import derive
from overseer.simulation.peers.universe import Universe
from overseer.tables import View
from subsystems.elections.peers.kind import block_number
from subsystems.elections.peers.ring import RING
from subsystems.elections.peers.tokens import TableTokens, Tokens

__all__ = ["TOKENS", "ChainUniverse", "LayeredTokens", "chain_blocks", "universe_of"]

TOKENS = 24_000
_BLOCKS = 12
# One in so many tokens maps to a block of the chain, any other one to a block of its own.
_OF_THE_CHAIN = 6


@lru_cache(maxsize=2)
def chain_blocks(seed: int) -> tuple[bytes, ...]:
    """Hashes of blocks that tokens map to, and that may be blacklisted."""
    return tuple(derive("simulation of peers", seed, "block", number) for number in range(_BLOCKS))


class ChainUniverse(Universe):
    """Tokens of which some map to blocks of a chain."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, TOKENS)
        self._numbers = [block_number(block) for block in chain_blocks(seed)]

    def block_of(self, token: int) -> int:
        own = super().block_of(token)
        return self._numbers[own // _OF_THE_CHAIN % _BLOCKS] if own % _OF_THE_CHAIN == 0 else own

    def drawn(self, random: Random, count: int) -> list[int]:
        return random.sample(self.ring, count)


@lru_cache(maxsize=2)
def universe_of(seed: int) -> ChainUniverse:
    """It never changes, and takes longer to make than anything else of a run."""
    return ChainUniverse(seed)


class LayeredTokens:
    """Implements `subsystems.elections.peers.tokens.Tokens`: a share of the universe, and above it what the tables hold.

    What the tables say of a token goes before what the universe says.
    """

    def __init__(self, shares: Sequence[Tokens], view: View) -> None:
        """`shares`: one, or none for a node that holds nothing but what it is told to."""
        self._shares = shares
        self._own = TableTokens(view)

    def block_of(self, token: int) -> int | None:
        own = self._own.block_of(token)
        return own if own is not None else next((share.block_of(token) for share in self._shares), None)

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        layers = [each.with_low_bits(bits, after=after, upward=upward) for each in (self._own, *self._shares)]
        return _merged(layers, after, upward)

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        # Only the ids are looked at.
        layers = [(TokenMapping(token, 0) for token in each.around(place, upward=upward)) for each in (self._own, *self._shares)]
        return (mapping.id for mapping in _merged(layers, place, upward))


def _merged(layers: Iterable[Iterator[TokenMapping]], place: int, upward: bool) -> Iterator[TokenMapping]:
    """Once around the ring, each token once, as the first layer that has it says; downward `place` itself comes last."""

    def gone(mapping: TokenMapping) -> int:
        return ((mapping.id - place) if upward else (place - mapping.id - 1)) % RING

    last = None
    for mapping in heapq.merge(*layers, key=gone):
        if mapping.id != last:
            yield mapping
        last = mapping.id
