"""A node, or a network, as its user runs it: `overseer run` or `overseer testnet` as a process, from when it is up; ended in order."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

__all__ = ["RunningNode", "running_network", "running_node"]

_READY_S = 60
# Its nodes start at once, on the same cores.
_NETWORK_READY_S = 120
_STOP_S = 30
_LOG_END_CHARS = 2_000


class RunningNode:
    """Made by `running_node`."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log

    def child(self, name: str) -> int:
        """The process of a subsystem or site, the last one that was started."""
        return [event["child_pid"] for event in self._events("child_started") if event["child"] == name][-1]

    def _events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.startswith("{") and line.endswith("}")]
        return [event for event in map(json.loads, lines) if event.get("event") == name]


@asynccontextmanager
async def running_node(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[RunningNode, None]:
    """Without a feed. What it writes goes to a file beside its folder. Raises RuntimeError when it does not come up."""
    async with _running(folder, ["run", "--feed", "none", *arguments], env or {}, _READY_S) as node:
        yield node


@asynccontextmanager
async def running_network(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[RunningNode, None]:
    """A testnet, as running_node."""
    async with _running(folder, ["testnet", *arguments], env or {}, _NETWORK_READY_S) as network:
        yield network


@asynccontextmanager
async def _running(folder: Path, words: list[str], env: Mapping[str, str], ready_s: float) -> AsyncGenerator[RunningNode, None]:
    command = [sys.executable, "-m", "overseer.cli.entry", *words, "--json", "--data-dir", str(folder)]
    # No configuration of whoever runs the bench.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OVERSEER_")}
    surroundings = {**kept, "OVERSEER_CONFIG": "", "OVERSEER_LOG_FORMAT": "json", **env}
    log = folder.with_suffix(".log")
    with log.open("wb") as errors:
        process = await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=errors, env=surroundings, start_new_session=True)
    try:
        if not await _told_ready(process, ready_s):
            raise RuntimeError(f"it did not come up: {log.read_text(errors='replace')[-_LOG_END_CHARS:]}")
        yield RunningNode(process.pid, log)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _told_ready(process: Process, ready_s: float) -> bool:
    """Whether it came up: it tells its addresses once everything is."""
    assert process.stdout is not None
    with anyio.move_on_after(ready_s), suppress(anyio.EndOfStream):
        await process.stdout.receive()
        return True
    return False


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    with anyio.move_on_after(_STOP_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()
