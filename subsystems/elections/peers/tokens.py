"""The port to a node's tokens, and its two implementations: in memory, and over the tables of a subsystem.

A token is an id on the ring with the block that it maps to. Proofs ask for the next token with certain low bits; elections
for the tokens near a place. Both are answered by an ordered index, in a number of look-ups that does not grow with the store.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

from messages.peers import TokenMapping
from overseer.tables import U16, U64, Table, Tables, View
from subsystems.elections.peers.ring import RING, distance

__all__ = [
    "LOW_BITS",
    "SPACING_SAMPLE",
    "SUFFIXES",
    "TOKEN_BLOCKS",
    "TOKEN_RING",
    "MemoryTokens",
    "Neighbourhood",
    "TableTokens",
    "Tokens",
    "drop_token",
    "holds_any",
    "low",
    "near",
    "neighbourhood",
    "put_token",
]

# A proof finds ids by so many of their low bits.
LOW_BITS = 10
SUFFIXES = 1 << LOW_BITS
# The density around a place is told by so many tokens on each side: known to about an eighth, and cheap to read.
_SIDE_SAMPLE = 32
# Distances between neighbours in it: one less than tokens.
SPACING_SAMPLE = 2 * _SIDE_SAMPLE - 1
_EDGE = 4


def low(token: int) -> int:
    """What a proof looks for."""
    return token & (SUFFIXES - 1)


class Tokens(Protocol):
    """What a node holds. One contract suite proves every implementation (tests/peers/test_peer_tokens.py)."""

    def block_of(self, token: int) -> int | None:
        """None where the token is not held."""
        ...

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        """Held tokens whose low bits are `bits`, from just beyond `after` on, once around the ring, `after` itself left out."""
        ...

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        """Held tokens from `place` on (included upward, excluded downward), once around the ring."""
        ...


class Neighbourhood(NamedTuple):
    """How far the tokens of the sample reach above a place, and below it."""

    above: int
    below: int

    @property
    def spacing(self) -> int:
        """The mean distance between neighbouring tokens, out of SPACING_SAMPLE of them."""
        return max(1, (self.above + self.below) // SPACING_SAMPLE)

    @property
    def at_edge(self) -> bool:
        """Whether what is held ends here: one side is so much thinner than the other that it cannot be by chance."""
        return max(self) > _EDGE * min(self)


def neighbourhood(tokens: Tokens, place: int) -> Neighbourhood | None:
    """What is held around `place`; None where too little is held to tell."""
    up = next(islice(tokens.around(place, upward=True), _SIDE_SAMPLE - 1, None), None)
    down = None if up is None else next(islice(tokens.around(place, upward=False), _SIDE_SAMPLE - 1, None), None)
    return None if up is None or down is None else Neighbourhood((up - place) % RING, (place - down) % RING)


def near(tokens: Tokens, place: int, count: int) -> list[int]:
    """Up to `count` held tokens nearest to `place`, the nearest first."""
    found = {*islice(tokens.around(place, upward=True), count), *islice(tokens.around(place, upward=False), count)}
    return sorted(found, key=lambda token: (distance(place, token), token))[:count]


class MemoryTokens:
    """Tokens in memory: sorted lists, one of all tokens and one for each value of the low bits."""

    def __init__(self, mappings: Iterable[TokenMapping] = ()) -> None:
        self._blocks = {mapping.id: mapping.block for mapping in mappings}
        self._ring = sorted(self._blocks)
        self._suffixes: dict[int, list[int]] = {}
        for token in self._ring:
            self._suffixes.setdefault(low(token), []).append(token)

    def put(self, mapping: TokenMapping) -> None:
        if mapping.id not in self._blocks:
            insort(self._ring, mapping.id)
            insort(self._suffixes.setdefault(low(mapping.id), []), mapping.id)
        self._blocks[mapping.id] = mapping.block

    def block_of(self, token: int) -> int | None:
        return self._blocks.get(token)

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        held = self._suffixes.get(bits, [])
        return (TokenMapping(token, self._blocks[token]) for token in _from(held, after, upward) if token != after)

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        return _from(self._ring, place, upward)


def _from(held: list[int], place: int, upward: bool) -> Iterator[int]:
    """A sorted list once around the ring: upward from `place`, downward from below it."""
    at = bisect_left(held, place)
    # By index: an islice would first walk to where it begins.
    order = chain(range(at, len(held)), range(at)) if upward else chain(range(at - 1, -1, -1), range(len(held) - 1, at - 1, -1))
    return map(held.__getitem__, order)


# (low bits, token) -> block: the next token with certain low bits is one seek.
TOKEN_BLOCKS = Table("peer_token_blocks", key=(U16, U64), value=int)
# (token) -> nothing: the tokens in order of the ring.
TOKEN_RING = Table("peer_token_ring", key=(U64,), value=bytes)


def put_token(tables: Tables, mapping: TokenMapping) -> None:
    """Hold a token, or map a held one to another block."""
    tables.put(TOKEN_BLOCKS, (low(mapping.id), mapping.id), mapping.block)
    tables.put(TOKEN_RING, (mapping.id,), b"")


def drop_token(tables: Tables, token: int) -> None:
    """Hold a token no more."""
    tables.delete(TOKEN_BLOCKS, (low(token), token))
    tables.delete(TOKEN_RING, (token,))


def holds_any(tokens: Tokens) -> bool:
    """Whether there is a token at all."""
    return next(tokens.around(0, upward=True), None) is not None


class TableTokens:
    """Tokens in the tables of a subsystem: RocksDB under the runner, memory in tests."""

    def __init__(self, view: View) -> None:
        self._view = view

    def block_of(self, token: int) -> int | None:
        return self._view.get(TOKEN_BLOCKS, (low(token), token))

    def with_low_bits(self, bits: int, *, after: int, upward: bool) -> Iterator[TokenMapping]:
        for key, data in self._scanned(TOKEN_BLOCKS, (bits,), after, upward):
            token = _id_in(key)
            if token != after:
                yield TokenMapping(token, TOKEN_BLOCKS.load(data))

    def around(self, place: int, *, upward: bool) -> Iterator[int]:
        return (_id_in(key) for key, _ in self._scanned(TOKEN_RING, (), place, upward))

    def _scanned(self, table: Table[Any], prefix: tuple[int, ...], place: int, upward: bool) -> Iterator[tuple[bytes, bytes]]:
        """Packed rows: of most of them the key is all that is looked at. The second half is not begun where the first one suffices."""
        halves = ({"start": (*prefix, place)}, {"end": (*prefix, place)})
        for half in halves if upward else reversed(halves):
            yield from self._view.scan_packed(table, prefix, reverse=not upward, **half)


def _id_in(key: bytes) -> int:
    """The token that a key of either table ends with."""
    return int.from_bytes(key[-8:], "big")
