"""The page of conformance names tests that exist, and every scenario of the specs has a test named by its id."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "conformance.md"
# Those of ballot elections over several sites come with the sites.
BALLOTS = [*range(1, 12), 20, 24]
SCENARIOS = [f"D{n:02}" for n in range(1, 29)] + [f"C{n:02}" for n in range(1, 23)] + [f"B{n:02}" for n in BALLOTS]


@pytest.fixture(scope="module")
def tests() -> set[str]:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^\s*(?:async )?def (test_\w+)", source, re.MULTILINE)}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_a_test_and_a_row(scenario: str, tests: set[str]) -> None:
    assert any(f"_{scenario}_" in name for name in tests)
    assert f"| {scenario} |" in PAGE.read_text()


def test_every_test_that_the_page_names_exists(tests: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert named
    assert named - tests == set()


def test_every_module_that_the_page_names_exists() -> None:
    for rule in re.findall(r"`((?:subsystems|overseer|messages)/[^`]+)`", PAGE.read_text()):
        folder = ROOT
        for part in rule.split(", "):
            path = ROOT / part if "/" in part else folder / part
            assert path.exists(), part
            folder = path.parent
