"""The bench of block signatures in its smallest form: that blocks are signed in it, and what it gives."""

from pathlib import Path

import pytest

from overseer.bench.measure import Sizes
from overseer.bench.signing import block_signing, signing_rounds


@pytest.mark.anyio
async def test_the_bench_of_block_signatures_gives_each_size_against_both_limits_and_with_wrong_parts(tmp_path: Path) -> None:
    told: list[str] = []
    measures = await block_signing(tmp_path, Sizes(rounds=1, signed_blocks=1), told.append)
    names = [f"block_signing_{size}{limit}" for size in (4, 16, 43) for limit in ("", "_least", "_wrong")]
    assert [measure.name for measure in measures] == names
    assert all(measure.value > 0 and measure.limit > 0 for measure in measures)
    assert told[0] == "4 members"


def test_more_blocks_are_signed_than_are_kept_for_who_asks_late() -> None:
    (one,) = signing_rounds(4, 1, 20)
    assert min(one) > 0
    # One check of all parts is less than one of each.
    assert one.together > one.each
