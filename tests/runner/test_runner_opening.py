"""Opening: incarnations, and streams that are no longer what the store remembers. Nothing is doubled, what is lost is said."""

from typing import Any

import pytest
from counting import TOTAL, Add, Counted, Counter, QueryTotal, Storm, TakeFromAuditor

from messages.overseer import IncarnationStarted, Parked, RepairNoted
from overseer.limits import Limits
from overseer.memory.bus.line import MemoryLine
from overseer.runner.errors import StreamChanged

pytestmark = pytest.mark.anyio


async def total(counter: Any) -> int:
    await counter.settled()
    return (await counter.ask(QueryTotal())).total


async def sound(counter: Any) -> None:
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults
    ids = [entry.stored.headers["Overseer-Id"] for entry in await counter.sent_raw()]
    assert len(ids) == len(set(ids)), "a message is twice in the stream"


async def test_an_incarnation_is_announced_once_before_its_first_message(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.restart()
    await counter.inject(Add(amount=1))
    await counter.settled()
    first, *rest = await counter.sent()
    assert first == IncarnationStarted(incarnation=counter.head().incarnation, previous=None)
    assert [type(m) for m in rest] == [Counted]


async def test_a_deleted_store_starts_a_new_incarnation_that_names_the_one_before(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1), command_id="c1")
    await counter.settled()
    before = counter.head().incarnation
    await counter.new_store()
    await counter.start()
    # Everything is taken from the stream again: the state is the same.
    assert await total(counter) == 1
    started = await counter.sent(IncarnationStarted)
    assert [(m.incarnation, m.previous) for m in started] == [(before, None), (counter.head().incarnation, before)]
    await counter.restart()
    await counter.restart()
    assert len(await counter.sent(IncarnationStarted)) == 2, "one incarnation for one store"
    await sound(counter)


