"""Virtual time without tasks: actions in order of their moments, in one thread."""

import heapq
from collections.abc import Callable

__all__ = ["Timeline"]


class Timeline:
    """`now` in milliseconds from the beginning. Actions of one moment happen in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0
        self._actions: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def now_s(self) -> float:
        return self.now / 1000

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._actions, (self.now + max(0, delay_ms), self._count, action))

    def run(self, until: Callable[[], bool] | int, *, most_ms: int = 60_000) -> bool:
        """Until the condition holds, or for so many milliseconds. False: `most_ms` passed in vain."""
        end = self.now + (until if isinstance(until, int) else most_ms)
        while self._actions and self._actions[0][0] <= end:
            if not isinstance(until, int) and until():
                return True
            self.now, _, action = heapq.heappop(self._actions)
            action()
        self.now = end
        return isinstance(until, int) or until()
