"""The judges of consensus groups bite: every rule, broken in turn, is noticed.

`FOUND` has a seed that notices it, and by which checker. A change of the scenario may move a seed: then the first ten are tried, and
`python tests/simulation/test_consensus_mutants.py` prints the table anew.
"""

import sys
from typing import NamedTuple

import pytest
from mutants_of_consensus import CONSENSUS_MUTANTS

from overseer.simulation.campaign import cases
from overseer.simulation.run import play

SEEDS = range(1, 11)


class Find(NamedTuple):
    """Where a mutant was noticed."""

    seed: int
    checker: str


def noticed(name: str) -> Find | None:
    """By the seed that noticed it before, or else by one of the first ten. Large networks tell no more and take long."""
    known = [FOUND[name].seed] if name in FOUND else []
    for case in cases("consensus", [*known, *SEEDS], nodes=4, hours=None, faults=None):
        with CONSENSUS_MUTANTS[name]():
            outcome = play(case)
        if outcome.violation is not None:
            return Find(case.seed, outcome.checker)
    return None


FOUND: dict[str, Find] = {
    # The DKG.
    "dealt_anew_when_asked_again": Find(1, "dkg"),
    "what_waited_is_taken_last_first": Find(6, "dkg"),
    "what_waited_is_forgotten": Find(1, "dkg"),
    "transcripts_by_arrival": Find(1, "dkg"),
    "unfit_partials_are_taken": Find(6, "replay"),
    "shares_are_added_twice": Find(1, "liveness"),
    # Acceptance and handover.
    "the_interval_is_one_block_shorter": Find(1, "groups"),
    "any_attempt_is_in_time": Find(22, "groups"),
    "two_groups_in_a_block": Find(27, "signing"),
    "the_latest_group_serves_on_every_fork": Find(2, "groups"),
    "the_seed_is_of_the_head": Find(1, "liveness"),
    # Signing.
    "a_second_child_is_signed": Find(9, "signing"),
    "what_is_combined_is_not_checked": Find(5, "liveness"),
    "whoever_says_a_part_first_has_its_place": Find(5, "liveness"),
}


def test_every_mutant_of_consensus_has_its_place_in_the_table() -> None:
    assert set(FOUND) == set(CONSENSUS_MUTANTS)
    assert len(CONSENSUS_MUTANTS) >= 8


# That a chain stands still is found out by waiting for long.
LONG = [name for name, find in FOUND.items() if find.checker == "liveness"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.full) if name in LONG else name for name in FOUND])
def test_every_broken_rule_of_consensus_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {CONSENSUS_MUTANTS[name].__doc__}"


def main(names: list[str]) -> None:
    """Print the rows of these mutants, or of all, as each is found now."""
    for name in names or list(CONSENSUS_MUTANTS):
        found = noticed(name)
        print(f'    "{name}": Find({found.seed}, "{found.checker}"),' if found is not None else f"    # {name} LIVES", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
