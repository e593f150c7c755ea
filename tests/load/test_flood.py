"""Ten times what a node can take: short, and (full) half a minute. The full run: `python -m tests.load.flood --seconds 180`."""

from pathlib import Path

import pytest

from tests.load.flood import flood

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.timeout(900)]


@pytest.mark.slow
async def test_a_flood_of_requests_is_refused_aloud_and_others_are_answered(tmp_path: Path) -> None:
    figures = await flood(tmp_path, seconds=5, raw=False)
    assert figures["failures"] == []
    # What was not taken was refused by name: by the subsystem, or before it, as of one caller too much is under way.
    refused = {word for word, count in figures["flooder"].items() if count and ("busy" in word or "too many requests in flight" in word)}
    assert refused, figures
    assert not [word for word in figures["others_told"] if "too many" in word or "busy" in word], figures


@pytest.mark.full
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "awaited"])
async def test_half_a_minute_of_flood_loses_nothing_and_passes(tmp_path: Path, raw: bool) -> None:
    figures = await flood(tmp_path, seconds=30, raw=raw)
    assert figures["failures"] == []
    assert figures["acknowledged"] > 0
