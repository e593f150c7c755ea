"""Who may do what with the elections' log, buckets and mail: tried on a real server, with the accounts that a node gives."""

import json
from collections import Counter

import anyio
import anyio.lowlevel
import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError

from messages.contract import load as load_contract
from messages.election_pairs import SiteRow, TopologyRecord
from messages.message import Kind
from overseer.nats.accounts import inbox_prefix
from overseer.nats.append import append_one
from overseer.nats.connection import Connection
from overseer.nats.election_log import NatsElectionLog
from overseer.nats.exchange import NatsExchange
from overseer.nats.provision import call
from overseer.nats.sites import (
    TOPOLOGY_KEY,
    bucket_stream,
    bucket_subject,
    lease_bucket,
    log_durable,
    log_stream,
    log_subject,
    mail_filter,
    site_user,
    topology_bucket,
)
from overseer.ports.bus import BusDenied, BusError, BusUnavailable, EndpointSpec, OutcomeUnknown, Outgoing, Request, Response
from overseer.ports.sites import StreamReplaced
from tests.ports.bus.bus_worlds import until
from tests.ports.sites.sites_worlds import NODE, SITES, Following, NatsWorld, append_numbered

pytestmark = [pytest.mark.anyio, pytest.mark.real]

OTHERS = ("overseer", "operator", "reader", "provisioner")
TOPOLOGY = TopologyRecord(version=1, sites=[SiteRow("a", "dc1", "z1")])


async def may(connection: Connection, subject: str, body: bytes = b"{}") -> bool:
    """Whether the server lets this user send there, whatever becomes of it."""
    try:
        await connection.request(subject, body, timeout_ms=5_000)
    except BusDenied:
        return False
    except BusUnavailable:
        return True
    return True


async def stock(nats: NatsWorld, user: str) -> Client:
    """The official client."""
    client = await nats_py.connect(
        nats.server.url, nkeys_seed=str(nats.keys.path(user)), inbox_prefix=inbox_prefix(user, NODE).encode(), allow_reconnect=False
    )
    nats.closing.push_async_callback(client.close)
    return client


async def test_only_sites_append_to_the_log_and_only_of_kinds_that_there_are(nats: NatsWorld) -> None:
    stream, _ = await nats.log("a").last("x")
    subject = log_subject("ballots", "x", NODE, stream)
    assert [user for user in OTHERS if await may(await nats.connect(user), subject)] == []
    assert not await may(nats.connections[site_user("a")], log_subject("coins", "x", NODE, stream))
    assert await nats.log("a").last("x") == (stream, None)


async def test_a_site_renews_its_own_lease_alone(nats: NatsWorld) -> None:
    with pytest.raises(BusDenied):
        await nats.board("a").renew("b")
    await nats.board("b").renew("b")
    subject = bucket_subject(lease_bucket(NODE), "a")
    assert [user for user in OTHERS if await may(await nats.connect(user), subject)] == []
    assert await nats.board("a").alive() == {"b"}


async def test_the_topology_is_recorded_by_sites_and_the_overseer(nats: NatsWorld) -> None:
    subject = bucket_subject(topology_bucket(NODE), TOPOLOGY_KEY)
    users = (*OTHERS, *map(site_user, SITES))
    assert [user for user in users if await may(await nats.connect(user), subject)] == ["overseer", *map(site_user, SITES)]
    assert not await may(nats.connections[site_user("a")], bucket_subject(topology_bucket(NODE), "other"))


async def serve(nats: NatsWorld, site: str) -> None:
    exchange = NatsExchange(nats.connections[site_user(site)])
    nats.closing.push_async_callback(exchange.close)

    async def answer(request: Request) -> Response:
        return Response(f"{site} heard {request.account}".encode())

    prefix = f"overseer.{NODE}.{site_user(site)}"
    endpoints = [(EndpointSpec(kind, f"{prefix}.{kind}.>"), answer) for kind in ("mail", "pair")]
    await exchange.serve(site_user(site), "Mailroom", endpoints)


async def test_mail_is_asked_by_sites_and_operators_and_pairs_talk_among_themselves(nats: NatsWorld) -> None:
    for site in SITES:
        await serve(nats, site)
    reached: set[tuple[str, str, str]] = set()
    for user in (*OTHERS, *map(site_user, SITES)):
        for kind in ("mail", "pair"):
            for site in SITES:
                try:
                    subject = f"overseer.{NODE}.{site_user(site)}.{kind}.x.cast_ballot"
                    reply = await (await nats.connect(user)).request(subject, b"", timeout_ms=5_000)
                    assert reply.body == f"{site} heard {NODE}-{user}".encode()
                    reached.add((user, kind, site))
                except BusDenied:
                    pass
    among = {(site_user(one), kind, other) for one in SITES for kind in ("mail", "pair") for other in SITES if one != other}
    assert reached == among | {("operator", "mail", site) for site in SITES}


