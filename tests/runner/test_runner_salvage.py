"""What of a damaged journal is intact, and the store that is made of it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from counting import TOTAL, Add, Counter

from messages.codec import decode_value, encode_value
from overseer.memory.store import MemoryStore
from overseer.runner.journal import HEAD_KEY, read_head
from overseer.runner.salvage import Intact, intact_part, salvage
from overseer.runner.schema import HEAD, JOURNAL, Head, Record
from overseer.tables import WriteSet

pytestmark = pytest.mark.anyio

Change = Callable[[bytes], bytes | None]


def other_time(data: bytes) -> bytes:
    """Still a record, and a chained one: only its successor can tell."""
    record = decode_value(Record, data)
    return encode_value(msgspec.structs.replace(record, time_ms=record.time_ms + 1))


def torn(data: bytes) -> bytes:
    return data[:-1]


def gone(_: bytes) -> None:
    return None


async def damaged(in_memory: Any, change: Change, back: int) -> tuple[Any, int, Intact]:
    """A counter that has added 1, 2, ... 6 with the record `back` before the last one changed: itself, that index, what is intact."""
    counter = await in_memory(Counter())
    for amount in range(1, 7):
        await counter.inject(Add(amount=amount))
        await counter.settled()
    await counter.kill()
    index = counter.journal()[-1].index - back
    with counter.stored() as store:
        data = store.get(JOURNAL.name, JOURNAL.pack((index,)))
        writes = WriteSet()
        writes.put(JOURNAL.name, JOURNAL.pack((index,)), change(data))
        await store.commit(writes)
        return counter, index, intact_part(store)


@pytest.mark.parametrize("change", [other_time, torn, gone])
@pytest.mark.parametrize("back", [0, 1, 3])
async def test_everything_before_the_damaged_record_is_intact_and_nothing_from_it_on(in_memory: Any, change: Change, back: int) -> None:
    _, index, found = await damaged(in_memory, change, back)
    assert (found.first, found.last) == (1, index - 1)
    assert found.damage


@pytest.mark.parametrize("change", [other_time, torn])
async def test_the_store_made_of_it_holds_the_tables_as_they_were_just_before_the_damage(in_memory: Any, change: Change) -> None:
    counter, index, found = await damaged(in_memory, change, 2)
    with counter.stored() as store:
        made = MemoryStore(store.tables())
        await salvage(counter.subsystem, counter.node, store, None, found, made)
    assert made.get(TOTAL.name, TOTAL.pack(("total",))) == encode_value(1 + 2 + 3)
    head = read_head(made)
    assert head is not None
    assert head.index == index - 1
    assert intact_part(made) == Intact(first=1, last=index - 1, damage="")


async def test_a_last_record_that_the_head_does_not_name_is_not_trusted(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    await counter.kill()
    with counter.stored() as store:
        head = decode_value(Head, store.get(HEAD.name, HEAD_KEY))
        head.hash = bytes(32)
        writes = WriteSet()
        writes.put(HEAD.name, HEAD_KEY, encode_value(head))
        await store.commit(writes)
        found = intact_part(store)
    assert found.last == head.index - 1
    assert "the head names" in found.damage


async def test_of_a_store_without_any_record_nothing_is_intact() -> None:
    head = Head(incarnation=bytes(16), hash=bytes([1]) * 32)
    made = MemoryStore([HEAD.name, JOURNAL.name])
    writes = WriteSet()
    writes.put(HEAD.name, HEAD_KEY, encode_value(head))
    await made.commit(writes)
    assert intact_part(made).last == 0
