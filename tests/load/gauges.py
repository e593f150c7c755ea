"""What the processes of a node take, read off /proc, and how it moves: memory, file descriptors, threads, disk."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import anyio

from tests.node.nodes import Place

_PROC = Path("/proc")
MB = 1_000_000


class Reading(NamedTuple):
    """One look at one process."""

    at_s: float
    pid: int
    rss_bytes: int
    # Without the files of RocksDB's tables, which have a bound of their own.
    fds: int
    table_files: int
    threads: int


def role(pid: int) -> str:
    """What a process of a node is: `votes_db`, `nats-server`, `overseer`, `votes_db worker`, ...; "" when it is none."""
    argv = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if "overseer.check_worker" in argv or any(word.endswith("check_worker.py") for word in argv):
        parent = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        return f"{role(parent)} worker"
    if argv[0].endswith("nats-server"):
        return "nats-server"
    if "subsystem" in argv:
        return argv[argv.index("subsystem") + 1]
    return "overseer" if "run" in argv and "overseer.cli.entry" in argv else ""


def read(pid: int) -> Reading:
    """Raises OSError when it is gone."""
    folder = _PROC / str(pid)
    resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    threads = int((folder / "stat").read_text().rpartition(")")[2].split()[17])
    open_files = [_target(folder / "fd" / name) for name in os.listdir(folder / "fd")]
    tables = sum(name.endswith(".sst") for name in open_files)
    return Reading(time.monotonic(), pid, resident, len(open_files) - tables, tables, threads)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


class Gauges:
    """All readings of a node's processes, by role, taken by `watch`."""

    def __init__(self, place: Place, *, period_s: float = 1.0) -> None:
        self.readings: dict[str, list[Reading]] = {}
        self._place = place
        self._period_s = period_s

    async def watch(self) -> None:
        """Read for ever. Who belongs to the node is looked up now and then: it reads the environment of every process."""
        known: dict[int, str] = {}
        looked_s = 0.0
        while True:
            if time.monotonic() - looked_s > 2.0 or not known:
                known = roles(self._place)
                looked_s = time.monotonic()
            for pid, name in known.items():
                try:
                    self.readings.setdefault(name, []).append(read(pid))
                except OSError:
                    looked_s = 0.0
            await anyio.sleep(self._period_s)

    def largest_mb(self) -> dict[str, float]:
        """The most each role ever took."""
        return {name: round(max(r.rss_bytes for r in readings) / MB, 1) for name, readings in self.readings.items()}

    def since(self, at_s: float) -> dict[str, list[Reading]]:
        """Readings from then on, of the processes that are there at the end."""
        kept: dict[str, list[Reading]] = {}
        for name, readings in self.readings.items():
            last = readings[-1].pid
            kept[name] = [r for r in readings if r.at_s >= at_s and r.pid == last]
        return kept


def roles(place: Place) -> dict[int, str]:
    """The node's processes that are still there."""
    found: dict[int, str] = {}
    for pid in place.processes():
        try:
            name = role(pid)
        except OSError:
            continue
        if name:
            found[pid] = name
    return found


class Slope(NamedTuple):
    """How a figure moved: fitted change per minute, and the medians of the first and the last fifth."""

    per_minute: float
    first: float
    last: float


def slope(at_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares over all points."""
    count = len(values)
    if count < 5:
        raise ValueError(f"{count} readings tell nothing of how they move")
    mean_t, mean_v = sum(at_s) / count, sum(values) / count
    spread = sum((t - mean_t) ** 2 for t in at_s)
    per_s = sum((t - mean_t) * (v - mean_v) for t, v in zip(at_s, values, strict=True)) / spread
    fifth = max(1, count // 5)
    return Slope(60 * per_s, median(values[:fifth]), median(values[-fifth:]))


def folder_bytes(folder: Path) -> int:
    """Bytes that the files below `folder` take on disk; one file under several names (checkpoints) counts once."""
    seen: dict[int, int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.stat(os.path.join(root, name))
            except OSError:
                continue
            seen[stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
