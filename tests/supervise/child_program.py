"""A small supervised process for the tests: `child_program.py MODE [FOLDER]`. Every run adds its pid to FOLDER/pids."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from overseer.supervise.parent import die_with_parent
from overseer.supervise.pulse import own_pulse
from overseer.supervise.status import Beat


def beat_for_ever(*, moving: bool = True, grandchild: int = 0) -> None:
    pulse = own_pulse()
    count = 0
    while True:
        count += moving
        pulse.beat(Beat(progress=count, pending=True, ready=True, note=str(grandchild or "")))
        time.sleep(pulse.period_ms / 1000)


def main(mode: str, folder: Path) -> None:
    die_with_parent()
    with (folder / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    runs = len((folder / "pids").read_text().splitlines())
    match mode:
        case "steady":
            beat_for_ever()
        case "fail":
            print(f"it is broken, run {runs}", file=sys.stderr)
            sys.exit(2 + runs)
        case "fatal":
            sys.exit(78)
        case "fail_twice":
            if runs <= 2:
                sys.exit(1)
            beat_for_ever()
        case "stuck_once":
            beat_for_ever(moving=runs > 1)
        case "silent":
            time.sleep(60)
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            beat_for_ever()
        case "parent":
            sleeper = subprocess.Popen(["sleep", "60"])
            beat_for_ever(grandchild=sleeper.pid)
        case _:
            raise SystemExit(f"unknown mode {mode}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
