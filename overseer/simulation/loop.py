"""An asyncio event loop in virtual time: one thread, no sockets, no waiting; the same turns for the same program.

Nothing ever blocks: when nobody is ready, time jumps to the next timer. Each turn of the loop takes a little virtual time of
its own, so that a task that spins cannot stop the clock (anyio's cancellation does so while it waits for a shielded section).

What else would make two runs differ is taken away: sets of tasks and of cancel scopes go by the order of their making, not by
their addresses.
"""

import asyncio
import gc
from asyncio import AbstractEventLoop, Handle
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from itertools import count
from typing import Any, TypeVar

import anyio._backends._asyncio as anyio_backend

__all__ = ["TURN_S", "StandsStill", "VirtualLoop", "run_virtually", "uncollected"]

T = TypeVar("T")

# Virtual time of one turn.
TURN_S = 0.000_02
# Turns without any timer becoming due, after which something spins for good.
_TURNS_MAX = 2_000_000


class StandsStill(Exception):
    """Nobody is ready and nobody waits for a moment: the program can never go on. Or it spins and never waits."""


class _OrderedTask(asyncio.Task[Any]):
    """A task whose place in a set follows from when it was made."""

    _made = count()

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: AbstractEventLoop, name: Any, context: Context | None) -> None:
        self._order = next(_OrderedTask._made)
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._order

    def __repr__(self) -> str:
        # anyio tells it with each cancellation; the usual one looks at the whole stack.
        return f"<task {self._order}>"

    @classmethod
    def begin_anew(cls) -> None:
        cls._made = count()


class _OrderedScope(anyio_backend.CancelScope):
    """A cancel scope likewise."""

    __slots__ = ("_order",)

    _made = count()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._order = next(_OrderedScope._made)
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._order

    @classmethod
    def begin_anew(cls) -> None:
        cls._made = count()


class _Selector:
    """In place of the system's: waiting moves the loop's time."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._busy_turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StandsStill("nobody is ready and no timer is set")
        self._busy_turns = 0 if timeout else self._busy_turns + 1
        if self._busy_turns > _TURNS_MAX:
            raise StandsStill(f"{_TURNS_MAX} turns without waiting")
        self._loop.now_s += timeout + TURN_S
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """`now_s` is its time, from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._clock_resolution = 1e-9
        self._selector = _Selector(self)
        # What a callback raised, for whoever runs the loop.
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.now_s

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        return _OrderedTask(coro, loop=self, name=name, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Handle:
        raise RuntimeError("a simulation has one thread")

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise RuntimeError("a simulation has one thread")

    async def shutdown_default_executor(self) -> None:
        """There is none."""

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


@contextmanager
def _ordered_scopes() -> Generator[None, None, None]:
    """anyio makes its scopes of the ordered kind meanwhile."""
    ordinary = anyio_backend.CancelScope
    _OrderedTask.begin_anew()
    _OrderedScope.begin_anew()
    anyio_backend.CancelScope = _OrderedScope
    try:
        yield
    finally:
        anyio_backend.CancelScope = ordinary


@contextmanager
def uncollected() -> Generator[None, None, None]:
    """Cycles of objects stay meanwhile: the collector would look at all of a run again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop of its own, to its end. Raises StandsStill, and what `main` raises."""
    loop = VirtualLoop()
    with _ordered_scopes():
        try:
            return loop.run_until_complete(main)
        finally:
            _end_what_is_left(loop)
            loop.close()


def _end_what_is_left(loop: VirtualLoop) -> None:
    left = sorted(asyncio.all_tasks(loop), key=hash)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
