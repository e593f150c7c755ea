"""Spoiled files of every kind: named, or harmless. The full run is `python -m tests.crash.damage --injections 1000`."""

import random
from pathlib import Path

import pytest

from tests.crash.damage import Figures, Sample, inject
from tests.crash.damage_faults import FAULTS, NODE_KINDS, STORE_KINDS, kinds_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]


async def injected(sample: Sample, folder: Path, numbers: range, seed: int) -> Figures:
    figures = Figures()
    for number in numbers:
        await inject(sample, folder, number, seed, figures)
    return figures


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_kind_of_file_is_there_to_be_spoiled(sample: Sample) -> None:
    assert set(kinds_of(sample.folder, NODE_KINDS)) >= set(NODE_KINDS) - {"consumer state"}
    assert set(kinds_of(sample.folder / "stores" / "votes_db", STORE_KINDS)) == set(STORE_KINDS)
    assert len(FAULTS) == 5


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_new_damage_in_each_run_is_named_or_harmless(sample: Sample, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    figures = await injected(sample, tmp_path, range(40), seed)
    assert not figures.wrong, figures.wrong
    assert figures.injections == 40


@pytest.mark.slow
async def test_a_sample_of_damage_is_named_or_harmless(sample: Sample, tmp_path: Path) -> None:
    figures = await injected(sample, tmp_path, range(10), 1)
    assert not figures.wrong, figures.wrong
    assert figures.injections == 10
