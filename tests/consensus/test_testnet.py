"""A network of real processes: epochs follow one another whoever is killed, and a light client accepts the result."""

import pytest

from messages.consensus_manager import AttemptState, Phase
from tests.consensus.testnets import NetworkRun, network_up
from tests.node.nodes import Place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

NODES = ("n1", "n2", "n3", "n4")
FAST = {"consensus_manager__interval": 5, "consensus_manager__min_confirmations": 3, "consensus_manager__stall_ms": 3_000}


async def in_phase(net: NetworkRun, node: str, phase: Phase) -> bool:
    """Whether an attempt runs there, in that phase."""
    return any(a.state is AttemptState.RUNNING and a.phase is phase for a in (await net.attempts(node)).attempts)


async def test_epochs_follow_one_another_and_a_light_client_accepts_them(here: Place) -> None:
    async with network_up(here, "--interval-ms", "200", **FAST) as net:
        await net.epochs_reach(2, *NODES)
        reports = [net.verified(node) for node in NODES]
    for report in reports:
        assert report["broken"] == ""
        assert report["signed"] == report["blocks"] - report["epochs"][0]["block"]
    shortest = min(len(report["epochs"]) for report in reports)
    assert shortest >= 2
    assert all(report["epochs"][:shortest] == reports[0]["epochs"][:shortest] for report in reports)


@pytest.mark.parametrize("phase", list(Phase))
async def test_R4_a_member_killed_in_a_phase_comes_back_and_the_next_epoch_is_signed(here: Place, phase: Phase) -> None:
    async with network_up(here, "--interval-ms", "400", **FAST) as net:

        async def there() -> bool:
            return await in_phase(net, "n2", phase)

        await net.until(there, f"n2 is in the phase {phase.value}")
        epoch = max([await net.epoch(node) for node in NODES])
        net.kill("n2")
        await net.epochs_reach(epoch + 2, *NODES)
        report = net.verified("n2")
    assert report["broken"] == ""
    assert len(report["epochs"]) >= epoch + 2


async def test_R8_R1_all_nodes_killed_at_once_in_mid_election_go_on(here: Place) -> None:
    async with network_up(here, "--interval-ms", "400", **FAST) as net:
        await net.epochs_reach(1, "n1")

        async def dealing() -> bool:
            return await in_phase(net, "n1", Phase.DEAL) or await in_phase(net, "n1", Phase.COMPLAIN)

        await net.until(dealing, "an election has begun")
        epoch = await net.epoch("n1")
        net.kill(*NODES)
        await net.epochs_reach(epoch + 2, *NODES)
        assert net.verified("n3")["broken"] == ""
