"""The crash loop for a network: processes of four nodes and their server are killed at random while they elect groups and sign blocks.

    python -m tests.crash.network --kills 200 --seed 1 --json

Each subsystem of each node is a process. In the end a light client must accept every node's chain from genesis, and all chains be one;
every block that the stream holds as sealed must be in it; nobody may have dealt twice, or signed two children of one block;
and every store must be a replay of its journal. Exit code 1 when anything was lost, doubled, wrong or stuck; the folder is then kept.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import anyio

from messages.chain_api import AncestorsOf, Best, Hashes, Header
from messages.chain_queries import HASHES_PER_PAGE
from messages.codec import decode
from messages.consensus_blocks import BlockProposed, BlockSealed
from messages.consensus_manager import BlockPartial
from overseer.node.client import Client
from overseer.node.testnet import node_names
from tests.consensus.testnets import NetworkRun, started
from tests.crash.living import KILLED_OFTEN, PROBES, Living, LogTail, Stuck
from tests.crash.loop import Killer
from tests.crash.report import SHOWN_MAX, Struck, kill_command, leaves
from tests.node.nodes import Node, Place

__all__ = ["NetworkReport", "crash_network"]

NODES = node_names(4)
SUBSYSTEMS = ("votes_db", "dispute_conclusion", "chain_api", "consensus_manager")
VICTIMS = [*NODES, *(f"{node}/{name}" for node in NODES for name in SUBSYSTEMS)]
INTERVAL = 5
SETTINGS: Mapping[str, object] = {
    **KILLED_OFTEN,
    "subsystems": ",".join(SUBSYSTEMS),
    "verification.workers": 0,
    "consensus_manager.min_confirmations": 3,
    "consensus_manager.stall_ms": 3_000,
    # Twenty processes on two cores: who waits for its turn is not stuck.
    "supervise.stall_ms": 15_000,
}
INTERVAL_MS = 300
# Until all nodes are well and a block came after a stroke. A feed in turn that is away is waited for, one behind the other.
WHOLE_S = 120.0


class NetworkReport(Struck, kw_only=True):
    """Figures of a network's run."""

    blocks: int = 0
    signed: int = 0
    epochs: int = 0
    sessions_dealt: int = 0
    deals: int = 0
    parts: int = 0


class NetworkLog(LogTail):
    """Children of nodes are known as `<node>/<child>`; those of the testnet, which are its nodes, by their names."""

    def child_of(self, event: Mapping[str, Any]) -> str:
        child = super().child_of(event)
        return child if event.get("node") == "testnet" else f"{event.get('node')}/{child}"


class LivingNetwork(Living):
    """A testnet under kills. Its `overseer` is the testnet's own process."""

    # All processes of all nodes start at once.
    start_s = 90.0
    net: NetworkRun

    def launch(self) -> tuple[Node, LogTail]:
        argv = ["--nodes", str(len(NODES)), "--interval-ms", str(INTERVAL_MS), "--epoch-blocks", str(INTERVAL)]
        process, self.net = started(self.place, "--processes", *argv)
        return Node(self.place, process, self.net.log), NetworkLog(self.net.log)

    def known(self) -> None:
        """Its nodes tell of themselves."""

    def pid(self, victim: str) -> int | None:
        return self._server() if victim == "nats-server" else super().pid(victim)

    def _server(self) -> int | None:
        for pid in self.place.processes():
            try:
                if Path(os.readlink(f"/proc/{pid}/exe")).name == "nats-server":
                    return pid
            except OSError:
                continue
        return None

    async def well(self) -> None:
        """Return when every subsystem of every node answers, and each node has a block that is newer than all now. Raises Stuck."""
        heads = [await self._head(node) for node in NODES]
        missing = ""
        with anyio.move_on_after(WHOLE_S):
            while True:
                self.still_there()
                missing = await self._missing(max(heads))
                if not missing:
                    return
                await anyio.sleep(0.1)
        self.still_there()
        raise Stuck(f"not whole again within {WHOLE_S:g} s: {missing}\n{self.last_words()}")

    async def _head(self, node: str) -> int:
        best = await self.net.ask(node, Best())
        return best.number if isinstance(best, Header) else 0

    async def _missing(self, head: int) -> str:
        for node in NODES:
            if await self._head(node) <= head:
                return f"{node} has no block after {head}"
            for name in SUBSYSTEMS:
                if await self.net.ask(node, PROBES[name]) is None:
                    return f"{name} of {node} does not answer"
        return ""


