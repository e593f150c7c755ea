"""The judges of peer elections bite: every rule, broken in turn, is noticed.

`FOUND` has a seed that notices it, and by which checker. A change of the scenario may move a seed: then the first ten are tried, and
`python tests/simulation/test_peers_mutants.py` prints the table anew.
"""

import pytest
from mutants_of_peers import PEERS_MUTANTS
from noticing import Find, Table

from overseer.simulation.campaign import cases
from overseer.simulation.run import play

FOUND: dict[str, Find] = {}


def played(at: Find) -> str:
    return play(next(cases("peers", [at.seed], nodes=None, hours=None, faults=None))).checker


TABLE = Table(PEERS_MUTANTS, FOUND, played, range(1, 11))


def test_every_mutant_of_peer_elections_has_its_place_in_the_table() -> None:
    TABLE.expect_complete(30)


# Of each part one that is found early; the others take some seconds each.
QUICK: tuple[str, ...] = ()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FOUND])
def test_every_broken_rule_of_peer_elections_is_noticed(name: str) -> None:
    TABLE.expect_noticed(name)


if __name__ == "__main__":
    TABLE.show()
