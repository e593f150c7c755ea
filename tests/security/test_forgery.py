"""Ways to be taken for somebody else, or to make the server do what one may not ask for: by headers, ids, consumers, batches."""

import json
from typing import Any

import anyio
import pytest

from messages.subjects import HEADER_CALLER, net_stream, node_stream, own_filter
from overseer.nats.accounts import CONNECTIONS_MAX, PEOPLES_CONNECTIONS_MAX
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.ports.bus import BusDenied, EndpointSpec, Outgoing, Request, Response
from tests.security.shared_bus import DECLARATIONS, NODE, OTHER_NODE, SharedBus

pytestmark = [pytest.mark.real, pytest.mark.anyio]

STREAM, NET, BUCKET = f"OVERSEER_{NODE}", "OVERSEER_NET", f"OBJ_overseer_{NODE}_povs"
P = f"overseer.{NODE}."
OPERATORS_COMMAND = f"{P}op_operator.cmd.votes_db.register_vote"
OWN_FACT = f"{P}votes_db.evt.incarnation_started"
BLACKLIST = f"{P}dispute_conclusion.cmd.chain_api.blacklist"


def line_of(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


# Everything nats-server 2.15 reads in the headers of a publish. True: the publish is refused whole.
INTERPRETED = [
    ({"Nats-Rollup": "all"}, True),
    ({"Nats-Rollup": "sub"}, True),
    ({"Nats-TTL": "1s"}, True),
    ({"Nats-TTL": "never"}, True),
    ({"Nats-Incr": "1"}, True),
    ({"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": f"{P}chain_api.sig.session_change"}, True),
    ({"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": BLACKLIST, "Nats-Schedule-TTL": "1s"}, True),
    ({"Nats-Scheduler": BLACKLIST, "Nats-Schedule-Next": "purge"}, None),
    ({"Nats-Stream-Source": "OVERSEER_beta 1 > > x"}, True),
    ({"Nats-Expected-Stream": NET}, True),
    ({"Nats-Expected-Last-Sequence": "999"}, True),
    ({"Nats-Expected-Last-Msg-Id": "x"}, True),
    ({"Nats-Expected-Last-Subject-Sequence": "999", "Nats-Expected-Last-Subject-Sequence-Subject": f"{P}votes_db.>"}, True),
    ({"Nats-Marker-Reason": "Purge"}, False),
    ({"Nats-Sequence": "1", "Nats-Subject": BLACKLIST, "Nats-Stream": NET, "Nats-Last-Sequence": "0"}, False),
    ({"Nats-Response-Type": "x"}, None),
    ({"Nats-Counter-Sources": "{}"}, None),
    ({"Nats-Required-Api-Level": "99"}, None),
    ({"Status": "503", "Description": "x"}, False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("headers", "refused"), INTERPRETED, ids=[" ".join(headers) for headers, _ in INTERPRETED])
@pytest.mark.parametrize("stream", [STREAM, BUCKET])
async def test_no_header_makes_the_server_drop_move_or_time_messages(
    bus: SharedBus, headers: dict[str, str], refused: bool | None, stream: str
) -> None:
    operator, chain, reader = await bus.raw(NODE, "operator"), await bus.raw(NODE, "chain_api"), await bus.raw(NODE, "reader")
    subject = OPERATORS_COMMAND if stream == STREAM else f"$O.overseer_{NODE}_povs.C.x"
    for _ in range(2):
        assert "seq" in await chain.ask(f"{P}chain_api.evt.incarnation_started", b"{}")
        assert "seq" in await operator.ask(subject, b"kept")
    await reader.listen("overseer.>")
    before = await bus.contents()
    if "Nats-Expected-Stream" in headers and stream == BUCKET:
        headers = {"Nats-Expected-Stream": STREAM}
    answer = await operator.ask(subject, b"x", headers=line_of(headers))
    if refused is not None:
        assert ("error" in answer) is refused, answer
    stored = "error" not in answer
    # A schedule, or a time to live of a second, would show by now.
    await anyio.sleep(1.2 if headers.keys() & {"Nats-TTL", "Nats-Schedule"} else 0)
    after = await bus.contents()
    assert after == {**before, subject: before[subject] + stored}
    state = (await reader.ask(f"$JS.API.STREAM.INFO.{stream}"))["state"]
    assert (state["first_seq"], state.get("num_deleted", 0)) == (1, 0)
    await reader.settle()
    assert {heard.subject for heard in reader.heard if heard.subject.startswith("overseer.")} <= {OPERATORS_COMMAND}


@pytest.mark.parametrize("forged", [BLACKLIST, f"_INBOX.{NODE}.votes_db.x", f"$JS.API.STREAM.PURGE.{STREAM}", f"{P}chain_api.qry.best"])
@pytest.mark.parametrize("name", ["operator", "reader", "votes_db"])
async def test_a_trace_goes_nowhere_its_sender_may_not_publish(bus: SharedBus, name: str, forged: str) -> None:
    user = await bus.raw(NODE, name)
    subject = {"operator": OPERATORS_COMMAND, "reader": f"{P}votes_db.qry.query_votes", "votes_db": OWN_FACT}[name]
    before = await bus.contents()
    user.publish(subject, b"{}", headers=f"Nats-Trace-Dest: {forged}\r\n".encode())
    await user.settle()
    if name != "votes_db" and forged.endswith("qry.best"):
        # It may ask that: a trace there is a question that nobody can read.
        assert user.denied == []
    else:
        assert user.denied == [("publish", forged)]
        assert await bus.contents() == before


async def test_a_poisoned_message_id_swallows_nothing_of_ours(bus: SharedBus) -> None:
    """An id that somebody else has used drops a message as a duplicate. So nobody of ours sends one."""
    operator = await bus.raw(NODE, "operator")
    ids = ["votes_db 00 1 0", "chain_api 00000000000000000000000000000000 1 0", "1", "once"]
    for poison in ids:
        assert "seq" in await operator.ask(OPERATORS_COMMAND, b"{}", headers=f"Nats-Msg-Id: {poison}\r\n".encode())
        assert (await operator.ask(OPERATORS_COMMAND, b"{}", headers=f"Nats-Msg-Id: {poison}\r\n".encode()))["duplicate"]
    connection = await bus.connection(NODE, "votes_db")
    line = NatsLine(connection, stream=node_stream(NODE), sender="votes_db", own_filter=own_filter(NODE, "votes_db"), durable="votes_db")
    last = 0
    for poison in ids:
        last = await line.append([Outgoing(OWN_FACT, {"Overseer-Id": poison}, b"{}")], last)
    last = await line.append([Outgoing(OWN_FACT, {"Overseer-Id": poison}, b"{}") for poison in ids], last)
    assert (await bus.contents())[OWN_FACT] == 2 * len(ids)
    reader = await bus.raw(NODE, "reader")
    stored = await reader.ask(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": last})
    import base64

    assert b"Nats-Msg-Id" not in base64.b64decode(stored["message"]["hdrs"])


async def test_a_compare_and_set_of_one_sender_is_not_moved_by_another(bus: SharedBus) -> None:
    votes = await bus.connection(NODE, "votes_db")
    line = NatsLine(votes, stream=node_stream(NODE), sender="votes_db", own_filter=own_filter(NODE, "votes_db"), durable="votes_db")
    last = await line.append([Outgoing(OWN_FACT, {}, b"{}")], 0)
    operator = await bus.raw(NODE, "operator")
    spoofed = {"Nats-Expected-Last-Subject-Sequence": str(last), "Nats-Expected-Last-Subject-Sequence-Subject": f"{P}votes_db.>"}
    assert "seq" in await operator.ask(OPERATORS_COMMAND, b"{}", headers=line_of(spoofed))
    for number in range(3):
        operator.publish(OPERATORS_COMMAND, b"{}", headers=line_of({**spoofed, "Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": "1"}))
    await operator.settle()
    assert await line.append([Outgoing(OWN_FACT, {}, b"{}")], last) > last


# ------------------------------------------------------------------------------------------------ who asks


REQUEST_INFO = [
    b'Nats-Request-Info: {"acc":"alpha-chain_api"}\r\n',
    b'Nats-Request-Info: {"acc":"alpha-chain_api"}\r\nNats-Request-Info: {"acc":"alpha-overseer"}\r\nNats-Request-Info: {"acc":"x"}\r\n',
    b'Nats-Request-Info:{"acc":"alpha-chain_api"}\r\nNats-Request-Info: {"acc":"y"}\r\n',
    b'nats-request-info: {"acc":"alpha-chain_api"}\r\n',
    b'NATS-REQUEST-INFO: {"acc":"alpha-chain_api"}\r\nNats-Request-Info : {"acc":"y"}\r\n',
    b'X: 1\nNats-Request-Info: {"acc":"alpha-chain_api"}\r\n',
    b'X: 1\rNats-Request-Info: {"acc":"alpha-chain_api"}\r\n',
    b'X: Nats-Request-Info: {"acc":"alpha-chain_api"}\r\n Nats-Request-Info: {"acc":"alpha-chain_api"}\r\n',
    b'Overseer-Caller: alpha-chain_api\r\nX-Nats-Request-Info: {"acc":"alpha-chain_api"}\r\n',
    b'\r\nNats-Request-Info: {"acc":"alpha-chain_api"}\r\n',
]


@pytest.mark.parametrize("forged", REQUEST_INFO)
async def test_the_callers_account_is_the_servers_word_never_the_callers(bus: SharedBus, forged: bytes) -> None:
    served = await bus.connection(NODE, "votes_db")
    exchange = NatsExchange(served)

    async def tell(request: Request) -> Response:
        return Response(json.dumps({"account": request.account, "said": request.headers.get(HEADER_CALLER, "")}).encode())

    await exchange.serve("votes_db", "test", [(EndpointSpec("x", f"{P}votes_db.qry.query_votes"), tell)])
    operator = await bus.raw(NODE, "operator")
    answer = await operator.ask(f"{P}votes_db.qry.query_votes", b"{}", headers=forged)
    assert answer["account"] == f"{NODE}-operator"
    await exchange.close()


@pytest.mark.parametrize("spec", ["votes_db.register_vote", "chain_api.finalize_block"])
async def test_a_reader_that_commands_is_told_no_at_once(bus: SharedBus, spec: str) -> None:
    reader = await bus.connection(NODE, "reader")
    owner, name = spec.split(".")
    tries = [f"{P}{sender}.cmd.{owner}.{name}" for sender in ("op_reader", "op_operator", f"req_{owner}", "reader")]
    for subject in [*tries, f"{P}{owner}.req.{name}"]:
        with anyio.fail_after(4), pytest.raises(BusDenied, match="may not publish"):
            await reader.request(subject, b"{}", timeout_ms=5_000)
    assert await bus.contents() == {}


# ------------------------------------------------------------------------------------------------ consumers


def tampering() -> list[tuple[str, dict[str, Any]]]:
    """Requests of an operator that name a subsystem's consumer somewhere else than where it is refused by subject."""
    found: list[tuple[str, dict[str, Any]]] = []
    victims = [(STREAM, "votes_db"), (NET, f"{NODE}-votes_db"), (NET, f"{OTHER_NODE}-votes_db")]
    for stream, durable in victims:
        bodies: list[dict[str, Any]] = []
        for action in ("create", "update", ""):
            for named in ({"durable_name": durable}, {"name": durable}, {"durable_name": durable, "name": durable}):
                config = {"ack_policy": "explicit", "deliver_policy": "last", **named}
                bodies.append({"stream_name": stream, "config": config, **({"action": action} if action else {})})
        for body in bodies:
            found.append((f"$JS.API.CONSUMER.CREATE.{stream}", body))
            found.append((f"$JS.API.CONSUMER.CREATE.{stream}.mine", body))
            found.append((f"$JS.API.CONSUMER.CREATE.{stream}.mine.overseer.>", body))
            # The stream of the subject is another one than that of the body.
            found.append((f"$JS.API.CONSUMER.CREATE.{BUCKET}.mine", body))
    return found


async def consumer_states(bus: SharedBus) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in (NODE, OTHER_NODE):
        reader = await bus.raw(node, "reader")
        for stream in (node_stream(node), net_stream()):
            for info in (await reader.ask(f"$JS.API.CONSUMER.LIST.{stream}")).get("consumers") or []:
                if "overseer_subsystem" in info["config"].get("metadata", {}):
                    fields = ("config", "created", "delivered", "ack_floor", "num_ack_pending")
                    found[f"{stream}/{info['name']}"] = {field: info[field] for field in fields}
    return found


async def test_an_operator_cannot_touch_a_subsystems_consumer_by_what_the_body_says(bus: SharedBus) -> None:
    operator = await bus.raw(NODE, "operator")
    before = await consumer_states(bus)
    expected = {f"{stream}/{name}" for stream, name in [(STREAM, "votes_db"), (NET, f"{OTHER_NODE}-votes_db")]}
    assert expected <= before.keys()
    for subject, body in tampering():
        await operator.ask(subject, body)
    assert await consumer_states(bus) == before


async def test_an_operator_cannot_touch_the_consumers_of_another_node(bus: SharedBus) -> None:
    operator = await bus.raw(NODE, "operator")
    before = await consumer_states(bus)
    durable = f"{OTHER_NODE}-votes_db"
    for verb in ("DELETE", "MSG.NEXT", "CREATE", "RESET", "PAUSE"):
        operator.publish(f"$JS.API.CONSUMER.{verb}.{NET}.{durable}", b"", reply=f"{operator.inbox}.x")
    operator.publish(f"$JS.ACK.{NET}.{durable}.1.1.1.1.0", b"+ACK")
    await operator.settle()
    assert len(operator.denied) == 6
    assert await consumer_states(bus) == before


async def test_what_is_delivered_to_one_nodes_operator_does_not_reach_anothers(bus: SharedBus) -> None:
    """Push consumers deliver within the one account that holds the streams: inboxes must differ there."""
    ours, theirs = await bus.raw(NODE, "operator"), await bus.raw(OTHER_NODE, "operator")
    theirs_feed = await bus.raw(OTHER_NODE, "feed")
    # Interest is made known by subscriptions to the very subject.
    for client in (ours, theirs, theirs_feed):
        await client.listen(f"{client.inbox}.push")
    assert "seq" in await ours.ask(OPERATORS_COMMAND, b"secret")
    config = {"ack_policy": "none", "name": "push", "deliver_subject": f"{ours.inbox}.push", "filter_subject": "overseer.>"}
    body = {"stream_name": STREAM, "action": "create", "config": config}
    assert "error" not in await ours.ask(f"$JS.API.CONSUMER.CREATE.{STREAM}.push", body)
    await ours.until(2)
    for client in (ours, theirs, theirs_feed):
        await client.settle()
    assert {heard.body for heard in ours.heard} == {b"secret"}
    assert theirs.heard == theirs_feed.heard == []


# ------------------------------------------------------------------------------------------------ crowding others out


async def test_open_batches_of_one_sender_do_not_stop_another(bus: SharedBus) -> None:
    """The server has room for 50 open batches; whoever fills it must not silence others: they publish one by one then."""
    from overseer.ports.bus import BusUnavailable

    operator = await bus.raw(NODE, "operator")
    for number in range(60):
        headers = {"Nats-Batch-Id": f"x{number}", "Nats-Batch-Sequence": "1"}
        operator.publish(OPERATORS_COMMAND, b"{}", headers=line_of(headers))
    await operator.settle()
    votes = await bus.connection(NODE, "votes_db")
    line = NatsLine(votes, stream=node_stream(NODE), sender="votes_db", own_filter=own_filter(NODE, "votes_db"), durable="votes_db")
    messages = [Outgoing(OWN_FACT, {}, b"{}")] * 3
    with pytest.raises(BusUnavailable):
        await line.append(messages, 0)
    assert await line.append(messages[:1], 0) > 0


@pytest.mark.parametrize(("name", "bound"), [("reader", PEOPLES_CONNECTIONS_MAX), ("votes_db", CONNECTIONS_MAX)])
async def test_nobody_can_take_all_connections(bus: SharedBus, name: str, bound: int) -> None:
    refused = 0
    for _ in range(bound + 4):
        try:
            await bus.raw(NODE, name)
        except (AssertionError, ConnectionError):
            refused += 1
    assert refused >= 4
    assert "seq" in await (await bus.raw(NODE, "chain_api")).ask(f"{P}chain_api.evt.incarnation_started", b"{}")
    accounts = len(DECLARATIONS) * CONNECTIONS_MAX + 2 * CONNECTIONS_MAX + 3 * PEOPLES_CONNECTIONS_MAX
    assert accounts <= bus.server.settings.connections_max
