"""The Entropy port under a seed: the same draws for the same seed, on every platform and release."""

import hashlib

__all__ = ["SeededEntropy"]


class SeededEntropy:
    def __init__(self, seed: int | str | bytes) -> None:
        data = seed if isinstance(seed, bytes) else repr(seed).encode()
        self._key = hashlib.sha256(data).digest()
        self._drawn = 0

    def draw(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_256(self._key + self._drawn.to_bytes(8, "big")).digest(size)

    def fork(self, label: str) -> "SeededEntropy":
        """An independent source of its own, determined by the seed and `label` alone (not by what was drawn)."""
        return SeededEntropy(self._key + label.encode())
