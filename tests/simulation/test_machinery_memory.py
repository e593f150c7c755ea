"""What the ports in memory learned for the simulation: trimming as the overseer does it, silence, torn pulls, slow syncs."""

import anyio
import pytest

from overseer.memory.bus import MemoryBroker
from overseer.memory.clock import MemoryClock
from overseer.memory.store import MemoryDisk, MemoryStore
from overseer.ports.bus import OutcomeUnknown, Outgoing
from overseer.tables import WriteSet

pytestmark = pytest.mark.anyio


def broker_with(*subjects: str) -> MemoryBroker:
    broker = MemoryBroker(MemoryClock())
    broker.create_stream("S", subjects=["s.>"], stream_id="1")
    broker.add_consumer("S", "d", ["s.>"])
    for subject in subjects:
        broker.publish(Outgoing(subject, {}, b""))
    return broker


def row(value: bytes) -> WriteSet:
    writes = WriteSet()
    writes.put("t", b"key", value)
    return writes


async def test_trimming_leaves_single_messages_where_they_are_and_the_stream_begins_behind() -> None:
    broker = broker_with("s.a", "s.b", "s.b", "s.b")
    stream = broker.streams["S"]
    assert stream.trim(4, keep={1}) == 2
    assert [message.sequence for message in stream.messages()] == [1, 4]
    # As the overseer tells it: what is missing below was trimmed, not lost.
    assert stream.state().first_sequence == 4
    assert stream.at(2) is None
    last = stream.last_under("s.a")
    assert last is not None
    assert last.sequence == 1
    line = broker.line("S", sender="x", own_filter="s.x.>", durable="d")
    await line.seek(1)
    assert [delivery.message.sequence for delivery in await line.pull(10, 0)] == [1, 4]
    stream.truncate(1)
    assert (stream.state().first_sequence, stream.state().last_sequence) == (4, 3)


async def test_a_silent_server_stores_nothing_and_says_nothing() -> None:
    broker = broker_with()
    broker.streams["S"].silent = True
    with pytest.raises(OutcomeUnknown, match="silent"):
        broker.publish(Outgoing("s.a", {}, b""))
    broker.streams["S"].silent = False
    assert broker.publish(Outgoing("s.a", {}, b"")) == 1


async def test_a_pull_is_torn_only_when_something_of_it_is_missing() -> None:
    broker = broker_with("s.a", "s.a", "s.a")
    line = broker.line("S", sender="x", own_filter="s.x.>", durable="d")
    torn: list[int] = []
    line.faults.torn_after, line.faults.on_torn = 2, lambda: torn.append(1)
    await line.seek(1)
    assert len(await line.pull(2, 0)) == 2
    assert torn == []
    await line.seek(1)
    line.faults.torn_after = 2
    assert len(await line.pull(3, 0)) == 2
    assert torn == [1]


async def test_what_a_commit_wrote_is_seen_once_it_is_durable_and_not_before() -> None:
    disk, release = MemoryDisk(history=4), anyio.Event()
    seen: list[bytes | None] = []
    disk.on_durable = lambda writes: seen.append(writes.rows["t"][b"key"])
    disk.syncing = release.wait
    store = MemoryStore(["t"], disk=disk)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.commit, row(b"1"))
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        assert disk.backup().rows.get("t", b"key") is None, "a backup holds what is durable"
        release.set()
    assert seen == [b"1"]


@pytest.mark.parametrize(("kept", "durable"), [(True, [b"1"]), (False, [])])
async def test_a_crash_within_a_commit_makes_it_durable_or_takes_it_back(kept: bool, durable: list[bytes]) -> None:
    disk = MemoryDisk(history=4)
    MemoryStore(["t"], disk=disk)
    seen: list[bytes | None] = []
    disk.on_durable = lambda writes: seen.append(writes.rows["t"][b"key"])
    disk.write(row(b"1"))
    disk.crash(keep_unsynced=kept)
    assert seen == durable
    assert disk.rows.get("t", b"key") == (b"1" if kept else None)
    assert disk.history == len(durable)
