"""Queries from committed state only, and commands whose outcome the caller awaits."""

import json
from typing import Any

import anyio
import pytest
from counting import Add, Counted, Counter, QueryTotal, TooMuch, Total

from messages.codec import decode, encode
from messages.overseer import Busy, CommandOutcome, InvalidRequest, OutcomeStatus, Timeout
from messages.subjects import HEADER_CAUSE, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE, HEADER_CORRELATION, HEADER_TRACEPARENT, request_subject
from overseer.limits import Limits
from overseer.memory.store import CommitStep
from overseer.ports.bus import BusUnavailable

pytestmark = pytest.mark.anyio

ADD = request_subject("test", Add.spec)
TOTAL = "overseer.test.counter.qry.query_total"


async def test_the_outcome_follows_the_commit_and_carries_the_reply(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    outcome = await counter.request(Add(amount=3))
    assert outcome.status is OutcomeStatus.ACCEPTED
    assert decode(Total.spec, outcome.reply) == Total(total=3, position=outcome.sequence)
    assert counter.head().positions["node"].sequence >= outcome.sequence


async def test_a_retry_with_the_same_id_gets_the_original_outcome_also_after_a_restart(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    first = await counter.request(Add(amount=3), command_id="c1")
    assert (await counter.request(Add(amount=4), command_id="c2")).status is OutcomeStatus.ACCEPTED
    assert await counter.request(Add(amount=3), command_id="c1") == first
    await counter.restart()
    assert await counter.request(Add(amount=3), command_id="c1") == first
    assert (await counter.ask(QueryTotal())).total == 7
    assert [m.amount for m in await counter.sent(Counted)] == [3, 4]


async def test_a_refused_command_has_its_refusal_as_outcome_also_on_retry(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    for _ in range(2):
        outcome = await counter.request(Add(amount=2_000_000), command_id="big")
        assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "too_much")
        assert decode(TooMuch.spec, outcome.detail) == TooMuch(most=1_000_000)


async def test_a_reused_id_is_answered_as_parked_and_never_with_anothers_outcome(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    outcomes: list[CommandOutcome] = []

    async def add(amount: int) -> None:
        outcomes.append(await counter.request(Add(amount=amount), command_id="shared"))

    async with anyio.create_task_group() as tasks:
        for amount in (1, 2):
            tasks.start_soon(add, amount)
    assert sorted(o.status for o in outcomes) == [OutcomeStatus.ACCEPTED, OutcomeStatus.PARKED]
    assert [o.code for o in outcomes if o.code] == ["id_reused"]


async def test_many_callers_at_once_each_get_their_own_outcome(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    sequences: set[int] = set()

    async def add(amount: int) -> None:
        outcome = await counter.request(Add(amount=amount), command_id=f"c{amount}")
        assert outcome.status is OutcomeStatus.ACCEPTED
        sequences.add(outcome.sequence)

    async with anyio.create_task_group() as tasks:
        for amount in range(40):
            tasks.start_soon(add, amount)
    assert len(sequences) == 40
    assert (await counter.ask(QueryTotal())).total == 780


async def test_json_goes_in_and_comes_out_for_those_who_type_it(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    response = await counter.call(ADD, b'{"amount": 5}', {HEADER_COMMAND_ID: "j1"})
    assert response.headers[HEADER_COMMAND_ID] == "j1"
    shown = json.loads(response.body)
    assert shown == {"status": "accepted", "sequence": shown["sequence"], "reply": {"total": 5, "position": shown["sequence"]}}
    refused = await counter.call(ADD, b'{"amount": 2000000}')
    assert refused.error == ("409", "too_much")
    assert json.loads(refused.body)["detail"] == {"most": 1_000_000}
    # A query typed with nothing at all.
    assert json.loads((await counter.call(TOTAL, b"")).body)["total"] == 5
    as_cbor = await counter.call(TOTAL, encode(QueryTotal()), {HEADER_CONTENT_TYPE: "application/cbor"})
    assert decode(Total.spec, as_cbor.body).total == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"{", {}, "malformed"),
        (b"\xff", {}, "malformed"),
        (b"\xa1\xff", {}, "malformed"),
        # Typed by somebody: the answer is to be read.
        (b"hello", {}, "malformed"),
        (b'["amount", 1]', {}, "invalid"),
        (b' {"amount": -1}', {}, "bad_value"),
        (b'{"amount": -1}', {}, "bad_value"),
        (b'{"amount": 1, "more": 2}', {}, "invalid"),
        (b'{"amount": 1}', {HEADER_COMMAND_ID: "x" * 200}, "bad_command_id"),
    ],
)
async def test_a_request_that_cannot_be_read_is_refused_by_name(in_memory: Any, body: bytes, headers: dict[str, str], reason: str) -> None:
    counter = await in_memory(Counter())
    response = await counter.call(ADD, body, headers)
    assert response.error == ("400", "invalid_request")
    if body[:1] == b"\xa1":
        assert response.headers[HEADER_CONTENT_TYPE] == "application/cbor"
        assert decode(InvalidRequest.spec, response.body).reason == reason  # type: ignore[attr-defined]
    else:
        assert response.headers[HEADER_CONTENT_TYPE] == "application/json"
        assert json.loads(response.body)["reason"] == reason
    assert await counter.sent(Counted) == []


async def test_nothing_is_answered_from_what_is_not_yet_durable(in_memory: Any) -> None:
    """The rows of a commit are readable before they are synced; the answer waits."""
    counter = await in_memory(Counter())
    answers: list[tuple[int, int]] = []

    def look(at: CommitStep) -> None:
        if at is CommitStep.WRITTEN:
            tasks.start_soon(ask, counter.disk.disk.commits)

    async def ask(commits: int) -> None:
        # Without the way over the bus: the commit ends within one turn of the loop.
        answer = await counter.runner._answer(QueryTotal(), "")
        answers.append((answer.total, counter.disk.disk.commits - commits))

    async with anyio.create_task_group() as tasks:
        counter.disk.disk.on_step = look
        await counter.inject(Add(amount=3))
        await counter.settled()
        counter.disk.disk.on_step = None
    # The runner's own commits (of its published mark, say) are asked about as well.
    assert answers[-1] == (3, 1)
    assert {commits for _, commits in answers} == {1}, "answered before the commit was durable"


async def test_a_kill_before_the_sync_answers_nobody(in_memory: Any) -> None:
    counter = await in_memory(Counter())
    outcomes: list[object] = []

    def die(at: CommitStep) -> None:
        if at is CommitStep.WRITTEN:
            counter.disk.disk.on_step = None
            counter.disk.crash()

    async def add() -> None:
        with anyio.move_on_after(0.2):
            outcomes.append(await counter.request(Add(amount=3), command_id="c1"))

    counter.disk.disk.on_step = die
    await add()
    await counter.ended()
    assert outcomes == []
    await counter.restart()
    assert (await counter.request(Add(amount=3), command_id="c1")).status is OutcomeStatus.ACCEPTED
    assert (await counter.ask(QueryTotal())).total == 3


async def test_an_outcome_that_does_not_come_in_time_is_a_timeout_and_can_be_learnt_later(in_memory: Any, memory_world: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(request_timeout_ms=50))
    # The line is parted while the exchange still works: the command is in the stream and nobody takes it.
    line = counter.line()
    line.cut()
    late = await counter.request(Add(amount=3), command_id="c1")
    assert late == Timeout(waited_ms=50)
    assert late.retriable
    line.heal()
    await counter.settled()
    assert (await counter.request(Add(amount=3), command_id="c1")).status is OutcomeStatus.ACCEPTED
    assert (await counter.ask(QueryTotal())).total == 3


async def test_callers_beyond_the_bound_are_told_that_it_is_busy(in_memory: Any) -> None:
    counter = await in_memory(Counter(), limits=Limits(requests_in_flight_max=2, request_timeout_ms=100))
    counter.line().cut()
    answers: list[object] = []

    async def add(amount: int) -> None:
        answers.append(await counter.request(Add(amount=amount), command_id=f"c{amount}"))

    async with anyio.create_task_group() as tasks:
        for amount in range(3):
            tasks.start_soon(add, amount)
    assert answers == [Busy(reason="too_many_requests"), Timeout(waited_ms=100), Timeout(waited_ms=100)]


async def test_a_stream_that_is_full_is_said_to_the_caller(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.settled()
    await counter.world.bound(counter.streams[0], 1)
    assert await counter.request(Add(amount=1)) == Busy(reason="stream_full")
    await counter.world.bound(counter.streams[0], None)
    assert (await counter.request(Add(amount=1))).status is OutcomeStatus.ACCEPTED


async def test_after_a_kill_nobody_listens(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    await counter.kill()
    with pytest.raises(BusUnavailable):
        await counter.world.request(TOTAL, b"", {}, 500)


async def test_what_follows_carries_correlation_cause_and_trace(virtual_overseer: Any) -> None:
    counter = await virtual_overseer(Counter())
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sequence = await counter.inject(
        Add(amount=1), headers={HEADER_CORRELATION: "order 66", HEADER_TRACEPARENT: f"00-{trace}-00f067aa0ba902b7-01"}
    )
    with_id = await counter.inject(Add(amount=2), command_id="c2")
    bare = await counter.inject(Add(amount=3))
    await counter.settled()
    first, second, third = [entry.stored.headers for entry in await counter.sent_raw() if isinstance(entry.message, Counted)]
    assert (first[HEADER_CORRELATION], first[HEADER_CAUSE]) == ("order 66", f"node {sequence}")
    assert first[HEADER_TRACEPARENT].startswith(f"00-{trace}-")
    assert not first[HEADER_TRACEPARENT].endswith("00f067aa0ba902b7-01"), "a span of its own"
    assert (second[HEADER_CORRELATION], second[HEADER_CAUSE]) == ("c2", f"node {with_id}")
    assert third[HEADER_CORRELATION] == f"node:{bare}"
