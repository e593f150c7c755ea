"""A node that runs for long, with blocks, disputes, ballots, sessions, refusals, dead letters, queries, clients that come and go, kills.

    python -m tests.load.soak --minutes 20 --json

First half: every few seconds one process is killed, the NATS server included. Second half: nobody is killed, so that each
process has one long life to be looked at. A line is fitted through memory, descriptors and threads of every process over that
half; what grows faster than the bound fails the soak. The stream is trimmed and wraps, checkpoints are taken, journals
shortened, outcomes forgotten: all limits are small. In the end all stores are verified against their journals.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from messages.ballots import BallotElection, CastBallot, GetBallotElection, OpenElection
from messages.chain_api import Best, Finalized, Header, Leaves, PendingTransactions
from messages.codec import encode
from messages.message import Message
from messages.subjects import CONTENT_CBOR, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE, HEADER_SCHEMA
from messages.votes_db import RecentDisputes
from overseer.nats.exchange import NatsExchange
from overseer.nats.provision import ApiError
from overseer.node.client import Client, Refused
from overseer.node.report import NodeReport
from overseer.observe.http import fetch
from overseer.ports.bus import BusError, Outgoing
from tests.load.gauges import MB, Gauges, Slope, folder_bytes, percentile, slope
from tests.node.nodes import DEADLINE_S, Ballots, Node, ballots, place

# What may be growth at most, per process: fitted over the second half.
MEMORY_MB_PER_MINUTE_MAX = 0.25
# It counts beyond what a process takes with its caches full. Of a store those are 16 MB of write buffers, 8 MB of blocks and
# 256 open tables, over about 60 MB; at the traffic of a soak they take more than half an hour to fill.
FULL_MB = {"overseer": 0.0, "nats-server": 64.0}
STORE_FULL_MB = 95.0
# Blocks of memory of Python's objects (about 60 bytes each), in thousands: what a leak of ours would show as. A batch in hand
# takes about ten thousand, and some scrapes meet one.
THOUSAND_BLOCKS_PER_MINUTE_MAX = 2.0
FDS_PER_MINUTE_MAX = 0.2
THREADS_PER_MINUTE_MAX = 0.2
# The largest any process may ever be.
MEMORY_MB_MAX = 120.0
# RocksDB's own bound (`overseer/rocks/options.py`), with those that a checkpoint being hashed keeps open.
TABLE_FILES_MAX = 600
# Bytes on disk: what is kept for good (headers, transactions, conclusions), and no more.
DISK_MB_PER_MINUTE_MAX = 6.0

KILL_EVERY_S = 12.0
_BLOCKS = re.compile(r'^overseer_memory_blocks\{node="node",subsystem="(\w+)"\} (\S+)$', re.MULTILINE)

VICTIMS = ("votes_db", "dispute_conclusion", "chain_api", "elections", "nats-server")
ELECTION = "soak"
# The finding that our own dead letters make.
RUBBISH = ("dead_letters", "votes_db")

SETTINGS: dict[str, object] = {
    "feed.source": "dev",
    "feed.interval_ms": 40,
    "verification.workers": 1,
    "nats.history_messages": 2_000,
    "nats.stream_messages_max": 20_000,
    "nats.trim_ms": 1_000,
    "limits.checkpoint_records": 10_000,
    # Forgotten within the run.
    "limits.command_outcomes_kept_ms": 30_000,
    "supervise.backoff_first_ms": 20,
    "supervise.backoff_max_ms": 100,
    "supervise.restarts_max": 1_000,
}


class Traffic:
    """What people do beside the feed. Counts what it did.

    `late` holds how long each query took, with when; `blocks` what Python held in each subsystem, likewise.
    """

    def __init__(self, node: Node, made: Ballots) -> None:
        self.done: Counter[str] = Counter()
        self.late: list[tuple[float, float]] = []
        self.blocks: dict[str, list[tuple[float, float]]] = {}
        self._node = node
        self._made = made

    async def run(self) -> None:
        async with self._node.client() as operator, self._node.client("reader") as reader, anyio.create_task_group() as tasks:
            tasks.start_soon(self._ask, reader)
            tasks.start_soon(self._send_refused, operator)
            tasks.start_soon(self._vote, operator)
            tasks.start_soon(self._send_rubbish, operator)
            tasks.start_soon(self._come_and_go)
            tasks.start_soon(self._scrape)

    async def _ask(self, client: Client) -> None:
        """Queries of each subsystem, twenty a second."""
        asked: list[Message] = [Best(), Finalized(), Leaves(), PendingTransactions(limit=5), RecentDisputes(limit=10)]
        asked.append(GetBallotElection(election=ELECTION))
        while True:
            for query in asked:
                began = time.monotonic()
                if await self._try("query", client.query(query)):
                    self.late.append((began, time.monotonic() - began))
                await anyio.sleep(0.05)

    async def _vote(self, client: Client) -> None:
        """One election that never closes: a ballot after the other, each until its outcome is known."""
        opening = OpenElection(election=ELECTION, title="?", choices=["yes", "no"])
        while not await self._try("openings", client.request(opening, command_id="opening", timeout_ms=5_000)):
            await anyio.sleep(0.1)
        number = 0
        while True:
            ballot = CastBallot(election=ELECTION, voter=f"voter {number}".encode(), choice="yes")
            number += await self._try("ballots", client.request(ballot, command_id=f"ballot {number}", timeout_ms=5_000))
            await anyio.sleep(0.1)

    async def _send_refused(self, client: Client) -> None:
        """Awaited commands that are refused: votes of a session that nobody knows (any more)."""
        number = 0
        while True:
            number += 1
            bundle = self._made.bundles[number % len(self._made.bundles)]
            await self._try("refused", client.request(bundle, command_id=f"soak {number}", timeout_ms=5_000))
            await anyio.sleep(0.1)

    async def _send_rubbish(self, client: Client) -> None:
        """What cannot be read: dead letters."""
        exchange = NatsExchange(client.connection)
        number = 0
        while True:
            number += 1
            headers = {HEADER_CONTENT_TYPE: CONTENT_CBOR, HEADER_SCHEMA: "1", HEADER_COMMAND_ID: f"rubbish {number}"}
            body = encode(self._made.bundles[0])[: 40 + number % 200]
            subject = f"overseer.{client.node}.op_operator.cmd.votes_db.register_vote"
            await self._try("rubbish", exchange.publish(Outgoing(subject, headers, body)))
            await anyio.sleep(0.1)

    async def _come_and_go(self) -> None:
        """Clients that connect, look at the node's status, and leave."""
        while True:
            await self._try("visits", self._visit())
            await anyio.sleep(1.0)

    async def _visit(self) -> None:
        async with self._node.client() as client:
            await self._node.report(client)

    async def _scrape(self) -> None:
        while True:
            await self._try("scrapes", self._count_blocks())
            await self._try("scrapes", fetch(self._node.info.http_port, "/readyz", timeout_ms=5_000))
            await anyio.sleep(1.0)

    async def _count_blocks(self) -> None:
        """What Python holds in each subsystem, of the metrics."""
        page = await fetch(self._node.info.http_port, "/metrics", timeout_ms=5_000)
        for name, held in _BLOCKS.findall(page.body.decode()):
            self.blocks.setdefault(name, []).append((time.monotonic(), float(held)))

    async def _try(self, what: str, doing: Any) -> bool:
        try:
            await doing
        except Refused:
            self.done[f"{what}: refused"] += 1
            return True
        except (ApiError, BusError, OSError):
            self.done[f"{what}: not now"] += 1
            return False
        self.done[what] += 1
        return True


