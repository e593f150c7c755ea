"""Checkpoints bound the journal; `verify` finds every damaged byte of what was recorded."""

from typing import Any

import pytest
from counting import AMOUNTS, TOTAL, Add, AddLater, AmountAdded, Counter, QueryTotal

from messages.message import CATALOG, Kind, Spec
from messages.overseer import CheckpointTaken
from overseer.limits import Limits
from overseer.runner.schema import BLOBS, HEAD, JOURNAL, OUTBOX_NODE, TIMERS
from overseer.tables import WriteSet

pytestmark = pytest.mark.anyio

OFTEN = Limits(checkpoint_records=5, checkpoints_kept=2)


async def fed(counter: Any, *amounts: int) -> None:
    for amount in amounts:
        await counter.inject(Add(amount=amount))
        await counter.settled()


async def rewrite(counter: Any, table: str, key: bytes, value: bytes | None) -> None:
    """Damage one row behind the runner's back."""
    with counter.stored() as store:
        writes = WriteSet()
        writes.put(table, key, value)
        await store.commit(writes)


async def test_checkpoints_are_taken_recorded_and_the_journal_before_them_goes(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter(), limits=OFTEN)
    await fed(counter, *range(1, 31))
    await counter.until(lambda: len(counter.events(CheckpointTaken)) >= 1 and counter.journal()[0].index > 5)
    with counter.stored() as store:
        kept = store.checkpoints()
    assert len(kept) in (2, 3)
    assert counter.journal()[0].index == int(kept[0]) + 1
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults
    assert verdict.from_index == int(kept[0])
    await counter.restart()
    await fed(counter, 100)
    assert (await counter.ask(QueryTotal())).total == 565
    assert (await counter.verify()).ok


async def test_a_checkpoint_that_was_not_recorded_when_it_died_is_dropped(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await fed(counter, 1, 2)
    await counter.kill()
    with counter.stored() as store:
        store.checkpoint(f"{2:020d}")
    await counter.start()
    with counter.stored() as store:
        assert store.checkpoints() == []


async def test_an_announcement_outlives_the_journal_that_made_it(in_memory: Any) -> None:
    """A stream that is replaced later must get it back, or nobody new would take what comes after it."""
    counter = await in_memory(Counter(), limits=OFTEN)
    await fed(counter, *range(1, 31))
    await counter.kill()
    await counter.replace_stream()
    await counter.start()
    await counter.settled()
    first = (await counter.sent())[0]
    assert first.spec.name == "incarnation_started"
    assert first.incarnation == counter.head().incarnation  # type: ignore[attr-defined]


async def test_verify_finds_a_changed_added_or_missing_row_of_a_table(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await fed(counter, 1, 2, 3)
    await counter.kill()
    key = TOTAL.pack(("total",))
    with counter.stored() as store:
        good = store.get("total", key)
    assert good is not None
    await rewrite(counter, "total", key, bytes([good[0] ^ 1]))
    assert "differs from what the journal says" in (await counter.verify()).faults[0]
    await rewrite(counter, "total", key, None)
    assert "is missing" in (await counter.verify()).faults[0]
    await rewrite(counter, "total", key, good)
    await rewrite(counter, "amounts", AMOUNTS.pack((99,)), b"\x01")
    assert "does not follow from the journal" in (await counter.verify()).faults[0]


@pytest.mark.parametrize("table", [JOURNAL, OUTBOX_NODE, BLOBS, TIMERS])
async def test_verify_finds_any_flipped_byte_of_the_journal_the_outbox_the_blobs_and_the_timers(in_memory: Any, table: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(blob_bytes_min=64))
    await fed(counter, 1, 2)
    await counter.inject(Add(amount=3, note="long enough for a blob " * 4))
    await counter.inject(AddLater(key="tomorrow", amount=4, after_ms=86_400_000))
    await counter.settled()
    await counter.kill()
    assert (await counter.verify()).ok
    with counter.stored() as store:
        rows = list(store.scan(table.name, b"", None))
    assert rows
    for key, value in rows:
        for at in range(0, len(value), max(1, len(value) // 40)):
            for bit in (1, 128):
                await rewrite(counter, table.name, key, value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :])
                faults = (await counter.verify()).faults
                assert faults, f"{table.name} {key.hex()}: byte {at}, bit {bit} goes unnoticed"
                assert table is not BLOBS or "is missing or damaged" in faults[0]
        await rewrite(counter, table.name, key, None)
        assert not (await counter.verify()).ok, f"{table.name} {key.hex()} is gone unnoticed"
        await rewrite(counter, table.name, key, value)
    assert (await counter.verify()).ok


async def test_verify_names_a_head_that_does_not_fit_or_cannot_be_read(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    await fed(counter, 1)
    older = counter.head()
    await fed(counter, 2)
    await counter.kill()
    from messages.codec import encode_value

    await rewrite(counter, HEAD.name, HEAD.pack(("head",)), encode_value(older))
    assert "the journal ends at 3, the head says 2" in (await counter.verify()).faults[0]
    await rewrite(counter, HEAD.name, HEAD.pack(("head",)), b"\xff")
    assert "the head cannot be read" in (await counter.verify()).faults[0]


async def test_verify_finds_a_damaged_checkpoint(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=OFTEN)
    await fed(counter, *range(1, 31))
    await counter.kill()
    assert (await counter.verify()).ok
    with counter.stored() as store:
        name = sorted(store.checkpoints())[0]
    rows = counter.disk.disk.kept[name]
    writes = WriteSet()
    writes.put("total", TOTAL.pack(("total",)), b"\x00")
    rows.apply(writes)
    faults = (await counter.verify()).faults
    assert any("does not have the hash recorded for it" in fault for fault in faults)


async def test_large_events_go_to_the_blobs_and_come_back(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1, note="n" * 100_000))
    await counter.inject(Add(amount=2, note="n" * 60_000))
    await counter.settled()
    with counter.stored() as store:
        assert len(list(store.scan(BLOBS.name, b"", None))) == 1
    assert [len(event.note) for event in counter.events(AmountAdded)] == [100_000, 60_000]
    counter.subsystem = Counter(evolve_version=2)
    await counter.restart()
    assert (await counter.ask(QueryTotal())).total == 3
    assert (await counter.verify()).ok


async def test_an_event_of_an_older_version_is_brought_up_to_date_when_it_is_replayed(
    in_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal keeps what was recorded; the code knows a newer form."""
    counter = await in_memory(Counter())
    await fed(counter, 1, 2)
    await counter.kill()
    newer = Spec(
        kind=Kind.EVENT,
        owner="counter",
        name="amount_added",
        version=2,
        body=AmountAdded,
        upcasters={1: lambda old: {**old, "amount": old["amount"] * 100}},
    )
    monkeypatch.setitem(CATALOG._specs, (Kind.EVENT, "counter", "amount_added"), newer)
    monkeypatch.setattr(AmountAdded, "spec", newer)
    counter.subsystem = Counter(evolve_version=2)
    await counter.start()
    await fed(counter, 7)
    assert (await counter.ask(QueryTotal())).total == 307
    assert [event.amount for event in counter.events(AmountAdded)] == [100, 200, 7]
