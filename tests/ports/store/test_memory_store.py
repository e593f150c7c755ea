"""The faults a MemoryDisk shows: what a real disk and a real kill can do, and nothing they cannot."""

import anyio
import pytest

from overseer.memory.store import CommitStep, MemoryDisk, MemoryStore
from overseer.ports.store import StoreError, StoreFull
from overseer.tables import WriteSet

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The simulation's kill."""


def write(value: bytes) -> WriteSet:
    writes = WriteSet()
    writes.delete_range("a", b"x", b"y")
    writes.put("a", b"k", value)
    writes.put("a", value, b"")
    return writes


def kill_at(wanted: CommitStep, error: BaseException):
    def hook(step: CommitStep) -> None:
        if step is wanted:
            raise error

    return hook


def state(store: MemoryStore) -> list[tuple[bytes, bytes]]:
    return list(store.scan("a", b"", None))


ONE = [(b"1", b""), (b"k", b"1")]
TWO = [(b"1", b""), (b"2", b""), (b"k", b"2")]


@pytest.mark.parametrize(
    ("step", "keep", "left"),
    [
        (CommitStep.BEGIN, False, ONE),
        (CommitStep.BEGIN, True, ONE),
        (CommitStep.WRITTEN, False, ONE),
        (CommitStep.WRITTEN, True, TWO),
        (CommitStep.SYNCED, False, TWO),
        (CommitStep.SYNCED, True, TWO),
    ],
)
async def test_a_kill_at_any_step_leaves_the_whole_commit_or_nothing_of_it(
    step: CommitStep, keep: bool, left: list[tuple[bytes, bytes]]
) -> None:
    store = MemoryStore(["a"])
    await store.commit(write(b"1"))
    store.disk.on_step = kill_at(step, Killed())
    with pytest.raises(Killed):
        await store.commit(write(b"2"))
    store.disk.on_step = None
    again = store.crash(keep_unsynced=keep)
    assert state(again) == left
    assert again.disk.commits == (2 if left is TWO else 1)
    await again.commit(write(b"3"))
    assert again.get("a", b"k") == b"3"
    with pytest.raises(StoreError, match="crashed"):
        store.get("a", b"k")


async def test_a_crash_while_a_commit_waits_for_its_sync_ends_that_commit() -> None:
    store = MemoryStore(["a"])
    await store.commit(write(b"1"))
    outcome: list[str] = []

    async def commit() -> None:
        try:
            await store.commit(write(b"2"))
        except StoreError as error:
            outcome.append(error.what)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        while store.get("a", b"k") != b"2":
            await anyio.lowlevel.checkpoint()
        again = store.crash()
    assert outcome == ["the process crashed"]
    assert state(again) == ONE


@pytest.mark.parametrize("step", list(CommitStep))
async def test_a_full_disk_kills_the_handle_and_the_store_opens_again(step: CommitStep) -> None:
    disk = MemoryDisk()
    store = MemoryStore(["a"], disk=disk)
    await store.commit(write(b"1"))
    disk.on_step = kill_at(step, StoreFull("no space left"))
    with pytest.raises(StoreFull):
        await store.commit(write(b"2"))
    with pytest.raises(StoreError, match="failed before"):
        store.get("a", b"k")
    disk.on_step = None
    assert state(MemoryStore(["a"], disk=disk)) == (TWO if step is CommitStep.SYNCED else ONE)


async def test_a_lying_disk_loses_the_last_commits_as_a_whole() -> None:
    store = MemoryStore(["a"], disk=MemoryDisk(history=3))
    seen = [state(store)]
    for value in (b"1", b"2", b"3", b"4"):
        await store.commit(write(value))
        seen.append(state(store))
    assert state(store.crash(lose_commits=3)) == seen[1]


async def test_a_backup_is_a_disk_of_its_own() -> None:
    store = MemoryStore(["a"])
    await store.commit(write(b"1"))
    store.checkpoint("c")
    copy = store.disk.backup()
    await store.commit(write(b"2"))
    restored = MemoryStore(["a"], disk=copy)
    assert state(restored) == ONE
    assert restored.checkpoints() == ["c"]


async def test_commits_at_the_same_time_are_refused() -> None:
    store = MemoryStore(["a"])
    refused: list[str] = []

    async def commit() -> None:
        try:
            await store.commit(write(b"1"))
        except RuntimeError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        tasks.start_soon(commit)
    assert refused == ["one commit at a time"]
