"""A supervisor in a process of its own, to be killed: `supervising_program.py MODE FOLDER`. Says `pid note` when its child is ready."""

import os
import sys
from pathlib import Path

import anyio

from overseer.config import LogConfig
from overseer.observe.logs import configure_logs
from overseer.supervise.policy import SupervisePolicy
from overseer.supervise.process import ChildSpec
from overseer.supervise.status import ChildState
from overseer.supervise.stopping import StopRequest, watch_signals
from overseer.supervise.supervisor import Supervisor

CHILD = Path(__file__).with_name("child_program.py")


async def main(mode: str, folder: str) -> None:
    configure_logs(LogConfig(level="error"), run_id="", node="test")
    stop = StopRequest()
    child = ChildSpec(name="votes_db", argv=(sys.executable, str(CHILD), mode, folder))
    supervisor = Supervisor([child], SupervisePolicy(stall_ms=5_000, terminate_ms=300), stop=stop)

    async def tell() -> None:
        async for (status,) in supervisor.changes():
            if status.state is ChildState.READY and status.beat is not None:
                print(status.pid, status.beat.note or 0, flush=True)
                return

    async with anyio.create_task_group() as tasks:
        await tasks.start(watch_signals, stop)
        if mode == "deaf":
            print(os.getpid(), 0, flush=True)
        else:
            tasks.start_soon(tell)
        await supervisor.run()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
