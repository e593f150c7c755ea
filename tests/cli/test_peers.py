"""`overseer peers compare` and `tables`: simulated networks at the command line."""

import json
import sys
from pathlib import Path

import pytest

from overseer.cli.app import run_app
from overseer.simulation.peers.figures import FIGURES, drawn
from overseer.simulation.peers.plan import NetworkPlan
from overseer.simulation.peers.tables import TABLES, Row, Table, results
from subsystems.elections.peers.config import PeersConfig, Strategy

SMALL = ["--peers", "6", "--contacts", "0", "--minutes", "1"]


def test_the_strategies_are_compared_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["peers", "compare", *SMALL]) == 0
    shown = capsys.readouterr().out
    assert all(strategy in shown for strategy in Strategy)
    assert {"success", "messages", "responders", "p99"} <= set(shown.split())


def test_the_same_seed_compares_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def compared(seed: str) -> dict[str, dict[str, object]]:
        assert run_app(["peers", "compare", *SMALL, "--seed", seed, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    first = compared("1")
    assert set(first) == set(Strategy)
    assert {"success_percent", "messages_per_election", "p50_ms", "responders"} <= set(first["greedy"])
    assert compared("1") == first
    assert compared("2") != first


def test_a_table_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["peers", "tables", "--only", "pairs,densty"]) == 2
    assert "Did you mean densities?" in capsys.readouterr().err


def small() -> Table:
    plan = NetworkPlan(seed=1, peers=4, minutes=1)
    return Table(lambda: iter([Row("one", plan, at=80), Row("other", plan, at=99)]), ("success_percent", "p99_ms"))


def test_tables_are_markdown_or_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("overseer.simulation.peers.tables.TABLES", {"densities": small()})
    assert run_app(["peers", "tables", "--only", "densities"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "densities"
    assert len({line.count("|") for line in lines[3:7]}) == 1
    assert run_app(["peers", "tables", "--only", "densities", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["densities"]) == {"one", "other"}


def test_without_matplotlib_pictures_are_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_app(["peers", "tables", "--out", str(tmp_path / "pictures")]) == 2
    assert "pip install -e '.[plots]'" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()


def test_only_tables_that_there_are_have_pictures() -> None:
    assert set(FIGURES) <= set(TABLES)


def test_the_pictures_are_drawn_and_small(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in FIGURES:
        plans = [NetworkPlan(seed=1, peers=4, minutes=1, config=PeersConfig(strategy=strategy)) for strategy in Strategy]
        rows = [Row(f"row {n}", plans[n % 4], at=10 * n) for n in range(5 if name == "densities" else 8)]
        table = Table(lambda rows=rows: iter(rows), ())
        (path,) = drawn(name, list(results(table)), tmp_path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 80_000
    assert "matplotlib" in sys.modules
