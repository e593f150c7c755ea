"""Restores of real nodes: killed, kept down while the others go on, some with parts of their disk lost."""

import shutil
from collections import defaultdict

import pytest

from messages.codec import decode
from messages.consensus_manager import AttemptState, Deal, Phase
from tests.consensus.test_testnet import FAST, NODES, in_phase
from tests.consensus.testnets import network_up
from tests.node.nodes import Place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

OTHERS = ("n1", "n3", "n4")


async def test_R2_R3_R7_a_node_that_was_away_for_epochs_begins_nothing_old_stays_out_without_a_key_and_serves_again(here: Place) -> None:
    async with network_up(here, "--interval-ms", "300", **FAST) as net:
        await net.epochs_reach(1, *NODES)
        async with net.down("n2"):
            missed = await net.epoch("n1") + 2
            await net.epochs_reach(missed, *OTHERS)
            before = len([node for node, _ in await net.said("opened") if node == "n2"])
        await net.epochs_reach(missed, "n2")
        # It is a member of that group, without a share: it has said nothing in the elections that it missed, stays out, and follows.
        assert missed not in await net.held("n2")
        opened = [node for node, _ in await net.said("opened")][-8:]
        assert opened.count("n2") <= 2, f"{before} before"
        # It serves in a group that it was drawn for, behind the head's round.
        await net.epochs_reach(missed + 2, *NODES)

        async def serves() -> bool:
            return bool({await net.epoch("n2")} & set(await net.held("n2")))

        await net.until(serves, "n2 has a share of the serving group")
        parts = len([node for node, _ in await net.said("block_partial") if node == "n2"])

        async def signs() -> bool:
            return len([node for node, _ in await net.said("block_partial") if node == "n2"]) > parts

        await net.until(signs, "n2 signs blocks again")
        assert net.verified("n2")["broken"] == ""


async def test_R6_a_key_that_was_complete_serves_once_the_node_sees_its_block(here: Place) -> None:
    async with network_up(here, "--interval-ms", "400", **FAST) as net:

        async def complete() -> bool:
            return any(a.state is AttemptState.COMPLETE for a in (await net.attempts("n2")).attempts)

        await net.until(complete, "n2 knows a completed attempt")
        epoch = await net.epoch("n2")
        async with net.down("n2"):
            await net.epochs_reach(epoch + 1, *OTHERS)
        await net.epochs_reach(epoch + 1, "n2")
        assert epoch + 1 in await net.held("n2")


async def test_R5_a_member_that_lost_its_store_while_dealing_deals_nothing_else(here: Place) -> None:
    async with network_up(here, "--interval-ms", "500", **FAST) as net:

        async def dealt() -> bool:
            return any(a.dealt for a in (await net.attempts("n2")).attempts) and await in_phase(net, "n2", Phase.DEAL)

        await net.until(dealt, "n2 deals")
        async with net.down("n2"):
            shutil.rmtree(net.folder / "n2" / "stores" / "consensus_manager")
        epoch = await net.epoch("n1")
        await net.epochs_reach(epoch + 2, *NODES)
        deals: defaultdict[tuple[str, bytes], set[bytes]] = defaultdict(set)
        for node, body in await net.said("deal"):
            deal = decode(Deal.spec, body)
            assert isinstance(deal, Deal)
            deals[node, deal.session].add(body)
        assert {len(bodies) for bodies in deals.values()} == {1}
        assert net.verified("n2")["broken"] == ""