async def test_a_reader_asks_any_site_every_query_and_gives_no_command(nats: NatsWorld) -> None:
    await serve(nats, "a")
    reader = await nats.connect("reader")
    # Peers are a node's, not an election's: sites have none.
    of_peers = {"messages.peer_queries"}
    owned = [spec for spec in load_contract() if spec.owner == "elections" and spec.body.__module__ not in of_peers]
    specs = [spec for spec in owned if spec.kind in (Kind.COMMAND, Kind.QUERY)]
    queries = {spec.name for spec in specs if spec.kind is Kind.QUERY}
    assert {"get_election", "list_elections", "query_history", "get_copy"} <= queries
    assert queries.isdisjoint(spec.name for spec in specs if spec.kind is Kind.COMMAND), "by the name alone it is told which it is"
    for spec in specs:
        for key in ("mayor", "_"):
            subject = f"overseer.{NODE}.elections_a.mail.{key}.{spec.name}"
            try:
                reply = await reader.request(subject, b"", timeout_ms=5_000)
                assert (spec.kind, reply.body) == (Kind.QUERY, f"a heard {NODE}-reader".encode())
            except BusDenied:
                assert spec.kind is Kind.COMMAND, subject
    for rest in ("get_election", "mayor.more.get_election", "mayor.unheard_of"):
        assert not await may(reader, f"overseer.{NODE}.elections_a.mail.{rest}")


async def test_nobody_listens_to_the_mail_of_others(nats: NatsWorld) -> None:
    for user in (*OTHERS, site_user("b")):
        connection = await nats.connect(user)
        denied: list[BusError] = []
        forget = connection.expect([mail_filter(NODE, "a")], denied.append)
        await connection.listen(mail_filter(NODE, "a"), lambda *_: None, lasting=False)
        await connection.settle()
        forget()
        assert len(denied) == (0 if user in ("operator", "reader", "overseer") else 1)
    # Those who may listen to what the streams republish hear nothing of it in their own accounts.
    heard: list[bytes] = []
    await (await nats.connect("reader")).listen(mail_filter(NODE, "a"), lambda *message: heard.append(message[3]), lasting=False)
    await serve(nats, "a")
    await nats.connections[site_user("b")].request(f"overseer.{NODE}.elections_a.mail.x.cast_ballot", b"", timeout_ms=5_000)
    await (await nats.connect("reader")).settle()
    assert heard == []


async def test_people_discover_mailrooms(nats: NatsWorld) -> None:
    await serve(nats, "a")
    reply = await (await nats.connect("reader")).request("$SRV.INFO.elections_a", b"", timeout_ms=5_000)
    assert {e["subject"] for e in json.loads(reply.body)["endpoints"]} == {f"overseer.{NODE}.elections_a.{k}.>" for k in ("mail", "pair")}


async def test_the_official_client_reads_topology_and_leases(nats: NatsWorld) -> None:
    revision = await nats.board("a").record(TOPOLOGY, revision=0)
    await nats.board("a").renew("a")
    for user in ("operator", "reader"):
        buckets = (await stock(nats, user)).jetstream()
        topology = await buckets.key_value(topology_bucket(NODE))
        entry = await topology.get(TOPOLOGY_KEY)
        assert entry.value is not None
        assert json.loads(entry.value) == {
            "version": 1,
            "sites": [["a", "dc1", "z1", False]],
        }
        assert entry.revision == revision
        lease = await buckets.key_value(lease_bucket(NODE))
        assert (await lease.get("a")).value == b"alive"
        with pytest.raises(KeyNotFoundError):
            await lease.get("b")
        status = await lease.status()
        assert (status.ttl, status.history) == (1.0, 1)


async def test_the_official_client_deletes_what_a_site_may_write_and_the_board_sees_it(nats: NatsWorld) -> None:
    """As an administrator would, with the site's key."""
    first = await nats.board("a").record(TOPOLOGY, revision=0)
    bucket = await (await stock(nats, site_user("a"))).jetstream().key_value(topology_bucket(NODE))
    await bucket.delete(TOPOLOGY_KEY)
    found = await nats.board("a").topology()
    assert (found.record, found.revision) == (None, first + 1)
    assert await nats.board("a").record(TOPOLOGY, revision=found.revision) == first + 2


