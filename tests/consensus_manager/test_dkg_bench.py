"""The bench of the DKG in its smallest form: that it runs, and what it gives."""

from pathlib import Path

import pytest

from overseer.bench.dkg import DKG_BENCHES
from overseer.bench.measure import Sizes
from overseer.bench.whole_dkg import whole_dkg


@pytest.mark.anyio
async def test_the_bench_of_the_dkg_gives_each_part_the_whole_and_what_is_told(tmp_path: Path) -> None:
    measures = await DKG_BENCHES["dkg_4"](tmp_path, Sizes(rounds=1), lambda text: None)
    parts = ("deal", "receive", "confirm", "all", "node", "messages", "bytes")
    assert [measure.name for measure in measures] == [f"dkg_4_{part}" for part in parts]
    assert all(measure.value > 0 and measure.limit > 0 for measure in measures)


@pytest.mark.parametrize("size", [4, 7])
def test_a_whole_attempt_is_told_in_so_many_messages(size: int) -> None:
    """Of each member `opened`, a deal, three closings and a confirmation; the transaction of f + 1."""
    told = [whole_dkg(size, number) for number in range(3)]
    assert {one.messages for one in told} == {6 * size + (size - 1) // 3 + 1}
    assert all(one.spent_s > 0 for one in told)
