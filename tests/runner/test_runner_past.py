"""The past from the journal: the state behind every record, where a moment is in it, and what cannot be had any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from counting import Add, AddLater, Counter, QueryTotal, Total
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.history.differences import changes, differences, recorded_between
from overseer.history.journals import StoredJournal, places
from overseer.history.moments import AtIndex, AtPosition, AtTime, BadMoment, Moment, Now
from overseer.history.past import PastState, answer_from, rebuilt, stored_state
from overseer.limits import Limits
from overseer.memory.rows import MemoryRows
from overseer.runner import journal
from overseer.tables import WriteSet
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryShelf, MemoryWorld

pytestmark = pytest.mark.anyio

ONE_BY_ONE = {"batch_messages_max": 1, "timers_per_batch_max": 1}
SINGLE = Limits(**ONE_BY_ONE)
OFTEN = Limits(checkpoint_records=5, checkpoints_kept=2, **ONE_BY_ONE)

# Additions, refused ones (no events), and timers set, replaced, cancelled and fired by time that passes.
WORK = st.lists(
    st.one_of(
        st.builds(Add, amount=st.sampled_from([1, 2, 3, 2_000_000]), times=st.integers(0, 2)),
        st.builds(AddLater, key=st.sampled_from("ab"), amount=st.integers(0, 9), after_ms=st.integers(1, 50)),
        st.integers(1, 60),
    ),
    max_size=25,
)


@contextmanager
def journal_of(counter: VirtualOverseer) -> Iterator[StoredJournal]:
    with counter.stored() as store:
        yield StoredJournal("counter", store, evolve_version=counter.subsystem.declaration.evolve_version)


def remembered(counter: VirtualOverseer) -> dict[int, dict[str, list[tuple[bytes, bytes]]]]:
    """The tables behind each record, as they were when it had just been committed: filled while the counter works."""
    shelf = counter.world.disk(counter.node, counter.subsystem.declaration)
    assert isinstance(shelf, MemoryShelf)
    seen: dict[int, dict[str, list[tuple[bytes, bytes]]]] = {}

    def durable(_: WriteSet) -> None:
        head = journal.read_head(shelf.disk.rows)
        assert head is not None
        seen[head.index] = tables_of(counter, shelf.disk.rows)

    shelf.disk.on_durable = durable
    return seen


def tables_of(counter: VirtualOverseer, rows: Any) -> dict[str, list[tuple[bytes, bytes]]]:
    return {table.name: list(rows.scan(table.name, b"", None)) for table in counter.subsystem.declaration.tables}


async def state(counter: VirtualOverseer, stored: StoredJournal, moment: Moment) -> PastState:
    (place,) = places(moment, [stored], [stored])
    return await rebuilt(counter.subsystem, stored, place)


async def fed(counter: Any, *amounts: int) -> None:
    for amount in amounts:
        await counter.inject(Add(amount=amount))
        await counter.settled()


async def worked(counter: VirtualOverseer, work: list[Any]) -> None:
    for step in work:
        if isinstance(step, int):
            await counter.advance(step)
        else:
            await counter.inject(step)
            await counter.settled()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(work=WORK, often=st.booleans())
async def test_the_state_behind_every_record_is_the_one_that_was_committed_with_it(work: list[Any], often: bool) -> None:
    async with MemoryWorld() as world, VirtualOverseer(Counter(), world, limits=OFTEN if often else SINGLE) as counter:
        seen = remembered(counter)
        await counter.start()
        await worked(counter, work)
        with journal_of(counter) as stored:
            oldest = 0 if stored.oldest is None else stored.oldest.index
            for index, tables in seen.items():
                if index < oldest:
                    with pytest.raises(BadMoment, match=f"counter:{oldest}, of "):
                        await state(counter, stored, AtIndex("counter", index))
                    continue
                past = await state(counter, stored, AtIndex("counter", index))
                assert tables_of(counter, past.rows) == tables, index
                end = stored_state(stored, places(Now(0), [stored], [stored])[0])
                assert applied(counter, past, end) == tables_of(counter, end.rows)
            assert stored.head.index in seen


def applied(counter: VirtualOverseer, past: PastState, end: PastState) -> dict[str, list[tuple[bytes, bytes]]]:
    """What the differences of two states make of the first."""
    declared = counter.subsystem.declaration.tables
    rows, writes = MemoryRows([table.name for table in declared]), WriteSet()
    for table in declared:
        rows.load(table.name, past.rows.scan(table.name, b"", None))
        for change in changes(table.name, past.rows, end.rows):
            assert rows.get(table.name, change.key) == change.before
            writes.put(table.name, change.key, change.after)
    rows.apply(writes)
    return tables_of(counter, rows)


async def test_a_state_is_made_on_from_another_one_where_that_is_nearer(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=SINGLE)
    await fed(counter, *range(1, 11))
    with journal_of(counter) as stored:
        early, late = (places(AtIndex("counter", index), [stored], [stored])[0] for index in (4, 9))
        start = await rebuilt(counter.subsystem, stored, early)
        end = await rebuilt(counter.subsystem, stored, late, start=start)
        assert (end.from_index, end.records) == (4, 5)
        assert tables_of(counter, end.rows) == tables_of(counter, (await rebuilt(counter.subsystem, stored, late)).rows)
        # Backwards nothing can be made on.
        back = await rebuilt(counter.subsystem, stored, early, start=end)
        assert (back.from_index, tables_of(counter, back.rows)) == (0, tables_of(counter, start.rows))
        assert recorded_between(stored.store, 4, 9) == {"amount_added": 5}
        (total, amounts) = differences(counter.subsystem.declaration.tables, start.rows, end.rows, limit=2)
        assert (total.table.name, total.added, total.changed, total.removed) == ("total", 0, 2, 0)
        assert (amounts.added, amounts.changed, amounts.removed, len(amounts.rows)) == (5, 0, 0, 2)


async def test_a_position_is_the_last_record_that_its_messages_caused(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=SINGLE)
    sequences = [await counter.inject(Add(amount=amount)) for amount in (1, 2, 3)]
    await counter.settled()
    with journal_of(counter) as stored:
        for count, sequence in enumerate(sequences, 1):
            past = await state(counter, stored, AtPosition(sequence))
            assert past.place.position == sequence
            assert answer_from(counter.subsystem, past, QueryTotal()) == Total(total=sum(range(count + 1)), position=sequence)
        before = await state(counter, stored, AtPosition(sequences[0] - 1))
        assert answer_from(counter.subsystem, before, QueryTotal()) == Total(total=0, position=0)
        with pytest.raises(BadMoment, match=f"No subsystem has taken message {sequences[2] + 99}"):
            await state(counter, stored, AtPosition(sequences[2] + 99))
        with pytest.raises(BadMoment, match=f"no record 99 yet; its last one is {stored.head.index}"):
            await state(counter, stored, AtIndex("counter", 99))


async def test_what_a_timer_did_after_a_message_belongs_to_no_position_before_the_next(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=SINGLE)
    first = await counter.inject(AddLater(key="a", amount=5, after_ms=1_000))
    await counter.settled()
    await counter.advance(1_500)
    await counter.advance(10)
    second = await counter.inject(Add(amount=1))
    await counter.settled()
    with journal_of(counter) as stored:
        fired_ms = next(record.time_ms for record in counter.journal() if record.result.status == "timer")

        async def total(moment: Moment) -> int:
            answer = answer_from(counter.subsystem, await state(counter, stored, moment), QueryTotal())
            assert isinstance(answer, Total)
            return answer.total

        assert await total(AtPosition(first)) == 0
        assert await total(AtPosition(second)) == 6
        assert await total(AtTime(fired_ms - 1)) == 0
        assert await total(AtTime(fired_ms)) == 5
        assert (await state(counter, stored, AtTime(fired_ms + 7))).place.now_ms == fired_ms + 7


async def test_what_another_subsystem_tells_of_a_message_decides_what_is_later(in_memory: Any) -> None:
    """Of a message that one does not take: its own steps up to the time of the message belong to it."""
    counter = await in_memory(Counter(), limits=SINGLE)
    other = await in_memory(Counter(), limits=SINGLE, node="other")
    for each in (counter, other):
        await each.inject(AddLater(key="a", amount=5, after_ms=1_000))
        await each.settled()
    await counter.advance(1_500)
    later = await counter.inject(Add(amount=1))
    await counter.settled()
    await other.settled()
    with journal_of(counter) as told, journal_of(other) as stored:
        told.subsystem = "teller"
        (alone,) = places(AtPosition(later), [told], [told])
        assert alone.index == told.head.index
        (place,) = places(AtPosition(later), [stored], [told, stored])
        assert place.index == stored.head.index
        assert stored.record(place.index).result.status == "timer"
        assert place.now_ms == told.record(alone.index).time_ms


async def test_a_time_before_the_first_record_or_before_all_that_is_kept_is_refused_with_the_earliest(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=OFTEN)
    with journal_of(counter) as stored, pytest.raises(BadMoment, match="before the first record of counter, of 20"):
        await state(counter, stored, AtTime(1))
    await fed(counter, *range(1, 31))
    await counter.until(lambda: counter.journal()[0].index > 5)
    with journal_of(counter) as stored:
        oldest = stored.oldest
        assert oldest is not None
        assert oldest.index == stored.first - 1
        for moment in (AtTime(1), AtIndex("counter", oldest.index - 1), AtPosition(1)):
            with pytest.raises(BadMoment, match=f"The earliest moment that can be rebuilt is counter:{oldest.index}, of 20.*position"):
                await state(counter, stored, moment)
        past = await state(counter, stored, AtIndex("counter", oldest.index))
        assert (past.from_index, past.records) == (oldest.index, 0)
        # The nearest checkpoint is the beginning.
        last = await state(counter, stored, Now(0))
        assert last.from_index > oldest.index
        assert last.records < 10


async def test_a_checkpoint_of_older_code_is_passed_by_as_long_as_the_journal_reaches_back(in_memory: Any) -> None:
    counter = await in_memory(Counter(weight=2), limits=Limits(checkpoint_records=5, checkpoints_kept=9, **ONE_BY_ONE))
    await fed(counter, *range(1, 12))
    await counter.kill()
    newer = Counter(evolve_version=2, weight=1)
    with counter.stored() as store:
        assert store.checkpoints()
        stored = StoredJournal("counter", store, evolve_version=2)
        past = await rebuilt(newer, stored, places(Now(0), [stored], [stored])[0])
        assert past.from_index == 0
        answer = answer_from(newer, past, QueryTotal())
        assert isinstance(answer, Total)
        assert answer.total == sum(range(1, 12))


async def test_after_a_repair_a_position_is_one_of_the_stream_that_is_there(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=SINGLE)
    await fed(counter, 1, 2, 3, 4)
    await counter.kill()
    await counter.replace_stream()
    await counter.start()
    await counter.settled()
    with journal_of(counter) as stored:
        repaired = stored.head.index
        assert (await state(counter, stored, AtPosition(0))).place.index == repaired
    sequence = await counter.inject(Add(amount=5))
    await counter.settled()
    with journal_of(counter) as stored:
        assert (await state(counter, stored, AtPosition(sequence))).place.index == stored.head.index
        assert (await state(counter, stored, AtPosition(sequence - 1))).place.index == repaired


async def test_a_stream_that_lost_its_tail_has_its_kept_positions_where_they_were(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=SINGLE)
    sequences = [await counter.inject(Add(amount=amount)) for amount in (1, 2, 3)]
    await counter.settled()
    with journal_of(counter) as stored:
        kept = (await state(counter, stored, AtPosition(sequences[0]))).place.index
    await counter.kill()
    # What followed from the three, and the last of them.
    await counter.truncate_stream(4)
    await counter.start()
    await counter.settled()
    again = await counter.inject(Add(amount=7))
    await counter.settled()
    with journal_of(counter) as stored:
        assert (await state(counter, stored, AtPosition(sequences[0]))).place.index == kept
        assert (await state(counter, stored, AtPosition(again))).place.index == stored.head.index
        repaired = next(
            index for index, record in enumerate(counter.journal(), 1) if record.events[:1] and "repair" in record.events[0].key
        )
        assert (await state(counter, stored, AtPosition(again - 1))).place.index >= repaired
