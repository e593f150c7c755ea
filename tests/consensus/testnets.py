"""A testnet as its user runs it, and what can be asked of its nodes."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import anyio

from messages.chain_api import ImportBlock
from messages.codec import decode
from messages.consensus_blocks import BlockProposed, BlockSealed
from messages.consensus_manager import Attempts, AttemptsReport, Deal, Epoch, EpochReport, GroupsOnDisk, GroupsReport
from messages.message import Message
from messages.subjects import net_stream, parse
from overseer.cli.common import load_settings
from overseer.nats.stored import stored_messages
from overseer.node.client import Client, Refused
from overseer.node.folder import NodeFolder, NotRunning
from overseer.ports.bus import BusError, StoredMessage
from tests.node.nodes import MARK, Place

__all__ = ["NetworkRun", "network_up", "started"]

DEADLINE_S = 120.0
# What a network did in an hour of its time is gone through in minutes.
VERIFIED_S = 600.0


class NetworkRun:
    """The process of `overseer testnet`, and its nodes."""

    def __init__(self, place: Place, folder: Path, log: Path, supervisor: int) -> None:
        self.place = place
        self.supervisor = supervisor
        self.folder = folder
        self.log = log

    def pid(self, node: str) -> int:
        """Of a node that runs now."""
        return NodeFolder(self.folder / node).running().pid

    def kill(self, *nodes: str) -> None:
        """SIGKILL, one behind the other; the testnet starts them again."""
        for pid in [self.pid(node) for node in nodes]:
            os.kill(pid, signal.SIGKILL)

    @asynccontextmanager
    async def down(self, *nodes: str) -> AsyncIterator[None]:
        """Killed, and not started again before the end of this: meanwhile their keeper is stopped."""
        os.kill(self.supervisor, signal.SIGSTOP)
        try:
            self.kill(*nodes)
            yield
        finally:
            os.kill(self.supervisor, signal.SIGCONT)

    async def held(self, node: str) -> list[int]:
        """The epochs whose shares the node holds."""
        report = await self.ask(node, GroupsOnDisk())
        return report.epochs if isinstance(report, GroupsReport) else []

    async def said(self, name: str) -> list[tuple[str, bytes]]:
        """(node, body) of all network messages of that name, in order."""
        return [(parse(message.subject).node, message.body) for message in await self.stored(f"*.consensus_manager.{name}")]

    async def dealt(self) -> Counter[tuple[str, bytes]]:
        """How often each node has dealt in each session."""
        deals: Counter[tuple[str, bytes]] = Counter()
        for node, body in await self.said("deal"):
            deal = decode(Deal.spec, body)
            assert isinstance(deal, Deal)
            deals[node, deal.session] += 1
        return deals

    async def blocks(self, kind: type[BlockProposed | BlockSealed]) -> list[tuple[ImportBlock, int]]:
        """All that the feeds proposed, or sealed, in order; with when, in milliseconds since 1970."""
        found: list[tuple[ImportBlock, int]] = []
        for stored in await self.stored(f"*.feed.{kind.spec.name}"):
            told = decode(kind.spec, stored.body)
            assert isinstance(told, BlockProposed | BlockSealed)
            found.append((told.block, stored.time_ms))
        return found

    async def stored(self, subjects: str) -> list[StoredMessage]:
        """What the network's stream holds on these, in order."""
        async with self.clients("n1") as clients:
            return [m async for m in stored_messages(clients["n1"].connection, net_stream(), f"overseer.net.{subjects}")]

    @asynccontextmanager
    async def clients(self, *nodes: str) -> AsyncIterator[dict[str, Client]]:
        """One for each node: for who asks often."""
        async with AsyncExitStack() as stack:
            found: dict[str, Client] = {}
            for node in nodes:
                loaded, url = load_settings(data_dir=self.folder / node), NodeFolder(self.folder / node).running().url
                found[node] = await stack.enter_async_context(Client.connected(loaded.config, url, "operator"))
            yield found

    async def ask(self, node: str, query: Message) -> Message | None:
        """None while it cannot answer."""
        loaded = load_settings(data_dir=self.folder / node)
        try:
            url = NodeFolder(self.folder / node).running().url
            async with Client.connected(loaded.config, url, "operator", wait_ms=1_000) as client:
                return await client.query(query, timeout_ms=2_000)
        except (BusError, Refused, NotRunning, OSError):
            # It may just be being started again.
            return None

    async def epoch(self, node: str) -> int:
        report = await self.ask(node, Epoch())
        return report.epoch if isinstance(report, EpochReport) else -1

    async def attempts(self, node: str) -> AttemptsReport:
        report = await self.ask(node, Attempts())
        return report if isinstance(report, AttemptsReport) else AttemptsReport(attempts=[])

    async def until(self, condition: Callable[[], Any], what: str, *, seconds: float = DEADLINE_S) -> None:
        """`condition` is asked again and again."""
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.log.read_text()[-3000:]}"
            await anyio.sleep(0.05)

    async def epochs_reach(self, epoch: int, *nodes: str, seconds: float = DEADLINE_S) -> None:
        for node in nodes:

            async def reached(node: str = node) -> bool:
                return await self.epoch(node) >= epoch

            await self.until(reached, f"{node} is in epoch {epoch}", seconds=seconds)

    def verified(self, node: str) -> dict[str, Any]:
        """What `overseer verify-epochs` tells of a node, in a terminal that knows nothing else of the network."""
        return self._told("verify-epochs", node)

    def replayed(self, node: str) -> dict[str, bool]:
        """What `overseer verify` tells of a node's journals."""
        return {verdict["subsystem"]: verdict["ok"] for verdict in self._told("verify", node)}

    def _told(self, command: str, node: str) -> Any:
        asked = Place(self.place.folder)
        done = asked.run(command, "--data-dir", str(self.folder / node), "--json", env={MARK: self.place.mark}, timeout=VERIFIED_S)
        assert done.code == 0, done
        return json.loads(done.out)


def started(place: Place, *argv: str) -> tuple[Popen[bytes], NetworkRun]:
    """`overseer testnet` with these arguments, just begun; its log is of this life alone."""
    folder, log = place.folder / "net", place.folder / f"testnet-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = place.start("testnet", "--data-dir", str(folder), "--json", *argv, stdout=file, stderr=file)
    return process, NetworkRun(place, folder, log, process.pid)


@asynccontextmanager
async def network_up(place: Place, *argv: str, nodes: int = 4, **settings: object) -> AsyncIterator[NetworkRun]:
    """A network that is up. Ended in order afterwards."""
    subsystems = "votes_db,dispute_conclusion,chain_api,consensus_manager"
    place.settings = {"log.format": "json", "supervise.stall_ms": 120_000, "verification.workers": 0, "subsystems": subsystems}
    place.settings |= {key.replace("__", "."): value for key, value in settings.items()}
    process, run = started(place, "--nodes", str(nodes), *argv)
    log = run.log
    try:

        async def up() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            return (run.folder / "testnet.json").exists() and '"event":"ready"' in log.read_text() and '"nodes":["n1"' in log.read_text()

        await run.until(up, "the testnet is up")
        yield run
    finally:
        process.terminate()
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            await anyio.sleep(0.05)
        process.kill()
        process.wait()
