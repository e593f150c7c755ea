"""The Clock port in virtual time: it moves when told, and wakes sleepers in order."""

from heapq import heappop, heappush

import anyio
import anyio.lowlevel

__all__ = ["MemoryClock"]

# 2024-01-01T00:00:00Z.
_START_MS = 1_704_067_200_000


class _Sleeper:
    """One wait. `look`: set when its time has come, or when it may be the earliest."""

    def __init__(self) -> None:
        self.due = False
        self.gone = False
        self.look = anyio.Event()


class MemoryClock:
    """Virtual time. Sleepers wake in order of (their time, their arrival), whatever the event loop.

    `automatic`: time jumps to the earliest moment that anyone waits for, one turn of the loop after all who were due before
    have run; with it nothing that only sleeps ever takes real time.
    """

    def __init__(self, start_ms: int = _START_MS, *, automatic: bool = False) -> None:
        self.automatic = automatic
        self._now_ms = start_ms
        self._arrivals = 0
        self._sleepers: list[tuple[int, int, _Sleeper]] = []
        # Due, but not yet run: until they have, time does not go on by itself.
        self._waking = 0

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> None:
        while at_ms > self._now_ms:
            self._arrivals += 1
            sleeper = _Sleeper()
            heappush(self._sleepers, (at_ms, self._arrivals, sleeper))
            try:
                await self._wait(at_ms, sleeper)
            finally:
                sleeper.gone = True
                self._waking -= sleeper.due
                if self.automatic and self.next_ms() is not None:
                    self._sleepers[0][2].look.set()

    async def wait(self, event: anyio.Event, until_ms: int) -> None:
        async with anyio.create_task_group() as race:
            race.start_soon(self._alarm, until_ms, race.cancel_scope)
            await event.wait()
            race.cancel_scope.cancel()

    async def _alarm(self, at_ms: int, waiting: anyio.CancelScope) -> None:
        await self.sleep_until(at_ms)
        waiting.cancel()

    async def _wait(self, at_ms: int, sleeper: _Sleeper) -> None:
        while not sleeper.due:
            if self.automatic:
                await anyio.lowlevel.checkpoint()
                if self.next_ms() == at_ms and not self._waking:
                    self.advance_to(at_ms)
            await sleeper.look.wait()
            sleeper.look = anyio.Event()

    def next_ms(self) -> int | None:
        """The earliest moment somebody waits for."""
        while self._sleepers and self._sleepers[0][2].gone:
            heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance(self, by_ms: int) -> None:
        """Go forward and wake everybody whose time has come, in order; they run when the caller yields."""
        self.advance_to(self._now_ms + by_ms)

    def advance_to(self, at_ms: int) -> None:
        """As `advance`; never goes back."""
        self._now_ms = max(self._now_ms, at_ms)
        while (due_ms := self.next_ms()) is not None and due_ms <= self._now_ms:
            sleeper = heappop(self._sleepers)[2]
            sleeper.due = True
            self._waking += 1
            sleeper.look.set()

    def advance_to_next(self) -> bool:
        """Go to the earliest moment somebody waits for; False when nobody does."""
        due_ms = self.next_ms()
        if due_ms is None:
            return False
        self.advance_to(due_ms)
        return True

    def step(self, by_ms: int) -> None:
        """A step of the wall clock, back or forth (skew): those now due wake, the others wait for their moment."""
        self._now_ms += by_ms
        self.advance_to(self._now_ms)
