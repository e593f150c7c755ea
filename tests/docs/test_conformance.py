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
SCENARIOS += [f"P{n:02}" for n in range(1, 28)]
# Tests that the specification of peer elections asks for by name.
WANTED = (
    "test_start_election",
    "test_handle_answer_routes_to_correct_election",
    "test_election_completes_on_consensus",
    "test_split_brain_spawns_more_channels",
    "test_election_timeout_cleanup",
    "test_winner_added_to_peer_list",
    "test_peer_eviction_on_overflow",
    "test_full_election_with_message_routing",
    "test_continuous_reelection",
    "test_split_brain_resolution_in_network",
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_a_test_and_a_row(scenario: str, tests: set[str]) -> None:
    assert any(f"_{scenario}_" in name for name in tests)
    assert f"| {scenario} |" in PAGE.read_text()


@pytest.mark.parametrize("name", WANTED)
def test_a_test_that_was_asked_for_by_name_exists(name: str, tests: set[str]) -> None:
    assert name in tests


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