async def kill_some(node: Node, until_s: float, every_s: float, chance: random.Random) -> Counter[str]:
    """Kill one process after another; the server last, three times, so that all who stay have had to come back to it."""
    killed: Counter[str] = Counter()
    last_words = min(3 * every_s, (until_s - time.monotonic()) / 3)
    while time.monotonic() < until_s:
        await anyio.sleep(every_s)
        near = time.monotonic() > until_s - last_words
        victim = "nats-server" if near else chance.choice(VICTIMS)
        try:
            os.kill(node.pid(victim), signal.SIGKILL)
        except ProcessLookupError:
            # It is just coming back.
            continue
        killed[victim] += 1
    return killed


async def finalized(node: Node) -> int:
    async with node.client("reader") as client:
        with anyio.fail_after(DEADLINE_S):
            while True:
                try:
                    answer = await client.query(Finalized())
                    return answer.number if isinstance(answer, Header) else 0
                except (BusError, Refused):
                    await anyio.sleep(0.05)


async def cast(node: Node) -> int:
    """Ballots that are there."""
    async with node.client("reader") as client:
        with anyio.fail_after(DEADLINE_S):
            while True:
                try:
                    answer = await client.query(GetBallotElection(election=ELECTION))
                except BusError:
                    await anyio.sleep(0.05)
                else:
                    assert isinstance(answer, BallotElection)
                    return answer.rounds[-1].cast


