"""docs/security.md says nothing that no test shows."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()


def test_every_line_of_the_threat_model_names_a_test() -> None:
    """That it exists is checked on every page (tests/docs/test_snippets.py)."""
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("|") and line not in ("| | test |", "|---|---|")]
    assert len(rows) > 40
    for row in rows:
        assert re.fullmatch(r"\| can(not)? .+ \| `test_\w+` \|", row), row


def test_every_attacker_has_a_table() -> None:
    attackers = ("Outsider", "Compromised subsystem", "Compromised validator", "Operator", "Reader", "Operator of the bus")
    for attacker in (*attackers, "Malicious node on the network"):
        section = DOCUMENT.partition(f"\n## {attacker}\n")[2].partition("\n## ")[0]
        assert "| cannot " in section, attacker
