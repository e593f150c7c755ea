"""Work that is done beside, by tasks that are used again.

Nearly all that an election does is started by a message and ends within a millisecond. Starting a task of a group for it would cost as
much as the work itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import anyio.abc

__all__ = ["Crew"]

Given = TypeVarTuple("Given")

# Tasks that are kept for the next work: as many as work at once under load, beyond a burst.
_IDLE_MAX = 64


class Crew:
    """Starts work within `tasks`: what it raises ends them all, as of any task there."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        # Tasks that wait for work. The one that worked last is at the end, and called first.
        self._idle: list[asyncio.Future[Callable[[], Awaitable[None]]]] = []

    def start_soon(self, work: Callable[[Unpack[Given]], Awaitable[None]], *given: *Given) -> None:
        """Do it beside, from the next turn of the event loop on."""

        def call() -> Awaitable[None]:
            return work(*given)

        while self._idle:
            called = self._idle.pop()
            # One that is done was cancelled, as all are at the end.
            if not called.done():
                called.set_result(call)
                return
        self._tasks.start_soon(self._member, call)

    async def _member(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            if len(self._idle) >= _IDLE_MAX:
                return
            called = asyncio.get_running_loop().create_future()
            self._idle.append(called)
            work = await called
