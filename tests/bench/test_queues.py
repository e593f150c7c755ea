"""The ballot that is timed is one that votes could have made."""

from pathlib import Path

import pytest

from overseer.bench.queues import BALLOT, QUEUE, QueueOfBench
from overseer.bench.site import NODE
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.subsystem import Context, Decision
from overseer.tables import Overlay, Tables, View
from overseer.verification import verify_check
from subsystems.elections.gateways.rows import STAKES, WEIGHTS, ballot_of
from subsystems.elections.rows import key_hash

pytestmark = [pytest.mark.real, pytest.mark.anyio]

ITEMS, GATEWAYS, VOTES = 7, 5, 20


def rows(view: View) -> list[object]:
    return [*view.scan(WEIGHTS), *view.scan(STAKES)]


async def test_weights_put_as_rows_are_those_that_votes_give(tmp_path: Path) -> None:
    queue = QueueOfBench(ITEMS, GATEWAYS)
    await queue.write(tmp_path / "rows", VOTES)
    await queue.write(tmp_path / "votes", 0)
    put, voted = (open_store(NodeFolder(tmp_path / name), NODE, queue.elections.declaration) for name in ("rows", "votes"))
    try:
        tables = Tables(Overlay(voted))
        for number in range(VOTES):
            key, _ = queue.weight_row(number)
            weight = View(put).get_packed(WEIGHTS, key)
            assert weight is not None
            vote = queue.vote(number, int.from_bytes(weight, "big"))
            decision = queue.elections.decide(tables, vote, Context(now_ms=2**41, sender="op_test", verify=verify_check))
            assert isinstance(decision, Decision)
            for event in decision.events:
                queue.elections.evolve(tables, event)
        assert len(list(tables.scan(WEIGHTS))) == VOTES
        assert rows(tables) == rows(View(put))
        assert ballot_of(tables, key_hash(QUEUE), BALLOT).last == ITEMS
    finally:
        put.close()
        voted.close()


def test_there_are_no_more_votes_than_pairs() -> None:
    queue = QueueOfBench(ITEMS, GATEWAYS)
    assert len({queue.weight_row(number)[0] for number in range(ITEMS * GATEWAYS)}) == ITEMS * GATEWAYS
    with pytest.raises(ValueError, match="fewer pairs"):
        queue.vote(ITEMS * GATEWAYS)
