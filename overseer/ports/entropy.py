"""The Entropy port: fresh random bytes."""

from typing import Protocol

__all__ = ["Entropy"]


class Entropy(Protocol):
    def draw(self, size: int) -> bytes:
        """`size` bytes that nobody can predict (or, under a seed, that the seed determines)."""
        ...
