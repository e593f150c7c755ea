"""Provisioning a cluster that is just coming up: it is waited for, and everything is on all servers then."""

from pathlib import Path

import anyio
import pytest

from overseer.nats.connection import connect
from overseer.nats.provision import ApiError, Provisioner, call
from overseer.nats.resources import BusLimits, log_consumers, log_streams, node_streams
from overseer.ports.bus import BusUnavailable
from tests.cluster import NAMES, Cluster

pytestmark = [pytest.mark.real, pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

LIMITS = BusLimits(node_bytes_max=32 * 1024**2, net_bytes_max=8 * 1024**2, pov_bytes_max=8 * 1024**2, log_bytes_max=8 * 1024**2, replicas=3)


async def test_a_cluster_is_waited_for_until_it_has_a_leader_and_servers_for_all_copies(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    first, *others = NAMES
    try:
        cluster.start(first)
        async with await connect(cluster.urls, name="test", inbox_prefix="_INBOX_test", connect_wait_ms=20_000) as connection:
            streams = [*node_streams("alpha", LIMITS), *log_streams("alpha", LIMITS)]
            doer = Provisioner(connection, streams, log_consumers("alpha", ("a", "b")))
            done: list[str] = []

            async def provision() -> None:
                done.extend(str(change) for change in await doer.apply())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(provision)
                with pytest.raises((ApiError, BusUnavailable)) as refused:
                    await call(connection, "INFO")
                assert not isinstance(refused.value, ApiError) or refused.value.unsettled
                for name in others:
                    assert done == []
                    cluster.start(name)
            assert [line.partition(" ")[0] for line in done] == ["create"] * (len(streams) + 2)
            assert await doer.plan() == []
            await doer.verify()
            for stream in streams:
                found = (await call(connection, f"STREAM.INFO.{stream.name}"))["cluster"]
                assert {found["leader"], *(other["name"] for other in found["replicas"])} == set(NAMES)
    finally:
        for name in list(cluster.processes):
            cluster.kill(name)
