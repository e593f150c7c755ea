"""Offer a node ten times what it can take, for minutes, and look at what becomes of it and of everybody else.

    python -m tests.load.flood --seconds 180 --json            # raw publishes: the commands pile up in the stream
    python -m tests.load.flood --seconds 180 --awaited --json  # awaited requests: refused beyond what one caller may have open

First the rate that the node can take is measured. Then one operator floods at ten times that rate while another operator sends
awaited commands and a reader asks queries. Afterwards everything that was acknowledged must be there, by its command id.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from messages.chain_api import Best, Finalized, PendingTransactions
from messages.codec import decode_value
from messages.message import Message
from messages.votes_db import QueryVotes, RecentDisputes, RegisterVote, VotesSnapshot
from overseer.nats.provision import ApiError
from overseer.node.catalogue import build_subsystem
from overseer.node.client import Client, Refused
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.ports.bus import BusError
from overseer.runner.schema import OUTCOMES, OutcomeRow
from tests.load.flooder import RUBBISH, good_ballots
from tests.load.gauges import Gauges, percentile
from tests.node.nodes import Node, Place, place, told

# Times what the node can take.
FACTOR = 10
# The largest any process may ever be, in MB.
MEMORY_MB_MAX: dict[str, float] = {"overseer": 120, "nats-server": 512, "votes_db": 300, "dispute_conclusion": 200, "chain_api": 200}
# Answers to others during the flood: 99 of 100 queries, and one operator's awaited commands while another floods by requests.
QUERY_P99_S_MAX = 2.0
COMMAND_P99_S_MAX = 5.0
# After the flood, until an awaited command takes no longer than this.
NORMAL_COMMAND_S = 1.0
RECOVERED_S_MAX = 180.0
PROBE_BUNDLES = 64
# File of the signed bundles, in the node's place.
BUNDLES = "bundles.json"

SETTINGS: dict[str, object] = {
    "nats.stream_messages_max": 6_000,
    "nats.history_messages": 1_500,
    "nats.trim_ms": 1_000,
    "verification.workers": 1,
}


class Probe:
    """What others get meanwhile: how long answers took, and what was refused, by reason."""

    def __init__(self, made: list[RegisterVote]) -> None:
        self.queries_s: list[float] = []
        self.commands_s: list[float] = []
        self.told: Counter[str] = Counter()
        self._made = made
        self._commands = 0

    async def ask(self, client: Client) -> None:
        """Queries, each after the answer to the one before."""
        asked: list[Message] = [Best(), RecentDisputes(limit=10), Finalized(), PendingTransactions(limit=5)]
        asked.append(QueryVotes(session=1, candidate=self._made[0].candidate_hash))
        while True:
            for query in asked:
                began = time.monotonic()
                try:
                    await client.query(query, timeout_ms=10_000)
                    self.queries_s.append(time.monotonic() - began)
                except (BusError, Refused) as error:
                    self.told[f"query: {_word(error)}"] += 1
                await anyio.sleep(0.05)

    async def command(self, client: Client) -> float:
        """One awaited command; how long its outcome took. Raises Refused, BusError."""
        self._commands += 1
        began = time.monotonic()
        bundle = self._made[self._commands % len(self._made)]
        await client.request(bundle, command_id=f"probe {self._commands}", timeout_ms=15_000)
        return time.monotonic() - began

    async def send(self, client: Client) -> None:
        """Awaited commands, one at a time."""
        while True:
            try:
                self.commands_s.append(await self.command(client))
            except (BusError, Refused) as error:
                self.told[f"command: {_word(error)}"] += 1
            await anyio.sleep(0.2)


def _word(error: Exception) -> str:
    return error.code if isinstance(error, Refused) else type(error).__name__


class Flooding:
    """A flooder at work, or done: `counts` is what it counted."""

    def __init__(self, taken: Path) -> None:
        self.taken = taken
        self.counts: dict[str, Any] = {}

    def acknowledged(self) -> dict[str, tuple[int, int]]:
        """Sequence and bundle (-1: none that counts) by command id."""
        found: dict[str, tuple[int, int]] = {}
        for line in self.taken.read_text().splitlines():
            command_id, sequence, bundle = line.rsplit(" ", 2)
            found[command_id] = (int(sequence), int(bundle))
        return found


@asynccontextmanager
async def flooding(here: Place, name: str, *, rate: float, seconds: float, raw: bool, first: int) -> AsyncIterator[Flooding]:
    """Start a flooder; by the end of the block it has ended."""
    taken = here.folder / f"taken-{name}"
    argv = [sys.executable, "-m", "tests.load.flooder", "--data", str(here.data), "--taken", str(taken), "--name", name]
    argv += ["--rate", f"{rate:g}", "--seconds", f"{seconds:g}", "--bundles", str(here.folder / BUNDLES), "--first", str(first)]
    made = Flooding(taken)
    process = await anyio.open_process([*argv, *(["--raw"] if raw else [])], env=here.environment, stderr=None)
    try:
        assert process.stdout is not None
        said = b""
        while b"ready\n" not in said:
            said += await process.stdout.receive()
        yield made
        with anyio.fail_after(seconds + 120):
            async for data in process.stdout:
                said += data
            await process.wait()
        made.counts = json.loads(said.decode().splitlines()[-1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def caught_up(client: Client, node: Node, *, seconds: float) -> float:
    """Wait until no subsystem has anything waiting; how long that took."""
    began = time.monotonic()
    with anyio.fail_after(seconds):
        while True:
            if all(row.pending == 0 for row in (await node.report(client)).subsystems):
                return time.monotonic() - began
            await anyio.sleep(0.1)


async def capacity(client: Client, here: Place, node: Node, *, seconds: float) -> tuple[float, Flooding]:
    """Messages a second that the node gets done when it never waits for more: a backlog, and how fast it went."""
    async with flooding(here, "capacity", rate=100_000, seconds=seconds, raw=True, first=0) as made:
        began = time.monotonic()
    await caught_up(client, node, seconds=60 + 60 * seconds)
    return made.counts["acknowledged"] / (time.monotonic() - began), made


async def normal_again(probe: Probe, client: Client) -> float:
    """How long until an awaited command takes no longer than usual."""
    began = time.monotonic()
    with anyio.fail_after(RECOVERED_S_MAX):
        while True:
            try:
                if await probe.command(client) <= NORMAL_COMMAND_S:
                    return time.monotonic() - began
            except (BusError, Refused):
                await anyio.sleep(0.2)


async def flood(folder: Path, *, seconds: float, raw: bool, settings: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Run it; returns the figures. Raises AssertionError and TimeoutError where there is no going on."""
    made = good_ballots(max(80, min(400, int(10 * seconds))), folder / BUNDLES)
    probe = Probe(made.bundles[-PROBE_BUNDLES:])
    figures: dict[str, Any] = {"mode": "raw" if raw else "awaited", "seconds": seconds}
    named: Counter[str] = Counter()
    with place(folder) as here:
        here.settings |= {**SETTINGS, **(settings or {})}
        async with Node.up(here) as node, node.client() as operator, node.client("feed") as other, node.client("reader") as reader:
            await told(operator, made.opening, "opening")
            await told(operator, made.bundles[0], "first")
            before = [await probe.command(other) for _ in range(20)]
            gauges = Gauges(here, period_s=0.25)
            async with anyio.create_task_group() as watching:
                watching.start_soon(gauges.watch)
                rate, first = await capacity(operator, here, node, seconds=max(1.0, seconds / 30))
                async with anyio.create_task_group() as others:
                    others.start_soon(probe.ask, reader)
                    others.start_soon(probe.send, other)
                    others.start_soon(_look, operator, node, named)
                    async with flooding(here, "flood", rate=FACTOR * rate, seconds=seconds, raw=raw, first=1_000_000) as second:
                        pass
                    others.cancel_scope.cancel()
                recovered_s = await normal_again(probe, other)
                drained_s = await caught_up(operator, node, seconds=RECOVERED_S_MAX)
                after = [await probe.command(other) for _ in range(20)]
                watching.cancel_scope.cancel()
            figures["restarts"] = {row.name: row.restarts for row in (await node.report(operator)).subsystems}
            missing = await _missing_votes(reader, made.bundles, [first, second])
            figures["exit_code"] = await node.stop()
        acknowledged = {**first.acknowledged(), **second.acknowledged()}
        figures["missing"] = {"votes": missing, "outcomes": _missing_outcomes(here, acknowledged)}
        done = here.run("verify", "--json", timeout=1_800)
        figures["verified"] = {row["subsystem"]: row["ok"] for row in done.json} if done.out else {"": False}
        figures["outside_commands_refused"] = len(node.events("outside_commands_refused"))
    figures |= {
        "capacity_per_s": round(rate, 1),
        "offered_per_s": round(second.counts["offered"] / second.counts["seconds"], 1),
        "flooder": second.counts,
        "acknowledged": len(acknowledged),
        "memory_mb": gauges.largest_mb(),
        "query_s": _spread(probe.queries_s),
        "command_s": {"before": _spread(before), "during": _spread(probe.commands_s), "after": _spread(after)},
        "others_told": dict(probe.told),
        "named_in_status": dict(named),
        "recovered_s": round(recovered_s, 1),
        "drained_s": round(drained_s, 1),
    }
    figures["failures"] = failures(figures)
    return figures


