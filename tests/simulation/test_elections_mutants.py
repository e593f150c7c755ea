"""The judges of elections bite: every guard of the election protocol, broken in turn, is noticed within sixty seeds.

One is known by its seed alone (1231): a defect that the simulation found, which takes that many.

`FOUND` has for each mutant where it was found first: in which scenario, by which seed, by which checker. A change of the scenario or of
the runtime may move a seed: then the first sixty are tried, and `python tests/simulation/test_elections_mutants.py` writes the table anew.
"""

import sys
from typing import NamedTuple

import pytest
from mutants_of_elections import ELECTION_MUTANTS

from overseer.simulation.campaign import cases
from overseer.simulation.run import play

SEEDS_MAX = 60
SCENARIOS = ("elections", "elections:few_copies", "elections:takeovers", "elections:disks_lost", "elections:log_lost")


class Find(NamedTuple):
    """Where a mutant was noticed."""

    scenario: str
    seed: int
    checker: str


def played(name: str, scenario: str, seed: int) -> str:
    """The checker that noticed, or ""."""
    case = next(cases(scenario, [seed], nodes=None, hours=None, faults=None))
    with ELECTION_MUTANTS[name]():
        return play(case).checker


def noticed(name: str) -> Find | None:
    """By the seed that noticed it before, or else by the first of sixty."""
    known = FOUND[name]
    for seed in (known.seed, *(seed for seed in range(SEEDS_MAX) if seed != known.seed)):
        checker = played(name, known.scenario, seed)
        if checker:
            return known._replace(seed=seed, checker=checker)
    return None


FOUND: dict[str, Find] = {
    # Before the log.
    "one_acknowledgement_is_enough": Find("elections", 0, "copies"),
    "acknowledged_before_it_is_stored": Find("elections", 53, "copies"),
    "acknowledged_over_a_gap": Find("elections", 0, "copies"),
    "prepared_is_applied": Find("elections", 0, "fail-stop"),
    "answered_before_the_log": Find("elections", 0, "told"),
    "what_was_given_up_is_not_barred": Find("elections:few_copies", 0, "copies"),
    # The log.
    "no_compare_and_set": Find("elections:few_copies", 1, "fail-stop"),
    "unknown_outcome_taken_as_appended": Find("elections", 0, "fail-stop"),
    "unknown_outcome_taken_as_refused": Find("elections", 0, "copies"),
    "its_own_by_number_alone": Find("elections", 1, "told"),
    "a_fenced_writer_goes_on": Find("elections:takeovers", 2, "liveness"),
    "a_writer_outlives_a_snapshot": Find("elections", 1231, "liveness"),
    # Recovery.
    "no_barrier": Find("elections", 0, "refused"),
    "epoch_not_raised": Find("elections", 0, "refused"),
    "served_before_the_tail": Find("elections:log_lost", 0, "served"),
    "the_log_restarts_from_one_copy": Find("elections", 1, "fail-stop"),
    "the_log_restarts_without_what_is_prepared": Find("elections:log_lost", 4, "told"),
    "connected_by_number_alone": Find("elections:log_lost", 21, "equal"),
    "barriers_of_a_lost_log_contradict": Find("elections:log_lost", 26, "fail-stop"),
    # Once only.
    "ids_are_forgotten": Find("elections", 0, "refused"),
    "ids_are_not_in_snapshots": Find("elections:disks_lost", 3, "order"),
    "one_id_for_any_body": Find("elections", 0, "told"),
    # Readers.
    "readers_get_what_there_is": Find("elections:takeovers", 4, "reads"),
    "never_behind": Find("elections:disks_lost", 13, "reads"),
}

# Found at once: a sample of every kind of guard.
QUICK = tuple(name for name, find in FOUND.items() if find.seed == 0)


def test_every_mutant_has_its_place_in_the_table() -> None:
    assert set(FOUND) == set(ELECTION_MUTANTS)
    assert len(ELECTION_MUTANTS) >= 12


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_guard_of_elections_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {ELECTION_MUTANTS[name].__doc__}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FOUND if name not in QUICK])
def test_every_broken_guard_of_elections_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {ELECTION_MUTANTS[name].__doc__}"


def first(name: str) -> Find | None:
    for seed in range(SEEDS_MAX):
        for scenario in SCENARIOS:
            checker = played(name, scenario, seed)
            if checker:
                return Find(scenario, seed, checker)
    return None


def main(names: list[str]) -> None:
    """Print where each is found now."""
    for name in names or list(ELECTION_MUTANTS):
        found = first(name)
        text = f'Find("{found.scenario}", {found.seed}, "{found.checker}")' if found is not None else "None"
        print(f'    "{name}": {text},', flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
