"""RocksDB alone, with the options of our stores: how fast it takes rows."""

import time
from collections.abc import Sequence
from pathlib import Path

from rocksdict import WriteBatch, WriteOptions

from overseer.rocks.options import open_rocks

__all__ = ["bare_writes"]


def bare_writes(folder: Path, rows: Sequence[tuple[bytes, bytes]], per_batch: int) -> float:
    """Rows written in a second into a new database in `folder`, `per_batch` to a synced batch."""
    synced = WriteOptions()
    synced.sync = True
    folder.mkdir(parents=True)
    db = open_rocks(str(folder), ["rows"], create=True)
    handle = db.get_column_family_handle("rows")
    began = time.perf_counter()
    for at in range(0, len(rows), per_batch):
        batch = WriteBatch(raw_mode=True)
        for key, value in rows[at : at + per_batch]:
            batch.put(key, value, handle)
        db.write(batch, synced)
    took = time.perf_counter() - began
    del handle
    db.close()
    return len(rows) / took
