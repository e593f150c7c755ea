"""The release that code names is the one that is built, and versions are compared by number."""

import tomllib
from pathlib import Path

import pytest

from overseer.node.catalogue import SECTIONS
from overseer.release import RELEASE, is_newer
from overseer.settings import load_config, settings_toml

ROOT = Path(__file__).parents[2]


def test_the_release_is_that_of_the_package() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == RELEASE


@pytest.mark.parametrize(
    ("release", "than", "newer"),
    [("0.2.0", "0.1.9", True), ("0.10.0", "0.9.0", True), ("0.1.0", "0.1.0", False), ("0.1.0", "0.2.0", False), ("", "0.1.0", False)],
)
def test_releases_are_compared_by_their_numbers(release: str, than: str, newer: bool) -> None:
    assert is_newer(release, than) is newer


def test_settings_that_are_kept_give_the_same_again(tmp_path: Path) -> None:
    environ = {"OVERSEER_FEED_INTERVAL_MS": "250", "OVERSEER_NATS_PORT": "4333", "OVERSEER_SUBSYSTEMS": "votes_db,chain_api"}
    flags = {"elections.sites": 5, "node": "alpha", "genesis": "ab" * 32, "data_dir": tmp_path / "data"}
    told = load_config(environ=environ, flags=flags, sections=SECTIONS, folder=tmp_path)
    (tmp_path / "settings.toml").write_text(settings_toml(told, without=["nats.port"], instead={"network.nodes": "network"}))
    again = load_config(tmp_path / "settings.toml", environ={}, sections=SECTIONS)
    differ = {one.key for one, other in zip(told.settings, again.settings, strict=True) if one.value != other.value}
    assert differ == {"nats.port", "network.nodes"}
    assert again.config.network.nodes == tmp_path / "network"
