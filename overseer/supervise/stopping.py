"""The wish to stop: asked for once by a signal, a command or a failure; seen by everything that runs."""

import signal

import anyio
from anyio.abc import TaskStatus

__all__ = ["StopRequest", "watch_signals"]


class StopRequest:
    """Set once and never taken back; a second request means: at once."""

    def __init__(self) -> None:
        self._asked = anyio.Event()
        self._urgent = anyio.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask for an orderly end; asked again, for an immediate one."""
        if self._asked.is_set():
            self._urgent.set()
            return
        self.reason = reason
        self._asked.set()

    @property
    def requested(self) -> bool:
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return when the end is wanted."""
        await self._asked.wait()

    async def wait_urgent(self) -> None:
        """Return when the end is wanted at once."""
        await self._urgent.wait()


async def watch_signals(stop: StopRequest, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Turn SIGTERM and SIGINT into requests, for ever. Start it (`await task_group.start(...)`) before anything else."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            stop.request(signal.Signals(number).name)
