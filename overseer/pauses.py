"""Waiting between attempts, as every part that waits does it."""

__all__ = ["Pauses"]


class Pauses:
    """How long to wait before each further attempt, in milliseconds: twice as long every time, up to a bound."""

    def __init__(self, first_ms: int, max_ms: int) -> None:
        self._first_ms = first_ms
        self._max_ms = max_ms
        self._next_ms = first_ms

    def next_ms(self) -> int:
        pause_ms, self._next_ms = self._next_ms, min(2 * self._next_ms, self._max_ms)
        return pause_ms

    def reset(self) -> None:
        """One succeeded."""
        self._next_ms = self._first_ms
