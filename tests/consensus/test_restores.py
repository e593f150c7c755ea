"""Restores of real nodes: killed, kept down while the others go on, some with parts of their disk lost."""

import json
import shutil
from collections import defaultdict

import pytest

from messages.chain_api import Best, Header
from messages.codec import decode
from messages.consensus_manager import AttemptState, Deal, Phase
from tests.consensus.test_testnet import FAST, NODES, in_phase
from tests.consensus.testnets import NetworkRun, network_up
from tests.node.nodes import Place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

OTHERS = ("n1", "n3", "n4")
# Feeds whose turn comes in an hour: meanwhile there is no block.
SILENT = ("--interval-ms", "3600000")


async def height(net: NetworkRun, node: str) -> int:
    best = await net.ask(node, Best())
    return best.number if isinstance(best, Header) else -1


def waits_for(net: NetworkRun, node: str) -> list[str]:
    """What `overseer status` says of the node's feed, if it finds anything wrong with it."""
    done = net.place.run("status", "--data-dir", str(net.folder / node), "--json")
    return [wrong["what"] for wrong in json.loads(done.out)["wrong"] if wrong["about"] == "feed"]


async def test_R2_R3_R7_a_node_that_was_away_for_epochs_begins_nothing_old_finds_its_share_and_serves_again(here: Place) -> None:
    async with network_up(here, "--interval-ms", "300", **FAST) as net:
        await net.epochs_reach(1, *NODES)
        async with net.down("n2"):
            missed = await net.epoch("n1") + 2
            await net.epochs_reach(missed, *OTHERS)
            before = len([node for node, _ in await net.said("opened") if node == "n2"])
        await net.epochs_reach(missed, "n2")

        # It is a member of that group, and has said nothing in the elections that it missed.
        async def has_share() -> bool:
            return missed in await net.held("n2") or await net.epoch("n2") > missed

        await net.until(has_share, "n2 finds its share of the group that serves")
        opened = [node for node, _ in await net.said("opened")][-8:]
        assert opened.count("n2") <= 2, f"{before} before"

        # It serves, behind the head's round.
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


async def test_R1_E24_all_killed_in_mid_election_and_no_block_comes_the_election_is_carried_through_by_stalls(here: Place) -> None:
    async with network_up(here, "--interval-ms", "400", **FAST) as net:
        await net.epochs_reach(1, *NODES)

        async def dealing() -> bool:
            return await in_phase(net, "n1", Phase.DEAL)

        await net.until(dealing, "an election has begun")
        epoch, said = await net.epoch("n1"), len(await net.said("stalled"))
        # The server too, all at one instant.
        here.kill_everything()
    async with network_up(here, *SILENT, **FAST) as net:
        # What was proposed before the kill may still be sealed; then nothing comes.
        found = [await height(net, node) for node in NODES]
        for node in NODES:

            async def complete(node: str = node) -> bool:
                return any(a.state is AttemptState.COMPLETE for a in (await net.attempts(node)).attempts)

            await net.until(complete, f"{node} knows a completed attempt")
        assert await net.epoch("n1") == epoch
        assert max([await height(net, node) for node in NODES]) <= min(found) + 1
        validators = {node for node, _ in (await net.said("stalled"))[said:]}
        assert len(validators) >= 3
        here.kill_everything()
    async with network_up(here, "--interval-ms", "400", **FAST) as net:
        await net.epochs_reach(epoch + 2, *NODES)
        assert net.verified("n3")["broken"] == ""


@pytest.mark.full
async def test_a_chain_that_lost_its_group_says_whose_signature_it_waits_for(here: Place) -> None:
    async with network_up(here, "--interval-ms", "300", **FAST) as net:
        await net.epochs_reach(1, *NODES)
        assert waits_for(net, "n1") == []
        async with net.down("n3", "n4"):

            async def said() -> bool:
                return bool(waits_for(net, "n1"))

            await net.until(said, "n1 says what it waits for")
            (what,) = waits_for(net, "n1")
            epoch, number = await net.epoch("n1"), await height(net, "n1") + 1
            assert what == f"feed: waits for the group of epoch {epoch} to sign block {number}: 2 of 3 parts"
        # They come back with their shares, and it goes on.
        await net.epochs_reach(epoch + 1, *NODES)

        async def quiet() -> bool:
            return not waits_for(net, "n1")

        await net.until(quiet, "n1 waits for nothing")
        async with net.down("n3", "n4"):
            for node in ("n3", "n4"):
                shutil.rmtree(net.folder / node / "sessions")
        lost = await net.epoch("n1")
        for node in NODES:

            async def told(node: str = node) -> bool:
                return any(f"epoch {lost} " in what and what.endswith(": 2 of 3 parts") for what in waits_for(net, node))

            await net.until(told, f"{node} says that two parts are not enough")
        assert [await net.epoch(node) for node in NODES] == [lost] * 4
        assert net.verified("n3")["broken"] == ""
