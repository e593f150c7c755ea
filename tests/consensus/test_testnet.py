"""A network of real processes: epochs follow one another whoever is killed, and a light client accepts the result."""

import os
import signal
from pathlib import Path

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


@pytest.mark.full
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


# The others are in the short hour as well (test_hour.py).
@pytest.mark.parametrize(
    "phase", [Phase.COMPLAIN, *(pytest.param(phase, marks=pytest.mark.full) for phase in Phase if phase is not Phase.COMPLAIN)]
)
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


def process_of(here: Place, node: str, subsystem: str) -> int:
    """The process of a node's subsystem, where each has its own."""
    for pid in here.processes():
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if argv[-3:-1] == [b"subsystem", subsystem.encode()] and f"OVERSEER_NODE={node}".encode() in Path(
            f"/proc/{pid}/environ"
        ).read_bytes().split(b"\0"):
            return pid
    raise LookupError(f"{subsystem} of {node} does not run")


@pytest.mark.full
async def test_a_network_with_a_process_for_each_subsystem_elects_and_outlives_the_kill_of_one(here: Place) -> None:
    async with network_up(here, "--processes", "--interval-ms", "500", **FAST) as net:
        await net.epochs_reach(1, *NODES)
        # Four nodes of four subsystems each, the network's keeper and its server.
        assert len(here.processes()) == 4 * (1 + 4) + 2
        node = net.pid("n2")
        os.kill(process_of(here, "n2", "consensus_manager"), signal.SIGKILL)
        epoch = await net.epoch("n1")
        await net.epochs_reach(epoch + 2, *NODES)
        assert net.pid("n2") == node
        assert net.verified("n2")["broken"] == ""


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
