"""An act of the demo: four nodes of a network elect who signs its chain; one is killed while they make the next key, and signs again."""

from collections import Counter
from collections.abc import Callable, Iterator

import anyio
import msgspec

from messages.codec import decode
from messages.consensus_manager import (
    Attempt,
    AttemptReport,
    Attempts,
    AttemptsReport,
    AttemptState,
    BlockPartial,
    Deal,
    Epoch,
    EpochReport,
    Group,
    GroupReport,
    Phase,
)
from overseer.demo.network import NODES, Network, Standing
from overseer.demo.playing import LOOK_AGAIN_S, PATIENCE_S, Unexpected
from overseer.feeds.keyring import derive

__all__ = ["SCENES", "Grouped", "Groups"]

# How many scenes the act has.
SCENES = 7


class Grouped(msgspec.Struct, kw_only=True):
    """What came of it. `killed`, a node, in `phase` of the DKG for the group of `epoch`; `back_ms` from then until it signs again.

    `share`: it has its share of that group's key (of a later one's, where another attempt elected that group). `deals`: said in all
    `sessions`; `dealt_twice`: by a node that had dealt there. `chains`: nodes whose blocks a light client accepts from genesis; the
    shortest of them has so many `epochs` and `blocks`, of which `signed` carry their group's signature.
    """

    nodes: int = NODES
    killed: str = ""
    phase: str = ""
    epoch: int = 0
    back_ms: int = 0
    share: bool = False
    sessions: int = 0
    deals: int = 0
    dealt_twice: int = 0
    chains: int = 0
    epochs: int = 0
    blocks: int = 0
    signed: int = 0


