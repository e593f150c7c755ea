"""What comes in: in order and without gaps, once, and bad input parked by name while the line goes on."""

from typing import Any

import pytest
from counting import Add, Counted, Counter, QueryTotal, Storm, TakeFromAuditor

from messages.message import Message
from messages.overseer import IncarnationStarted, Parked
from messages.subjects import HEADER_CONTENT_TYPE, HEADER_CORRELATION, HEADER_ID, HEADER_SCHEMA, node_stream
from overseer.limits import Limits

pytestmark = pytest.mark.anyio

BODY_BYTES_MAX = 768 * 1024


async def total(counter: Any) -> int:
    await counter.settled()
    return (await counter.ask(QueryTotal())).total


async def parked(counter: Any) -> list[tuple[str, int]]:
    """(reason, sequence) of every dead letter told."""
    await counter.settled()
    return [(message.reason, message.sequence) for message in await counter.sent(Parked)]


# --- in order, without gaps, once


@pytest.mark.parametrize("arrived", [0, 1, 3, 6])
async def test_a_torn_pull_loses_nothing(in_memory: Any, arrived: int) -> None:
    counter = await in_memory(Counter())
    faults = counter.faults
    faults.torn_after = arrived
    await burst(counter, range(1, 8))
    await counter.until(lambda: faults.torn_after is None)
    # The gap is seen by what comes after it, at the latest by the next connection.
    await burst(counter, [8])
    assert await total(counter) == 36
    assert [m.amount for m in await counter.sent(Counted)] == list(range(1, 9))
    assert any("gap in the deliveries" in text for text in counter.witness.troubles)


async def test_a_message_delivered_again_has_no_second_effect(in_memory: Any, memory_world: Any) -> None:
    counter = await in_memory(Counter())
    sequences = [await counter.inject(Add(amount=amount)) for amount in (1, 2, 3)]
    await counter.settled()
    for sequence in sequences:
        memory_world.broker.streams[node_stream("test")].deliver_again(durable(memory_world), sequence)
    await counter.inject(Add(amount=10))
    assert await total(counter) == 16


def durable(world: Any) -> str:
    return next(iter(world.broker.streams[node_stream("test")].consumers))


async def test_acknowledgements_that_roll_back_have_no_effect(in_memory: Any, memory_world: Any) -> None:
    counter = await in_memory(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    memory_world.broker.streams[node_stream("test")].roll_back_acks(durable(memory_world), 0)
    await counter.inject(Add(amount=2))
    assert await total(counter) == 3


async def test_a_bus_that_goes_away_and_comes_back_loses_nothing_and_is_named_once(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1))
    await counter.settled()
    await counter.world.stop_bus()
    await counter.until(lambda: bool(counter.runner.progress.trouble))
    await counter.world.start_bus()
    await counter.inject(Add(amount=2))
    assert await total(counter) == 3
    assert [m.amount for m in await counter.sent(Counted)] == [1, 2]
    troubles = counter.witness.troubles
    assert len(troubles) == len(set(troubles)), troubles


async def test_many_messages_are_committed_in_groups(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(batch_messages_max=64, batch_decide_ms_max=60_000))
    await counter.kill()
    for amount in range(200):
        await counter.inject(Add(amount=amount))
    await counter.start()
    assert await total(counter) == 19_900
    assert max(counter.witness.batches) == 64
    assert len([size for size in counter.witness.batches if size]) <= 6


# --- once, by watermark and by command id


