"""A child that is a task of the supervisor's own process (`--in-process`), under the same supervision.

What a process gives for free has to be kept here: `run` must heed `stop` and cancellation. A task that hangs is cancelled;
one that blocks the event loop blocks the supervisor too.
"""

import traceback
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import msgspec

from overseer.supervise.pulse import Pulse
from overseer.supervise.run import Ending, Hear, Run
from overseer.supervise.status import Beat
from overseer.supervise.stopping import StopRequest

__all__ = ["TaskChild", "TaskRun"]

LAST_LINES_MAX = 20

# What a subsystem is to its supervisor, in a process of its own or not: beats into the pulse, ends when told to stop.
Serve = Callable[[Pulse, StopRequest], Awaitable[None]]


class TaskChild(msgspec.Struct, frozen=True, kw_only=True):
    """An async function to be supervised. `final`: errors that a restart cannot mend."""

    name: str
    serve: Serve
    final: tuple[type[Exception], ...] = ()

    async def start(self, heartbeat_ms: int) -> Run:
        return TaskRun(self.serve, self.final, heartbeat_ms)


class _TaskPulse:
    """Hands beats straight to the supervisor."""

    def __init__(self, period_ms: int, hear: Hear) -> None:
        self.period_ms = period_ms
        self._hear = hear

    def beat(self, beat: Beat) -> None:
        self._hear(beat)


class TaskRun:
    """One run of the function."""

    pid = None

    def __init__(self, serve: Serve, final: tuple[type[Exception], ...], heartbeat_ms: int) -> None:
        self._serve = serve
        self._final = final
        self._heartbeat_ms = heartbeat_ms
        self._stop = StopRequest()
        self._scope = anyio.CancelScope()

    async def serve(self, hear: Hear) -> Ending:
        """Run the function to its end; what it raises is the ending's cause."""
        with self._scope:
            try:
                await self._serve(_TaskPulse(self._heartbeat_ms, hear), self._stop)
            except Exception as error:
                first = _first(error)
                final = isinstance(first, self._final)
                # Where it came from matters when it is a defect of ours.
                return Ending(cause=f"{type(first).__name__}: {first}", final=final, last_lines=() if final else tuple(_lines(error)))
            return Ending(cause="returned")
        return Ending(cause="cancelled")

    def ask_to_stop(self) -> None:
        self._stop.request("supervisor")

    def kill(self) -> None:
        self._scope.cancel()


def _first(error: BaseException) -> BaseException:
    """The error, or the first of a group of errors."""
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = cast(BaseExceptionGroup[BaseException], first).exceptions[0]
    return first


def _lines(error: BaseException) -> list[str]:
    text = "".join(traceback.format_exception(error))
    return text.rstrip().splitlines()[-LAST_LINES_MAX:]
