"""The judges of peer elections bite: every rule, broken in turn, is noticed.

`FOUND` has a seed that notices it, and by which checker. A change of the scenario may move a seed: then the first ten are tried, and
`python tests/simulation/test_peers_mutants.py` prints the table anew.
"""

import pytest
from mutants_of_peers import PEERS_MUTANTS
from noticing import Find, Table

from overseer.simulation.campaign import cases
from overseer.simulation.run import play

FOUND: dict[str, Find] = {
    # What answers come to.
    "a_minority_elects": Find(3, "elections"),
    "seven_of_ten_agree": Find(1, "elections"),
    "mappings_of_void_blocks_agree": Find(1, "elections"),
    "the_farthest_wins": Find(1, "elections"),
    "nothing_is_collected": Find(1, "elections"),
    # Whose answers count.
    "whoever_answers_twice_still_counts": Find(15, "reactions"),
    "a_second_answer_blocks_bystanders_too": Find(12, "elections"),
    "a_bad_seal_blocks_whom_it_names": Find(12, "reactions"),
    "any_seal_is_good": Find(12, "introductions"),
    "whoever_sends_may_say_it": Find(4, "reactions"),
    "any_answer_is_a_proof": Find(8, "reactions"),
    "any_introduction_is_a_proof": Find(10, "introductions"),
    "what_nobody_else_holds_is_believed": Find(8, "reactions"),
    "another_block_than_ones_own_is_believed": Find(29, "reactions"),
    "anybody_may_refer": Find(4, "referrals"),
    # The course of elections.
    "elections_never_end": Find(1, "elections"),
    "the_alarm_is_late": Find(1, "elections"),
    "elections_about_void_blocks_go_on": Find(2, "elections"),
    "governance_mode_holds_nothing": Find(1, "starts"),
    "finished_tickets_are_forgotten_at_once": Find(2, "reactions"),
    "tickets_are_not_found_after_a_restart": Find(1, "replay"),
    "a_query_is_answered_as_often_as_it_comes": Find(4, "reactions"),
    "the_proof_is_for_somebody_else": Find(1, "proofs"),
    # The list.
    "the_list_has_no_end": Find(2, "list"),
    "whom_a_void_block_elected_stays": Find(1, "list"),
    "open_challenges_have_no_end": Find(10, "introductions"),
    # What is kept.
    "void_blocks_are_not_recorded": Find(1, "starts"),
    "peers_are_not_recorded": Find(1, "list"),
    "elections_are_not_recorded": Find(1, "elections"),
    "challenges_are_not_recorded": Find(1, "introductions"),
    "finished_tickets_are_not_recorded": Find(2, "reactions"),
    "handled_tickets_are_not_recorded": Find(19, "reactions"),
    "a_ticket_that_comes_again_is_kept_for_its_first_time": Find(19, "reactions"),
    "what_was_refused_is_kept_in_memory": Find(18, "commands"),
    "channels_are_counted_twice": Find(1, "measures"),
}


def played(at: Find) -> str:
    return play(next(cases("peers", [at.seed], nodes=None, hours=None, faults=None))).checker


TABLE = Table(PEERS_MUTANTS, FOUND, played, range(1, 11))


def test_every_mutant_of_peer_elections_has_its_place_in_the_table() -> None:
    TABLE.expect_complete(30)


# Of each part one that is found early; the others take some seconds each.
QUICK = (
    "the_farthest_wins",
    "any_seal_is_good",
    "whoever_sends_may_say_it",
    "any_answer_is_a_proof",
    "anybody_may_refer",
    "the_proof_is_for_somebody_else",
    "the_list_has_no_end",
    "peers_are_not_recorded",
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FOUND])
def test_every_broken_rule_of_peer_elections_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


if __name__ == "__main__":
    TABLE.show()
