"""The Exchange contract: concurrent requests, errors, time-outs, bounds, single appends."""

import time

import anyio
import pytest
from bus_worlds import World, until

from overseer.ports.bus import BusUnavailable, EndpointSpec, Handler, MessageTooLarge, Outgoing, Request, Response, StreamFull
from overseer.ports.envelope import BODY_BYTES_MAX, BUSY, HANDLER_FAILED, RESPONSE_TOO_LARGE

pytestmark = pytest.mark.anyio


def endpoint(world: World, handler: Handler, name: str = "look") -> tuple[EndpointSpec, Handler]:
    return EndpointSpec(name, f"overseer.{world.node}.votes_db.qry.{name}", {"schema": "1"}), handler


async def echo(request: Request) -> Response:
    return Response(request.body, {"Overseer-Subject": request.subject, **request.headers})


async def test_a_request_reaches_its_endpoint_with_subject_headers_and_body(world: World) -> None:
    server, caller = await world.exchange(), await world.exchange()
    await server.serve("votes_db", "votes", [endpoint(world, echo), endpoint(world, echo, "other")])
    subject = f"overseer.{world.node}.votes_db.qry.other"
    response = await caller.request(subject, b"hello", {"Content-Type": "application/json"}, 2_000)
    assert response == Response(b"hello", {"Overseer-Subject": subject, "Content-Type": "application/json"}, None)


async def test_an_error_comes_back_as_code_and_text_with_its_body(world: World) -> None:
    async def refuse(request: Request) -> Response:
        return Response(b"why", {"Overseer-Schema": "1"}, ("unknown_vote", "no such vote"))

    exchange = await world.exchange()
    await exchange.serve("votes_db", "votes", [endpoint(world, refuse)])
    response = await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"", {}, 2_000)
    assert response == Response(b"why", {"Overseer-Schema": "1"}, ("unknown_vote", "no such vote"))


async def test_requests_are_answered_side_by_side_and_a_slow_one_holds_up_nobody(world: World) -> None:
    release = anyio.Event()
    started = 0

    async def slow(request: Request) -> Response:
        nonlocal started
        started += 1
        await release.wait()
        return Response(request.body)

    exchange = await world.exchange()
    await exchange.serve("votes_db", "votes", [endpoint(world, slow, "slow"), endpoint(world, echo)])
    answers: list[bytes] = []

    async def ask(number: int) -> None:
        answers.append((await exchange.request(f"overseer.{world.node}.votes_db.qry.slow", b"%d" % number, {}, 10_000)).body)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(ask, number)
            await until(lambda: started == 50)
            assert answers == []
            assert (await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"quick", {}, 2_000)).body == b"quick"
            release.set()
    assert sorted(answers, key=int) == [b"%d" % number for number in range(50)]


async def test_beyond_the_bound_callers_are_told_that_it_is_busy_at_once(world: World) -> None:
    release = anyio.Event()
    outcomes: list[tuple[str, str] | None] = []

    async def slow(request: Request) -> Response:
        await release.wait()
        return Response(b"done")

    exchange = await world.exchange(in_flight_max=3)
    await exchange.serve("votes_db", "votes", [endpoint(world, slow)])

    async def ask() -> None:
        outcomes.append((await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"", {}, 10_000)).error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask)
            await until(lambda: len(outcomes) >= 5)
            assert outcomes == [BUSY] * 5
            release.set()
    assert outcomes == [BUSY] * 5 + [None] * 3
    assert (await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"", {}, 2_000)).error is None


async def test_nobody_there_is_told_at_once_and_no_answer_in_time_after_the_time_out(world: World) -> None:
    release = anyio.Event()

    async def never(request: Request) -> Response:
        await release.wait()
        return Response(b"")

    exchange = await world.exchange()
    started = time.monotonic()
    with pytest.raises(BusUnavailable, match="nobody"):
        await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"", {}, 5_000)
    assert time.monotonic() - started < 1
    await exchange.serve("votes_db", "votes", [endpoint(world, never)])
    started = time.monotonic()
    with pytest.raises(BusUnavailable, match="within 100 ms"):
        await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"", {}, 100)
    assert 0.09 <= time.monotonic() - started < 2
    release.set()


async def test_a_handler_goes_on_when_its_caller_has_given_up(world: World) -> None:
    release, finished = anyio.Event(), anyio.Event()

    async def slow(request: Request) -> Response:
        await release.wait()
        finished.set()
        return Response(b"")

    exchange = await world.exchange()
    await exchange.serve("votes_db", "votes", [endpoint(world, slow)])
    with pytest.raises(BusUnavailable):
        await exchange.request(f"overseer.{world.node}.votes_db.qry.look", b"", {}, 50)
    release.set()
    with anyio.fail_after(5):
        await finished.wait()


async def test_a_handler_that_raises_or_answers_too_much_gives_an_error_that_tells_nothing_of_its_inside(world: World) -> None:
    async def broken(request: Request) -> Response:
        raise RuntimeError("secret")

    async def huge(request: Request) -> Response:
        return Response(bytes(BODY_BYTES_MAX + 1))

    exchange = await world.exchange()
    await exchange.serve("votes_db", "votes", [endpoint(world, broken, "broken"), endpoint(world, huge, "huge"), endpoint(world, echo)])
    prefix = f"overseer.{world.node}.votes_db.qry"
    assert (await exchange.request(f"{prefix}.broken", b"", {}, 2_000)) == Response(b"", {}, HANDLER_FAILED)
    assert (await exchange.request(f"{prefix}.huge", b"", {}, 2_000)) == Response(b"", {}, RESPONSE_TOO_LARGE)
    with pytest.raises(MessageTooLarge):
        await exchange.request(f"{prefix}.look", bytes(BODY_BYTES_MAX + 1), {}, 2_000)
    assert (await exchange.request(f"{prefix}.look", b"still here", {}, 2_000)).body == b"still here"


async def test_closing_answers_what_is_in_hand_and_takes_nothing_new(world: World) -> None:
    release, started = anyio.Event(), anyio.Event()

    async def slow(request: Request) -> Response:
        started.set()
        await release.wait()
        return Response(b"done")

    server, caller = await world.exchange(), await world.exchange()
    subject = f"overseer.{world.node}.votes_db.qry.look"
    await server.serve("votes_db", "votes", [endpoint(world, slow)])
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append((await caller.request(subject, b"", {}, 5_000)).body)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await started.wait()
            tasks.start_soon(server.close)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(BusUnavailable):
                await caller.request(subject, b"", {}, 200)
            assert answers == []
            release.set()
    assert answers == [b"done"]


async def test_publish_appends_outside_any_compare_and_set(world: World) -> None:
    await world.create(messages_max=3)
    exchange, line = await world.exchange(), await world.line("votes_db")
    assert await exchange.publish(world.message("op_alice", b"a", Overseer_Command_Id="c-1")) == 1
    assert await line.append([world.message("votes_db")], 0) == 2
    assert await exchange.publish(world.message("op_alice", b"b")) == 3
    with pytest.raises(StreamFull):
        await exchange.publish(world.message("op_alice", b"c"))
    with pytest.raises(BusUnavailable):
        await exchange.publish(Outgoing("elsewhere.x", {}, b""))
    with pytest.raises(MessageTooLarge):
        await exchange.publish(world.message("op_alice", bytes(BODY_BYTES_MAX + 1)))
    stored = await line.message_at(1)
    assert stored is not None
    assert (stored.body, stored.headers) == (b"a", {"Overseer-Command-Id": "c-1"})