async def test_the_same_id_of_a_subsystem_is_taken_once(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    sequence = await counter.inject(TakeFromAuditor(amount=4), sender="auditor")
    for _ in range(3):
        await counter.repeat(sequence)
    assert await total(counter) == 4
    assert counter.witness.troubles == []


async def test_the_same_command_id_is_taken_once_and_without_one_each_time(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    with_id = await counter.inject(Add(amount=4), command_id="c1")
    without = await counter.inject(Add(amount=100))
    await counter.repeat(with_id)
    await counter.repeat(without)
    # Another sender, the same command: one effect still.
    await counter.inject(Add(amount=4), command_id="c1", sender="op_other")
    assert await total(counter) == 204


async def test_the_same_command_id_with_another_body_is_parked_and_an_alarm(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=4), command_id="c1")
    again = await counter.inject(Add(amount=5), command_id="c1")
    assert await parked(counter) == [("id_reused", again)]
    assert await total(counter) == 4
    assert [text for text in counter.witness.troubles if text.startswith("alarm") and "id_reused" in text]


async def test_ids_are_forgotten_after_their_time(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(command_outcomes_kept_ms=1_000))
    sequence = await counter.inject(Add(amount=4), command_id="c1")
    await counter.settled()
    await counter.world.advance(999)
    await counter.repeat(sequence)
    assert await total(counter) == 4
    await counter.world.advance(10_000)
    await counter.inject(Add(amount=10))
    await counter.settled()
    await counter.repeat(sequence)
    assert await total(counter) == 18


async def test_a_renewed_incarnation_goes_on_and_an_unannounced_one_is_parked_with_an_alarm(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(TakeFromAuditor(amount=1), sender="auditor")
    await counter.voice("auditor").restart()
    await counter.inject(TakeFromAuditor(amount=2), sender="auditor")
    await counter.voice("auditor").restart(announce=False)
    sequence = await counter.inject(TakeFromAuditor(amount=4), sender="auditor")
    assert await parked(counter) == [("unannounced_incarnation", sequence)]
    assert await total(counter) == 3
    assert any("unannounced_incarnation" in text for text in counter.witness.troubles)
    # Once it is announced its messages are taken.
    await counter.voice("auditor").announce()
    await counter.inject(TakeFromAuditor(amount=8), sender="auditor")
    assert await total(counter) == 11


async def test_an_announcement_of_an_incarnation_that_is_not_the_senders_is_parked(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    subject = "overseer.test.auditor.evt.incarnation_started"
    sequence = await counter.inject(IncarnationStarted(incarnation=bytes(16)), sender="auditor", subject=subject)
    assert await parked(counter) == [("wrong_incarnation", sequence)]


# --- parked by name, and the line goes on

NAMED: list[tuple[str, Message, dict[str, Any]]] = [
    ("malformed", Add(amount=1), {"body": b"\xff\x00"}),
    ("malformed", Add(amount=1), {"body": b""}),
    ("not_canonical", Add(amount=1), {"body": b"\xa1\x66amount\x18\x01"}),
    ("invalid", Add(amount=1), {"body": b"\xa1\x66amount\x61x"}),
    ("invalid", Add(amount=1), {"body": b"\xa2\x61x\x01\x66amount\x01"}),
    ("bad_key", Add(amount=1), {"body": b"\xa1\x41\x01\x01"}),
    ("bad_value", Add(amount=1), {"body": b"\xa1\x66amount\x20"}),
    ("too_deep", Add(amount=1), {"body": b"\x81" * 17 + b"\x01"}),
    ("body_too_large", Add(amount=1), {"body": bytes(BODY_BYTES_MAX + 1)}),
    ("bad_schema", Add(amount=1), {"headers": {HEADER_SCHEMA: "one"}}),
    ("unsupported_version", Add(amount=1), {"headers": {HEADER_SCHEMA: "2"}}),
    ("unsupported_version", Add(amount=1), {"headers": {HEADER_SCHEMA: "0"}}),
    ("bad_content_type", Add(amount=1), {"headers": {HEADER_CONTENT_TYPE: "text/html"}}),
    ("headers_too_large", Add(amount=1), {"headers": {"X-Noise": "x" * 9_000}}),
    ("bad_command_id", Add(amount=1), {"command_id": "x" * 129}),
    ("no_id", TakeFromAuditor(amount=1), {"sender": "auditor", "headers": {HEADER_ID: None}}),
    ("bad_id", TakeFromAuditor(amount=1), {"sender": "auditor", "headers": {HEADER_ID: "auditor 00 minus1 0"}}),
    ("wrong_sender", TakeFromAuditor(amount=1), {"sender": "auditor", "headers": {HEADER_ID: "weather 00 1 0"}}),
    ("forbidden_sender", TakeFromAuditor(amount=1), {"sender": "weather"}),
    ("forbidden_sender", TakeFromAuditor(amount=1), {"sender": "op_test"}),
    ("unknown_message", Add(amount=1), {"subject": "overseer.test.op_test.cmd.counter.subtract"}),
    ("not_consumed", Add(amount=1), {"subject": "overseer.test.counter.evt.counted", "sender": "counter"}),
    ("bad_subject", Add(amount=1), {"subject": "overseer.test.op_test.cmd.counter.add.more"}),
]
WIDE = ("overseer.test.*.cmd.counter.subtract", "overseer.test.counter.evt.counted", "overseer.test.*.cmd.counter.add.more")


async def test_every_kind_of_bad_input_is_parked_by_name_and_the_line_goes_on(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter(), extra_filters=WIDE, start=False)
    wanted: list[tuple[str, int]] = []
    for reason, message, options in NAMED:
        wanted.append((reason, await counter.inject(message, **options)))
        await counter.inject(Add(amount=1))
    await counter.start()
    # Its own facts, echoed by the wide filter, are not among what it consumes either.
    found = [entry for entry in await parked(counter) if entry in wanted]
    assert found == wanted
    assert await total(counter) == len(NAMED)
    verdict = await counter.verify()
    assert verdict.ok, verdict.faults


async def test_a_dead_letter_names_the_original_by_place_hash_and_beginning(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    sequence = await counter.inject(Add(amount=1), body=b"\xff" * 5_000)
    letter = await counter.expect(Parked)
    assert (letter.stream, letter.sequence, letter.reason, letter.body_bytes) == ("node", sequence, "malformed", 5_000)
    assert letter.head == b"\xff" * 4_096
    stored = await counter.world.message_at(counter.streams[0], sequence)
    assert stored is not None
    assert stored.body == b"\xff" * 5_000


async def test_the_largest_body_is_taken(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    # Told without its note, or the fact would be too large itself: 700 KiB fit.
    await counter.inject(Add(amount=1, note="n" * (700 * 1024)))
    assert (await counter.expect(Counted)).note == "n" * (700 * 1024)
    assert await total(counter) == 1
    assert (await counter.verify()).ok


@pytest.mark.parametrize("correlation", ["x" * 199 + " y", "\u2003wide", "tab\tbed", "x" * 5_000, ""])
async def test_headers_that_could_not_be_sent_on_do_no_harm(virtual_overseer: Any, correlation: str) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1), headers={HEADER_CORRELATION: correlation, "traceparent": "00-\u2003-1-1"})
    await counter.inject(Add(amount=2), command_id=" spaces ")
    assert await total(counter) == 3
    assert len(await counter.sent(Counted)) == 2


async def test_json_commands_are_taken_from_the_stream_too(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Add(amount=1), body=b'{"amount": 7}', headers={HEADER_CONTENT_TYPE: "application/json"})
    assert await total(counter) == 7


async def test_signals_are_taken_from_their_owner_alone(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.inject(Storm(level=1), sender="op_test", subject="overseer.test.op_test.sig.storm")
    await counter.signal(Storm(level=2))
    await counter.settled()
    assert [e.level for e in counter.events() if type(e).__name__ == "StormSeen"] == [2]


async def burst(counter: Any, amounts: Any) -> None:
    for amount in amounts:
        await counter.inject(Add(amount=amount))
