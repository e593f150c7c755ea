"""What only the real store can show: kills, rot, torn tails, full disks, foreign folders, memory, and its lock."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from rocksdict import Options, Rdict

from overseer.ports.store import StoreCorrupted, StoreError, StoreIdentity, StoreLocked, StoreMissing, WrongStore
from overseer.rocks.reader import RocksReader
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet

pytestmark = [pytest.mark.anyio, pytest.mark.real]

IDENTITY = StoreIdentity("n1", "votes_db")
ROOT = Path(__file__).resolve().parents[3]

CHILD = """
import sys, anyio, resource, signal
from overseer.ports.store import StoreError, StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet

async def main(path, file_bytes_max):
    if file_bytes_max:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
    store = RocksStore.open(path, tables=["a", "b"], identity=StoreIdentity("n1", "votes_db"))
    n = 0
    while True:
        writes = WriteSet()
        # One commit: the same number in two tables, beside some bulk.
        writes.put("a", b"n", n.to_bytes(8, "big"))
        writes.put("b", b"n", n.to_bytes(8, "big"))
        writes.put("b", b"bulk%d" % (n % 50), bytes(2000))
        try:
            await store.commit(writes)
        except StoreError as error:
            print(type(error).__name__, flush=True)
            try:
                store.get("a", b"n")
            except StoreError:
                print("dead", flush=True)
            store.close()
            return
        print(n, flush=True)
        n += 1

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""


def start_child(path: Path, file_bytes_max: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(file_bytes_max)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def open_at(path: Path) -> RocksStore:
    return RocksStore.open(path, tables=["a", "b"], identity=IDENTITY)


def put(count: int, *, first: int = 0, value: bytes = b"v" * 50) -> WriteSet:
    writes = WriteSet()
    for n in range(first, first + count):
        writes.put("a", n.to_bytes(4, "big"), value + n.to_bytes(4, "big"))
    return writes


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def largest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda p: p.stat().st_size)


def number(store: RocksStore, table: str) -> int:
    return int.from_bytes(store.get(table, b"n") or b"", "big")


def test_a_kill_in_the_middle_of_commits_loses_none_that_returned_and_tears_none(tmp_path: Path) -> None:
    reported = 0
    for _ in range(3):
        child = start_child(tmp_path / "s")
        assert child.stdout is not None
        for _ in range(200):
            reported = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        # What it had reported until the kill reached it counts as well.
        rest = child.stdout.read().split("\n")
        reported = max([reported, *(int(line) for line in rest[:-1])])
        child.wait()
        child.stdout.close()
        store = open_at(tmp_path / "s")
        assert number(store, "a") == number(store, "b")
        assert reported <= number(store, "a") <= reported + 1
        store.close()


def test_the_holder_of_a_locked_store_is_named_and_its_kill_frees_it(tmp_path: Path) -> None:
    child = start_child(tmp_path / "s")
    assert child.stdout is not None
    child.stdout.readline()
    logs = len(list((tmp_path / "s").glob("LOG*")))
    with pytest.raises(StoreLocked, match=f"pid {child.pid}"):
        open_at(tmp_path / "s")
    assert len(list((tmp_path / "s").glob("LOG*"))) == logs
    child.kill()
    child.wait()
    child.stdout.close()
    open_at(tmp_path / "s").close()


def test_a_full_disk_is_named_kills_the_handle_and_loses_nothing_that_returned(tmp_path: Path) -> None:
    child = start_child(tmp_path / "s", 300_000)
    out, _ = child.communicate(timeout=60)
    *numbers, error, dead = out.split()
    assert (error, dead) == ("StoreFull", "dead")
    store = open_at(tmp_path / "s")
    assert number(store, "a") == number(store, "b") >= int(numbers[-1])
    store.close()


