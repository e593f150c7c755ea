"""`idle`: what a whole node, as processes, takes while nothing happens. Reads /proc: Linux only."""

import os
import time
from pathlib import Path

import anyio

from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.running import running_node

__all__ = ["idle"]

# What a node does once after its start is not what it does when idle.
_SETTLE_S = 2.0
_MEMORY_MB_MAX = 90
_PROC = Path("/proc")


async def idle(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Raises RuntimeError where there is no /proc, and when the node does not come up."""
    if not (_PROC / "self" / "stat").exists():
        raise RuntimeError("the bench `idle` reads /proc, which is not here: run it on Linux")
    report("starting a node")
    async with running_node(folder) as node:
        await anyio.sleep(_SETTLE_S)
        tree = _tree(node.pid)
        report(f"watching {len(tree)} processes for {sizes.idle_s:g} s")
        before_s, began = sum(map(_cpu_s, tree)), time.perf_counter()
        await anyio.sleep(sizes.idle_s)
        cores = (sum(map(_cpu_s, tree)) - before_s) / (time.perf_counter() - began)
        memory = {name: _resident_mb(pid) for pid in tree if (name := _subsystem_name(pid))}
    largest = max(memory, key=lambda name: memory[name])
    return [
        judged(
            "idle",
            f"CPU time of a whole idle node, all {len(tree)} processes",
            [(100 * cores, 100.0)],
            unit="% of a core",
            limited_by="one core",
            target=0.03,
            at_most=True,
        ),
        judged(
            "idle_memory",
            f"resident memory of the largest of {len(memory)} subsystem processes ({largest})",
            [(memory[largest], _MEMORY_MB_MAX)],
            unit="MB",
            limited_by="what is allowed",
            target=1.0,
            at_most=True,
        ),
    ]


# ------------------------------------------------------------------------------------------------ /proc


def _stat(pid: int) -> list[str]:
    """The fields behind the name (which may hold anything): state, parent, ..."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
            except OSError:
                # Gone between the listing and the look.
                continue
    tree = [root]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    """In megabytes of a million bytes."""
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _subsystem_name(pid: int) -> str:
    """The subsystem that a process runs, or ""."""
    arguments = (_PROC / str(pid) / "cmdline").read_text().split("\0")
    return arguments[arguments.index("subsystem") + 1] if "subsystem" in arguments else ""
