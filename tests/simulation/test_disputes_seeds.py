"""Seeds that found a defect: each is played again as long as it draws what the defect needs."""

from typing import NamedTuple

import pytest

from overseer.simulation.disputes import scenario
from overseer.simulation.plan import Case, FaultKind
from overseer.simulation.run import drawn, play


class Found(NamedTuple):
    """`needs`: the fault without which the seed cannot find it."""

    needs: FaultKind
    what: str
    nodes: int = 1
    faults: int = 100


FOUND = {
    250: Found(
        FaultKind.STREAM_TRUNCATED,
        "a record of a message that the stream had lost meanwhile was taken for one of the message that came in its place",
    ),
    617: Found(
        FaultKind.STORE_RESTORED,
        "an answer on its way while the store was set back was taken for one that nothing durable had ever said",
    ),
    1273: Found(
        FaultKind.COMMITS_LOST,
        "after a store was set back the network was told again what it had, as later records had told it nothing",
    ),
    508605: Found(
        FaultKind.STORE_DELETED,
        "a block of a session far ahead, told again by a chain that lost its store, was taken for news by the checker",
        faults=160,
    ),
}


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_found_a_defect(seed: int) -> None:
    found = FOUND[seed]
    case = Case(seed=seed, scenario="disputes", nodes=found.nodes, hours=0.1, faults=found.faults)
    assert found.needs in {fault.kind for fault in drawn(case, scenario).faults}, f"{seed} can find it no more: {found.what}"
    outcome = play(case, scenario)
    assert outcome.faults.get(found.needs), f"{seed} can find it no more: {found.what}"
    assert outcome.violation is None, found.what
