"""`idle`: what a whole node, as processes, takes while nothing happens. Reads /proc: Linux only."""

import time
from pathlib import Path

import anyio

from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.running import running_node
from overseer.observe import processes

__all__ = ["idle"]

# What a node does once after its start is not what it does when idle.
_SETTLE_S = 2.0
_MEMORY_MB_MAX = 90


async def idle(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Raises RuntimeError where there is no /proc, and when the node does not come up."""
    if not processes.known():
        raise RuntimeError("the bench `idle` reads /proc, which is not here: run it on Linux")
    report("starting a node")
    async with running_node(folder) as node:
        await anyio.sleep(_SETTLE_S)
        tree = processes.tree(node.pid)
        report(f"watching {len(tree)} processes for {sizes.idle_s:g} s")
        before_s, began = processes.cpu_s(tree), time.perf_counter()
        await anyio.sleep(sizes.idle_s)
        cores = (processes.cpu_s(tree) - before_s) / (time.perf_counter() - began)
        memory = {name: processes.resident_mb(pid) for pid in tree if (name := processes.subsystem_name(pid))}
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