async def _look(client: Client, node: Node, named: Counter[str]) -> None:
    """Count whom `overseer status` names."""
    while True:
        try:
            report = await node.report(client)
        except (ApiError, BusError):
            await anyio.sleep(0.1)
            continue
        named["looks"] += 1
        for row in report.subsystems:
            if any(finding.about == row.name for finding in report.wrong):
                named[row.name] += 1
        await anyio.sleep(1.0)


async def _missing_votes(client: Client, made: list[RegisterVote], floods: list[Flooding]) -> int:
    """Bundles that were acknowledged and whose votes are not all stored."""
    acknowledged = {bundle for flood in floods for _, bundle in flood.acknowledged().values() if bundle >= 0}
    missing = 0
    for bundle in (made[number] for number in sorted(acknowledged)):
        votes = await client.query(QueryVotes(session=1, candidate=bundle.candidate_hash))
        assert isinstance(votes, VotesSnapshot)
        missing += len(votes.votes) < len(bundle.explicit_votes)
    return missing


def _missing_outcomes(here: Place, acknowledged: Mapping[str, tuple[int, int]]) -> int:
    """Acknowledged commands of which the stopped subsystem's store knows no outcome. Rubbish has none: it is a dead letter."""
    subsystem = build_subsystem("votes_db", here.loaded())
    store = open_store(NodeFolder(here.data), here.loaded().config.node, subsystem.declaration)
    try:
        missing = 0
        for command_id, (_, bundle) in acknowledged.items():
            if bundle == RUBBISH:
                continue
            row = store.get(OUTCOMES.name, command_id.encode())
            missing += row is None or not decode_value(OutcomeRow, row).outcome
        return missing
    finally:
        store.close()


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "count": len(values),
        "p50": round(percentile(values, 0.5), 3),
        "p99": round(percentile(values, 0.99), 3),
        "max": round(max(values, default=float("nan")), 3),
    }


