"""The judges of gateway elections bite: every rule, broken in turn, is noticed within ten seeds.

`FOUND` has the seed that noticed it first, on a network without faults, and by which checker. A change of the scenario may move a seed:
then the first ten are tried, and `python tests/simulation/test_gateways_mutants.py` prints the table anew.
"""

import pytest
from mutants_of_gateways import GATEWAY_MUTANTS
from noticing import Find, Table
from quiet_network import play_quietly

from overseer.simulation.gateways import scenario
from overseer.simulation.scenario import Network, Violation

# A sample of every kind of rule, each noticed at once.
QUICK = (
    "the_cut_forgets_the_open_queue",
    "weights_are_added_up",
    "ties_by_order_of_arrival",
    "stake_is_not_released",
    "unbonded_during_the_vote",
    "alternates_have_no_turn",
    "a_revoked_round_keeps_its_assignments",
    "session_changes_are_ignored",
)

FOUND: dict[str, Find] = {
    # Rounds.
    "the_cut_forgets_the_open_queue": Find(0, "queues"),
    "the_cut_takes_what_came_after_it": Find(2, "queues"),
    "weights_are_added_up": Find(0, "queues"),
    "ties_by_order_of_arrival": Find(0, "queues"),
    "ties_by_the_cut_block": Find(0, "queues"),
    "votes_in_quiet_blocks": Find(1, "queues"),
    "expired_without_a_refund": Find(5, "queues"),
    "carried_for_ever": Find(5, "queues"),
    # Gateways and assignments.
    "stake_is_not_released": Find(0, "queues"),
    "unbonded_during_the_vote": Find(0, "queues"),
    "alternates_have_no_turn": Find(0, "queues"),
    "any_signature_proves": Find(5, "queues"),
    # What the chain does.
    "a_revoked_round_keeps_its_assignments": Find(0, "queues"),
    "executed_without_a_flag": Find(0, "queues"),
    "nothing_is_revoked": Find(0, "queues"),
    "the_close_block_may_go": Find(0, "queues"),
    "a_round_runs_again_under_its_identity": Find(0, "queues"),
    "session_changes_are_ignored": Find(0, "queues"),
    "phases_go_on_in_governance_mode": Find(9, "queues"),
    "a_reorganisation_is_not_heard": Find(0, "queues"),
}


def played(at: Find) -> str:
    try:
        play_quietly(scenario, Network(seed=at.seed, nodes=("n1",), hours=1.0))
    except Violation as violation:
        return violation.checker
    return ""


TABLE = Table(GATEWAY_MUTANTS, FOUND, played, range(10))


def test_every_mutant_of_gateways_has_its_place_in_the_table() -> None:
    TABLE.expect_complete(8)


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_rule_of_gateways_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FOUND if name not in QUICK])
def test_every_broken_rule_of_gateways_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


if __name__ == "__main__":
    TABLE.show()
