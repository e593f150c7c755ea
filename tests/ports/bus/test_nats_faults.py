"""What only the real thing can do to a line: die, hang, deny, and hand on bytes that nobody should send."""

import contextlib
import json
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from bus_worlds import NatsWorld, Server, connected_to, until

from overseer.nats.connection import Connection, Pace, Unanswered, connect
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.ports.bus import (
    BusDenied,
    BusUnavailable,
    Delivery,
    EndpointSpec,
    MessageTooLarge,
    OutcomeUnknown,
    Outgoing,
    Request,
    Response,
)

pytestmark = [pytest.mark.anyio, pytest.mark.real]

HASTE = Pace(reconnect_s=0.0, reconnect_s_max=0.0, liveness_interval_s=1.0, liveness_timeout_s=1.0)


async def take_up_to(line: NatsLine, last: int, position: int = 0) -> list[Delivery]:
    """Pull until stream sequence `last`, seeking again whenever the line is lost, as a runner does."""
    taken: list[Delivery] = []
    with anyio.fail_after(20):
        while position < last:
            try:
                some = await line.pull(50, 500)
            except BusUnavailable:
                await line.connected()
                with contextlib.suppress(BusUnavailable):
                    await line.seek(position + 1)
                continue
            taken += some
            position = some[-1].message.sequence if some else position
    return taken


async def take_until_lost(line: NatsLine, taken: list[Delivery]) -> None:
    """Pull into `taken` until the line says that it is lost."""
    with anyio.fail_after(15):
        while True:
            taken += await line.pull(10, 1_000)


async def world_on(server: Server, closing: AsyncExitStack) -> NatsWorld:
    return NatsWorld(await connected_to(server, closing), closing)


async def test_a_server_killed_in_the_middle_costs_a_seek_and_nothing_acknowledged(own_server: Server, closing: AsyncExitStack) -> None:
    world = await world_on(own_server, closing)
    await world.create()
    line = await world.line("votes_db")
    last = await line.append(world.numbered("votes_db", 100), 0)
    await line.seek(1)
    first = await line.pull(10, 1_000)
    own_server.kill()
    # What had arrived is still given out; then the line says that it is lost.
    with pytest.raises(BusUnavailable):
        await take_until_lost(line, first)
    with pytest.raises(BusUnavailable):
        await line.append(world.numbered("votes_db", 1), last)
    own_server.start()
    with anyio.fail_after(10):
        await line.connected()
    assert await line.append(world.numbered("votes_db", 100, start=100), last) == 200
    position = first[-1].message.sequence
    await line.seek(position + 1)
    taken = await take_up_to(line, 200, position)
    assert [d.message.body for d in first + taken] == [b"%d" % number for number in range(200)]
    assert taken[0].consumer_sequence == 1


