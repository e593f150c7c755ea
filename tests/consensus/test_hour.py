"""A network of real processes for an hour of chain time; its nodes are killed in every phase of an election, one by one and all at once."""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import anyio
import pytest

from messages.chain_api import AncestorsOf, Best, Hashes, Header
from messages.consensus_blocks import BlockSealed
from messages.consensus_manager import Attempts, AttemptsReport, AttemptState, Epoch, EpochReport, Phase
from messages.message import Message
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusError
from tests.consensus.testnets import NetworkRun, network_up
from tests.node.nodes import Place

pytestmark = [pytest.mark.anyio, pytest.mark.real]

# Six seconds a block, nominally.
HOUR_BLOCKS = 600
INTERVAL = 5
NODES = ("n1", "n2", "n3", "n4")
# When a node is killed: in a phase of a DKG, or when the key is formed and no block has accepted it yet.
FORMED = "formed"
MOMENTS = (*(phase.value for phase in Phase), FORMED)
# Each node in each moment, never twice in a row in the same; and all of them at once, in each.
TURNS = [((NODES[(turn + step) % 4],), moment) for turn in range(4) for step, moment in enumerate(MOMENTS)]
ALL_AT_ONCE = [(NODES, moment) for moment in MOMENTS]
# The first nodes and all, once in each moment.
SHORT = [((node,), moment) for node, moment in zip(NODES, MOMENTS, strict=False)] + [(NODES, FORMED)]
SETTINGS = {
    "consensus_manager__interval": INTERVAL,
    "consensus_manager__min_confirmations": 3,
    "consensus_manager__stall_ms": 3_000,
    # They are killed more often than a node may fail by itself.
    "supervise__restarts_max": 1_000,
    "supervise__backoff_max_ms": 500,
}
_ANSWER_MS = 1_000
_PATIENCE_S = 120.0


class Kill(NamedTuple):
    """Of `nodes`, in that moment of an election; `at` in seconds since 1970."""

    nodes: Sequence[str]
    moment: str
    at: float


class Watch:
    """Asks the nodes often."""

    def __init__(self, net: NetworkRun, clients: Mapping[str, Client]) -> None:
        self._net = net
        self._clients = clients

    async def ask(self, node: str, query: Message) -> Message | None:
        """None while it cannot answer."""
        try:
            return await self._clients[node].query(query, timeout_ms=_ANSWER_MS)
        except (BusError, Refused):
            return None

    async def head(self, node: str) -> int:
        best = await self.ask(node, Best())
        return best.number if isinstance(best, Header) else -1

    async def epoch(self, node: str) -> int:
        report = await self.ask(node, Epoch())
        return report.epoch if isinstance(report, EpochReport) else -1

    async def moments(self, node: str) -> set[str]:
        """Those in which the node's elections are now."""
        report = await self.ask(node, Attempts())
        rows = report.attempts if isinstance(report, AttemptsReport) else []
        running = {row.phase.value for row in rows if row.state is AttemptState.RUNNING and row.place is not None}
        return running | {FORMED for row in rows if row.state is AttemptState.COMPLETE}

    async def kill_in(self, nodes: Sequence[str], moment: str) -> Kill:
        """As soon as the first of them is there."""
        deadline = time.monotonic() + _PATIENCE_S
        while moment not in await self.moments(nodes[0]):
            assert time.monotonic() < deadline, f"{nodes[0]} was never in {moment}\n{self._net.log.read_text()[-3000:]}"
            await anyio.sleep(0.005)
        self._net.kill(*nodes)
        return Kill(nodes, moment, time.time())

    async def next_epoch_everywhere(self) -> None:
        """Every node is in an epoch after the one in which a node that answers is now, and has imported a block of it."""
        known: list[tuple[int, int]] = []

        async def answers() -> bool:
            known.extend([(epoch, number) for node in NODES if (epoch := await self.epoch(node)) >= 0 <= (number := await self.head(node))])
            return bool(known)

        await self._net.until(answers, "a node answers", seconds=_PATIENCE_S)
        epoch, number = max(known)
        for node in NODES:

            async def there(node: str = node) -> bool:
                return await self.epoch(node) > epoch and await self.head(node) > number

            await self._net.until(there, f"{node} is beyond epoch {epoch} and block {number}", seconds=_PATIENCE_S)

    async def have_one_chain(self) -> bool:
        """The head of who is least far is an ancestor of all others' heads."""
        heads = [best for node in NODES if isinstance(best := await self.ask(node, Best()), Header)]
        least = min(heads, key=lambda head: head.number)
        for node, head in zip(NODES, heads, strict=True):
            if head.hash == least.hash:
                continue
            line = await self.ask(node, AncestorsOf(hash=head.hash, k=head.number - least.number))
            if not isinstance(line, Hashes) or line.hashes[-1] != least.hash:
                return False
        return True


