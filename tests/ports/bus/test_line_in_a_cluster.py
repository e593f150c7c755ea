"""A line in a cluster, where its consumer is led by another server than the one it is connected to."""

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import msgspec
import pytest
from test_line_over_accounts import CHAIN, LIMITS, NODE, VOTES

from messages.subjects import node_stream, own_filter
from overseer.graph import filters, net_filters
from overseer.nats.accounts import NodeUsers, accounts_config, durable_name, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.keys import KeyFolder
from overseer.nats.line import NatsLine
from overseer.nats.provision import Provisioner, call
from overseer.nats.resources import node_consumers, node_streams
from overseer.ports.bus import Outgoing
from tests.cluster import Cluster, cluster_in

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

STREAM = node_stream(NODE)
DURABLE = durable_name(NODE, VOTES.name, STREAM)


class Users:
    """Whoever has a key; connections that end with the test."""

    def __init__(self, cluster: Cluster, keys: KeyFolder, closing: AsyncExitStack) -> None:
        self.cluster = cluster
        self.keys = keys
        self.closing = closing

    async def connection(self, user: str, *servers: str) -> Connection:
        urls = [f"nats://127.0.0.1:{self.cluster.ports[name]}" for name in servers] or self.cluster.urls
        seed = self.keys.path(user).read_text().strip()
        made = await connect(urls, name=user, inbox_prefix=inbox_prefix(user, NODE), nkey_seed=seed, connect_wait_ms=30_000)
        self.closing.push_async_callback(made.close)
        return made

    async def line(self, subsystem: str, server: str) -> NatsLine:
        connection = await self.connection(subsystem, server)
        durable = durable_name(NODE, subsystem, STREAM)
        return NatsLine(connection, stream=STREAM, sender=subsystem, own_filter=own_filter(NODE, subsystem), durable=durable)


async def others(manage: Connection) -> list[str]:
    """The servers that do not lead the consumer, once it is led."""
    with anyio.fail_after(30):
        while True:
            cluster = (await call(manage, f"CONSUMER.INFO.{STREAM}.{DURABLE}"))["cluster"]
            if cluster.get("leader"):
                return [replica["name"] for replica in cluster["replicas"]]
            await anyio.sleep(0.05)


async def waiting(manage: Connection, count: int) -> None:
    with anyio.fail_after(30):
        while (await call(manage, f"CONSUMER.INFO.{STREAM}.{DURABLE}"))["num_waiting"] != count:
            await anyio.sleep(0.02)


async def test_requests_of_one_that_went_swallow_nothing_of_the_next_ones_where_another_server_leads(tmp_path: Path) -> None:
    declarations = (VOTES, CHAIN)
    keys = KeyFolder(tmp_path / "keys")
    node = NodeUsers(node=NODE, declarations=declarations, keys=keys.ensure(user_names(declarations)))
    limits = msgspec.structs.replace(LIMITS, replicas=3)
    async with cluster_in(tmp_path, accounts_config([node])) as cluster, AsyncExitStack() as closing:
        users = Users(cluster, keys, closing)
        manage = await users.connection("provisioner")
        await Provisioner(manage, node_streams(NODE, limits), node_consumers(NODE, declarations, filters, net_filters)).apply()
        server = (await others(manage))[0]
        imported = [Outgoing(f"overseer.{NODE}.chain_api.evt.block_imported", {}, b"%d" % n) for n in range(3)]
        await (await users.line("chain_api", server)).append(imported, 0)
        first = await users.line("votes_db", server)
        await first.seek(4)
        assert await first.pull(8, 100) == []
        await waiting(manage, 1)
        # Gone without a word of it to the consumer, as a process that was killed.
        await first.unpull()
        for _ in range(2):
            second = await users.line("votes_db", server)
            await second.seek(1)
            with anyio.fail_after(5):
                taken = await second.pull(8, 4_000)
            assert [(d.consumer_sequence, d.message.body) for d in taken] == [(1, b"0"), (2, b"1"), (3, b"2")]
            await second.unpull()