async def crash_network(here: Place, *, kills: int, seed: int, seconds: float = 3_600) -> NetworkReport:
    """At least `kills` kills, or for so long; then everything is counted. Never raises for what went wrong."""
    here.settings |= SETTINGS
    living, report = LivingNetwork(here), NetworkReport(seed=seed)
    try:
        async with living.lived():
            await living.well()
            killer = Killer(living, VICTIMS, living.well, Random(seed))
            began = time.monotonic()
            try:
                await killer.run(kills, began + seconds)
            finally:
                report.struck(dict(killer.kills), time.monotonic() - began)
                killer.tell(report)
            sealed = await _said_once(living.net, report)
            await _in_one_chain(living.net, sealed, report)
        _verified(living.net, report)
    except Exception as error:
        report.problems += [f"{type(each).__name__}: {each}" for each in leaves(error)]
    report.problems += [trouble for log in living.logs for trouble in log.troubles][:SHOWN_MAX]
    return report


async def _said_once(net: NetworkRun, report: NetworkReport) -> Mapping[int, bytes]:
    """Nobody dealt twice, or signed two children of one block. Gives the first sealed block of each height."""
    dealt = await net.dealt()
    report.sessions_dealt, report.deals = len({session for _, session in dealt}), sum(dealt.values())
    twice = [f"{node} dealt {count} times in {session.hex()[:16]}" for (node, session), count in dealt.items() if count > 1]
    parents = {block.hash: block.parent for block, _ in await net.blocks(BlockProposed)}
    signed: dict[tuple[str, bytes], set[bytes]] = defaultdict(set)
    for node, body in await net.said("block_partial"):
        part = decode(BlockPartial.spec, body)
        assert isinstance(part, BlockPartial)
        if part.block in parents:
            report.parts += 1
            signed[node, parents[part.block]].add(part.block)
    twice += [
        f"{node} signed {len(blocks)} children of {parent.hex()[:16]}" for (node, parent), blocks in signed.items() if len(blocks) > 1
    ]
    report.doubled = len(twice)
    report.problems += twice[:SHOWN_MAX]
    sealed: dict[int, bytes] = {}
    for block, _ in await net.blocks(BlockSealed):
        sealed.setdefault(block.number, block.hash)
    return sealed


async def _in_one_chain(net: NetworkRun, sealed: Mapping[int, bytes], report: NetworkReport) -> None:
    """Every sealed block, up to where a node is, is in that node's chain."""
    async with net.clients(*NODES) as clients:
        for node, client in clients.items():
            best = await client.query(Best())
            assert isinstance(best, Header)
            chain = await _chain(client, best)
            lost = [f"block {n} of {node} is not the sealed one" for n, block in sealed.items() if n <= best.number and chain[n] != block]
            report.lost += len(lost)
            report.problems += lost[:SHOWN_MAX]


async def _chain(client: Client, best: Header) -> dict[int, bytes]:
    """The hashes from `best` down, by height."""
    chain = {best.number: best.hash}
    while (least := min(chain)) > 1:
        line = await client.query(AncestorsOf(hash=chain[least], k=min(HASHES_PER_PAGE, least - 1)))
        assert isinstance(line, Hashes)
        chain.update(zip(range(least - 1, 0, -1), line.hashes, strict=False))
    return chain


def _verified(net: NetworkRun, report: NetworkReport) -> None:
    """By a light client from genesis, and each store against its journal."""
    found = {node: net.verified(node) for node in NODES}
    least = min(found.values(), key=lambda told: told["blocks"])
    report.blocks, report.signed, report.epochs = least["blocks"], least["signed"], len(least["epochs"])
    for node, told in found.items():
        if told["broken"]:
            report.problems.append(f"{node}: {told['broken']}")
        if told["epochs"][: report.epochs] != least["epochs"]:
            report.problems.append(f"{node} has other groups")
        report.problems += [f"{name} of {node} is not its replay" for name, ok in net.replayed(node).items() if not ok]
    accepted = [epoch["block"] for epoch in least["epochs"]]
    report.problems += [f"a group of block {a} served until {b} only" for a, b in pairwise(accepted) if b - a < INTERVAL]


if __name__ == "__main__":
    sys.exit(kill_command("network", __doc__, crash_network, kills=200))
