"""A reader beside a running owner sees one moment, also where the owner flushes its tables while they are opened."""

from pathlib import Path

import pytest
from rocksdict import AccessType, Rdict

import overseer.rocks.reader as reader_module
from overseer.ports.store import StoreError, StoreIdentity
from overseer.rocks.moment import moment_of
from overseer.rocks.options import open_rocks
from overseer.rocks.reader import RocksReader
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet

pytestmark = [pytest.mark.real, pytest.mark.anyio]

IDENTITY = StoreIdentity("n", "s")
TABLES = ("a", "b")


async def written(store: RocksStore, number: int) -> None:
    """The same number in both tables, in one commit."""
    writes = WriteSet()
    for table in TABLES:
        writes.put(table, b"n", number.to_bytes(8, "big"))
    await store.commit(writes)


async def test_a_moment_is_another_one_after_a_flush_and_the_same_after_a_commit(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "s", tables=TABLES, identity=IDENTITY)
    await written(store, 1)
    before = moment_of(tmp_path / "s")
    await written(store, 2)
    assert moment_of(tmp_path / "s") == before
    store.checkpoint("1")
    assert moment_of(tmp_path / "s") != before
    store.close()


async def test_what_is_opened_while_the_owner_flushes_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RocksStore.open(tmp_path / "s", tables=TABLES, identity=IDENTITY)
    await written(store, 7)
    opened: list[str] = []

    def opening(path: str, tables: list[str], *, access: AccessType) -> Rdict:
        db = open_rocks(path, tables, access=access)
        opened.append(path)
        # Of the second one nothing comes: there is nothing left to flush.
        store.checkpoint(str(len(opened)))
        return db

    monkeypatch.setattr(reader_module, "open_rocks", opening)
    reader = RocksReader.open_read_only(tmp_path / "s")
    assert len(opened) == 2
    assert [reader.get(table, b"n") for table in TABLES] == [(7).to_bytes(8, "big")] * 2
    reader.close()
    await written(store, 8)
    monkeypatch.setattr(reader_module, "_MOMENTS", 1)
    with pytest.raises(StoreError, match="too quickly"):
        RocksReader.open_read_only(tmp_path / "s")
    store.close()
