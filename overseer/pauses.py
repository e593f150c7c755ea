"""Waiting, as every part that waits does it: between attempts, and for something that may not come."""

import anyio

from overseer.ports.clock import Clock

__all__ = ["Pauses", "set_or_at"]


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


async def set_or_at(event: anyio.Event, clock: Clock, at_ms: int) -> None:
    """Return when the event is set, or at that time, whichever is first."""

    async def give_up() -> None:
        await clock.sleep_until(at_ms)
        waiting.cancel_scope.cancel()

    async with anyio.create_task_group() as waiting:
        waiting.start_soon(give_up)
        await event.wait()
        waiting.cancel_scope.cancel()
