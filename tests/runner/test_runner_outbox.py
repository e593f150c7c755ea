"""What goes out: in order and once, by compare-and-set, whatever becomes of the answers."""

from typing import Any

import pytest
from counting import Add, Counted, Counter

from messages.overseer import Busy, CommandOutcome, IncarnationStarted, OutcomeStatus
from messages.subjects import HEADER_ID, MessageId
from overseer.limits import Limits
from overseer.memory.bus import AppendFault
from overseer.runner.errors import SecondCopy
from overseer.testing.virtual import VirtualOverseer

pytestmark = pytest.mark.anyio

BATCHES = Limits(append_batch_min=3, append_batch_max=10, reconnect_ms=2, reconnect_ms_max=5)


async def told_once(counter: Any, amounts: list[int]) -> None:
    await counter.settled()
    assert [m.amount for m in await counter.sent(Counted)] == amounts
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults


@pytest.mark.parametrize(
    "faults",
    [
        [AppendFault.STORED],
        [AppendFault.LOST],
        [AppendFault.STORED, AppendFault.LOST, None, AppendFault.STORED, AppendFault.STORED],
        [AppendFault.LOST] * 6,
    ],
)
@pytest.mark.parametrize("times", [1, 8])
async def test_an_append_without_an_answer_is_neither_lost_nor_doubled(
    in_memory: Any, faults: list[AppendFault | None], times: int
) -> None:
    counter = await in_memory(Counter(), limits=BATCHES)
    counter.faults.appends.extend(faults)
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount, times=times))
    await told_once(counter, [amount for amount in (1, 2, 3) for _ in range(times)])


async def test_an_append_without_an_answer_then_a_kill_is_neither_lost_nor_doubled(in_memory: Any) -> None:
    for fault in AppendFault:
        counter = await in_memory(Counter(), node=fault.value)
        counter.faults.appends.append(fault)
        await counter.inject(Add(amount=1))
        await counter.until(lambda c=counter: len(c.runner.outbox_depths()) and not c.faults.appends)
        await counter.restart()
        await told_once(counter, [1])


async def test_many_messages_of_one_event_go_out_in_batches_in_order(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter(), limits=BATCHES)
    await counter.inject(Add(amount=1, times=57))
    await counter.settled()
    assert [m.copy_ for m in await counter.sent(Counted)] == list(range(57))


async def test_who_holds_all_open_batches_of_the_server_does_not_silence_us(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=BATCHES)
    counter.faults.batches_refused = True
    await counter.inject(Add(amount=1, times=57))
    await counter.settled()
    assert [m.copy_ for m in await counter.sent(Counted)] == list(range(57))


async def test_a_full_stream_stops_nothing_but_publishing_and_it_goes_on_by_itself(virtual_overseer: Any) -> None:
    """Intake goes on until the outbox reaches its bound; then it waits, said aloud; with room again nothing is missing."""
    counter = await virtual_overseer(
        Counter(), limits=Limits(outbox_messages_max=3, reconnect_ms=2, reconnect_ms_max=5, batch_messages_max=1)
    )
    await counter.kill()
    for amount in range(1, 11):
        await counter.inject(Add(amount=amount))
    stream = counter.streams[0]
    held = (await counter.world.state(stream)).last_sequence
    await counter.world.bound(stream, held)
    await counter.start()
    await counter.until(lambda: counter.runner.progress.blocked)
    await counter.until(lambda: any("outbox of node is full: StreamFull" in text for text in counter.witness.troubles))
    taken = counter.runner.positions()["node"]
    assert taken < held, "intake stopped before it had taken everything"
    assert counter.runner._busy() == "outbox_full"
    await counter.world.bound(stream, None)
    await told_once(counter, list(range(1, 11)))
    assert not counter.runner.progress.blocked


async def test_awaited_commands_are_refused_before_the_stream_is_full_so_that_what_follows_from_earlier_ones_has_room(
    virtual_overseer: Any,
) -> None:
    counter = await virtual_overseer(Counter(), limits=Limits(fill_look_ms=5))
    await counter.inject(Add(amount=1))
    await counter.settled()
    stream = counter.streams[0]
    held = (await counter.world.state(stream)).last_sequence
    await counter.world.bound(stream, held)
    await counter.until(lambda: counter.runner._busy() == "stream_full")
    assert await counter.request(Add(amount=2)) == Busy(reason="stream_full")
    await counter.world.bound(stream, 100 * held)
    await counter.until(lambda: counter.runner._busy() == "")
    outcome = await counter.request(Add(amount=2))
    assert isinstance(outcome, CommandOutcome)
    assert outcome.status is OutcomeStatus.ACCEPTED


async def test_a_second_copy_of_the_process_is_found_and_named(virtual_overseer: Any) -> None:
    """Somebody runs it again elsewhere, with another store."""
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    impostor = counter.voice("counter")
    await impostor.announce()
    await counter.inject(Add(amount=2))
    failure = await counter.ended()
    assert isinstance(failure, SecondCopy)
    assert f"another copy is running: the last message under its subjects is of incarnation {impostor.incarnation.hex()}" in str(failure)


