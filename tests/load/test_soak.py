"""A minute of soak: what it does works. What grows is seen in the full run: `python -m tests.load.soak --minutes 20`."""

from pathlib import Path

import pytest

from tests.load.gauges import folder_bytes, percentile, slope
from tests.load.soak import failures, growth, soak

pytestmark = [pytest.mark.anyio]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_node_lives_on_through_kills_and_traffic(tmp_path: Path) -> None:
    figures = await soak(tmp_path, minutes=1, seed=1)
    assert figures["failures"] == []
    assert figures["ballots"]["cast"] > 10
    assert sum(figures["killed"].values()) >= 3


STEADY = {"per_minute": 0.0, "first": 1.0, "last": 1.0}
FINE = {
    "processes": {
        name: {"memory_mb": STEADY, "fds": STEADY, "threads": STEADY, "thousand_blocks": STEADY, "table_files_max": 10}
        for name in ("overseer", "nats-server", "votes_db", "dispute_conclusion", "chain_api", "elections")
    },
    "largest_mb": {"votes_db": 80.0},
    "disk_mb": STEADY,
    "blocks": {"before": 1, "after": 2},
    "ballots": {"acknowledged": 7, "cast": 7},
    "exit_code": 0,
    "verified": {"votes_db": True},
    "wrong": [],
}


def test_a_soak_that_is_flat_has_nothing_to_say() -> None:
    assert growth(FINE) == failures(FINE) == []


@pytest.mark.parametrize("what", ["memory_mb", "fds", "threads", "thousand_blocks"])
def test_what_grows_is_named_with_its_process(what: str) -> None:
    grows = {**FINE["processes"]["votes_db"], what: {**STEADY, "per_minute": 3.0, "last": 96.0}}
    (said,) = growth({**FINE, "processes": {**FINE["processes"], "votes_db": grows}})
    assert said.startswith(f"{what} of votes_db grow by 3.0")


def test_memory_that_only_fills_the_stores_caches_is_no_growth() -> None:
    fills = {**FINE["processes"]["votes_db"], "memory_mb": {**STEADY, "per_minute": 3.0, "last": 90.0}}
    assert growth({**FINE, "processes": {**FINE["processes"], "votes_db": fills}}) == []


def test_a_soak_that_lost_a_process_or_its_finality_says_so() -> None:
    found = failures({**FINE, "processes": {}, "blocks": {"before": 2, "after": 2}, "verified": {"votes_db": False}, "exit_code": 1})
    assert len(found) == 6 + 3
    (said,) = failures({**FINE, "ballots": {"acknowledged": 7, "cast": 6}})
    assert said == "6 ballots are there, 7 were acknowledged"


def test_a_slope_is_fitted_through_noise() -> None:
    noisy = [100 + 2 * second / 60 + (1 if second % 2 else -1) for second in range(600)]
    found = slope(range(600), noisy)
    assert found.per_minute == pytest.approx(2.0, abs=0.05)
    assert found.last - found.first == pytest.approx(16, abs=0.5)
    with pytest.raises(ValueError, match="3 readings"):
        slope([1, 2, 3], [1, 2, 3])


def test_a_file_under_two_names_takes_its_bytes_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 10_000)
    before = folder_bytes(tmp_path)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert folder_bytes(tmp_path) == before >= 10_000


def test_percentiles() -> None:
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([3.0], 0.5) == 3.0