def failures(figures: Mapping[str, Any]) -> list[str]:
    """What is not as it must be, in words."""
    found = [f"{count} acknowledged {what} are missing" for what, count in figures["missing"].items() if count]
    for name, most in figures["memory_mb"].items():
        bound = MEMORY_MB_MAX.get(name, 120.0)
        if most > bound:
            found.append(f"{name} took {most} MB, at most {bound}")
    if figures["offered_per_s"] < 0.5 * FACTOR * figures["capacity_per_s"] and not figures["flooder"].get("waited for a slot"):
        found.append(f"only {figures['offered_per_s']} messages a second were offered")
    if not figures["query_s"]["p99"] <= QUERY_P99_S_MAX:
        found.append(f"99 of 100 queries took {figures['query_s']['p99']} s, at most {QUERY_P99_S_MAX}")
    if figures["mode"] == "awaited" and not figures["command_s"]["during"]["p99"] <= COMMAND_P99_S_MAX:
        found.append(f"99 of 100 commands of others took {figures['command_s']['during']['p99']} s, at most {COMMAND_P99_S_MAX}")
    found += [f"{name} was restarted {count} times" for name, count in figures["restarts"].items() if count]
    found += [f"{name} is not what its journal says" for name, ok in figures["verified"].items() if not ok]
    if figures["exit_code"]:
        found.append(f"the node ended with {figures['exit_code']}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.flood", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--awaited", action="store_true", help="awaited requests in place of raw publishes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overseer-flood-") as folder:
        figures = anyio.run(lambda: flood(Path(folder), seconds=given.seconds, raw=not given.awaited))
    print(json.dumps(figures, indent=None if given.json else 2))
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
