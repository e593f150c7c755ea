"""The files by which the nodes of a network know each other."""

from pathlib import Path

import pytest

from overseer.cli.common import load_settings
from overseer.consensus.roster import BadNetwork, Described, read_network
from overseer.node.catalogue import build_subsystem
from overseer.settings import ConfigError
from subsystems.consensus_manager.subsystem import ConsensusManager


def described(node: str, number: int) -> Described:
    return Described(node=node, signing=bytes([number] * 32).hex(), box=bytes([number + 1] * 32).hex())


def folder_of(tmp_path: Path, *nodes: Described) -> Path:
    folder = tmp_path / "nodes"
    folder.mkdir()
    for node in nodes:
        (folder / f"{node.node}.json").write_text(node.to_json())
    return folder


def test_what_a_node_says_of_itself_is_read_back(tmp_path: Path) -> None:
    one, two = described("one", 1), described("two", 3)
    assert dict(read_network(folder_of(tmp_path, two, one))) == {"one": one, "two": two}
    assert read_network(None) == {}


def test_files_that_cannot_be_right_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadNetwork, match="no such folder"):
        read_network(tmp_path / "nodes")
    folder = folder_of(tmp_path, described("one", 1))
    (folder / "two.json").write_text(described("one", 1).to_json())
    with pytest.raises(BadNetwork, match="describes the node 'one'"):
        read_network(folder)
    (folder / "two.json").write_text(described("two", 1).to_json())
    with pytest.raises(BadNetwork, match="one signing key"):
        read_network(folder)
    (folder / "two.json").write_text('{"node": "two", "signing": "00", "box": "00"}')
    with pytest.raises(BadNetwork, match="32 bytes"):
        read_network(folder)
    (folder / "two.json").write_text("{")
    with pytest.raises(BadNetwork, match="overseer provision --describe"):
        read_network(folder)


def test_the_catalogue_makes_the_subsystem_with_the_networks_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERSEER_NETWORK_NODES", str(folder_of(tmp_path, described("one", 1), described("two", 3))))
    monkeypatch.setenv("OVERSEER_CONSENSUS_MANAGER_INTERVAL", "7")
    monkeypatch.setenv("OVERSEER_CONSENSUS_MANAGER_MIN_CONFIRMATIONS", "3")
    built = build_subsystem("consensus_manager", load_settings(data_dir=tmp_path / "data"))
    assert isinstance(built, ConsensusManager)
    assert [each.signing for each in built.config.enrolled] == [bytes([1] * 32), bytes([3] * 32)]
    assert (built.config.parameters.interval, built.config.parameters.confirmations) == (7, 3)
    assert not (tmp_path / "data").exists()
    monkeypatch.setenv("OVERSEER_CONSENSUS_MANAGER_GROUP_SIZE", "5")
    with pytest.raises(ConfigError, match="3f \\+ 1"):
        load_settings(data_dir=tmp_path / "data")
