"""Power cuts lose nothing that was acknowledged; and the harness shows what a node without syncs would lose."""

import os
from pathlib import Path

import pytest

from tests.crash.power import BUNDLES_BEFORE_CUT, FIVE, HOWS, cut_rounds
from tests.crash.power_image import Disk, why_not

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.skipif(bool(why_not()), reason=f"no power can be cut here: {why_not()}")]


def test_a_cut_takes_what_was_not_synced_and_leaves_what_was(tmp_path: Path) -> None:
    with Disk(tmp_path, 32) as disk:
        with (disk.mount / "synced").open("wb") as file:
            file.write(b"synced")
            file.flush()
            os.fsync(file.fileno())
        (disk.mount / "unsynced").write_bytes(b"unsynced" * 1000)
        disk.cut()
        assert (disk.mount / "synced").read_bytes() == b"synced"
        assert not (disk.mount / "unsynced").exists() or (disk.mount / "unsynced").stat().st_size == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_power_cuts_in_the_middle_of_imports_lose_nothing_acknowledged(tmp_path: Path) -> None:
    figures = await cut_rounds(tmp_path, 3, seed=2)
    assert figures.rounds == 3
    assert figures.acknowledged > 0
    assert figures.acknowledged + figures.appended >= 2 * BUNDLES_BEFORE_CUT
    assert figures.ballots > 0
    assert figures.queue_accepted > 0
    assert (figures.lost, figures.lost_appended, figures.lost_ballots, figures.lost_queue, figures.faults) == (0, 0, 0, 0, [])


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_power_cuts_of_five_sites_and_their_log_at_once_lose_no_ballot_that_was_acknowledged(tmp_path: Path) -> None:
    figures = await cut_rounds(tmp_path, 3, seed=3, first=HOWS.index(FIVE))
    assert figures.rounds == 3
    assert figures.ballots > 0
    assert figures.queue_accepted > 0
    assert (figures.lost, figures.lost_appended, figures.lost_ballots, figures.lost_queue, figures.faults) == (0, 0, 0, 0, [])


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_without_syncs_the_same_cuts_lose_what_was_acknowledged_or_leave_streams_that_cannot_be_read(tmp_path: Path) -> None:
    figures = await cut_rounds(tmp_path, 3, seed=2, without="rocks+nats")
    unreadable = [fault for fault in figures.faults if "could not be recovered" in fault]
    assert figures.lost or figures.lost_appended or unreadable, figures
    assert figures.unsynced_bytes > 100_000


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_stores_without_syncs_lose_their_logs_and_the_synced_stream_gives_everything_back(tmp_path: Path) -> None:
    figures = await cut_rounds(tmp_path, 3, seed=2, without="rocks")
    assert figures.unsynced_bytes > 100_000
    assert (figures.lost, figures.lost_appended) == (0, 0)
