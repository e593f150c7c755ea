"""What RocksDB takes for a torn tail, and the seal does not: a manifest that ends early, tables that a reader cannot open."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from overseer.ports.store import StoreCorrupted, StoreIdentity
from overseer.rocks.reader import RocksReader
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet

pytestmark = [pytest.mark.anyio, pytest.mark.real]


def open_at(path: Path) -> RocksStore:
    return RocksStore.open(path, tables=["a"], identity=StoreIdentity("n1", "votes_db"))


async def killed(path: Path) -> Path:
    """A store as a kill leaves it, after tables were made."""
    store = open_at(path / "s")
    for part in range(4):
        writes = WriteSet()
        for number in range(500):
            writes.put("a", (500 * part + number).to_bytes(4, "big"), os.urandom(40))
        await store.commit(writes)
        store.checkpoint("flushes")
    shutil.copytree(path / "s", path / "killed")
    store.close()
    return path / "killed"


@pytest.mark.parametrize("opened", [open_at, RocksReader.open_read_only], ids=["owner", "reader"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
async def test_a_manifest_that_was_cut_is_refused_and_a_repair_is_offered(
    tmp_path: Path, opened: Callable[[Path], RocksReader], share: float
) -> None:
    store = await killed(tmp_path)
    manifest = store / (store / "CURRENT").read_text().strip()
    os.truncate(manifest, int(manifest.stat().st_size * share))
    with pytest.raises(StoreCorrupted, match="overseer repair killed"):
        opened(store)


@pytest.mark.parametrize("opened", [open_at, RocksReader.open_read_only], ids=["owner", "reader"])
@pytest.mark.parametrize("harm", ["footer", "cut", "gone"])
async def test_a_store_whose_tables_are_all_damaged_is_called_damaged_not_foreign(
    tmp_path: Path, opened: Callable[[Path], RocksReader], harm: str
) -> None:
    store = await killed(tmp_path)
    for file in store.glob("*.sst"):
        if harm == "gone":
            file.unlink()
        elif harm == "cut":
            os.truncate(file, file.stat().st_size // 2)
        else:
            data = bytearray(file.read_bytes())
            data[-20] ^= 1
            file.unlink()
            file.write_bytes(data)
    with pytest.raises(StoreCorrupted, match="overseer repair"):
        opened(store)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"12 and more", b"-1\n"])
async def test_a_damaged_seal_is_named(tmp_path: Path, content: bytes) -> None:
    store = await killed(tmp_path)
    (store / "SEAL").write_bytes(content)
    with pytest.raises(StoreCorrupted, match="SEAL is damaged"):
        open_at(store)


async def test_a_seal_of_an_earlier_release_is_taken(tmp_path: Path) -> None:
    store = await killed(tmp_path)
    (store / "SEAL").write_text((store / "SEAL").read_text().splitlines()[0] + "\n")
    opened = open_at(store)
    assert len(list(opened.scan("a", b"", None))) == 2000
    opened.close()
