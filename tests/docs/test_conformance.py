"""The page of conformance names tests and modules, and every scenario of the specs has a test named by its id."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "conformance.md"
# Those of ballot elections over several sites come with the sites.
BALLOTS = [*range(1, 12), 20, 24]
SCENARIOS = [f"D{n:02}" for n in range(1, 29)] + [f"C{n:02}" for n in range(1, 23)] + [f"B{n:02}" for n in BALLOTS]
GATEWAYS = [*range(1, 6), *range(7, 11), 12, 13, *range(15, 20), *range(21, 29)]
SCENARIOS += [f"G{n:02}" for n in GATEWAYS]
SCENARIOS += [f"E{n:02}" for n in range(1, 26)] + [f"R{n}" for n in range(1, 9)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_a_test_and_a_row(scenario: str, tests: set[str]) -> None:
    assert any(f"_{scenario}_" in name for name in tests)
    assert f"| {scenario} |" in PAGE.read_text()


def test_the_page_names_tests() -> None:
    """That they exist is checked on every page (test_snippets.py)."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert named


def test_every_module_that_the_page_names_exists() -> None:
    rules = re.findall(r"`((?:subsystems|overseer|messages)/[^`]+)`", PAGE.read_text())
    assert rules
    for rule in rules:
        folder = ROOT
        for part in rule.split(", "):
            path = ROOT / part if "/" in part else folder / part
            assert path.exists(), part
            folder = path.parent
