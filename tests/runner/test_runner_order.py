"""Order: one for everybody, and a result that does not depend on how the work was cut into batches."""

from typing import Any

import anyio
import pytest
from counting import Add, AmountAdded, Audit, Auditor, AuditSeen, Counted, Counter, Storm
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer.limits import Limits
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryWorld


@pytest.mark.anyio
async def test_C16_what_a_subsystem_sends_after_it_saw_a_signal_is_never_handled_before_that_signal(virtual_overseer: Any) -> None:
    """The counter sends `audit` once it saw a storm; the auditor knows of that storm, however late it comes to read."""
    counter = await virtual_overseer(Counter())
    auditor = await virtual_overseer(Auditor(), limits=Limits(batch_messages_max=1))
    for level in range(1, 21):
        await counter.signal(Storm(level=level))
        if level % 7 == 0:
            await counter.settled()
            await auditor.restart()
    await counter.settled()
    await auditor.settled()
    seen = auditor.events(AuditSeen)
    assert [event.level for event in seen] == list(range(1, 21))
    assert all(event.storm >= event.level for event in seen)


@pytest.mark.anyio
async def test_C16_also_when_the_receiver_starts_from_nothing(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    auditor = await virtual_overseer(Auditor(), start=False)
    for level in (1, 2, 3):
        await counter.signal(Storm(level=level))
    await counter.expect(Audit, lambda audit: audit.level == 3)
    await auditor.start()
    await auditor.settled()
    assert [(event.level, event.storm >= event.level) for event in auditor.events(AuditSeen)] == [(1, True), (2, True), (3, True)]


async def outcome_of(limits: Limits, inputs: list[tuple[int, int, bool]], restarts: set[int]) -> object:
    """All that can be seen of a run: events, what was told, tables."""
    async with MemoryWorld() as world, VirtualOverseer(Counter(), world, limits=limits) as counter:
        await counter.start()
        for number, (amount, times, named) in enumerate(inputs):
            await counter.inject(Add(amount=amount, times=times), command_id=f"c{amount}" if named else "")
            if number in restarts:
                await counter.restart()
        await counter.settled()
        verdict = await counter.verify()
        assert verdict.ok, verdict.faults
        told = [(m.amount, m.copy_, m.at_ms) for m in await counter.sent(Counted)]  # type: ignore[attr-defined]
        added = [(e.amount, e.at_ms) for e in counter.events(AmountAdded)]  # type: ignore[attr-defined]
        causes = [(r.cause.sender, r.cause.id, r.input, r.result.status, r.result.code) for r in counter.journal()]
        return told, added, causes, list(counter.view()._rows.scan("amounts", b"", None))


limits_of_any_size = st.builds(
    Limits,
    batch_messages_max=st.integers(1, 20),
    batch_bytes_max=st.sampled_from([1, 50, 1_000_000]),
    append_batch_min=st.integers(2, 30),
    append_batch_max=st.integers(2, 30),
    append_bytes_max=st.sampled_from([1, 2_000, 1_000_000]),
    outbox_messages_max=st.sampled_from([0, 3, 1_000]),
    blob_bytes_min=st.sampled_from([1, 65_536]),
    checkpoint_records=st.sampled_from([3, 100_000]),
    checkpoints_kept=st.just(50),
    reconnect_ms=st.just(1),
)


@settings(max_examples=25, deadline=None)
@given(
    limits=limits_of_any_size,
    inputs=st.lists(st.tuples(st.sampled_from([1, 2, 3, 2_000_000]), st.integers(1, 4), st.booleans()), max_size=15),
    restarts=st.sets(st.integers(0, 14), max_size=3),
)
def test_the_result_is_the_same_for_every_batching(limits: Limits, inputs: list[tuple[int, int, bool]], restarts: set[int]) -> None:
    def without_checkpoints(outcome: Any) -> object:
        told, added, causes, rows = outcome
        return told, added, [cause for cause in causes if cause[1] != "checkpoint_taken"], rows

    alone = anyio.run(outcome_of, Limits(batch_messages_max=1), inputs, set())
    assert without_checkpoints(anyio.run(outcome_of, limits, inputs, restarts)) == without_checkpoints(alone)
