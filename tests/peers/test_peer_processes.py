"""Peer elections of real nodes over a real bus, whose processes are killed."""

from random import Random

import anyio
import pytest

from messages.peer_queries import ChallengePeers, HoldTokens, PeerHistory, PeerHistoryReport, Peers, PeersReport
from messages.peers import PeerElectionEnd, PeerElectionEnded, TokenMapping
from overseer.cli.common import load_settings
from overseer.node.client import Client, Refused
from overseer.node.folder import NodeFolder, NotRunning
from overseer.ports.bus import BusError
from tests.consensus.testnets import NetworkRun, network_up
from tests.node.nodes import Place, here
from tests.peers.peered import a_universe

__all__ = ["here"]

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

NODES = ("n1", "n2", "n3", "n4")
SUBSYSTEMS = "votes_db,dispute_conclusion,chain_api,elections,consensus_manager"
# No blocks: nothing but peer elections.
SILENT = ("--interval-ms", "3600000")
UNIVERSE = a_universe(20_000)
PAGE = 4_000
DEADLINE_S = 90


async def told(net: NetworkRun, node: str, command: HoldTokens | ChallengePeers, command_id: str) -> None:
    """Its command is accepted, whoever is killed meanwhile."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            try:
                url = NodeFolder(net.folder / node).running().url
                async with Client.connected(load_settings(data_dir=net.folder / node).config, url, "operator", wait_ms=1_000) as client:
                    await client.request(command, command_id=command_id, timeout_ms=3_000)
                    return
            except (BusError, NotRunning, OSError):
                pass
            except Refused as refused:
                if not refused.retriable:
                    raise
            await anyio.sleep(0.05)


async def hold(net: NetworkRun, tokens: list[TokenMapping]) -> None:
    for node in NODES:
        for at in range(0, len(tokens), PAGE):
            await told(net, node, HoldTokens(tokens=tokens[at : at + PAGE]), f"hold {node} {at}")


async def ended(net: NetworkRun, node: str) -> list[PeerElectionEnded]:
    report = await net.ask(node, PeerHistory(limit=500))
    return [each.outcome for each in report.elections] if isinstance(report, PeerHistoryReport) else []


async def connected(net: NetworkRun, node: str) -> set[str]:
    report = await net.ask(node, Peers())
    return {peer.node for peer in report.peers if peer.state == "connected"} if isinstance(report, PeersReport) else set()


async def until_ended(net: NetworkRun, node: str, *tokens: int) -> None:
    async def all_ended() -> bool:
        return {*tokens} <= {each.token for each in await ended(net, node)}

    await net.until(all_ended, f"{node}'s elections about {tokens} have ended")


async def test_P23_a_node_killed_in_mid_election_elects_whom_it_asked_before(here: Place) -> None:
    async with network_up(here, *SILENT, subsystems=SUBSYSTEMS) as net:
        await hold(net, UNIVERSE)
        token = UNIVERSE[123].id
        await told(net, "n1", ChallengePeers(token=token), "challenge")
        net.kill("n1")
        await until_ended(net, "n1", token)
        (outcome,) = [each for each in await ended(net, "n1") if each.token == token]
        assert outcome.end is PeerElectionEnd.ELECTED
        assert outcome.responses >= 2
        assert set(net.replayed("n1").values()) == {True}

        async def knows() -> bool:
            return outcome.winner in {peer.id for peer in (await net.ask("n1", Peers())).peers}  # type: ignore[union-attr]

        await net.until(knows, "the winner is listed")


@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=[pytest.mark.full, pytest.mark.timeout(1_800)])])
async def test_nodes_that_are_killed_again_and_again_end_every_election_once_and_become_peers(here: Place, rounds: int) -> None:
    random = Random(rounds)
    # So many kills are no reason to give up.
    patient = {"supervise__restarts_max": 1_000, "supervise__backoff_max_ms": 500}
    async with network_up(here, *SILENT, subsystems=SUBSYSTEMS, **patient) as net:
        await hold(net, UNIVERSE)
        begun: dict[str, list[int]] = {node: [] for node in NODES}
        for number in range(rounds):
            for node in NODES:
                token = UNIVERSE[1_000 + len(NODES) * number + NODES.index(node)].id
                await told(net, node, ChallengePeers(token=token), f"challenge {number} {node}")
                begun[node].append(token)
            victims = random.sample(NODES, random.randint(1, 2))
            net.kill(*victims)
            for node in NODES:
                await until_ended(net, node, *begun[node])
        for node in NODES:
            asked = [each.token for each in await ended(net, node) if each.token in begun[node]]
            assert sorted(asked) == sorted(begun[node])
            assert set(net.replayed(node).values()) == {True}

            async def has_peers(node: str = node) -> bool:
                return len(await connected(net, node)) >= 2

            await net.until(has_peers, f"{node} has connected peers")
