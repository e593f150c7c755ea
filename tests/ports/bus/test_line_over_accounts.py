"""The same line and exchange where everybody sits in an account of its own."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from messages.chain_api import BlockImported, GetHeader, ImportBlock
from messages.subjects import node_stream, own_filter
from messages.votes_db import DisputeStatusChanged, QueryVotes, RegisterVote
from overseer.graph import filters, net_filters
from overseer.nats.accounts import NodeUsers, account_name, accounts_config, durable_name, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.exchange import NatsExchange
from overseer.nats.keys import KeyFolder
from overseer.nats.line import NatsLine
from overseer.nats.provision import Provisioner
from overseer.nats.resources import BusLimits, node_consumers, node_streams
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.ports.bus import BusDenied, BusUnavailable, Delivery, EndpointSpec, Outgoing, Request, Response, WrongLastSequence
from overseer.subsystem import Declaration

pytestmark = [pytest.mark.anyio, pytest.mark.real]

NODE = "alpha"
VOTES = Declaration(
    name="votes_db",
    description="Votes",
    consumes=(RegisterVote, BlockImported),
    sends=(DisputeStatusChanged,),
    answers=(QueryVotes,),
    events=(),
    tables=(),
)
CHAIN = Declaration(
    name="chain_api", description="Blocks", consumes=(ImportBlock,), sends=(BlockImported,), answers=(GetHeader,), events=(), tables=()
)
LIMITS = BusLimits(node_bytes_max=8 * 1024**2, net_bytes_max=4 * 1024**2, pov_bytes_max=4 * 1024**2)


class Users:
    def __init__(self, server: EmbeddedServer, keys: KeyFolder, closing: AsyncExitStack) -> None:
        self.server = server
        self.keys = keys
        self.closing = closing

    async def connection(self, user: str) -> Connection:
        seed = self.keys.path(user).read_text().strip()
        connection = await connect(self.server.url, name=user, inbox_prefix=inbox_prefix(user, NODE), nkey_seed=seed)
        self.closing.push_async_callback(connection.close)
        return connection

    async def line(self, subsystem: str) -> NatsLine:
        stream = node_stream(NODE)
        return NatsLine(
            await self.connection(subsystem),
            stream=stream,
            sender=subsystem,
            own_filter=own_filter(NODE, subsystem),
            durable=durable_name(NODE, subsystem, stream),
        )


@pytest.fixture
async def users(tmp_path: Path, closing: AsyncExitStack) -> AsyncIterator[Users]:
    declarations = (VOTES, CHAIN)
    keys = KeyFolder(tmp_path / "keys")
    node = NodeUsers(node=NODE, declarations=declarations, keys=keys.ensure(user_names(declarations)))
    settings = ServerSettings(store_bytes_max=LIMITS.store_bytes)
    async with EmbeddedServer(tmp_path / "nats", accounts_config([node]), settings=settings) as server, AsyncExitStack() as connections:
        users = Users(server, keys, connections)
        consumers = node_consumers(NODE, declarations, filters, net_filters)
        await Provisioner(await users.connection("provisioner"), node_streams(NODE, LIMITS), consumers).apply()
        yield users


async def test_a_line_works_over_imports_as_it_does_within_one_account(users: Users) -> None:
    chain, votes = await users.line("chain_api"), await users.line("votes_db")
    imported = [
        Outgoing(f"overseer.{NODE}.chain_api.evt.block_imported", {"Overseer-Id": f"chain_api 00 {n} 0"}, b"%d" % n) for n in range(60)
    ]
    assert await chain.append(imported[:1], 0) == 1
    assert await chain.append(imported[1:], 1) == 60
    with pytest.raises(WrongLastSequence):
        await chain.append(imported[:30], 1)
    mark = await chain.last_own()
    assert mark is not None
    assert (mark.sequence, mark.body) == (60, b"59")
    assert (await votes.state()).last_sequence == 60
    # Each seek comes right after the last request: one that the server takes up late must not swallow anything.
    for start in (1, 41, 11, 60, 1) * 4:
        await votes.seek(start)
        taken: list[Delivery] = []
        with anyio.fail_after(5):
            while len(taken) < 61 - start:
                taken += await votes.pull(17, 1_000)
        assert [(d.consumer_sequence, d.message.sequence) for d in taken] == [(at - start + 1, at) for at in range(start, 61)]
    await votes.ack(taken[-1])
    assert await votes.message_at(60) == taken[-1].message == mark
    # Idle, then awake.
    assert await votes.pull(10, 30) == []
    woke: list[int] = []

    async def wait() -> None:
        woke.append(len(await votes.pull(10, 5_000)))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await chain.append(imported[:1], 60)
    assert woke == [1]


async def test_a_killed_server_is_left_behind_over_imports_too(users: Users) -> None:
    chain, votes = await users.line("chain_api"), await users.line("votes_db")
    imported = Outgoing(f"overseer.{NODE}.chain_api.evt.block_imported", {}, b"x")
    await chain.append([imported], 0)
    await votes.seek(1)
    assert len(await votes.pull(10, 1_000)) == 1
    await users.server.kill()
    with pytest.raises(BusUnavailable):
        await votes.pull(10, 5_000)
    await users.server.start()
    with anyio.fail_after(10):
        await votes.connected()
        await chain.connected()
    await chain.append([imported], 1)
    await votes.seek(2)
    assert [d.message.sequence for d in await votes.pull(10, 2_000)] == [2]


async def test_requests_name_the_account_that_asks_and_discovery_finds_every_service(users: Users) -> None:
    async def who(request: Request) -> Response:
        return Response(request.account.encode(), {}, ("404", "nothing") if request.body else None)

    for name, query in (("votes_db", "query_votes"), ("chain_api", "get_header")):
        exchange = NatsExchange(await users.connection(name))
        await exchange.serve(name, name, [(EndpointSpec(query, f"overseer.{NODE}.{name}.qry.{query}"), who)])
        users.closing.push_async_callback(exchange.close)
    operator = await users.connection("operator")
    asking = NatsExchange(operator)
    subject = f"overseer.{NODE}.votes_db.qry.query_votes"
    answer = await asking.request(subject, b"", {"Content-Type": "application/json"}, 2_000)
    assert answer.body.decode() == account_name(NODE, "operator")
    assert (await asking.request(subject, b"x", {}, 2_000)).error == ("404", "nothing")
    inbox, found, both = operator.new_inbox(), set[str](), anyio.Event()

    def take(_subject: bytes, _reply: bytes, _headers: bytes, body: bytes) -> None:
        found.add(json.loads(body)["name"])
        if len(found) == 2:
            both.set()

    await operator.listen(inbox, take)
    await operator.publish("$SRV.PING", b"", reply=inbox)
    with anyio.fail_after(5):
        await both.wait()


async def test_nobody_gets_into_anothers_place(users: Users) -> None:
    connection = await users.connection("votes_db")
    stream = node_stream(NODE)
    forger = NatsLine(connection, stream=stream, sender="chain_api", own_filter=own_filter(NODE, "chain_api"), durable="chain_api")
    imported = Outgoing(f"overseer.{NODE}.chain_api.evt.block_imported", {}, b"x")
    for messages in ([imported], [imported] * 3):
        with pytest.raises(BusDenied):
            await forger.append(messages, 0)
    for attempt in (forger.seek(1), NatsExchange(connection).publish(imported)):
        with pytest.raises(BusDenied):
            await attempt
    # Reading is free.
    assert await forger.last_own() is None
