"""Development tokens: the same seed gives the same tokens, of which each node holds its share; and tokens from a file."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from messages.peers import RING, TokenMapping
from overseer.feeds.keyring import derive

__all__ = ["TokenFileError", "development_tokens", "read_tokens"]

_U64_BYTES = 8


class TokenFileError(ValueError):
    """Not a file of tokens: `token,block` in each line, whole numbers below 2^64, decimal or 0x-hexadecimal."""


def development_tokens(seed: str, count: int, *, holder: str = "", density_percent: int = 100) -> Iterator[TokenMapping]:
    """Of `count` tokens anywhere on the ring those that `holder` has: about so many percent, each node others."""
    for number in range(count):
        drawn = derive(seed, "token", number)
        mapping = TokenMapping(_number(drawn[:_U64_BYTES]), _number(drawn[_U64_BYTES : 2 * _U64_BYTES]))
        if density_percent >= 100 or _number(derive(seed, "holds", holder, number)[:_U64_BYTES]) * 100 < density_percent * RING:
            yield mapping


def read_tokens(path: Path) -> list[TokenMapping]:
    """The tokens of a file. Raises TokenFileError, OSError."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(_parsed(csv.reader(file)))


def _parsed(rows: Iterable[list[str]]) -> Iterator[TokenMapping]:
    for line, row in enumerate(rows, 1):
        if not row:
            continue
        try:
            token, block = (int(cell, 0) for cell in row)
        except ValueError:
            raise TokenFileError(f"line {line} is no `token,block`: {','.join(row)[:80]!r}") from None
        if not (0 <= token < RING and 0 <= block < RING):
            raise TokenFileError(f"line {line}: a number is not below 2^64")
        yield TokenMapping(token, block)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
