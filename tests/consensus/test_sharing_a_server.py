"""Several nodes on one NATS: accounts from each other's public files, streams of their own and one together."""

from pathlib import Path

import pytest

from messages.consensus_manager import Confirm
from messages.subjects import build, net_stream, node_stream
from overseer.cli.common import load_settings
from overseer.consensus.roster import BadNetwork, read_network
from overseer.consensus.trust import NodeTrust
from overseer.nats.accounts import PROVISIONER
from overseer.nats.provision import call
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.node.bus import connected_as, describe, node_accounts, provisioned
from overseer.node.catalogue import build_subsystems
from overseer.ports.bus import BusDenied
from overseer.settings import Loaded

pytestmark = pytest.mark.anyio

NODES = ("alpha", "beta")
MB = 1024**2


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Loaded]:
    """Two nodes that have told each other who they are."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "nodes"
    folder.mkdir()
    monkeypatch.setenv("OVERSEER_NETWORK_NODES", str(folder))
    monkeypatch.setenv("OVERSEER_NATS_STREAM_BYTES_MAX", str(8 * MB))
    found: dict[str, Loaded] = {}
    for node in NODES:
        found[node] = load_settings(data_dir=tmp_path / node, node=node)
        (folder / f"{node}.json").write_text(describe(found[node].config, declarations(found[node])).to_json())
    return found


def declarations(loaded: Loaded):
    return [subsystem.declaration for subsystem in build_subsystems(loaded).values()]


def test_what_a_node_tells_of_itself_holds_no_secret(network: dict[str, Loaded], tmp_path: Path) -> None:
    told = "".join(path.read_text() for path in (tmp_path / "nodes").iterdir())
    secrets = [path for node in NODES for path in (tmp_path / node).rglob("*") if path.suffix in (".key", ".nk")]
    assert len(secrets) > 10
    assert not [path for path in secrets if path.read_text().strip() in told]


def test_each_node_trusts_the_keys_of_the_others_and_nobody_elses(network: dict[str, Loaded]) -> None:
    alpha, beta = (NodeTrust.of(network[node].config) for node in NODES)
    assert alpha.key_of("beta") == beta.key_of("beta") != alpha.key_of("alpha") == beta.key_of("alpha")
    assert alpha.key_of("gamma") is None


def test_a_node_whose_file_lacks_a_user_is_named(network: dict[str, Loaded], tmp_path: Path) -> None:
    beta = read_network(tmp_path / "nodes")["beta"]
    (tmp_path / "nodes" / "gamma.json").write_text(beta.to_json())
    with pytest.raises(BadNetwork, match="gamma"):
        node_accounts(network["alpha"].config, declarations(network["alpha"]))


@pytest.mark.real
async def test_both_provision_one_server_and_neither_speaks_for_the_other(network: dict[str, Loaded], tmp_path: Path) -> None:
    alpha = network["alpha"]
    text = node_accounts(alpha.config, declarations(alpha))
    async with EmbeddedServer(tmp_path / "nats", text, settings=ServerSettings(store_bytes_max=6 * 1024 * MB)) as server:
        for node, loaded in network.items():
            async with connected_as(loaded.config, server.url, PROVISIONER) as manage:
                done = await provisioned(loaded.config, manage, declarations(loaded), None)
                created = {change.name for change in done}
                assert {node_stream(node), f"{net_stream()}/{node}-consensus_manager"} <= created
                assert (net_stream() in created) == (node == "alpha")
                assert await provisioned(loaded.config, manage, declarations(loaded), None) == []
        config = network["beta"].config
        async with connected_as(config, server.url, "consensus_manager") as beta:
            own = await beta.request(build("beta", "consensus_manager", Confirm.spec), b"x", timeout_ms=5_000)
            assert net_stream().encode() in own.body
            with pytest.raises(BusDenied):
                await beta.request(build("alpha", "consensus_manager", Confirm.spec), b"x", timeout_ms=5_000)
            with pytest.raises(BusDenied):
                await call(beta, f"STREAM.INFO.{node_stream('alpha')}")