async def test_an_older_store_put_in_its_place_starts_a_new_incarnation_once(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    before = counter.head().incarnation
    backup = await counter.backup()
    await counter.start()
    await counter.inject(Add(amount=2))
    assert await total(counter) == 3
    await counter.restore_backup(backup)
    await counter.start()
    assert await total(counter) == 3
    assert counter.head().incarnation != before
    assert any("this store was restored" in text for text in counter.runner.repairs)
    told = [(m.amount) for m in await counter.sent(Counted)]
    # What was decided after the backup is decided, and told, by the new incarnation too; what was before it is not told again.
    assert told == [1, 2, 2]
    await counter.inject(Add(amount=4))
    await counter.restart()
    assert await total(counter) == 7
    assert len(await counter.sent(IncarnationStarted)) == 2
    await sound(counter)


async def test_a_new_store_that_dies_before_it_speaks_keeps_its_incarnation(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    await counter.new_store()
    # Nothing of what it says arrives.
    counter.intercept(lambda _: None)
    await counter.start()
    started = counter.head().incarnation
    counter.intercept(None)
    await counter.restart()
    assert counter.head().incarnation == started
    assert len(await counter.sent(IncarnationStarted)) == 2
    await sound(counter)


async def test_a_stream_that_lost_its_tail_gets_it_back_and_the_repair_is_recorded(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
        await counter.settled()
    await counter.kill()
    # The last command and what was told of it are gone, and the second's fact.
    await counter.truncate_stream(3)
    await counter.start()
    assert await total(counter) == 6
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2, 3]
    (noted,) = counter.events(RepairNoted)
    assert "lost its tail" in noted.detail
    assert noted.expected.sequence > noted.found.sequence
    await counter.inject(Add(amount=10))
    assert await total(counter) == 16
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2, 3, 10]
    await sound(counter)


async def test_a_stream_that_loses_its_tail_under_a_running_subsystem_stops_it_and_the_next_start_repairs(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    held = (await counter.world.state(counter.streams[0])).last_sequence
    await counter.truncate_stream(held - 1)
    assert isinstance(await counter.ended(), StreamChanged)
    await counter.restart()
    assert await total(counter) == 6
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2, 3]
    await sound(counter)


async def test_a_running_subsystem_sends_again_what_the_stream_lost_of_its_own(in_memory: Any) -> None:
    """Only what it told itself is gone, which it does not read: nothing has to stop for that.

    In memory: there a stream is cut in one step, a JetStream has to be made anew for it.
    """
    counter = await in_memory(Counter())
    await counter.inject(Add(amount=1, times=3))
    await counter.settled()
    await counter.truncate_stream(2)
    await counter.until(lambda: bool(counter.witness.troubles))
    await counter.inject(Add(amount=2))
    assert await total(counter) == 3
    assert [(m.amount, m.copy_) for m in await counter.sent(Counted)] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    await sound(counter)


async def test_a_tail_rewritten_by_others_is_noticed_by_what_is_there(virtual_overseer: Any) -> None:
    """As long as before, but other messages: the identity at the position differs."""
    counter = await virtual_overseer(Counter())
    for amount in (1, 2, 4):
        await counter.inject(Add(amount=amount), command_id=f"c{amount}")
    await counter.settled()
    await counter.kill()
    await counter.truncate_stream(4)
    for amount in (8, 16, 32, 64, 128):
        await counter.inject(Add(amount=amount), command_id=f"c{amount}")
    await counter.start()
    assert await total(counter) == 255
    assert ["holds other messages" in event.detail or "lost its tail" in event.detail for event in counter.events(RepairNoted)] == [True]
    assert sorted(m.amount for m in await counter.sent(Counted)) == [1, 2, 4, 8, 16, 32, 64, 128]
    await sound(counter)


async def test_a_stream_that_was_replaced_gets_everything_back_and_nobody_counts_twice(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(TakeFromAuditor(amount=5), sender="auditor")
    kept = await counter.inject(Add(amount=1), command_id="c1")
    stored = await counter.world.message_at(counter.streams[0], kept)
    await counter.settled()
    await counter.kill()
    await counter.replace_stream()
    # The operator sends its command again; the auditor restores its tail.
    await counter.world.append(stored)
    await counter.start()
    assert await total(counter) == 6
    assert [m.amount for m in await counter.sent(Counted)] == [5, 1]
    (noted,) = counter.events(RepairNoted)
    assert "was replaced" in noted.detail
    assert noted.restored == 3, "the announcement and two facts"
    await counter.inject(TakeFromAuditor(amount=10), sender="auditor")
    assert await total(counter) == 16
    await sound(counter)


async def test_a_stream_replaced_under_a_running_subsystem_stops_it_and_the_next_start_repairs(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    await counter.replace_stream()
    assert isinstance(await counter.ended(), StreamChanged)
    await counter.restart()
    assert await total(counter) == 1
    assert [m.amount for m in await counter.sent(Counted)] == [1]


async def test_a_stream_replaced_between_the_look_at_it_and_the_seek_is_noticed(in_memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Found by a seed of the simulation: the consumer then waited in the new stream for a sequence of the old one.
    counter = await in_memory(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    await counter.kill()
    seek = MemoryLine.seek
    replaced = False

    async def replaced_before(line: MemoryLine, sequence: int) -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            await counter.replace_stream()
        await seek(line, sequence)

    monkeypatch.setattr(MemoryLine, "seek", replaced_before)
    with pytest.raises(StreamChanged):
        await counter.start()
    await counter.restart()
    assert await total(counter) == 1
    assert [m.amount for m in await counter.sent(Counted)] == [1]


async def test_a_replaced_stream_is_taken_from_its_beginning_even_where_a_message_is_at_its_old_place(virtual_overseer: Any) -> None:
    # Found by seed 1630 of the simulation of disputes: what was before that place was passed over.
    counter = await virtual_overseer(Counter())
    kept = await counter.inject(Add(amount=1), command_id="c1")
    stored = await counter.world.message_at(counter.streams[0], kept)
    await counter.settled()
    await counter.kill()
    await counter.replace_stream()
    for number in range(kept - 1):
        await counter.inject(Add(amount=10), command_id=f"new {number}")
    assert await counter.world.append(stored) == kept
    await counter.start()
    assert await total(counter) == 1 + 10 * (kept - 1) > 1
    await sound(counter)


async def test_a_stream_that_lost_its_tail_and_grew_beyond_it_before_anybody_looked_is_noticed(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    held = (await counter.world.state(counter.streams[0])).last_sequence
    await counter.truncate_stream(held - 2)
    for amount in (10, 20, 30):
        await counter.inject(Add(amount=amount), sender="op_else")
    assert isinstance(await counter.ended(), StreamChanged)
    await counter.restart()
    assert await total(counter) == 66
    await sound(counter)


async def test_a_trimmed_stream_and_a_fresh_store_is_said_and_senders_are_adopted(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(TakeFromAuditor(amount=1), sender="auditor")
    await counter.settled()
    sequence = await counter.inject(TakeFromAuditor(amount=2), sender="auditor")
    await counter.settled()
    await counter.new_store()
    await counter.world.trim(counter.streams[0], sequence)
    await counter.start()
    assert await total(counter) == 2, "only what is still there"
    (noted,) = counter.events(RepairNoted)
    assert f"the stream begins at {sequence}: what was before is not in this store" in noted.detail
    assert await counter.sent(Parked) == []
    await sound(counter)


async def test_new_code_rebuilds_the_tables_from_the_journal(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    assert await total(counter) == 6
    counter.subsystem = Counter(evolve_version=2, weight=10)
    await counter.restart()
    assert await total(counter) == 60
    assert any("rebuilt as version 2" in text for text in counter.runner.repairs)
    await counter.inject(Add(amount=1))
    assert await total(counter) == 70
    await sound(counter)
    # And a start with the same version rebuilds nothing.
    await counter.restart()
    assert counter.runner.repairs == []


async def test_tables_are_rebuilt_from_a_checkpoint_when_the_journal_was_shortened(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(checkpoint_records=5, checkpoints_kept=1))
    for amount in range(1, 21):
        await counter.inject(Add(amount=amount))
        await counter.settled()
    assert counter.journal()[0].index > 1
    counter.subsystem = Counter(evolve_version=2)
    await counter.restart()
    assert await total(counter) == 210
    await sound(counter)


async def test_it_waits_for_a_bus_that_is_not_there_yet_and_says_so_once(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    await counter.inject(Storm(level=1), sender="weather")
    await counter.settled()
    await counter.kill()
    await counter.world.stop_bus()
    await counter.start(ready=False)
    await counter.until(lambda: bool(counter.witness.troubles))
    await counter.world.start_bus()
    await counter.inject(Add(amount=1))
    await counter.until(lambda: counter.runner.progress.ready)
    assert await total(counter) == 1
    assert len(counter.witness.troubles) == 1


async def test_the_view_of_the_tables_is_the_committed_one(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=3))
    await counter.settled()
    assert counter.view().get(TOTAL, ("total",)) == 3
