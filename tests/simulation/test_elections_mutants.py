"""The judges of elections bite: every guard of the election protocol, broken in turn, is noticed within 120 seeds.

`FOUND` has for each mutant where it was found first: in which scenario, by which seed, by which checker. A change of the scenario or of
the runtime may move a seed: then the first 120 are tried, and `python tests/simulation/test_elections_mutants.py` prints the table anew.
"""

import pytest
from mutants_of_elections import ELECTION_MUTANTS
from noticing import Find, Table

from overseer.simulation.campaign import cases
from overseer.simulation.run import play

SCENARIOS = ("elections", "elections:few_copies", "elections:takeovers", "elections:disks_lost", "elections:log_lost")

FOUND: dict[str, Find] = {
    # Before the log.
    "one_acknowledgement_is_enough": Find(0, "copies", "elections"),
    "acknowledged_before_it_is_stored": Find(53, "copies", "elections"),
    "acknowledged_over_a_gap": Find(0, "copies", "elections"),
    "prepared_is_applied": Find(0, "fail-stop", "elections"),
    "answered_before_the_log": Find(0, "told", "elections"),
    "what_was_given_up_is_not_barred": Find(0, "copies", "elections:few_copies"),
    # The log.
    "no_compare_and_set": Find(2, "fail-stop", "elections:few_copies"),
    "unknown_outcome_taken_as_appended": Find(0, "fail-stop", "elections"),
    "unknown_outcome_taken_as_refused": Find(0, "copies", "elections"),
    "its_own_by_number_alone": Find(1, "told", "elections"),
    "a_fenced_writer_goes_on": Find(2, "liveness", "elections:takeovers"),
    "a_writer_outlives_a_snapshot": Find(82, "liveness", "elections:takeovers"),
    # Recovery.
    "no_barrier": Find(0, "refused", "elections"),
    "epoch_not_raised": Find(0, "refused", "elections"),
    "served_before_the_tail": Find(0, "served", "elections:log_lost"),
    "the_log_restarts_from_one_copy": Find(71, "told", "elections:log_lost"),
    "the_log_restarts_without_what_is_prepared": Find(4, "told", "elections:log_lost"),
    "connected_by_number_alone": Find(21, "equal", "elections:log_lost"),
    "barriers_of_a_lost_log_contradict": Find(114, "fail-stop", "elections:log_lost"),
    # Once only.
    "ids_are_forgotten": Find(0, "refused", "elections"),
    "ids_are_not_in_snapshots": Find(3, "order", "elections:disks_lost"),
    "one_id_for_any_body": Find(0, "told", "elections"),
    # Readers.
    "readers_get_what_there_is": Find(4, "reads", "elections:takeovers"),
    "never_behind": Find(13, "reads", "elections:disks_lost"),
}

# Found at once: a sample of every kind of guard.
QUICK = tuple(name for name, find in FOUND.items() if find.seed == 0)


def played(at: Find) -> str:
    return play(next(cases(at.scenario, [at.seed], nodes=None, hours=None, faults=None))).checker


TABLE = Table(ELECTION_MUTANTS, FOUND, played, range(120), [Find(0, "", scenario) for scenario in SCENARIOS])


def test_every_mutant_has_its_place_in_the_table() -> None:
    TABLE.expect_complete(12)


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_guard_of_elections_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FOUND if name not in QUICK])
def test_every_broken_guard_of_elections_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


if __name__ == "__main__":
    TABLE.show()
