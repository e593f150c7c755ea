"""The Clock port of one simulated machine: the loop's virtual time, skewed."""

import asyncio

from overseer.simulation.loop import VirtualLoop

__all__ = ["START_MS", "NodeClock"]

# 2024-01-01T00:00:00Z.
START_MS = 1_704_067_200_000


class NodeClock:
    """`skew_ms`: how far this machine's clock is off now; changed by `jump`."""

    def __init__(self, loop: VirtualLoop, *, skew_ms: int = 0) -> None:
        self.skew_ms = skew_ms
        self._loop = loop
        # Ordered, for they are woken in turn.
        self._sleepers: dict[asyncio.Future[None], None] = {}

    def now_ms(self) -> int:
        return START_MS + self.skew_ms + int(self._loop.now_s * 1000)

    async def sleep_until(self, at_ms: int) -> None:
        while (left_ms := at_ms - self.now_ms()) > 0:
            woken = self._loop.create_future()
            alarm = self._loop.call_later(left_ms / 1000, _wake, woken)
            self._sleepers[woken] = None
            try:
                await woken
            finally:
                alarm.cancel()
                del self._sleepers[woken]

    def jump(self, skew_ms: int) -> None:
        """Set the clock, forth or back; sleepers look at it again."""
        self.skew_ms = skew_ms
        for woken in self._sleepers:
            _wake(woken)


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
