"""What a site does often: changes of rows that hold their values, work that is started by tasks used again, entries read once."""

import asyncio
from itertools import product

import anyio
import msgspec
import pytest

from messages.election_pairs import BatchLogged, LoggedEvent, Record
from overseer.memory.rows import MemoryRows
from overseer.sites.crew import Crew
from overseer.sites.ledger import Change
from overseer.tables import U32, Overlay, Table, Tables
from subsystems.elections.runtime.entry import BEGIN, behind, dump_entry, head_after, load_entry, stored_events
from subsystems.elections.runtime.steps import BLANK, Copy, Prepared


class Value(msgspec.Struct, frozen=True, array_like=True):
    number: int


NUMBERS = Table("numbers", key=(U32,), value=Value)


def entry(*bodies: bytes) -> BatchLogged:
    records = [Record(f"c{body!r}", bytes(32), "op", 5, "", b"", [LoggedEvent("elections.event.ballot_cast", 1, body)]) for body in bodies]
    return BatchLogged(**behind(BEGIN, election="poll", epoch=1, site="a", topology=1, told=0), copies=3, records=records)


# ------------------------------------------------------------------------------------------------ changes

WRITES = ("put", "put packed", "put all", "delete", "delete all", "delete range")
READS = ("get", "has", "get packed", "scan", "scratch")


def step(tables: Tables, what: str, number: int) -> object:
    """One use of row 1. `number`: of what it puts."""
    key, value = 1, Value(number)
    place = NUMBERS.pack((key,))
    match what:
        case "put":
            return tables.put(NUMBERS, (key,), value)
        case "put packed":
            return tables.put_packed(NUMBERS, place, NUMBERS.dump(value))
        case "put all":
            return tables.put_all_packed(NUMBERS, [place], NUMBERS.dump(value))
        case "delete":
            return tables.delete(NUMBERS, (key,))
        case "delete all":
            return tables.delete_all_packed(NUMBERS, [place])
        case "delete range":
            return tables.delete_range(NUMBERS, start=(key,), end=(3,))
        case "get":
            return tables.get(NUMBERS, (key,))
        case "has":
            return tables.has(NUMBERS, (key,))
        case "get packed":
            return tables.get_packed(NUMBERS, place)
        case "scan":
            return list(tables.scan(NUMBERS))
        case _:
            return tables.scratch().get(NUMBERS, (key,))


@pytest.mark.parametrize("last", READS)
def test_a_change_reads_and_writes_what_plain_tables_do_in_whatever_order_it_is_used(last: str) -> None:
    for steps in product(WRITES + READS, repeat=3):
        rows = MemoryRows([NUMBERS.name])
        below = Overlay(rows)
        Tables(below).put(NUMBERS, (1,), Value(7))
        rows.apply(below)
        plain, change = Overlay(rows), Change(rows)
        for number, what in enumerate((*steps, last)):
            assert step(change, what, number) == step(Tables(plain), what, number), steps
        assert (change.writes.rows, change.writes.ranges) == (plain.rows, plain.ranges), steps


def test_a_value_of_a_wrong_key_is_refused_when_the_change_is_written() -> None:
    change = Change(MemoryRows([NUMBERS.name]))
    change.put(NUMBERS, (2**32,), Value(1))
    with pytest.raises(OverflowError):
        _ = change.writes


# ------------------------------------------------------------------------------------------------ the crew


@pytest.mark.anyio
async def test_work_is_done_by_tasks_used_again_and_by_more_of_them_while_all_are_busy() -> None:
    done: list[tuple[str, asyncio.Task[object] | None]] = []

    async def work(name: str) -> None:
        await anyio.lowlevel.checkpoint()
        done.append((name, asyncio.current_task()))

    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks)
        crew.start_soon(work, "a")
        crew.start_soon(work, "b")
        await anyio.wait_all_tasks_blocked()
        crew.start_soon(work, "c")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert [name for name, _ in done] == ["a", "b", "c"]
    (_, first), (_, second), (_, third) = done
    assert first is not second
    assert third in (first, second)


@pytest.mark.anyio
async def test_what_a_crew_raises_ends_the_group_and_who_waits_is_not_called_behind_the_end() -> None:
    async def nothing() -> None:
        pass

    async def fail() -> None:
        raise ZeroDivisionError

    async def crew_that_fails() -> None:
        async with anyio.create_task_group() as tasks:
            crew = Crew(tasks)
            crew.start_soon(nothing)
            await anyio.wait_all_tasks_blocked()
            crew.start_soon(fail)
            crew.start_soon(nothing)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await crew_that_fails()
    assert raised.group_contains(ZeroDivisionError)


@pytest.mark.anyio
async def test_a_crew_whose_tasks_were_cancelled_starts_work_as_its_group_would() -> None:
    async def nothing() -> None:
        pass

    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks)
        crew.start_soon(nothing)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        # The one that waited is gone; nobody is told that anything went wrong.
        crew.start_soon(nothing)


# ------------------------------------------------------------------------------------------------ entries


def test_the_bytes_of_an_entry_are_those_that_it_came_as_and_those_of_a_changed_one_its_own() -> None:
    made = entry(b"a", b"b")
    data = dump_entry(made)
    read = load_entry(data)
    assert read == made
    assert dump_entry(read) is data
    changed = msgspec.structs.replace(read, records=read.records[:1])
    assert load_entry(dump_entry(changed)) == changed
    assert head_after(changed) == head_after(entry(b"a"))
    assert stored_events(changed) == stored_events(made)[:1]


def test_a_prepared_entry_that_the_log_delivers_is_known_by_its_bytes() -> None:
    made = entry(b"a")
    copy = Copy("log", BEGIN, 0, (Prepared(made, head_after(made)),), 0)
    assert copy.held(dump_entry(made)) is made
    assert copy.held(dump_entry(entry(b"b"))) is None
    assert BLANK.held(dump_entry(made)) is None
