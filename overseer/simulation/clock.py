"""The Clock port of one simulated machine: the loop's virtual time, skewed."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import anyio

from overseer.simulation.loop import VirtualLoop

__all__ = ["START_MS", "NodeClock"]

# 2024-01-01T00:00:00Z.
START_MS = 1_704_067_200_000


class NodeClock:
    """`skew_ms`: how far this machine's clock is off now; changed by `jump`."""

    def __init__(self, loop: VirtualLoop, *, skew_ms: int = 0) -> None:
        self.skew_ms = skew_ms
        self._loop = loop
        # What makes each sleeper look at the clock again. Ordered, for they are woken in turn.
        self._sleepers: dict[object, Callable[[], None]] = {}

    def now_ms(self) -> int:
        return START_MS + self.skew_ms + int(self._loop.now_s * 1000)

    async def sleep_until(self, at_ms: int) -> None:
        while (left_ms := at_ms - self.now_ms()) > 0:
            woken = self._loop.create_future()
            with self._alarm(left_ms, partial(_wake, woken)):
                await woken

    async def wait(self, event: anyio.Event, until_ms: int) -> None:
        while not event.is_set() and (left_ms := until_ms - self.now_ms()) > 0:
            with anyio.CancelScope() as waiting, self._alarm(left_ms, waiting.cancel):
                await event.wait()

    def jump(self, skew_ms: int) -> None:
        """Set the clock, forth or back; sleepers look at it again."""
        self.skew_ms = skew_ms
        for look in self._sleepers.values():
            look()

    @contextmanager
    def _alarm(self, after_ms: int, look: Callable[[], None]) -> Generator[None, None, None]:
        """`look` is called after that time, and when the clock jumps before."""
        alarm = self._loop.call_later(after_ms / 1000, look)
        self._sleepers[alarm] = look
        try:
            yield
        finally:
            alarm.cancel()
            del self._sleepers[alarm]


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