async def test_the_lock_is_gone_after_a_failure_even_while_its_error_is_held(tmp_path: Path) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(2000))
    store.checkpoint("flushes")
    file = largest(tmp_path / "s", "*.sst")
    flip(file, file.stat().st_size // 3)
    held: StoreError | None = None
    try:
        list(store.scan("a", b"", None))
    except StoreCorrupted as error:
        held = error
    assert held is not None
    with pytest.raises(StoreCorrupted):
        store.get("a", b"k")
    with pytest.raises(StoreCorrupted):
        list(open_at(tmp_path / "s").scan("a", b"", None))


@pytest.mark.parametrize("reverse", [False, True])
async def test_rot_in_a_table_file_ends_a_scan_with_an_error_never_early(tmp_path: Path, reverse: bool) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(5000))
    store.checkpoint("flushes")
    store.close()
    file = largest(tmp_path / "s", "*.sst")
    flip(file, file.stat().st_size // 2)
    store = open_at(tmp_path / "s")
    with pytest.raises(StoreCorrupted, match="restore a backup"):
        list(store.scan("a", b"", None, reverse=reverse))
    store.close()


@pytest.mark.parametrize("opened", [open_at, RocksReader.open_read_only], ids=["owner", "reader"])
@pytest.mark.parametrize("back", [0.5, 0.01])
async def test_a_flipped_bit_in_the_log_is_refused(tmp_path: Path, opened: Callable[[Path], RocksReader], back: float) -> None:
    store = open_at(tmp_path / "s")
    for n in range(200):
        await store.commit(put(3, first=3 * n))
    # The log as a kill would leave it: closing writes nothing more.
    shutil.copytree(tmp_path / "s", tmp_path / "killed")
    store.close()
    log = largest(tmp_path / "killed", "*.log")
    flip(log, int(log.stat().st_size * (1 - back)))
    with pytest.raises(StoreCorrupted, match="damaged"):
        opened(tmp_path / "killed")


async def test_a_torn_tail_of_the_log_takes_the_last_commit_as_a_whole(tmp_path: Path) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(10))
    await store.commit(put(10, first=10))
    shutil.copytree(tmp_path / "s", tmp_path / "torn")
    store.close()
    log = largest(tmp_path / "torn", "*.log")
    os.truncate(log, log.stat().st_size - 30)
    torn = open_at(tmp_path / "torn")
    assert list(torn.scan("a", b"", None)) == [(n.to_bytes(4, "big"), b"v" * 50 + n.to_bytes(4, "big")) for n in range(10)]
    torn.close()


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst"])
@pytest.mark.parametrize("harm", ["flip", "remove", "cut"])
async def test_damage_to_any_other_file_is_refused_or_harmless(tmp_path: Path, pattern: str, harm: str) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(3000))
    store.checkpoint("flushes")
    await store.commit(put(3000, first=3000))
    store.close()
    file = largest(tmp_path / "s", pattern)
    if harm == "flip":
        flip(file, file.stat().st_size // 2)
    elif harm == "remove":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(StoreCorrupted):
        list(open_at(tmp_path / "s").scan("a", b"", None))


@pytest.mark.parametrize("content", [b"", b"{"])
async def test_an_unreadable_note_of_the_library_is_harmless(tmp_path: Path, content: bytes) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(3))
    store.close()
    (tmp_path / "s" / "rocksdict-config.json").write_bytes(content)
    store = open_at(tmp_path / "s")
    assert len(list(store.scan("a", b"", None))) == 3
    store.close()


def test_a_foreign_database_and_a_foreign_folder_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    pickled = Rdict(str(tmp_path / "pickled"))
    pickled["key"] = {"a": 1}
    pickled.close()
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    raw = Rdict(str(tmp_path / "raw"), options)
    raw[b"key"] = b"value"
    raw.close()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    for folder, text in (("pickled", "pickled form"), ("raw", "not a store of ours"), ("home", "not empty")):
        before = {p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()}
        with pytest.raises(WrongStore, match=text):
            open_at(tmp_path / folder)
        assert {p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()} == before


async def test_a_log_cut_back_behind_the_seal_is_noticed(tmp_path: Path) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(10))
    shutil.copytree(tmp_path / "s", tmp_path / "cut")
    store.close()
    shutil.copy(tmp_path / "s" / "SEAL", tmp_path / "cut" / "SEAL")
    log = largest(tmp_path / "cut", "*.log")
    os.truncate(log, log.stat().st_size - 30)
    with pytest.raises(StoreCorrupted, match="had come to"):
        open_at(tmp_path / "cut")