async def killed_again_and_again(net: NetworkRun, plan: Sequence[tuple[Sequence[str], str]], blocks: int) -> list[Kill]:
    """The whole plan, and so on until the chain has so many blocks. All nodes are in the next epoch before the next one is killed."""
    kills: list[Kill] = []
    async with net.clients(*NODES) as clients:
        watch = Watch(net, clients)
        await watch.next_epoch_everywhere()
        while len(kills) < len(plan) or await watch.head(NODES[0]) < blocks:
            kills.append(await watch.kill_in(*plan[len(kills) % len(plan)]))
            await watch.next_epoch_everywhere()
        assert await watch.have_one_chain()
    return kills


async def sealed_at(net: NetworkRun) -> dict[int, float]:
    """When each block was sealed, in seconds since 1970."""
    times: dict[int, float] = {}
    for block, time_ms in await net.blocks(BlockSealed):
        times.setdefault(block.number, time_ms / 1000)
    return times


def pause_after(kill: Kill, kills: Sequence[Kill], times: Mapping[int, float]) -> float:
    """The longest time between two blocks from this kill to the next one, in seconds."""
    until = min((other.at for other in kills if other.at > kill.at), default=float("inf"))
    spans = [(max(before, kill.at), min(after, until)) for before, after in pairwise(sorted(times.values()))]
    return max((end - start for start, end in spans if start < end), default=0.0)


def figures(kills: Sequence[Kill], times: Mapping[int, float], epochs: int) -> dict[str, object]:
    """What such a run comes to, for who reads it."""
    moments = sorted(times.values())
    gaps = [after - before for before, after in pairwise(moments)]
    one = [pause_after(kill, kills, times) for kill in kills if len(kill.nodes) == 1]
    every = [pause_after(kill, kills, times) for kill in kills if len(kill.nodes) > 1]
    return {
        "blocks": len(times),
        "epochs": epochs,
        "kills": len(kills),
        "of_one": dict(Counter(f"{kill.moment}" for kill in kills if len(kill.nodes) == 1)),
        "of_all": dict(Counter(kill.moment for kill in kills if len(kill.nodes) > 1)),
        "by_node": dict(Counter(node for kill in kills for node in kill.nodes)),
        "seconds": round(moments[-1] - moments[0], 1),
        "block_ms_median": round(1000 * statistics.median(gaps)),
        "block_ms_mean": round(1000 * statistics.mean(gaps)),
        "median_pause_s_one_killed": round(statistics.median(one), 2),
        "longest_pause_s_one_killed": round(max(one), 2),
        "longest_pause_s_all_killed": round(max(every), 2),
    }


@pytest.mark.parametrize(
    ("blocks", "plan"),
    [
        pytest.param(60, SHORT, marks=[pytest.mark.slow], id="short"),
        pytest.param(HOUR_BLOCKS, TURNS + ALL_AT_ONCE, marks=[pytest.mark.full, pytest.mark.timeout(3600)], id="hour"),
    ],
)
async def test_R4_R5_R6_R8_epochs_follow_one_another_with_a_kill_in_every_phase_and_a_light_client_accepts_the_chain_from_genesis(
    here: Place, blocks: int, plan: list[tuple[Sequence[str], str]]
) -> None:
    async with network_up(here, "--interval-ms", "150", **SETTINGS) as net:
        kills = await killed_again_and_again(net, plan, blocks)
        deals, times = await net.dealt(), await sealed_at(net)
    assert {(tuple(kill.nodes), kill.moment) for kill in kills} == {(tuple(nodes), moment) for nodes, moment in plan}
    assert set(deals.values()) == {1}
    reports = {node: net.verified(node) for node in NODES}
    least = min(reports.values(), key=lambda report: report["blocks"])
    print(figures(kills, times, len(least["epochs"])))
    assert least["blocks"] >= blocks
    for report in reports.values():
        assert report["broken"] == ""
        assert report["signed"] == report["blocks"] - report["epochs"][0]["block"]
        assert report["epochs"][: len(least["epochs"])] == least["epochs"]
    assert [epoch["epoch"] for epoch in least["epochs"]] == list(range(1, len(least["epochs"]) + 1))
    accepted = [epoch["block"] for epoch in least["epochs"]]
    assert all(after - before >= INTERVAL for before, after in pairwise(accepted))
    # One epoch at least for each kill: it was waited for.
    assert len(accepted) > len(kills)
    for node in NODES:
        assert set(net.replayed(node).values()) == {True}