async def test_a_clone_of_the_process_with_the_same_store_is_found_and_named(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    twin = counter.voice("counter")
    twin.incarnation = counter.head().incarnation
    twin.index = 900
    await twin.say(Counted(amount=9, at_ms=1, note="", copy_=0))
    await counter.inject(Add(amount=2))
    assert isinstance(await counter.ended(), SecondCopy)


async def test_the_process_of_before_that_was_thought_dead_is_found_and_named(virtual_overseer: Any) -> None:
    """Its store was taken for lost and replaced by a new one; but it lives, and writes under the old incarnation."""
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    undead = counter.voice("counter")
    undead.incarnation, undead.index = counter.head().incarnation, 900
    await counter.new_store()
    await counter.start()
    await counter.settled()
    await undead.say(Counted(amount=9, at_ms=1, note="", copy_=0))
    await counter.inject(Add(amount=2))
    assert isinstance(await counter.ended(), SecondCopy)


async def test_a_message_without_an_id_under_its_own_name_is_named_not_overwritten(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    await counter.inject(Counted(amount=9, at_ms=1, note="", copy_=0), sender="counter", headers={HEADER_ID: None})
    await counter.inject(Add(amount=2))
    assert isinstance(await counter.ended(), SecondCopy)


async def test_a_stream_trimmed_beyond_its_last_message_is_not_told_everything_again(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for amount in (1, 2, 3):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    last = [await counter.inject(Add(amount=9_000_000)) for _ in range(4)][-1]
    await counter.settled()
    await counter.world.trim(counter.streams[0], last)
    assert await counter.sent() == []
    # The connection is renewed: it looks again at what is last under its own filter, and finds nothing.
    await counter.world.stop_bus()
    await counter.until(lambda: bool(counter.runner.progress.trouble))
    await counter.world.start_bus()
    await counter.inject(Add(amount=4))
    await told_once(counter, [4])
    await counter.conclude()
    again = await counter.inject(Add(amount=9_000_000))
    await counter.world.trim(counter.streams[0], again)
    await counter.start()
    await counter.inject(Add(amount=5))
    await told_once(counter, [5])


async def test_a_last_message_lost_behind_a_trim_is_told_again(in_memory: Any) -> None:
    """Trimmed but for its last message, which the stream then loses; others have written there since."""
    counter = await in_memory(Counter())
    for amount in (1, 2):
        await counter.inject(Add(amount=amount))
    await counter.settled()
    await counter.conclude()
    stream = counter.world.broker.streams[counter.streams[0]]
    stream.trim(stream.last_sequence + 1, keep={stream.last_sequence})
    stream.truncate(1)
    for _ in range(3):
        await counter.inject(Add(amount=9_000_000))
    await counter.start()
    await told_once(counter, [1, 2])


async def test_rows_of_a_commit_that_is_not_synced_are_not_told(in_memory: Any) -> None:
    """Catching up from the store while a commit is under way: its rows can be read, but must not go out, nor go out twice."""
    from overseer.memory.store import CommitStep

    counter = await in_memory(Counter(), limits=BATCHES)
    depths: list[int] = []

    def recheck(at: CommitStep) -> None:
        if at is CommitStep.WRITTEN:
            # As after a reconnect that lost the tail: everything is loaded anew from the store.
            outbox = counter.runner._outboxes["node"]
            outbox._waiting.clear()
            outbox._load()
            depths.append(len(outbox))

    for amount in (1, 2):
        await counter.inject(Add(amount=amount))
        await counter.settled()
    counter.disk.disk.on_step = recheck
    await counter.inject(Add(amount=3))
    await told_once(counter, [1, 2, 3])
    assert depths == [0]


async def test_ids_are_the_journals_and_in_order(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for amount in (1, 2):
        await counter.inject(Add(amount=amount, times=3))
    await counter.settled()
    ids = [MessageId.parse(entry.stored.headers[HEADER_ID]) for entry in await counter.sent_raw()]
    assert ids == sorted(ids)
    assert {i.incarnation for i in ids} == {counter.head().incarnation.hex()}
    by_record = {record.index: record for record in counter.journal()}
    assert [by_record[i.sequence].input for i in ids] == ["", *["counter.cmd.add"] * 6]


async def test_two_subsystems_of_one_node_do_not_disturb_each_other(virtual_overseer: Any) -> None:
    from counting import Audit, Auditor, AuditSeen, Storm

    counter: VirtualOverseer = await virtual_overseer(Counter())
    auditor: VirtualOverseer = await virtual_overseer(Auditor())
    for level in (1, 2, 3):
        await counter.signal(Storm(level=level))
        await counter.inject(Add(amount=level))
    await counter.settled()
    await auditor.settled()
    assert [m.level for m in await counter.sent(Audit)] == [1, 2, 3]
    assert [event.level for event in auditor.events(AuditSeen)] == [1, 2, 3]  # type: ignore[attr-defined]
    assert [type(m) for m in await auditor.sent()] == [IncarnationStarted]
