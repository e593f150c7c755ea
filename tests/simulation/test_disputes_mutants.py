"""The judges bite: every guard of the system, broken in turn, is noticed within fifty seeds.

`FOUND` has for each mutant where it was found first: on a network without faults (rules of the subsystems) or in the simulation
(guards of the runner, which only faults reach), in which scenario, by which seed, by which checker. A change of the scenario or
of the machinery may move a seed: then the first fifty are tried, and `python tests/simulation/test_disputes_mutants.py` prints
its rows.
"""

import json
import sys
from typing import NamedTuple

import mutants_of_disputes
import pytest
from mutants import MUTANTS
from quiet_network import play_quietly

from overseer.simulation.plan import Case
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import play
from overseer.simulation.scenario import Network, Violation

assert mutants_of_disputes
SEEDS_MAX = 50
# The first seed of each is enough, and found at once: a sample of every kind of guard.
QUICK = (
    "skip_the_sync",
    "answer_before_the_commit",
    "publish_before_the_commit",
    "acknowledge_before_the_commit",
    "position_not_committed",
    "drop_the_memory_of_outcomes",
    "told_out_of_order",
    "anybody_may_command",
    "threshold_too_high",
    "told_of_a_verdict_twice",
    "double_voters_rewarded",
    "one_descendant_forgotten",
    "governance_never_entered",
    "verdict_for_is_final",
    "a_signal_is_left_out",
)


class Find(NamedTuple):
    """Where a mutant was noticed. `stage`: quiet | simulated."""

    stage: str
    scenario: str
    seed: int
    checker: str


def quiet(scenario: str, seed: int) -> str:
    """The checker that noticed, or ""."""
    try:
        play_quietly(find_scenario(scenario), Network(seed=seed, nodes=("n1",), hours=1.0))
    except Violation as violation:
        return violation.checker
    return ""


def simulated(scenario: str, seed: int) -> str:
    return play(Case(seed=seed, scenario=scenario, nodes=1, hours=0.1, faults=100)).checker


STAGES = {"quiet": quiet, "simulated": simulated}


def noticed(name: str) -> Find | None:
    """By the seed that noticed it before, or else by the first of fifty."""
    known = FOUND[name]
    for seed in (known.seed, *(seed for seed in range(SEEDS_MAX) if seed != known.seed)):
        with MUTANTS[name]():
            checker = STAGES[known.stage](known.scenario, seed)
        if checker:
            return known._replace(seed=seed, checker=checker)
    return None