class Groups:
    """The act. `told` hears of each scene."""

    def __init__(self, network: Network, seed: str, *, told: Callable[[str], None]) -> None:
        self._network = network
        self._told = told
        self.grouped = Grouped()
        self._victim = network.nodes[derive(seed, "groups", 0)[0] % len(network.nodes)]
        self._others = [node for node in network.nodes if node != self._victim]
        self._interrupted: Attempt | None = None

    async def play(self) -> None:
        """While the network is up. Raises Unexpected, Refused, BusError, ApiError."""
        await self._scenes()
        await self._count_deals()

    async def _scenes(self) -> None:
        network, told = self._network, self._told
        told(f"Another network is up: {NODES} nodes, a process each, who make one chain together. They elect who signs it.")
        await network.until(lambda: self._all_in(1), "a group is elected")
        first = self._epoch()
        told(f"Group {first} is elected: no node has its key, each has a share. No block comes any more unless three of four sign it.")
        await network.until(lambda: self._all_in(first + 1), "the next group is elected")
        told(f"Handover: the last block that group {first} signed names group {self._epoch()}.")
        killed_at = await self._kill()
        epoch = self.grouped.epoch
        await network.until(lambda: all(self._in(node, epoch) for node in self._others), "the next group is elected without it")
        told(f"Group {epoch} is elected all the same, and signs. {self._victim} starts again.")
        await network.until(self._is_back, f"{self._victim} has its share")
        await self._signs(epoch)
        self.grouped.back_ms = max(1, round(1000 * (anyio.current_time() - killed_at)))
        accepted = await self._group(epoch)
        await network.until(lambda: self._all_beyond(accepted.number), "the next group's blocks are everywhere")
        told(f"{self._victim} signs again, {self.grouped.back_ms / 1000:.1f} s after the kill, with the share it had begun to make.")

    # -------------------------------------------------------------------------------------------- where they are

    def _standing(self, node: str) -> Standing | None:
        return self._network.standing[node]

    def _in(self, node: str, epoch: int) -> bool:
        standing = self._standing(node)
        return standing is not None and standing.epoch >= epoch

    def _all_in(self, epoch: int) -> bool:
        return all(self._in(node, epoch) for node in self._network.nodes)

    def _all_beyond(self, number: int) -> bool:
        return all(standing is not None and standing.number > number for standing in self._network.standing.values())

    def _epoch(self) -> int:
        """Of those who are farthest."""
        return max(standing.epoch for standing in self._network.standing.values() if standing is not None)

    def _is_back(self) -> bool:
        """Whether it has its share of the key that was being made when it was killed, or of a later one."""
        standing = self._standing(self._victim)
        return standing is not None and max(standing.shares, default=0) >= self.grouped.epoch

    # -------------------------------------------------------------------------------------------- the kill

    async def _kill(self) -> float:
        """In mid-DKG; when."""
        victim = self._victim
        with anyio.move_on_after(PATIENCE_S):
            while True:
                now, report = await self._network.ask(victim, Epoch()), await self._network.ask(victim, Attempts())
                assert isinstance(now, EpochReport)
                assert isinstance(report, AttemptsReport)
                for row in report.attempts:
                    # The two answers may be of different blocks.
                    if _is_in_mid_dkg(row) and row.attempt.epoch_start == now.epoch_start:
                        self._network.kill(victim)
                        self.grouped.killed, self.grouped.phase = victim, row.phase.value
                        self.grouped.epoch, self._interrupted = now.epoch + 1, row.attempt
                        self._told(f"{victim} is killed while group {now.epoch + 1} makes its key: all have dealt, none has a share.")
                        return anyio.current_time()
                await anyio.sleep(LOOK_AGAIN_S)
        raise Unexpected(f"{victim} never came to the middle of a DKG")

    async def _signs(self, epoch: int) -> None:
        """Until the node that was killed has said its part of a block's signature, of that epoch or a later one."""
        with anyio.move_on_after(PATIENCE_S):
            while True:
                body = await self._network.last_said(self._victim, BlockPartial.spec.name)
                partial = None if body is None else decode(BlockPartial.spec, body)
                if isinstance(partial, BlockPartial) and partial.epoch >= epoch:
                    return
                await anyio.sleep(LOOK_AGAIN_S)
        raise Unexpected(f"{self._victim} signs no block of epoch {epoch}")

    # -------------------------------------------------------------------------------------------- counting

    async def _count_deals(self) -> None:
        grouped = self.grouped
        group = await self._group(grouped.epoch)
        grouped.share = group.held or (group.attempt != self._interrupted and self._is_back())
        dealt: Counter[tuple[str, bytes]] = Counter()
        for node, body in await self._network.said(Deal.spec.name):
            deal = decode(Deal.spec, body)
            assert isinstance(deal, Deal)
            dealt[node, deal.session] += 1
        grouped.sessions = len({session for _, session in dealt})
        grouped.deals = dealt.total()
        grouped.dealt_twice = sum(count > 1 for count in dealt.values())

    async def conclude(self) -> list[str]:
        """When the network has ended: by a light client, from genesis, every difference from what it must come to. Raises Unexpected."""
        self._told("The network has ended. A light client goes through the chain in each node's journal, from genesis on.")
        reports = {node: await self._network.verified(node) for node in self._network.nodes}
        sound = [report for report in reports.values() if not report.broken]
        fewest = min(sound or reports.values(), key=lambda report: report.blocks)
        self.grouped.epochs, self.grouped.blocks, self.grouped.signed = len(fewest.epochs), fewest.blocks, fewest.signed
        broken: list[str] = []
        for node, report in reports.items():
            wrong = report.broken or ("" if report.epochs[: len(fewest.epochs)] == fewest.epochs else "other epochs than at the rest")
            self.grouped.chains += not wrong
            if wrong:
                broken.append(f"groups: the chain of {node}: {wrong}")
        return [*broken, *_differences(self.grouped)]

    async def _group(self, epoch: int) -> GroupReport:
        """By the node that was killed."""
        report = await self._network.ask(self._victim, Group(epoch=epoch))
        assert isinstance(report, GroupReport)
        return report


def _is_in_mid_dkg(row: AttemptReport) -> bool:
    """All members have dealt, the node itself among them, and nobody has the key yet."""
    running = row.state is AttemptState.RUNNING and row.place is not None
    return running and row.phase in (Phase.COMPLAIN, Phase.JUSTIFY) and row.dealt == row.members


def _differences(grouped: Grouped) -> Iterator[str]:
    for what, found, wanted in (
        ("deals by who had dealt", grouped.dealt_twice, 0),
        ("chains that a light client accepts", grouped.chains, grouped.nodes),
        (f"share of group {grouped.epoch} at {grouped.killed}", grouped.share, True),
    ):
        if found != wanted:
            yield f"groups: {what}: {found}, expected {wanted}"
    # A group that signed nothing is none: its accepting block is signed by the one before.
    if grouped.epochs < grouped.epoch or not grouped.signed:
        yield f"groups: epochs: {grouped.epochs}, expected {grouped.epoch} at least"
