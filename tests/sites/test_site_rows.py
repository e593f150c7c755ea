"""What a site keeps of an election beside the election's own rows: its place, what is prepared, outcomes, timers."""

import pytest

from messages.election_pairs import BatchLogged, EpochStarted, Head, IdReused, LogEntry, LoggedEvent, LoggedTimer, Record
from overseer.memory.rows import MemoryRows
from overseer.sites.copying import verified
from overseer.tables import Overlay, Tables, View
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash
from subsystems.elections.runtime.entry import BEGIN, behind, chained, head_after
from subsystems.elections.runtime.rows import COMMANDS, COPIES, PREPARED, TIMERS, apply_place, load_copy, settled, store_prepared
from subsystems.elections.runtime.steps import BLANK, Apply, Copy, Settled

KEY, OTHER = "mayor-2026", "poll"


def tables() -> Tables:
    return Tables(Overlay(MemoryRows([table.name for table in (COPIES, PREPARED, COMMANDS, TIMERS)])))


def record(command_id: str, *timers: LoggedTimer) -> Record:
    return Record(command_id, b"\1" * 32, "op", 5, "", b"yes", [LoggedEvent("elections.event.ballot_cast", 1, b"")], list(timers))


def batch(before: LogEntry | None, *records: Record, key: str = KEY, told: int = 0) -> BatchLogged:
    head = BEGIN if before is None else head_after(before)
    place = behind(head, election=key, epoch=max(1, head.epoch), site="a", topology=1, told=told)
    return BatchLogged(**place, copies=3, records=list(records))


def test_a_copy_comes_back_with_its_place_and_what_is_prepared_behind_it() -> None:
    rows = tables()
    assert load_copy(rows, KEY) == BLANK
    barrier = EpochStarted(**behind(BEGIN, election=KEY, epoch=1, site="a", topology=1, told=0))
    second = batch(barrier, record("c1"))
    third = batch(second, record("c2"))
    apply_place(rows, Apply(barrier, "log-1", 7, ()))
    store_prepared(rows, second)
    store_prepared(rows, third)
    copy = load_copy(rows, KEY)
    assert (copy.stream, copy.log_sequence, copy.applied) == ("log-1", 7, head_after(barrier))
    assert [prepared.entry for prepared in copy.prepared] == [second, third]
    apply_place(rows, Apply(second, "log-1", 9, (third.number,)))
    assert [prepared.entry for prepared in load_copy(rows, KEY).prepared] == [third]


def test_one_that_is_stored_in_the_place_of_others_voids_them_and_those_of_other_elections_stay() -> None:
    rows = tables()
    barrier = EpochStarted(**behind(BEGIN, election=KEY, epoch=1, site="a", topology=1, told=0))
    apply_place(rows, Apply(barrier, "log-1", 1, ()))
    first, again = batch(barrier, record("c1")), batch(barrier, record("c2"))
    store_prepared(rows, first)
    store_prepared(rows, batch(first, record("c3")))
    store_prepared(rows, batch(None, record("c4"), key=OTHER))
    store_prepared(rows, again)
    assert [prepared.entry for prepared in load_copy(rows, KEY).prepared] == [again]
    assert rows.has(PREPARED, (key_hash(OTHER), 1))
    apply_place(rows, Apply(again, "log-1", 2, ()))
    assert load_copy(rows, KEY).prepared == ()


def test_B15_outcomes_are_known_by_id_without_their_events_and_another_command_under_the_id_is_refused() -> None:
    rows = tables()
    apply_place(rows, Apply(batch(None, record("c1")), "log-1", 1, ()))
    found = settled(rows, KEY, "c1", b"\1" * 32)
    assert found == Settled(Record("c1", b"\1" * 32, "op", 5, "", b"yes", []))
    assert settled(rows, KEY, "c1", b"\2" * 32) == Settled(IdReused(election=KEY, id="c1"))
    assert settled(rows, KEY, "c2", b"\1" * 32) is None
    assert settled(rows, OTHER, "c1", b"\1" * 32) is None


def test_timers_are_set_replaced_and_gone_by_the_records_and_what_was_told_never_goes_back() -> None:
    rows = tables()
    first = batch(None, record("c1", LoggedTimer("close", 50, "elections.timer.close_due", 1, b"x")), told=4)
    second = batch(first, record("c2", LoggedTimer("close", 90, "elections.timer.close_due", 1, b"y")), told=3)
    third = batch(second, record("c3", LoggedTimer("close", None)))
    apply_place(rows, Apply(first, "log-1", 1, ()))
    apply_place(rows, Apply(second, "log-1", 2, ()))
    row = rows.get(TIMERS, (key_hash(KEY), "close"))
    assert row is not None
    assert (row.election, row.at_ms, row.body) == (KEY, 90, b"y")
    assert load_copy(rows, KEY).told == 4
    apply_place(rows, Apply(third, "log-1", 3, ()))
    assert rows.get(TIMERS, (key_hash(KEY), "close")) is None


# ------------------------------------------------------------------------------------------------ the chain over a copy


def copy_of(events: list[bytes], applied: int, rows: dict[int, bytes]) -> tuple[View, Copy]:
    """A copy that says it has applied the first of `events`, over these rows."""
    kept = Tables(Overlay(MemoryRows([ELECTIONS.name, EVENTS.name])))
    for number, data in rows.items():
        kept.put(EVENTS, (key_hash(KEY), number), data)
    return kept, Copy("log", Head(1, 2, applied, chained(bytes(32), events[:applied])), 7)


@pytest.mark.anyio
@pytest.mark.parametrize("count", [0, 1, 2_000, 4_500])
async def test_a_copy_is_sound_when_the_chain_over_its_events_ends_where_it_says(count: int) -> None:
    events = [f"event {number}".encode() for number in range(1, count + 2)]
    rows = dict(enumerate(events, 1))
    view, copy = copy_of(events, count, rows)
    assert await verified(view, KEY, copy), "events behind what it has applied are nobody's business"


@pytest.mark.anyio
@pytest.mark.parametrize("damaged", [1, 2_000, 2_001, 4_500])
@pytest.mark.parametrize("how", ["changed", "gone"])
async def test_a_copy_with_an_event_changed_or_gone_is_not_sound(damaged: int, how: str) -> None:
    events = [f"event {number}".encode() for number in range(1, 4_501)]
    rows = dict(enumerate(events, 1))
    if how == "gone":
        del rows[damaged]
    else:
        rows[damaged] += b"!"
    view, copy = copy_of(events, 4_500, rows)
    assert not await verified(view, KEY, copy)
