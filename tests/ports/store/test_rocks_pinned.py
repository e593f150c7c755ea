"""A store's files as of one moment: whatever its owner does meanwhile, a copy of them opens, with every commit whole or not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from overseer.ports.store import StoreIdentity, StoreMissing, WrongStore
from overseer.rocks.pinned import PinnedStore
from overseer.rocks.reader import RocksReader
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet
from tests.node.nodes import ROOT, eventually

pytestmark = [pytest.mark.real, pytest.mark.anyio]

IDENTITY = StoreIdentity("n", "s")
TABLES = ("rows", "counts")
BATCH = 40
# Some flushes and compactions of the owner's lie between them.
COPIES = 6


async def write_for_ever(path: Path) -> None:
    """In a process of its own: rows, and in the same commit in another table how many there are."""
    store = RocksStore.open(path, tables=TABLES, identity=IDENTITY)
    count = 0
    while True:
        writes = WriteSet()
        for _ in range(BATCH):
            writes.put("rows", count.to_bytes(8, "big"), os.urandom(4_000))
            count += 1
        writes.put("counts", b"all", count.to_bytes(8, "big"))
        await store.commit(writes)
        if count % (50 * BATCH) == 0:
            store.checkpoint(f"{count:020d}")
            for name in store.checkpoints()[:-2]:
                store.drop_checkpoint(name)


def writing_into(path: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, __file__, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)})


def copied(pinned: PinnedStore, to: Path) -> Path:
    for file in pinned.files:
        (to / file.path).parent.mkdir(parents=True, exist_ok=True)
        (to / file.path).write_bytes(b"".join(file.pieces(100_000)))
    return to


def counted(path: Path) -> tuple[int, int]:
    """How many rows a copy says it has, and how many checkpoints it holds; it must have them, and those their rows."""
    reader = RocksReader.open_read_only(path)
    try:
        count = reader.get("counts", b"all")
        assert count is not None
        told = int.from_bytes(count, "big")
        assert [int.from_bytes(key, "big") for key, _ in reader.scan("rows", b"", None)] == list(range(told))
        names = reader.checkpoints()
        for name in names:
            base = reader.open_checkpoint(name)
            assert sum(1 for _ in base.scan("rows", b"", None)) == int(name)
            base.close()
        return told, len(names)
    finally:
        reader.close()


@pytest.mark.slow
async def test_copies_of_a_store_that_is_written_to_are_each_as_of_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "store"
    owner = writing_into(path)
    try:
        await eventually(lambda: len(list(path.glob("*.sst"))) > 2, "the owner flushes")
        counts: list[int] = []
        bases = 0
        for number in range(COPIES):
            with PinnedStore.open(path) as pinned:
                # The owner goes on, and removes what it needs no more, before the first byte is read.
                there = [path / file.path for file in pinned.files]
                await eventually(lambda there=there: not all(file.exists() for file in there), "the owner removes a file")
                count, checkpoints = counted(copied(pinned, tmp_path / f"copy{number}"))
                counts.append(count)
                bases += checkpoints
            shutil.rmtree(tmp_path / f"copy{number}")
        assert counts == sorted(counts)
        assert len(set(counts)) == COPIES
        assert counts[0] > 0
        assert bases > 0, "no copy had a checkpoint in it"
        assert owner.poll() is None
    finally:
        owner.kill()
        owner.wait()


async def test_a_copy_of_a_closed_store_is_opened_for_work(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "store", tables=TABLES, identity=IDENTITY)
    writes = WriteSet()
    writes.put("counts", b"all", (0).to_bytes(8, "big"))
    await store.commit(writes)
    store.close()
    with PinnedStore.open(tmp_path / "store") as pinned:
        assert pinned.bytes > 0
        copy = copied(pinned, tmp_path / "copy")
    again = RocksStore.open(copy, tables=TABLES, identity=IDENTITY, create=False)
    assert again.get("counts", b"all") == (0).to_bytes(8, "big")
    again.close()


def test_where_no_store_is_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        PinnedStore.open(tmp_path)


def test_a_store_does_not_go_back_to_an_older_release(tmp_path: Path) -> None:
    def opened(release: str) -> None:
        RocksStore.open(tmp_path / "s", tables=TABLES, identity=StoreIdentity("n", "s", release=release)).close()

    opened("0.9.0")
    opened("0.10.0")
    # Who does not say which release it is takes no mark away.
    opened("")
    with pytest.raises(WrongStore, match=r"release 0\.10\.0 wrote it, this is release 0\.9\.0.*restore a backup"):
        opened("0.9.0")
    opened("0.10.1")
    with pytest.raises(WrongStore, match=r"release 0\.10\.1 wrote it"):
        opened("0.10.0")


if __name__ == "__main__":
    anyio.run(write_for_ever, Path(sys.argv[1]))