def test_a_missing_store_is_created_only_when_wanted(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        RocksStore.open(tmp_path / "s", tables=["a"], identity=IDENTITY, create=False)
    with pytest.raises(StoreMissing):
        RocksReader.open_read_only(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    open_at(tmp_path / "s").close()
    RocksStore.open(tmp_path / "s", tables=["a"], identity=IDENTITY, create=False).close()


def test_a_creation_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.mkdir()
    (path / "OWNER").write_text("pid 1\n")
    open_at(path).close()
    # Again, killed later: the database is there and holds nothing.
    path = tmp_path / "t"
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    Rdict(str(path), options).close()
    gc.collect()
    (path / "OWNER").write_text("pid 1\n")
    open_at(path).close()


async def test_a_reader_looks_into_a_running_store_and_writes_nothing_there(tmp_path: Path) -> None:
    store = open_at(tmp_path / "s")
    await store.commit(put(10))
    store.checkpoint("one")
    await store.commit(put(10, first=10))
    before = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in (tmp_path / "s").iterdir() if "config" not in p.name)
    reader = RocksReader.open_read_only(tmp_path / "s")
    assert reader.identity() == IDENTITY
    assert reader.tables() == ["a", "b"]
    assert len(list(reader.scan("a", b"", None))) == 20
    assert reader.checkpoints() == ["one"]
    kept = reader.open_checkpoint("one")
    assert len(list(kept.scan("a", b"", None))) == 10
    kept.close()
    reader.close()
    assert before == sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in (tmp_path / "s").iterdir() if "config" not in p.name)
    await store.commit(put(1, first=99))
    store.close()
    reader = RocksReader.open_read_only(tmp_path / "s")
    assert len(list(reader.scan("a", b"", None))) == 21
    reader.close()


async def test_the_event_loop_goes_on_during_a_commit_and_a_cancelled_commit_is_finished(tmp_path: Path) -> None:
    store = open_at(tmp_path / "s")
    finished = False
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.commit(put(10))
        finished = True
    assert finished, "the cancellation came before the sync"
    turns = 0
    done = anyio.Event()

    async def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        for n in range(20):
            await store.commit(put(10, first=10 * n))
        done.set()
    assert turns > 20
    store.close()
    again = open_at(tmp_path / "s")
    assert len(list(again.scan("a", b"", None))) == 200
    again.close()


@pytest.mark.parametrize(
    ("left", "names"),
    [
        ([".new.c"], []),
        ([".old.c", ".new.c"], ["c"]),
        ([".old.c", "c"], ["c"]),
        (["c", ".new.c"], ["c"]),
        ([".old.c"], []),
    ],
)
def test_an_interrupted_checkpoint_is_finished_or_undone(tmp_path: Path, left: list[str], names: list[str]) -> None:
    open_at(tmp_path / "s").close()
    for name in left:
        (tmp_path / "s" / "checkpoints" / name).mkdir(parents=True)
    store = open_at(tmp_path / "s")
    assert store.checkpoints() == names
    assert sorted(p.name for p in (tmp_path / "s" / "checkpoints").iterdir()) == names
    store.close()


def test_log_files_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(8):
        open_at(tmp_path / "s").close()
    assert len(list((tmp_path / "s").glob("LOG*"))) <= 5


MEMORY = """
import sys, anyio, os, json
from overseer.ports.store import StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet

async def main(path):
    tables = [f"t{n:02}" for n in range(15)]
    store = RocksStore.open(path, tables=tables, identity=StoreIdentity("n1", "votes_db"))
    for n in range(400):
        writes = WriteSet()
        for table in tables:
            for k in range(20):
                writes.put(table, os.urandom(16), os.urandom(500))
        await store.commit(writes)
    rows = sum(1 for table in tables for _ in store.scan(table, b"", None))
    rss = [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS")][0]
    print(json.dumps({"rows": rows, "rss_kb": rss}))
    store.close()

anyio.run(main, sys.argv[1])
"""


@pytest.mark.slow
def test_a_process_with_a_store_of_fifteen_tables_and_sixty_megabytes_stays_small(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    seen = json.loads(run.stdout)
    assert seen["rows"] == 120_000
    assert seen["rss_kb"] < 90_000
