"""The judges of gateway elections bite: every rule, broken in turn, is noticed within ten seeds.

`FOUND` has the seed that noticed it first, on a network without faults, and by which checker. A change of the scenario may move a seed:
then the first ten are tried, and `python tests/simulation/test_gateways_mutants.py` prints the table anew.
"""

import sys
from typing import NamedTuple

import pytest
from mutants_of_gateways import GATEWAY_MUTANTS
from quiet_network import play_quietly

from overseer.simulation.gateways import scenario
from overseer.simulation.scenario import Network, Violation

SEEDS_MAX = 10
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


class Find(NamedTuple):
    """Where a mutant was noticed."""

    seed: int
    checker: str


def noticed(name: str) -> Find | None:
    """By the seed that noticed it before, or else by the first of ten."""
    known = FOUND[name].seed if name in FOUND else 0
    for seed in (known, *(seed for seed in range(SEEDS_MAX) if seed != known)):
        try:
            with GATEWAY_MUTANTS[name]():
                play_quietly(scenario, Network(seed=seed, nodes=("n1",), hours=1.0))
        except Violation as violation:
            return Find(seed, violation.checker)
    return None


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


def test_every_mutant_of_gateways_has_its_place_in_the_table() -> None:
    assert set(FOUND) == set(GATEWAY_MUTANTS)
    assert len(GATEWAY_MUTANTS) >= 8


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_rule_of_gateways_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {GATEWAY_MUTANTS[name].__doc__}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FOUND if name not in QUICK])
def test_every_broken_rule_of_gateways_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {GATEWAY_MUTANTS[name].__doc__}"


def main(names: list[str]) -> None:
    """Print the rows of these mutants, or of all, as each is found now."""
    for name in names or list(GATEWAY_MUTANTS):
        found = noticed(name)
        print(f'    "{name}": Find({found.seed}, "{found.checker}"),' if found is not None else f"    # {name} LIVES", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