async def test_killed_while_appending_and_pulling_each_message_is_there_exactly_once(own_server: Server, closing: AsyncExitStack) -> None:
    world = await world_on(own_server, closing)
    await world.create()
    line, appender = await world.line("votes_db"), await world.line("votes_db")
    total = 400
    sent = world.numbered("votes_db", total)
    outcomes: set[str] = set()

    async def published() -> tuple[int, int]:
        """(stream sequence, messages) by the published mark."""
        mark = await appender.last_own()
        return (0, 0) if mark is None else (mark.sequence, int(mark.headers["Overseer-Id"].split(" ")[2]) + 1)

    async def append() -> None:
        while True:
            try:
                last, done = await published()
                while done < total:
                    last = await appender.append(sent[done : done + 5], last)
                    done += 5
                return
            except (BusUnavailable, OutcomeUnknown) as error:
                outcomes.add(type(error).__name__)
                await appender.connected()

    async def kill_twice() -> None:
        for share in (3, 2):
            await until(partial(stored_up_to, line, total // share), 20)
            own_server.kill()
            own_server.start()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            tasks.start_soon(kill_twice)
            taken = await take_up_to(line, total)
    assert [d.message.body for d in taken] == [message.body for message in sent]
    assert [d.message.sequence for d in taken] == list(range(1, total + 1))
    assert outcomes


async def stored_up_to(line: NatsLine, sequence: int) -> bool:
    try:
        return (await line.state()).last_sequence >= sequence
    except BusUnavailable:
        return False


async def test_an_answer_that_does_not_come_is_an_unknown_outcome_and_the_mark_tells_it(
    own_server: Server, closing: AsyncExitStack
) -> None:
    world = await world_on(own_server, closing)
    await world.create()
    await world.line("votes_db")
    line = NatsLine(
        world.connection,
        stream=world.stream,
        sender="votes_db",
        own_filter=world.filter_of("votes_db"),
        durable="votes_db",
        request_timeout_ms=150,
    )
    await line.append(world.numbered("votes_db", 1), 0)
    own_server.signal(signal.SIGSTOP)
    try:
        for count in (1, 3):
            with pytest.raises(OutcomeUnknown):
                await line.append(world.numbered("votes_db", count, start=1), 1)
        with pytest.raises(BusUnavailable):
            await line.state()
    finally:
        own_server.signal(signal.SIGCONT)
    # What was on its way is handled before what is asked now: a pull of the mark decides.
    await until(partial(stored_up_to, line, 2))
    mark = await line.last_own()
    assert mark is not None
    assert (mark.sequence, mark.body) == (2, b"1")


async def test_a_server_that_hangs_is_noticed_by_our_own_round_trip_and_the_connection_made_anew(
    own_server: Server, closing: AsyncExitStack
) -> None:
    world = NatsWorld(await connected_to(own_server, closing, liveness_ms=200), closing)
    await world.create()
    line = await world.line("votes_db")
    await line.seek(1)
    own_server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(BusUnavailable):
            await take_until_lost(line, [])
    finally:
        own_server.signal(signal.SIGCONT)
    with anyio.fail_after(10):
        await line.connected()
    await line.append(world.numbered("votes_db", 1), 0)
    assert len(await take_up_to(line, 1)) == 1
    assert world.connection.epoch == 2


async def test_requests_fail_at_once_when_the_server_dies_not_after_their_time_out(own_server: Server, closing: AsyncExitStack) -> None:
    connection = await connected_to(own_server, closing)
    await connection.listen("silence", lambda *_: own_server.kill())
    started = time.monotonic()
    with pytest.raises(Unanswered):
        await connection.request("silence", b"", timeout_ms=30_000)
    assert time.monotonic() - started < 5


async def test_a_connection_that_looks_for_a_dead_server_closes_at_whatever_moment(own_server: Server) -> None:
    # wait_for of Python 3.11 drops a cancellation that meets the end of what it waits for: reconnecting went on for ever.
    connection = await connect(own_server.url, name="test", inbox_prefix="_INBOX_test", reconnect_ms=0)
    url = own_server.url
    await connection.close()
    own_server.kill()
    for turns in range(60):
        connection = Connection([url], None, {"name": "test", "inbox_prefix": "_INBOX_test"}, "_INBOX_test", HASTE)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(10):
            await connection.close()
            continue
        pytest.fail(f"closed after {turns} turns of the event loop, it went on reconnecting")


async def test_endpoints_answer_again_after_a_restart(own_server: Server, closing: AsyncExitStack) -> None:
    async def echo(request: Request) -> Response:
        return Response(request.body)

    connection = await connected_to(own_server, closing)
    exchange = NatsExchange(connection)
    await exchange.serve("votes_db", "votes", [(EndpointSpec("look", "votes.look"), echo)])
    own_server.kill()
    own_server.start()
    with anyio.fail_after(10):
        await connection.ready()
        assert (await exchange.request("votes.look", b"again", {}, 2_000)).body == b"again"


async def test_a_seek_on_a_new_session_ends_nobody_elses_subscription(own_server: Server, closing: AsyncExitStack) -> None:
    """Subscriptions are numbered anew in each session: the old pull's number is an endpoint's now."""

    async def echo(request: Request) -> Response:
        return Response(request.body)

    world = await world_on(own_server, closing)
    await world.create()
    line = await world.line("votes_db")
    await line.seek(1)
    exchange = NatsExchange(world.connection)
    await exchange.serve("votes_db", "votes", [(EndpointSpec("look", "votes.look"), echo)])
    own_server.kill()
    own_server.start()
    with anyio.fail_after(10):
        await line.connected()
        await line.seek(1)
        assert (await exchange.request("votes.look", b"still", {}, 2_000)).body == b"still"


async def test_a_pong_whose_waiter_gave_up_does_not_end_the_session(own_server: Server, closing: AsyncExitStack) -> None:
    connection = await connected_to(own_server, closing)
    own_server.signal(signal.SIGSTOP)
    await until(own_server.stopped)
    with anyio.move_on_after(0.05) as waiting:
        await connection.ready()
    own_server.signal(signal.SIGCONT)
    assert waiting.cancelled_caught
    await connection.settle()
    await connection.settle()
    assert connection.epoch == 1


async def test_an_absent_server_and_a_refused_user_are_told_in_time_and_by_name(own_server: Server) -> None:
    absent = f"nats://127.0.0.1:{own_server.port}"
    own_server.kill()
    started = time.monotonic()
    with pytest.raises(BusUnavailable, match="is the server running"):
        await connect(absent, name="test", inbox_prefix="_INBOX_test", connect_wait_ms=300)
    assert time.monotonic() - started < 3


POISON = {
    "a vertical tab in the subject": b"PUB %b.evt.a\x0bb 2\r\nhi\r\n",
    "a subject that is not UTF-8": b"PUB %b.evt.\xff\xfe\xe2\x82 2\r\nhi\r\n",
    "a NUL in the subject": b"PUB %b.evt.\x00 2\r\nhi\r\n",
    "a header block of one byte": b"HPUB %b.evt.x 1 3\r\nNhi\r\n",
    "a header block cut after its version": b"HPUB %b.evt.x 8 10\r\nNATS/1.0hi\r\n",
    "a status that is not UTF-8": b"HPUB %b.evt.x 22 24\r\nNATS/1.0 40\xff \xff\xfe\xff\r\n\r\n\r\nhi\r\n",
    "a status of a pull": b"HPUB %b.evt.x 35 37\r\nNATS/1.0 409 Consumer Deleted\r\n\r\n\r\nhi\r\n",
    "headers that are not UTF-8": b"HPUB %b.evt.x 22 24\r\nNATS/1.0\r\nA: \xff\xfe\r\n: y\r\nhi\r\n",
    "a very long subject": b"PUB %b.evt." + b"y" * 3_900 + b" 2\r\nhi\r\n",
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
async def test_a_stored_message_of_hostile_bytes_passes_the_line_and_hurts_nobody(
    nats: NatsWorld, shared_server: Server, poison: bytes
) -> None:
    """nats-py's own parser ends its read loop at several of these: one message would halt every consumer for good."""
    await nats.create()
    line = await nats.line("votes_db")
    stream = await anyio.connect_tcp("127.0.0.1", shared_server.port)
    async with stream:
        await stream.receive()
        await stream.send(b'CONNECT {"headers":true,"verbose":false,"pedantic":false}\r\n')
        await stream.send(poison.replace(b"%b", f"overseer.{nats.node}.mallory".encode()) + b"PING\r\n")
        with anyio.fail_after(5):
            seen = b""
            while b"PONG" not in seen:
                seen += await stream.receive()
    await line.append([nats.message("votes_db", b"after")], 0)
    await line.seek(1)
    taken = await take_up_to(line, 2)
    assert [d.message.body for d in taken] == [b"hi", b"after"]
    assert nats.connection.epoch == 1
    assert await line.message_at(1) == taken[0].message


async def test_what_a_user_may_not_do_is_told_by_name_and_at_once(tmp_path: Path, closing: AsyncExitStack) -> None:
    rights = 'publish: { allow: ["overseer.n.votes_db.>", "$JS.API.STREAM.INFO.S"] }, subscribe: { allow: ["_INBOX_votes_db.>"] }'
    server = Server(
        tmp_path,
        f"authorization {{ users: [ {{ user: admin, password: a }},\n {{ user: votes_db, password: b, permissions: {{ {rights} }} }} ] }}",
    ).start()
    closing.callback(server.kill)
    url = f"127.0.0.1:{server.port}"
    admin = await connect(f"nats://admin:a@{url}", name="admin", inbox_prefix="_INBOX")
    closing.push_async_callback(admin.close)
    await admin.request(
        "$JS.API.STREAM.CREATE.S", json.dumps({"name": "S", "subjects": ["overseer.n.>"], "allow_atomic": True}).encode(), timeout_ms=5_000
    )
    connection = await connect(f"nats://votes_db:b@{url}", name="votes_db", inbox_prefix="_INBOX_votes_db")
    closing.push_async_callback(connection.close)
    line = NatsLine(connection, stream="S", sender="votes_db", own_filter="overseer.n.votes_db.>", durable="D")
    own = Outgoing("overseer.n.votes_db.evt.x", {}, b"")
    foreign = Outgoing("overseer.n.chain_api.evt.x", {}, b"")
    forger = NatsLine(connection, stream="S", sender="chain_api", own_filter="overseer.n.chain_api.>", durable="D")
    exchange = NatsExchange(connection)

    async def echo(request: Request) -> Response:
        return Response(request.body)

    assert await line.append([own], 0) == 1
    started = time.monotonic()
    with pytest.raises(BusDenied, match="chain_api"):
        await forger.append([foreign], 0)
    with pytest.raises(BusDenied, match="chain_api"):
        await forger.append([foreign, foreign, foreign], 0)
    with pytest.raises(BusDenied, match=r"CONSUMER\.INFO"):
        await line.seek(1)
    with pytest.raises(BusDenied, match=r"MSG\.GET"):
        await line.last_own()
    with pytest.raises(BusDenied):
        await exchange.request("overseer.n.chain_api.qry.x", b"", {}, 30_000)
    with pytest.raises(BusDenied):
        await exchange.publish(foreign)
    with pytest.raises(BusDenied, match="subscribe"):
        await exchange.serve("chain_api", "not me", [(EndpointSpec("x", "overseer.n.chain_api.qry.x"), echo)])
    assert time.monotonic() - started < 5
    # The connection is the same one, and works.
    assert await line.append([own], 1) == 2
    assert connection.epoch == 1
    with pytest.raises(BusDenied, match="does not take this user"):
        await connect(f"nats://votes_db:wrong@{url}", name="votes_db", inbox_prefix="_INBOX_votes_db")


async def test_body_and_headers_above_the_servers_own_limit_are_refused_before_they_close_the_client(
    tmp_path: Path, closing: AsyncExitStack
) -> None:
    server = Server(tmp_path, "max_payload: 4096").start()
    closing.callback(server.kill)
    connection = await connected_to(server, closing)
    for headers in ({"A": "x" * 3_000}, None):
        with pytest.raises(MessageTooLarge):
            await connection.publish("x", bytes(4_097 if headers is None else 2_000), headers=headers)
    await connection.ready()
    assert connection.epoch == 1


async def test_a_deleted_consumer_and_a_missing_stream_are_unavailable_not_silence(nats: NatsWorld) -> None:
    await nats.create()
    line = await nats.line("votes_db")
    await line.seek(1)
    await line.pull(1, 0)

    async def waiting() -> bool:
        return (await nats.api(f"CONSUMER.INFO.{nats.stream}.votes_db"))["num_waiting"] == 1

    # A request that overtakes the deletion in the server is told; the other way round the missing heartbeat tells, later.
    await until(waiting)
    await nats.api(f"CONSUMER.DELETE.{nats.stream}.votes_db")
    with pytest.raises(BusUnavailable), anyio.fail_after(5):
        await line.pull(1, 4_000)
    await nats.api(f"STREAM.DELETE.{nats.stream}")
    for ask in (line.state, line.last_own):
        with pytest.raises(BusUnavailable):
            await ask()
    with pytest.raises(BusUnavailable, match="no stream takes"):
        await line.append(nats.numbered("votes_db", 1), 0)


async def test_a_delivery_that_went_elsewhere_is_noticed_even_when_nothing_follows_it(
    nats: NatsWorld, shared_server: Server, closing: AsyncExitStack
) -> None:
    """As after a torn pull: without this the message would be missing until the next one, or for good."""
    await nats.create()
    line = await nats.line("votes_db")
    await line.seek(1)
    thief = await connected_to(shared_server, closing)
    stolen: list[bytes] = []
    await thief.listen("thief", lambda _subject, _reply, _headers, body: stolen.append(body))
    ask = f"$JS.API.CONSUMER.MSG.NEXT.{nats.stream}.votes_db"
    await thief.publish(ask, b"1", reply="thief")
    await thief.settle()

    async def waiting() -> bool:
        return (await nats.api(f"CONSUMER.INFO.{nats.stream}.votes_db"))["num_waiting"] == 1

    await until(waiting)
    # Asks beside the thief, who is first in line.
    assert await line.pull(10, 0) == []
    await line.append(nats.numbered("votes_db", 1), 0)
    await until(lambda: stolen == [b"0"])
    with pytest.raises(BusUnavailable, match="deliveries 1 to 1 were lost"):
        await take_until_lost(line, [])
    await line.seek(1)
    assert [d.message.body for d in await line.pull(10, 1_000)] == [b"0"]
    # And at once when something does follow.
    await line.seek(1)
    await thief.publish(ask, b"1", reply="thief")
    await until(lambda: len(stolen) == 2)
    await line.append(nats.numbered("votes_db", 1, start=1), 1)
    with pytest.raises(BusUnavailable, match="deliveries 1 to 1 were lost"):
        await line.pull(10, 1_000)


async def test_one_acknowledgement_covers_all_before_it_and_shows_in_the_consumer(nats: NatsWorld) -> None:
    await nats.create()
    line = await nats.line("votes_db")
    await line.append(nats.numbered("votes_db", 20), 0)
    await line.seek(1)
    taken = await take_up_to(line, 20)
    await line.ack(taken[-1])
    await nats.connection.settle()

    async def all_acknowledged() -> bool:
        return (await nats.api(f"CONSUMER.INFO.{nats.stream}.votes_db"))["ack_floor"]["stream_seq"] == 20

    await until(all_acknowledged)


async def test_discovery_shows_the_service_its_endpoints_and_its_counts(nats: NatsWorld) -> None:
    async def refuse(request: Request) -> Response:
        return Response(b"", {}, ("400", "no"))

    exchange = NatsExchange(nats.connection, version="1.2.3", metadata={"node": nats.node})
    subject = f"overseer.{nats.node}.votes_db.qry.look"
    name = f"votes_db_{nats.node}"
    await exchange.serve(name, "votes and disputes", [(EndpointSpec("look", subject, {"schema": "3"}), refuse)])
    await exchange.request(subject, b"", {}, 2_000)

    async def ask(verb: str) -> dict[str, object]:
        return json.loads((await nats.connection.request(f"$SRV.{verb}.{name}", b"", timeout_ms=2_000)).body)

    ping = await ask("PING")
    assert (ping["type"], ping["name"], ping["version"], ping["metadata"]) == (
        "io.nats.micro.v1.ping_response",
        name,
        "1.2.3",
        {"node": nats.node},
    )
    assert (await ask("INFO"))["endpoints"] == [{"name": "look", "subject": subject, "queue_group": "q", "metadata": {"schema": "3"}}]
    (stats,) = (await ask("STATS"))["endpoints"]
    assert (stats["num_requests"], stats["num_errors"], stats["last_error"]) == (1, 1, "400: no")
    assert stats["average_processing_time"] == stats["processing_time"] > 0
    await exchange.close()
    with pytest.raises(BusUnavailable):
        await ask("PING")