async def report_of(node: Node) -> NodeReport:
    async with node.client() as client:
        return await node.report(client)


async def soak(folder: Path, *, minutes: float, seed: int, settings: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Run it; returns the figures. Raises AssertionError when the node cannot go on."""
    chance = random.Random(seed)
    half_s = minutes * 30
    with place(folder) as here:
        here.settings |= {**SETTINGS, **(settings or {})}
        async with Node.up(here) as node:
            gauges = Gauges(here)
            traffic = Traffic(node, ballots(8, 10))
            disk: list[tuple[float, float]] = []
            began_s = time.monotonic()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gauges.watch)
                tasks.start_soon(traffic.run)
                tasks.start_soon(_weigh, here.data, disk)
                killed = await kill_some(node, began_s + half_s, min(KILL_EVERY_S, half_s / 6), chance)
                # Whoever was killed last comes back and warms up before its life is looked at.
                await anyio.sleep(min(60.0, half_s / 5))
                from_s = time.monotonic()
                first_height = await finalized(node)
                await anyio.sleep(half_s)
                figures = _figures(gauges, disk, traffic, from_s)
                figures["blocks"] = {"before": first_height, "after": await finalized(node)}
                tasks.cancel_scope.cancel()
            figures["killed"] = dict(killed)
            figures["minutes"] = round((time.monotonic() - began_s) / 60, 1)
            figures["ballots"] = {"acknowledged": traffic.done["ballots"], "cast": await cast(node)}
            report = await report_of(node)
            figures["stream"] = {"wrapped": report.stream.first > 20_000, "first": report.stream.first, "last": report.stream.last}
            figures["wrong"] = [finding.text() for finding in report.wrong if (finding.code, finding.about) != RUBBISH]
            figures["exit_code"] = await node.stop()
        done = here.run("verify", "--json", timeout=1_800)
        figures["verified"] = {row["subsystem"]: row["ok"] for row in done.json} if done.out else {"": False}
    figures["growth"], figures["failures"] = growth(figures), failures(figures)
    return figures


async def _weigh(folder: Path, into: list[tuple[float, float]]) -> None:
    while True:
        into.append((time.monotonic(), await anyio.to_thread.run_sync(folder_bytes, folder)))
        await anyio.sleep(2.0)


def _figures(gauges: Gauges, disk: list[tuple[float, float]], traffic: Traffic, from_s: float) -> dict[str, Any]:
    processes: dict[str, Any] = {}
    for name, readings in gauges.since(from_s).items():
        if len(readings) < 5:
            continue
        at = [r.at_s for r in readings]
        processes[name] = {
            "memory_mb": _shown(slope(at, [r.rss_bytes / MB for r in readings])),
            "fds": _shown(slope(at, [r.fds for r in readings])),
            "table_files_max": max(r.table_files for r in readings),
            "threads": _shown(slope(at, [r.threads for r in readings])),
            "minutes": round((at[-1] - at[0]) / 60, 1),
        }
    for name, counted in traffic.blocks.items():
        held = [(at, blocks / 1_000) for at, blocks in counted if at >= from_s]
        if name in processes and len(held) >= 5:
            processes[name]["thousand_blocks"] = _shown(slope(*zip(*held, strict=True)))
    late = [(at, took) for at, took in disk if at >= from_s]
    queries = [took for at, took in traffic.late if at >= from_s]
    return {
        "processes": processes,
        "largest_mb": gauges.largest_mb(),
        "disk_mb": _shown(slope([at for at, _ in late], [size / MB for _, size in late])),
        "traffic": dict(traffic.done),
        "query_ms": {"p50": round(1000 * percentile(queries, 0.5), 1), "p99": round(1000 * percentile(queries, 0.99), 1)},
    }


def _shown(found: Slope) -> dict[str, float]:
    return {"per_minute": round(found.per_minute, 3), "first": round(found.first, 2), "last": round(found.last, 2)}


def growth(figures: Mapping[str, Any]) -> list[str]:
    """What grows faster than it may, in words. Tells something only of processes that have been up for minutes."""
    found: list[str] = []
    bounds = {
        "memory_mb": MEMORY_MB_PER_MINUTE_MAX,
        "thousand_blocks": THOUSAND_BLOCKS_PER_MINUTE_MAX,
        "fds": FDS_PER_MINUTE_MAX,
        "threads": THREADS_PER_MINUTE_MAX,
    }
    for name, moved in figures["processes"].items():
        for what, most in bounds.items():
            filling = what == "memory_mb" and moved[what]["last"] < FULL_MB.get(name, STORE_FULL_MB)
            if what in moved and moved[what]["per_minute"] > most and not filling:
                found.append(f"{what} of {name} grow by {moved[what]['per_minute']} a minute, at most {most}")
    if figures["disk_mb"]["per_minute"] > DISK_MB_PER_MINUTE_MAX:
        found.append(f"the disk fills by {figures['disk_mb']['per_minute']} MB a minute, at most {DISK_MB_PER_MINUTE_MAX}")
    return found


def failures(figures: Mapping[str, Any]) -> list[str]:
    """What else is not as it must be, in words."""
    found: list[str] = []
    for name, moved in figures["processes"].items():
        if moved["table_files_max"] > TABLE_FILES_MAX:
            found.append(f"{name} has {moved['table_files_max']} tables open, at most {TABLE_FILES_MAX}")
    found += [f"{name} took {most} MB, at most {MEMORY_MB_MAX}" for name, most in figures["largest_mb"].items() if most > MEMORY_MB_MAX]
    missing = {"overseer", *VICTIMS} - figures["processes"].keys()
    found += [f"{name} is not there, or had no quiet second half" for name in sorted(missing)]
    if figures["blocks"]["after"] <= figures["blocks"]["before"]:
        found.append(f"finality stands still at {figures['blocks']['after']}")
    # The last one may have been recorded without its sender having heard.
    more = figures["ballots"]["cast"] - figures["ballots"]["acknowledged"]
    if more not in (0, 1):
        found.append(f"{figures['ballots']['cast']} ballots are there, {figures['ballots']['acknowledged']} were acknowledged")
    if figures["exit_code"]:
        found.append(f"the node ended with {figures['exit_code']}")
    found += [f"{name} is not what its journal says" for name, ok in figures["verified"].items() if not ok]
    return found + figures["wrong"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overseer-soak-") as folder:
        figures = anyio.run(lambda: soak(Path(folder), minutes=given.minutes, seed=given.seed))
    print(json.dumps(figures, indent=None if given.json else 2))
    return 1 if figures["failures"] or figures["growth"] else 0


if __name__ == "__main__":
    sys.exit(main())
