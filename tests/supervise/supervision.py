"""What the tests of supervision share: quick policies, real child processes, waiting with a deadline."""

import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from overseer.supervise.policy import SupervisePolicy
from overseer.supervise.process import ChildSpec
from overseer.supervise.run import Child
from overseer.supervise.status import ChildStatus, GaveUp
from overseer.supervise.stopping import StopRequest
from overseer.supervise.supervisor import Conclude, Supervisor

PROGRAM = Path(__file__).with_name("child_program.py")
DEADLINE_S = 15

# A child that gets no processor for a moment is no stall: these tests run beside others.
QUICK = SupervisePolicy(
    backoff_first_ms=20, backoff_max_ms=100, restarts_max=3, restarts_window_ms=60_000, start_ms=10_000, stall_ms=10_000, terminate_ms=400
)
# For tests of those that stall.
WATCHFUL = msgspec.structs.replace(QUICK, stall_ms=1_000)


def process(mode: str, folder: Path) -> ChildSpec:
    return ChildSpec(name="votes_db", argv=(sys.executable, str(PROGRAM), mode, str(folder)), sink=lambda _name, _data: None)


def gone(pid: int) -> bool:
    """No such process any more; a zombie that waits for a parent other than us counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(true: Callable[[], bool]) -> None:
    """Poll; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


class Supervised:
    """A running supervisor and what came of it."""

    def __init__(self, supervisor: Supervisor, stop: StopRequest) -> None:
        self.supervisor = supervisor
        self.stop = stop
        self.gave_up: GaveUp | None = None
        self.ended = anyio.Event()

    async def until(self, true: Callable[[ChildStatus], bool]) -> ChildStatus:
        """The first status of the (first) child for which `true` holds."""
        with anyio.fail_after(DEADLINE_S):
            async for statuses in self.supervisor.changes():
                if true(statuses[0]):
                    return statuses[0]
        raise AssertionError(f"the supervisor ended first: {self.supervisor.statuses()}")

    async def run(self) -> None:
        try:
            await self.supervisor.run()
        except GaveUp as gave_up:
            self.gave_up = gave_up
        finally:
            self.ended.set()


@asynccontextmanager
async def supervising(child: Child, policy: SupervisePolicy = QUICK, *, conclude: Conclude | None = None) -> AsyncIterator[Supervised]:
    """Supervise `child` within the block; stop it afterwards."""
    stop = StopRequest()
    supervised = Supervised(Supervisor([child], policy, stop=stop, conclude=conclude), stop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervised.run)
        yield supervised
        if not stop.requested:
            stop.request("end of the test")
        with anyio.fail_after(DEADLINE_S):
            await supervised.ended.wait()
