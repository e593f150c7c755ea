"""Seeds that found a defect: each is played again as long as the scenario draws the same for it."""

import pytest

from overseer.simulation.plan import Case
from overseer.simulation.run import play

FOUND = {
    176: "a sender's last message, lost by the stream behind a trim, was taken for trimmed and never told again",
    195: "a block that waits kept another one of its hash from being refused: told that it waits, it was lost",
    346: "after a restore the network was told again what it had, as later records had told it nothing",
}


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_found_a_defect(seed: int) -> None:
    nodes = 2 if seed == 195 else 1
    assert play(Case(seed=seed, scenario="disputes", nodes=nodes, hours=0.1, faults=100)).violation is None, FOUND[seed]
