"""The bench of the DKG in its smallest form: that it runs, and what it gives."""

from pathlib import Path

import pytest

from overseer.bench.dkg import DKG_BENCHES
from overseer.bench.measure import Sizes


@pytest.mark.anyio
async def test_the_bench_of_the_dkg_gives_each_part_and_the_whole(tmp_path: Path) -> None:
    measures = await DKG_BENCHES["dkg_4"](tmp_path, Sizes(rounds=1), lambda text: None)
    assert [measure.name for measure in measures] == ["dkg_4_deal", "dkg_4_receive", "dkg_4_confirm", "dkg_4_all"]
    assert all(measure.value > 0 and measure.limit > 0 for measure in measures)
