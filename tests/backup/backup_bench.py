"""What a backup costs: against a bare synced copy of the same files in the same run, and what callers notice of it.

`python -m tests.backup.backup_bench [--ballots 3000] [--rounds 3]` prints JSON: megabytes, seconds of copies and backups in turn, and the
milliseconds from asking to the outcome of commands that are sent one after the other, without a backup and while one is taken.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_hex

import anyio
from anyio import to_thread

from overseer.node.client import Client
from overseer.rocks.repair import sync_tree
from tests.backup.backup_load import opening, vote
from tests.node.nodes import Node, Place, place, told

SIDE_BY_SIDE = 64


async def fill(client: Client, ballots: int) -> None:
    await told(client, opening(), "open")
    left = iter(range(ballots))

    async def cast() -> None:
        for number in left:
            await told(client, vote(f"filler {number}"), f"fill {number}", seconds=600)

    async with anyio.create_task_group() as tasks:
        for _ in range(SIDE_BY_SIDE):
            tasks.start_soon(cast)


async def latencies(client: Client, stop: anyio.Event) -> list[float]:
    """Of commands one after the other until `stop`, in ms."""
    found: list[float] = []
    while not stop.is_set():
        name = token_hex(8)
        began = time.perf_counter()
        await told(client, vote(name), name)
        found.append((time.perf_counter() - began) * 1000)
    return found


def bare_copy(data: Path, target: Path) -> float:
    began = time.perf_counter()
    shutil.copytree(data, target)
    sync_tree(target)
    took = time.perf_counter() - began
    shutil.rmtree(target)
    return took


def middle(values: list[float], share: float = 0.5) -> float:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 1) if values else 0.0


async def during(client: Client, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Latencies while `work()` goes on."""
    stop = anyio.Event()
    found: list[float] = []

    async def ask() -> None:
        found.extend(await latencies(client, stop))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await work()
        stop.set()
    return found


async def measured(here: Place, ballots: int, rounds: int) -> dict[str, object]:
    result: dict[str, object] = {}
    async with Node.up(here) as node, node.client() as client:
        await fill(client, ballots)
        idle, busy, backups, inner = list[float](), list[float](), list[float](), list[float]()
        for number in range(rounds):
            idle += await during(client, lambda: anyio.sleep(3))

            async def take(number: int = number) -> None:
                began = time.perf_counter()
                done = await to_thread.run_sync(lambda: here.run("backup", f"b{number}", "--json", timeout=600))
                assert done.code == 0, done
                backups.append(time.perf_counter() - began)
                inner.append(done.json["took_ms"] / 1000)
                result["backup_mb"] = round(done.json["bytes"] / 1e6, 1)

            busy += await during(client, take)
        result["command_ms_idle"] = {"half": middle(idle), "of 20 the slowest": middle(idle, 0.95), "count": len(idle)}
        result["command_ms_backup"] = {"half": middle(busy), "of 20 the slowest": middle(busy, 0.95), "count": len(busy)}
        result["backup_process_s"] = middle(backups)
        result["backup_s"] = middle(inner)
    copies = [bare_copy(here.data, here.folder / "copy") for _ in range(rounds)]
    result["data_mb"] = round(sum(f.stat().st_size for f in here.data.rglob("*") if f.is_file()) / 1e6, 1)
    result["bare_copy_s"] = round(middle([1000 * each for each in copies]) / 1000, 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ballots", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overseer-backup-bench-") as folder, place(Path(folder)) as here:
        print(json.dumps(anyio.run(measured, here, given.ballots, given.rounds), indent=2))
        print(f"cores: {os.cpu_count()}, load: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