async def test_people_read_the_log_and_leave_the_sites_consumers_alone(nats: NatsWorld) -> None:
    await append_numbered(nats.log("a"), "x", 2)
    operator = await nats.connect("operator")
    reply = await operator.request(
        f"$JS.API.STREAM.MSG.GET.{log_stream(NODE)}",
        json.dumps({"last_by_subj": f"overseer.log.ballots.x.{NODE}.*"}).encode(),
        timeout_ms=5_000,
    )
    assert json.loads(reply.body)["message"]["seq"] == 2
    durable = log_durable("a", "ballots")
    stream = log_stream(NODE)
    for verb in (f"MSG.NEXT.{stream}.{durable}", f"DELETE.{stream}.{durable}", f"CREATE.{stream}.{durable}"):
        assert not await may(operator, f"$JS.API.CONSUMER.{verb}")
    assert not await may(nats.connections[site_user("b")], f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}")
    for verb in ("DELETE", "PURGE", "UPDATE", "CREATE"):
        for user in ("operator", "reader", "overseer", site_user("a")):
            assert not await may(await nats.connect(user), f"$JS.API.STREAM.{verb}.{stream}")
            assert not await may(await nats.connect(user), f"$JS.API.STREAM.{verb}.{bucket_stream(lease_bucket(NODE))}")


async def test_people_see_how_far_a_site_has_followed(nats: NatsWorld) -> None:
    following, log = Following(), nats.log("a")
    await append_numbered(log, "x", 5)
    stream, _ = await log.last("x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, log.follow(after=0, stream=stream))
        await following.until(lambda: bool(following.pages) and not following.pages[-1].entries)
        tasks.cancel_scope.cancel()
    info = await call(await nats.connect("reader"), f"CONSUMER.INFO.{log_stream(NODE)}.{log_durable('a', 'ballots')}")
    assert info["ack_floor"]["stream_seq"] == 5


async def test_an_append_that_arrives_after_the_stream_was_replaced_is_taken_by_no_stream(nats: NatsWorld) -> None:
    """Its very message: nobody asks anything between the replacement and its arrival."""
    old, _ = await nats.log("a").last("x")
    message = Outgoing(log_subject("ballots", "x", NODE, old), {}, b"late")
    headers = {"Nats-Expected-Last-Subject-Sequence": "0", "Nats-Expected-Stream": log_stream(NODE)}
    await nats.replace()
    with pytest.raises(BusUnavailable, match="no stream takes"):
        await append_one(nats.connections[site_user("a")], message, headers, 5_000)
    info = await call(await nats.connect("reader"), f"STREAM.INFO.{log_stream(NODE)}")
    assert info["state"]["messages"] == 0


async def test_the_server_compares_the_streams_id_with_the_append_itself(nats: NatsWorld) -> None:
    """Appends that are on their way while the stream is replaced, again and again: none gets into a stream of another id."""
    # What is on its way to a stream that is just being deleted is not answered at all.
    log = NatsElectionLog(nats.connections[site_user("a")], node=NODE, site="a", request_timeout_ms=300)
    done, appended = False, Counter[str]()

    async def current() -> str:
        while True:
            try:
                return (await nats.log("b").last("nothing"))[0]
            except BusUnavailable:
                await anyio.sleep(0.01)

    async def write(writer: int) -> None:
        """As one that never learns of another stream but by being refused."""
        stream, number = await current(), 0
        while not done:
            number += 1
            try:
                await log.append(f"w{writer}-{number}", stream.encode(), stream=stream, expected=0)
                appended[stream] += 1
            except StreamReplaced as refused:
                stream = refused.stream
            except (OutcomeUnknown, BusUnavailable):
                await anyio.sleep(0.01)

    streams = [await current()]
    async with anyio.create_task_group() as tasks:
        for writer in range(4):
            tasks.start_soon(write, writer)
        for _ in range(5):
            await until(lambda: appended[streams[-1]] >= 20)
            await nats.replace()
            streams.append(await current())
        await until(lambda: appended[streams[-1]] >= 20)
        done = True
    following = Following()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following.run, nats.log("b").follow(after=0, stream=""))
        await following.until(lambda: bool(following.pages) and not following.pages[-1].entries)
        tasks.cancel_scope.cancel()
    assert len(set(streams)) == 6
    assert {entry.body.decode() for entry in following.entries} == {streams[-1]}
    assert len(following.entries) >= appended[streams[-1]]
    # Nor is anything else in it.
    info = await call(await nats.connect("reader"), f"STREAM.INFO.{log_stream(NODE)}")
    assert info["state"]["messages"] == len(following.entries)