FOUND: dict[str, Find] = {
    # Commit.
    "skip_the_sync": Find("simulated", "disputes", 0, "acknowledged"),
    "answer_before_the_commit": Find("simulated", "disputes", 0, "acknowledged"),
    "publish_before_the_commit": Find("simulated", "disputes", 0, "publishing"),
    "acknowledge_before_the_commit": Find("simulated", "disputes", 0, "chain"),
    "journal_and_tables_in_two_commits": Find("simulated", "disputes", 0, "chain"),
    "position_not_committed": Find("simulated", "disputes", 0, "replay"),
    "outgoing_bytes_not_stored": Find("simulated", "disputes", 0, "replay"),
    "outcomes_not_stored": Find("simulated", "disputes", 0, "once only"),
    "broken_hash_chain": Find("simulated", "disputes", 0, "replay"),
    # Once only.
    "drop_the_watermark": Find("simulated", "disputes", 49, "once only"),
    "drop_the_memory_of_outcomes": Find("simulated", "disputes", 0, "once only"),
    "one_id_for_any_body": Find("simulated", "disputes:reused_command_ids", 0, "mischief"),
    "dedupe_by_sender_alone": Find("simulated", "disputes", 48, "once only"),
    "ignore_the_position": Find("simulated", "disputes", 3, "once only"),
    "ignore_contiguity": Find("simulated", "disputes", 1, "in order"),
    # Telling.
    "skip_compare_and_set": Find("simulated", "disputes", 0, "publishing"),
    "unknown_outcome_taken_as_published": Find("simulated", "disputes", 0, "replay"),
    "mark_not_read_at_start": Find("simulated", "disputes", 0, "publishing"),
    "nothing_loaded_at_start": Find("simulated", "disputes", 0, "replay"),
    "told_out_of_order": Find("simulated", "disputes", 0, "told"),
    "told_twice": Find("simulated", "disputes", 0, "told"),
    # Opening, timers, intake.
    "no_new_incarnation": Find("simulated", "disputes", 12, "replay"),
    "no_repair_of_positions": Find("simulated", "disputes", 1, "liveness"),
    "timers_not_restored": Find("simulated", "disputes", 10, "votes"),
    "timers_fire_twice": Find("simulated", "disputes", 1, "chain"),
    "anybody_may_command": Find("simulated", "disputes:usurped_commands", 0, "mischief"),
    "any_form_is_read": Find("simulated", "disputes:other_forms_of_one_value", 0, "votes"),
    "dead_letters_dropped": Find("simulated", "disputes:usurped_commands", 0, "in order"),
    "time_goes_back": Find("simulated", "disputes", 1, "conclusion"),
    # Votes.
    "any_signature_will_do": Find("quiet", "disputes:forged_signatures", 0, "votes"),
    "threshold_too_low": Find("quiet", "disputes", 1, "votes"),
    "threshold_too_high": Find("quiet", "disputes", 0, "votes"),
    "challenged_too_late": Find("quiet", "disputes", 1, "votes"),
    "for_overrides_against": Find("quiet", "disputes", 0, "votes"),
    "weaker_votes_replace": Find("quiet", "disputes", 3, "votes"),
    "told_of_a_verdict_twice": Find("quiet", "disputes", 0, "told"),
    "rewarded_again": Find("quiet", "disputes", 11, "votes"),
    "double_voters_rewarded": Find("quiet", "disputes", 0, "votes"),
    "spam_has_no_bound": Find("quiet", "disputes:flood_of_unknown_candidates", 0, "votes"),
    "slots_never_given_back": Find("quiet", "disputes", 12, "votes"),
    "sessions_never_pruned": Find("quiet", "disputes", 1, "votes"),
    "one_session_pruned_too_many": Find("quiet", "disputes", 1, "votes"),
    "held_gossip_forgotten": Find("quiet", "disputes:flood_of_gossip", 0, "votes"),
    "no_second_receipt": Find("quiet", "disputes:swapped_receipts", 0, "mischief"),
    "evolve_depends_on_what_happened_before": Find("simulated", "disputes", 0, "replay"),
    # What follows.
    "one_including_block_forgotten": Find("quiet", "disputes", 2, "conclusion"),
    "later_inclusions_ignored": Find("quiet", "disputes", 1, "conclusion"),
    "early_revert_never_lifted": Find("quiet", "disputes", 3, "conclusion"),
    "no_early_revert": Find("quiet", "disputes", 0, "conclusion"),
    "verdict_for_is_final": Find("quiet", "disputes", 0, "conclusion"),
    # The chain.
    "one_descendant_forgotten": Find("quiet", "disputes", 0, "chain"),
    "children_of_the_blacklisted_are_clean": Find("quiet", "disputes", 0, "chain"),
    "governance_never_entered": Find("quiet", "disputes", 0, "chain"),
    "governance_for_blocks_that_are_not_final": Find("quiet", "disputes", 0, "chain"),
    "finality_in_governance_mode": Find("quiet", "disputes", 0, "chain"),
    "any_block_may_be_final": Find("quiet", "disputes:conflicting_finality", 3, "chain"),
    "reverted_blocks_are_built_on": Find("quiet", "disputes", 1, "chain"),
    "the_best_is_not_looked_for": Find("quiet", "disputes", 1, "chain"),
    "leaves_not_put_off": Find("quiet", "disputes", 1, "chain"),
    "transactions_pooled_again": Find("quiet", "disputes", 10, "chain"),
    "resume_without_the_authority": Find("quiet", "disputes:forged_resumes", 6, "mischief"),
    "a_signal_is_left_out": Find("quiet", "disputes", 0, "told"),
    "orphans_never_adopted": Find("quiet", "disputes", 0, "chain"),
    "bounds_of_the_orphan_pool_ignored": Find("quiet", "disputes", 0, "chain"),
}


def test_every_mutant_has_its_place_in_the_table() -> None:
    assert set(FOUND) == set(MUTANTS)
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_guard_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {MUTANTS[name].__doc__}"


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", [name for name in FOUND if name not in QUICK])
def test_every_broken_guard_is_noticed(name: str) -> None:
    assert noticed(name) is not None, f"{name} lives: {MUTANTS[name].__doc__}"


def main(names: list[str]) -> None:
    """Print the rows of these mutants, or of all, as each is found now."""
    for name in names or list(FOUND):
        found = noticed(name)
        row = f'"{name}": Find({", ".join(map(json.dumps, found))}),' if found is not None else f"# {name} LIVES"
        print(f"    {row}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
