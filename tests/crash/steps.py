"""Kills at each named step of the runner in each subsystem, again and again under traffic; then everything is counted.

    python -m tests.crash.steps --rounds 100 --json

One node for each step; all subsystems of it kill themselves there so many times. One report for each step.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import anyio

from overseer.cli.subsystem import KILL_AT
from overseer.runner.observer import Step
from tests.crash.living import KILLED_OFTEN, Living
from tests.crash.report import Report, leaves, tell
from tests.crash.traffic import Scenery, Traffic, until
from tests.node.nodes import SUBSYSTEMS, Place, place, verified

__all__ = ["step_kills"]

# The how-many-th passing in its life kills a process: another one in each life. Lives long enough for a caller who asks again.
PASSINGS = "1-16"
# Until a command is acknowledged, all that handle it may die many times.
DEADLINE_S = 300


async def step_kills(here: Place, step: Step, *, rounds: int, seed: int = 1, seconds: float = 600) -> Report:
    """Each subsystem is killed `rounds` times at `step`, or as often as it can be in the time. Never raises for what went wrong."""
    scenery = Scenery(f"step {step} {seed}")
    here.settings |= {**KILLED_OFTEN, "genesis": scenery.genesis.hex()}
    files = {name: here.folder / f"{name}.{step.value}.kills" for name in SUBSYSTEMS}
    switches = ";".join(f"{name} {step.value} {PASSINGS} {file} {rounds}" for name, file in files.items())
    living, traffic = Living(here, {KILL_AT: switches}), Traffic(scenery, Random(seed), pause_s=0.05, deadline_s=DEADLINE_S)
    report = Report(seed=seed)

    def made() -> dict[str, int]:
        return {f"{name} {step.value}": file.stat().st_size if file.exists() else 0 for name, file in files.items()}

    def over() -> bool:
        living.still_there()
        return min(made().values()) >= rounds

    try:
        async with living.up() as client:
            began, kills = time.monotonic(), made()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(traffic.run, client)
                    # What was done in the time is counted all the same.
                    with suppress(TimeoutError):
                        await until(over, f"{rounds} kills of each at {step}", seconds)
                    kills = made()
                    disarmed(files.values(), rounds)
                    traffic.end()
            finally:
                report.struck(kills, time.monotonic() - began)
                report.sent(traffic)
            messages = await report.count(client, traffic)
        verified(here)
        report.course(here, traffic, messages)
    except Exception as error:
        report.problems += [f"{type(each).__name__}: {each}" for each in leaves(error)]
    report.problems += [trouble for log in living.logs for trouble in log.troubles]
    return report


def disarmed(files: Iterable[Path], rounds: int) -> None:
    """The traffic is completed without further kills."""
    for file in files:
        file.write_bytes(b"x" * rounds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.steps", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="kills of each subsystem at each step (default 100)")
    parser.add_argument("--seconds", type=float, default=600, help="at most so long for each step")
    parser.add_argument("--step", choices=[step.value for step in Step], action="append", help="only this one (may be given again)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the reports as JSON, one a line")
    given = parser.parse_args(argv)
    code = 0
    for name in given.step or [step.value for step in Step]:
        folder = Path(tempfile.mkdtemp(prefix=f"overseer-{name}-"))
        with place(folder) as here:
            report = anyio.run(partial(step_kills, here, Step(name), rounds=given.rounds, seed=given.seed, seconds=given.seconds))
        code |= tell([report], folder, as_json=given.json)
    return code


if __name__ == "__main__":
    sys.exit(main())
