"""The log on three servers, each entry on all of them: its leader is killed, and nothing that was acknowledged is lost."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from overseer.nats.connection import Connection, connect
from overseer.nats.election_log import NatsElectionLog
from overseer.nats.provision import Provisioner, call
from overseer.nats.resources import log_consumers, log_streams
from overseer.nats.sites import log_stream
from overseer.nats.topology_board import NatsTopologyBoard
from overseer.ports.bus import BusUnavailable, OutcomeUnknown, WrongLastSequence
from overseer.ports.sites import Logged, StreamReplaced
from tests.cluster import Cluster, cluster_in, leader
from tests.ports.sites.sites_worlds import LIMITS, NODE, Following, append_numbered

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path) as made:
        yield made


async def provisioned(connection: Connection) -> None:
    limits = msgspec.structs.replace(LIMITS, replicas=3)
    doer = Provisioner(connection, log_streams(NODE, limits), log_consumers(NODE, ("a", "b")))
    await doer.apply()
    assert await doer.plan() == []


async def write(log: NatsElectionLog, election: str, total: int) -> None:
    """As a writer does: after an unknown outcome it looks at the last entry."""
    while True:
        try:
            stream, last = await log.last(election)
            number = int(last.body) if last is not None else 0
            expected = last.sequence if last is not None else 0
            while number < total:
                expected = await log.append(election, b"%d" % (number + 1), stream=stream, expected=expected)
                number += 1
            return
        except (BusUnavailable, OutcomeUnknown, WrongLastSequence):
            await anyio.sleep(0.02)


@pytest.mark.timeout(120)
async def test_the_leader_is_killed_and_every_acknowledged_entry_is_there_once_and_in_order(cluster: Cluster) -> None:
    async with await connect(cluster.urls, name="test", inbox_prefix="_INBOX_test", connect_wait_ms=20_000) as connection:
        await provisioned(connection)
        log = NatsElectionLog(connection, node=NODE, site="a", request_timeout_ms=1_000)
        await append_numbered(log, "warm", 1)
        stream, _ = await log.last("x")
        following = Following()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(following.run, NatsElectionLog(connection, node=NODE, site="b").follow(after=0, stream=stream))
            async with anyio.create_task_group() as writing:
                for election in ("x", "y", "z"):
                    writing.start_soon(write, log, election, 300)
                for at in (150, 450):
                    await following.until(lambda at=at: len(following.entries) >= at, 60)
                    killed = await leader(connection, log_stream(NODE))
                    cluster.kill(killed)
                    await following.until(lambda at=at: len(following.entries) >= at + 150, 60)
                    cluster.start(killed)
            await following.until(lambda: len(following.entries) >= 901, 60)
            await following.until(lambda: not following.pages[-1].entries)
            tasks.cancel_scope.cancel()
        for election in ("x", "y", "z"):
            assert [int(e.body) for e in following.entries if e.election == election] == list(range(1, 301))
            page = await log.read(election, after=0, entries=500)
            assert page.entries == tuple(e for e in following.entries if e.election == election)
        sequences = [entry.sequence for entry in following.entries]
        assert sequences == sorted(set(sequences))
        assert {page.stream for page in following.pages} == {stream}


async def test_a_replicated_stream_that_was_replaced_is_told_apart_as_well(cluster: Cluster) -> None:
    async with await connect(cluster.urls, name="test", inbox_prefix="_INBOX_test", connect_wait_ms=20_000) as connection:
        await provisioned(connection)
        log, board = NatsElectionLog(connection, node=NODE, site="a"), NatsTopologyBoard(connection, node=NODE)
        await append_numbered(log, "x", 2)
        old, last = await log.last("x")
        with pytest.raises(WrongLastSequence):
            await log.append("x", b"stale", stream=old, expected=1)
        await call(connection, f"STREAM.DELETE.{log_stream(NODE)}")
        await provisioned(connection)
        await append_numbered(log, "x", 2)
        assert last is not None
        with pytest.raises(StreamReplaced) as refused:
            await log.append("x", b"forked", stream=old, expected=last.sequence)
        assert await log.last("x") == (refused.value.stream, Logged(2, "x", b"x 2"))
        await board.renew("a")
        assert await board.alive() == {"a"}
