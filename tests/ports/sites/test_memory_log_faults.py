"""What only the memory log can do: every fault at will, in virtual time."""

import anyio
import pytest

from overseer.memory.clock import MemoryClock
from overseer.memory.sites import LogFault, MemoryLogServer
from overseer.ports.bus import BusUnavailable, OutcomeUnknown, WrongLastSequence
from overseer.ports.sites import Logged
from tests.ports.sites.sites_worlds import LEASE_MS, Following, append_numbered

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("fault", "stored"), [(LogFault.STORED, True), (LogFault.LOST, False), (LogFault.LATE, False)])
async def test_an_append_without_an_answer_was_stored_or_not(memory: MemoryLogServer, fault: LogFault, stored: bool) -> None:
    log = memory.log("a")
    memory.faults("a").appends.append(fault)
    with pytest.raises(OutcomeUnknown):
        await log.append("x", b"1", stream="log-1", expected=0)
    assert await log.last("x") == ("log-1", Logged(1, "x", b"1") if stored else None)


async def test_faults_of_appends_are_one_sites_and_used_up_in_order(memory: MemoryLogServer) -> None:
    memory.faults("a").appends.extend([None, LogFault.LOST])
    assert await memory.log("a").append("x", b"1", stream="log-1", expected=0) == 1
    assert await memory.log("b").append("x", b"2", stream="log-1", expected=1) == 2
    with pytest.raises(OutcomeUnknown):
        await memory.log("a").append("x", b"3", stream="log-1", expected=2)
    assert await memory.log("a").append("x", b"3", stream="log-1", expected=2) == 3


async def test_B21_a_late_append_is_compared_when_it_arrives(memory: MemoryLogServer) -> None:
    memory.faults("a").appends.extend([LogFault.LATE, LogFault.LATE])
    for election in ("x", "y"):
        with pytest.raises(OutcomeUnknown):
            await memory.log("a").append(election, b"late", stream="log-1", expected=0)
    await memory.log("b").append("x", b"barrier", stream="log-1", expected=0)
    assert memory.release("b") == 0
    assert memory.release("a") == 1
    assert [(entry.election, entry.body) for entry in memory.entries] == [("x", b"barrier"), ("y", b"late")]
    assert memory.release() == 0


async def test_a_late_append_does_not_get_into_a_replaced_stream(memory: MemoryLogServer) -> None:
    memory.faults("a").appends.append(LogFault.LATE)
    with pytest.raises(OutcomeUnknown):
        await memory.log("a").append("x", b"late", stream="log-1", expected=0)
    memory.replace("log-2")
    assert memory.release() == 0
    assert await memory.log("a").last("x") == ("log-2", None)


async def test_B19_a_site_that_is_cut_off_reaches_nothing_and_the_others_all(memory: MemoryLogServer, clock: MemoryClock) -> None:
    log, board, following = memory.log("a"), memory.board("a"), Following()
    await append_numbered(log, "x", 2)
    await board.renew("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, log.follow(after=0, stream="log-1"))
        await following.until(lambda: len(following.entries) == 2)
        memory.cut("a")
        seen = len(following.pages)
        with pytest.raises(BusUnavailable):
            await log.append("x", b"x 3", stream="log-1", expected=2)
        for attempt in (lambda: log.last("x"), lambda: log.read("x", after=0, entries=1), board.topology, lambda: board.renew("a")):
            with pytest.raises(BusUnavailable):
                await attempt()
        await append_numbered(memory.log("b"), "x", 3)
        await clock.sleep_until(clock.now_ms() + 60_000)
        # Not even that it is at the end.
        assert len(following.pages) == seen
        assert await memory.board("b").alive() == frozenset()
        memory.heal("a")
        await following.until(lambda: len(following.entries) == 5)
        tasks.cancel_scope.cancel()
    with pytest.raises(WrongLastSequence):
        await log.append("x", b"x 3", stream="log-1", expected=2)


async def test_waiting_takes_virtual_time_alone(memory: MemoryLogServer, clock: MemoryClock) -> None:
    following, begun_ms = Following(), clock.now_ms()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(following.run, memory.log("a").follow(after=0, stream="log-1"))
            await following.until(lambda: len(following.pages) == 100)
            tasks.cancel_scope.cancel()
    assert 50_000 < clock.now_ms() - begun_ms <= 101_000


async def test_a_lease_ends_when_its_time_is_over(memory: MemoryLogServer, clock: MemoryClock) -> None:
    await memory.board("a").renew("a")
    clock.advance(LEASE_MS - 1)
    assert await memory.board("b").alive() == {"a"}
    clock.advance(1)
    assert await memory.board("b").alive() == frozenset()
