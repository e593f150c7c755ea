"""Scans end where they should, whatever happens to memory meanwhile.

rocksdict's iterator points into the memory of the options it was made from; freed, the upper bound is whatever lies there
next. Found in a demo run: a scan of one dispute's votes ran on into another's.
"""

import gc
import os
import random
from pathlib import Path

import pytest

from overseer.ports.store import StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.tables import HASH, U32, Overlay, Table, Tables, View

pytestmark = [pytest.mark.anyio, pytest.mark.real]

VOTES = Table("votes", key=(U32, HASH, U32), value=bytes)


@pytest.mark.slow
async def test_a_scan_under_a_prefix_never_runs_into_the_next_while_memory_is_reused(tmp_path: Path) -> None:
    seeded = random.Random(7)
    store = RocksStore.open(tmp_path / "store", tables=["votes"], identity=StoreIdentity("n", "s"))
    candidates = [seeded.randbytes(32) for _ in range(4)]
    model: dict[tuple[int, bytes, int], bytes] = {}
    # What was there before is not looked through each time.
    gc.freeze()
    try:
        for _ in range(20):
            batch = Overlay(store)
            tables = Tables(batch)
            for _ in range(24):
                key = (1, seeded.choice(candidates), seeded.randrange(100))
                model[key] = seeded.randbytes(66)
                tables.put(VOTES, key, model[key])
            for candidate in candidates:
                scan = View(batch).scan(VOTES, (1, candidate))
                first = next(scan, None)
                gc.collect()
                # Takes the places of whatever was freed.
                reused = [os.urandom(size) for size in range(16, 80) for _ in range(20)]
                rest = dict(scan)
                found = rest | ({first[0]: first[1]} if first is not None else {})
                assert found == {key: value for key, value in model.items() if key[1] == candidate}
                assert reused
            await store.commit(batch)
    finally:
        gc.unfreeze()
        store.close()
