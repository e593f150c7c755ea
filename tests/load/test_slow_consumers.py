"""Who is slow or stuck is named, with what to do; and who reads slowly harms nobody else."""

import json
import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import anyio
import pytest

from messages.votes_db import RegisterVote
from overseer.node.client import Client
from overseer.observe.http import fetch
from tests.load.gauges import MB, read
from tests.node.nodes import ROOT, Node, Place, ballots, eventually, told

pytestmark = [pytest.mark.anyio, pytest.mark.real]


def row_of(here: Place, name: str) -> dict[str, object]:
    return next(row for row in here.run("status", "--json").json["subsystems"] if row["name"] == name)


@pytest.mark.slow
async def test_a_subsystem_that_stands_still_is_named_as_slow_then_stuck_everywhere(here: Place) -> None:
    # Longer than it is looked at here: who hangs is restarted otherwise (tests/node/test_faults.py).
    here.settings |= {"supervise.stall_ms": 120_000}
    made = ballots(20, 4)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "first")
        os.kill(node.pid("votes_db"), signal.SIGSTOP)
        try:
            for number, bundle in enumerate(made.bundles):
                await client.inject(bundle, command_id=f"raw {number}")
            slow = await node.logged("falls_behind", child="votes_db")
            assert slow["what"].startswith("slow: 2"), slow
            stuck = await node.logged("falls_behind", times=2, child="votes_db")
            assert stuck["what"].startswith("stuck: 2"), stuck
            status = here.run("status")
            assert status.code == 1
            assert "votes_db is stuck: 2" in status.out.replace("\n", " ")
            row = row_of(here, "votes_db")
            assert row["consumer"] == "stuck"
            assert isinstance(row["oldest_ms"], int)
            assert row["oldest_ms"] >= 10_000
            assert row_of(here, "chain_api")["consumer"] == "level"
            ready = await fetch(node.info.http_port, "/readyz", timeout_ms=5_000)
            assert ready.status == 503
            assert json.loads(ready.body)["votes_db"]["lag"]["state"] == "stuck"
            # The overseer itself is fine.
            assert (await fetch(node.info.http_port, "/healthz", timeout_ms=5_000)).status == 200
            page = (await fetch(node.info.http_port, "/metrics", timeout_ms=10_000)).body.decode()
            assert 'overseer_consumer_state{node="node",state="stuck",subsystem="votes_db"} 1.0' in page, page
            assert 'overseer_consumer_state{node="node",state="level",subsystem="chain_api"} 1.0' in page
        finally:
            os.kill(node.pid("votes_db"), signal.SIGCONT)
        await node.logged("keeps_up_again", child="votes_db")
        await eventually(lambda: here.run("status").code == 0, "all is well again")
        assert node.events("child_failed") == []


def begun(here: Place) -> subprocess.Popen[bytes]:
    """The reader, as a process that can be stopped."""
    argv = [sys.executable, str(ROOT / "tests/load/slow_reader.py"), str(here.data)]
    return subprocess.Popen(argv, cwd=here.folder, env=here.environment, stdout=subprocess.PIPE)


@pytest.mark.slow
async def test_a_reader_that_reads_no_more_harms_nobody(here: Place) -> None:
    """The server holds back a bounded amount for it, then lets it go; commands and queries go on meanwhile."""
    made = ballots(40, 100)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        server = node.pid("nats-server")
        before = read(server).rss_bytes
        reader = begun(here)
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"ready\n"
            reader.send_signal(signal.SIGSTOP)
            largest, longest_s = 0, 0.0

            def let_go() -> int:
                with urlopen(f"{node.info.monitor_url}/varz", timeout=10) as page:
                    return json.load(page)["slow_consumers"]

            number = 0
            with anyio.fail_after(120):
                while not let_go():
                    # Much more than it is allowed to be behind, a part of it each time.
                    async with anyio.create_task_group() as tasks:
                        for _ in range(200):
                            number += 1
                            tasks.start_soon(inject, client, made.bundles[number % 40], number)
                    began = time.monotonic()
                    await told(client, made.bundles[number % 40], f"awaited {number}")
                    longest_s = max(longest_s, time.monotonic() - began)
                    largest = max(largest, read(server).rss_bytes)
            assert (largest - before) / MB < 300
            assert longest_s < 20
            assert node.events("child_failed") == []
        finally:
            reader.kill()
            reader.wait()
            assert reader.stdout is not None
            reader.stdout.close()


async def inject(client: Client, bundle: RegisterVote, number: int) -> None:
    await client.inject(bundle, command_id=f"raw {number}")
