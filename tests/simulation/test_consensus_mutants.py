"""The judges of consensus groups bite: every rule, broken in turn, is noticed.

`FOUND` has a seed that notices it, and by which checker. A change of the scenario may move a seed: then the first ten are tried, and
`python tests/simulation/test_consensus_mutants.py` prints the table anew.
"""

import pytest
from mutants_of_consensus import CONSENSUS_MUTANTS
from noticing import Find, Table

from overseer.simulation.campaign import cases
from overseer.simulation.run import play

FOUND: dict[str, Find] = {
    # The DKG.
    "dealt_anew_when_asked_again": Find(1, "dkg"),
    "what_waited_is_taken_last_first": Find(6, "dkg"),
    "what_waited_is_forgotten": Find(1, "dkg"),
    "transcripts_by_arrival": Find(1, "dkg"),
    "unfit_partials_are_taken": Find(6, "replay"),
    "shares_are_added_twice": Find(1, "liveness"),
    "another_share_is_sealed": Find(1, "dkg"),
    "one_member_seals_another_share": Find(3, "dkg"),
    "who_was_away_looks_for_no_share": Find(620282, "liveness"),
    # Acceptance and handover.
    "the_interval_is_one_block_shorter": Find(1, "groups"),
    "any_attempt_is_in_time": Find(22, "groups"),
    "two_groups_in_a_block": Find(5, "signing"),
    "the_latest_group_serves_on_every_fork": Find(2, "groups"),
    "the_seed_is_of_the_head": Find(1, "liveness"),
    "no_share_is_told_of": Find(9, "groups"),
    # Signing.
    "a_second_child_is_signed": Find(9, "signing"),
    "what_is_combined_is_not_checked": Find(5, "liveness"),
    "whoever_says_a_part_first_has_its_place": Find(5, "liveness"),
    # Forgetting.
    "what_the_chain_asks_back_for_is_forgotten": Find(2, "liveness"),
    "the_serving_group_is_forgotten": Find(1, "liveness"),
}


def played(at: Find) -> str:
    """Large networks tell no more and take long."""
    return play(next(cases("consensus", [at.seed], nodes=4, hours=None, faults=None))).checker


TABLE = Table(CONSENSUS_MUTANTS, FOUND, played, range(1, 11))


def test_every_mutant_of_consensus_has_its_place_in_the_table() -> None:
    TABLE.expect_complete(8)


# That a chain stands still is found out by waiting for long.
LONG = [name for name, find in FOUND.items() if find.checker == "liveness"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.full) if name in LONG else name for name in FOUND])
def test_every_broken_rule_of_consensus_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


if __name__ == "__main__":
    TABLE.show()
