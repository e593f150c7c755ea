"""New inputs from old ones, for where there is no coverage-guided fuzzer: bits, bytes, blocks, tokens, splices."""

import random
from collections.abc import Sequence

__all__ = ["mutated"]

_ROUNDS_MAX = 6
_EDGES = (0, 1, 0x17, 0x18, 0x1B, 0x20, 0x7F, 0x80, 0x9F, 0xBF, 0xF9, 0xFF)


def mutated(chance: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes], bytes_max: int) -> bytes:
    """One of the seeds, changed in a few places; sometimes bytes of no seed at all."""
    if not seeds or chance.random() < 0.02:
        return chance.randbytes(chance.randrange(64))
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(_ROUNDS_MAX + 1)):
        _change(chance, data, seeds, tokens)
    return bytes(data[:bytes_max])


def _change(chance: random.Random, data: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    size = chance.choice((1, 1, 2, 4, 8, 32))
    match chance.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.choice(_EDGES)
        case 2:
            del data[at : at + size]
        case 3:
            data[at:at] = chance.randbytes(size)
        case 4:
            data[at:at] = data[at : at + size] * chance.choice((1, 2, 16))
        case 5 if tokens:
            data[at:at] = chance.choice(tokens)
        case 6 if tokens:
            token = chance.choice(tokens)
            data[at : at + len(token)] = token
        case 7:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at : at + size] = other[start : start + chance.choice((size, 64))]
        case _:
            del data[at:]
