"""The Entropy port on the operating system's random source."""

import os

__all__ = ["SystemEntropy"]


class SystemEntropy:
    def draw(self, size: int) -> bytes:
        return os.urandom(size)
