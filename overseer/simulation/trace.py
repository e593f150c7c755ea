"""What happened, in order: a running hash that tells two runs apart, and the last lines for people."""

from collections import deque
from typing import Protocol

from blake3 import blake3

__all__ = ["Timed", "Trace"]


class Timed(Protocol):
    """Whoever knows the virtual time."""

    @property
    def now_s(self) -> float: ...


class Trace:
    """`keep`: lines remembered (None: all of them)."""

    def __init__(self, clock: Timed, *, keep: int | None = 200) -> None:
        self.lines: deque[str] = deque(maxlen=keep)
        self._clock = clock
        self._digest = blake3()

    def note(self, who: str, what: str) -> None:
        line = f"{self._clock.now_s:12.6f}  {who:<24} {what}"
        self.lines.append(line)
        self._digest.update(line.encode())

    def hash(self) -> str:
        """Over every line noted so far."""
        return self._digest.hexdigest()[:32]
