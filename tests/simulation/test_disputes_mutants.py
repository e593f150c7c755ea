"""The judges bite: every guard of the system, broken in turn, is noticed within fifty seeds.

`FOUND` has for each mutant where it was found first: on a network without faults (rules of the subsystems) or in the simulation
(guards of the runner, which only faults reach), in which scenario, by which seed, by which checker. A change of the scenario or
of the machinery may move a seed: then the first fifty are tried, and `python tests/simulation/test_disputes_mutants.py` prints
its rows.
"""

import mutants_of_disputes
import pytest
from mutants import MUTANTS
from noticing import Find, Table
from quiet_network import play_quietly

from overseer.simulation.plan import Case
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import play
from overseer.simulation.scenario import Network, Violation

assert mutants_of_disputes
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

FOUND: dict[str, Find] = {
    # Commit.
    "skip_the_sync": Find(0, "acknowledged", "disputes", "simulated"),
    "answer_before_the_commit": Find(0, "acknowledged", "disputes", "simulated"),
    "publish_before_the_commit": Find(0, "publishing", "disputes", "simulated"),
    "acknowledge_before_the_commit": Find(0, "chain", "disputes", "simulated"),
    "journal_and_tables_in_two_commits": Find(0, "chain", "disputes", "simulated"),
    "position_not_committed": Find(0, "replay", "disputes", "simulated"),
    "outgoing_bytes_not_stored": Find(0, "replay", "disputes", "simulated"),
    "outcomes_not_stored": Find(0, "once only", "disputes", "simulated"),
    "broken_hash_chain": Find(0, "replay", "disputes", "simulated"),
    # Once only.
    "drop_the_watermark": Find(49, "once only", "disputes", "simulated"),
    "drop_the_memory_of_outcomes": Find(0, "once only", "disputes", "simulated"),
    "one_id_for_any_body": Find(0, "mischief", "disputes:reused_command_ids", "simulated"),
    "dedupe_by_sender_alone": Find(48, "once only", "disputes", "simulated"),
    "ignore_the_position": Find(3, "once only", "disputes", "simulated"),
    "ignore_contiguity": Find(1, "in order", "disputes", "simulated"),
    # Telling.
    "skip_compare_and_set": Find(0, "publishing", "disputes", "simulated"),
    "unknown_outcome_taken_as_published": Find(0, "replay", "disputes", "simulated"),
    "mark_not_read_at_start": Find(0, "publishing", "disputes", "simulated"),
    "nothing_loaded_at_start": Find(0, "replay", "disputes", "simulated"),
    "told_out_of_order": Find(0, "told", "disputes", "simulated"),
    "told_twice": Find(0, "told", "disputes", "simulated"),
    # Opening, timers, intake.
    "no_new_incarnation": Find(12, "replay", "disputes", "simulated"),
    "no_repair_of_positions": Find(1, "liveness", "disputes", "simulated"),
    "timers_not_restored": Find(10, "votes", "disputes", "simulated"),
    "timers_fire_twice": Find(1, "chain", "disputes", "simulated"),
    "anybody_may_command": Find(0, "mischief", "disputes:usurped_commands", "simulated"),
    "any_form_is_read": Find(0, "votes", "disputes:other_forms_of_one_value", "simulated"),
    "dead_letters_dropped": Find(0, "in order", "disputes:usurped_commands", "simulated"),
    "time_goes_back": Find(1, "conclusion", "disputes", "simulated"),
    # Votes.
    "any_signature_will_do": Find(0, "votes", "disputes:forged_signatures", "quiet"),
    "threshold_too_low": Find(1, "votes", "disputes", "quiet"),
    "threshold_too_high": Find(0, "votes", "disputes", "quiet"),
    "challenged_too_late": Find(1, "votes", "disputes", "quiet"),
    "for_overrides_against": Find(0, "votes", "disputes", "quiet"),
    "weaker_votes_replace": Find(3, "votes", "disputes", "quiet"),
    "told_of_a_verdict_twice": Find(0, "told", "disputes", "quiet"),
    "rewarded_again": Find(11, "votes", "disputes", "quiet"),
    "double_voters_rewarded": Find(0, "votes", "disputes", "quiet"),
    "spam_has_no_bound": Find(0, "votes", "disputes:flood_of_unknown_candidates", "quiet"),
    "slots_never_given_back": Find(12, "votes", "disputes", "quiet"),
    "sessions_never_pruned": Find(1, "votes", "disputes", "quiet"),
    "one_session_pruned_too_many": Find(1, "votes", "disputes", "quiet"),
    "held_gossip_forgotten": Find(0, "votes", "disputes:flood_of_gossip", "quiet"),
    "no_second_receipt": Find(0, "mischief", "disputes:swapped_receipts", "quiet"),
    "evolve_depends_on_what_happened_before": Find(0, "replay", "disputes", "simulated"),
    # What follows.
    "one_including_block_forgotten": Find(2, "conclusion", "disputes", "quiet"),
    "later_inclusions_ignored": Find(1, "conclusion", "disputes", "quiet"),
    "early_revert_never_lifted": Find(3, "conclusion", "disputes", "quiet"),
    "no_early_revert": Find(0, "conclusion", "disputes", "quiet"),
    "verdict_for_is_final": Find(0, "conclusion", "disputes", "quiet"),
    # The chain.
    "one_descendant_forgotten": Find(0, "chain", "disputes", "quiet"),
    "children_of_the_blacklisted_are_clean": Find(0, "chain", "disputes", "quiet"),
    "governance_never_entered": Find(0, "chain", "disputes", "quiet"),
    "governance_for_blocks_that_are_not_final": Find(0, "chain", "disputes", "quiet"),
    "finality_in_governance_mode": Find(0, "chain", "disputes", "quiet"),
    "any_block_may_be_final": Find(3, "chain", "disputes:conflicting_finality", "quiet"),
    "reverted_blocks_are_built_on": Find(1, "chain", "disputes", "quiet"),
    "the_best_is_not_looked_for": Find(1, "chain", "disputes", "quiet"),
    "leaves_not_put_off": Find(1, "chain", "disputes", "quiet"),
    "transactions_pooled_again": Find(10, "chain", "disputes", "quiet"),
    "resume_without_the_authority": Find(6, "mischief", "disputes:forged_resumes", "quiet"),
    "a_signal_is_left_out": Find(0, "told", "disputes", "quiet"),
    "orphans_never_adopted": Find(0, "chain", "disputes", "quiet"),
    "bounds_of_the_orphan_pool_ignored": Find(0, "chain", "disputes", "quiet"),
}


def played(at: Find) -> str:
    """`stage`: quiet | simulated."""
    if at.stage == "simulated":
        return play(Case(seed=at.seed, scenario=at.scenario, nodes=1, hours=0.1, faults=100)).checker
    try:
        play_quietly(find_scenario(at.scenario), Network(seed=at.seed, nodes=("n1",), hours=1.0))
    except Violation as violation:
        return violation.checker
    return ""


TABLE = Table(MUTANTS, FOUND, played, range(50), [Find(0, "", "disputes", stage) for stage in ("quiet", "simulated")])


def test_every_mutant_has_its_place_in_the_table() -> None:
    TABLE.expect_complete(25)


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_guard_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", [name for name in FOUND if name not in QUICK])
def test_every_broken_guard_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


if __name__ == "__main__":
    TABLE.show()
