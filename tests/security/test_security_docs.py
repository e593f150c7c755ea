"""docs/security.md says nothing that no test shows."""

import ast
import re
from pathlib import Path

from typer.testing import CliRunner

from overseer.cli.app import app

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()


def names_of_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found.add(node.name)
    return found


def test_every_line_of_the_threat_model_names_a_test_that_exists() -> None:
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("|") and line not in ("| | test |", "|---|---|")]
    assert len(rows) > 40
    for row in rows:
        assert re.fullmatch(r"\| can(not)? .+ \| `test_\w+` \|", row), row


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    assert named - names_of_tests() == set()


def test_every_attacker_has_a_table() -> None:
    attackers = ("Outsider", "Compromised subsystem", "Compromised validator", "Operator", "Reader", "Operator of the bus")
    for attacker in (*attackers, "Malicious node on the network"):
        section = DOCUMENT.partition(f"\n## {attacker}\n")[2].partition("\n## ")[0]
        assert "| cannot " in section, attacker


def test_the_commands_that_are_named_exist() -> None:
    for words in set(re.findall(r"`overseer (keys \w+|provision --accounts)", DOCUMENT)):
        shown = CliRunner().invoke(app, [*words.split(), "--help"])
        assert shown.exit_code == 0, words
