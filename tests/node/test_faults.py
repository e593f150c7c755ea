"""What breaks is mended and said, or named: stalls, rot, stores and streams that are gone or old, a stream at its limit."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from messages.chain_api import PendingTransactions, TransactionPool
from overseer.node.catalogue import build_subsystem
from overseer.node.client import Client
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.tables import WriteSet
from tests.node.nodes import (
    SUBSYSTEMS,
    Ballots,
    Node,
    Place,
    answered,
    ballots,
    copied,
    eventually,
    history,
    said_once,
    told,
    verified,
    votes_of,
)

pytestmark = [pytest.mark.anyio, pytest.mark.real]

QUICK = {"supervise.backoff_first_ms": 20, "supervise.backoff_max_ms": 50}


async def some_votes(node: Node, made: Ballots, first: int = 0, end: int | None = None) -> None:
    async with node.client() as client:
        await told(client, made.opening, "opening")
        for i, bundle in list(enumerate(made.bundles))[first:end]:
            await told(client, bundle, f"bundle {i}")
        await settled(client, made.votes if end is None else sum(len(b.explicit_votes) for b in made.bundles[:end]))


async def settled(client: Client, transactions: int) -> None:
    """Every vote is paid, once."""
    with anyio.fail_after(30):
        while True:
            pool = await answered(client, PendingTransactions(limit=1))
            assert isinstance(pool, TransactionPool)
            assert pool.total <= transactions, "paid twice"
            if pool.total == transactions:
                return
            await anyio.sleep(0.02)


async def everything(client: Client, made: Ballots) -> None:
    for bundle in made.bundles:
        assert len((await votes_of(client, bundle)).votes) == len(bundle.explicit_votes)
    await settled(client, made.votes)
    said_once(await history(client))


# ------------------------------------------------------------------------------------------------ processes


@pytest.mark.slow
async def test_a_stopped_subsystem_is_noticed_named_killed_and_restarted(here: Place) -> None:
    here.settings |= {**QUICK, "supervise.stall_ms": 1_500}
    async with Node.up(here) as node:
        os.kill(node.pid("votes_db"), signal.SIGSTOP)
        stalled = await node.logged("child_stalled", child="votes_db")
        assert "no heartbeat" in stalled["cause"]
        await node.logged("child_started", times=2, child="votes_db")
        await eventually(lambda: here.run("status").code == 0, "it is ready again")
        row = next(row for row in here.run("status", "--json").json["subsystems"] if row["name"] == "votes_db")
        assert row["restarts"] == 1
        assert "no heartbeat" in row["last_failure"]
        assert await node.stop() == 0


def rotten(here: Place) -> None:
    """A bit flips in each table file of a subsystem's store."""
    for file in (here.data / "stores" / "votes_db").glob("*.sst"):
        data = bytearray(file.read_bytes())
        data[len(data) // 4] ^= 0x10
        file.write_bytes(data)


@pytest.mark.slow
async def test_a_store_that_rots_is_named_and_the_node_ends_with_an_error(here: Place) -> None:
    here.settings |= QUICK
    made = ballots(2, 10)
    async with Node.up(here) as node:
        await some_votes(node, made)
    rotten(here)
    node = Node.start(here)
    try:
        code = await node.ended()
    finally:
        node.kill()
    last = node.text().strip().splitlines()
    assert code == 1, node.text()
    assert any("votes_db failed once and was given up" in line for line in last)
    assert "StoreCorrupted" in node.text()
    assert "Traceback" not in node.text()


@pytest.mark.slow
async def test_a_subsystem_that_cannot_start_is_given_up_naming_the_first_failure(here: Place) -> None:
    here.settings |= {**QUICK, "supervise.restarts_max": 2}
    async with Node.up(here):
        pass
    # The key is there, but of another user than the server knows.
    key = here.data / "keys" / "votes_db.nk"
    key.write_text("nonsense\n")
    key.chmod(0o600)
    done = here.run("run")
    assert done.code == 2, done
    assert "not an nkey seed" in done.error
    assert "Traceback" not in done.error


# ------------------------------------------------------------------------------------------------ what is gone


@pytest.mark.slow
async def test_a_deleted_store_is_rebuilt_from_the_stream_and_nothing_doubles(here: Place) -> None:
    made = ballots(6, 10)
    async with Node.up(here) as node:
        await some_votes(node, made, end=4)
    shutil.rmtree(here.data / "stores" / "votes_db")
    async with Node.up(here) as node, node.client() as client:
        await some_votes(node, made, first=4)
        await everything(client, made)
        # Who it is now was announced, with who it was.
        announced = [m for m in await history(client) if m.subject == "overseer.node.votes_db.evt.incarnation_started"]
        assert len(announced) == 2
    verified(here)


@pytest.mark.slow
async def test_a_deleted_stream_is_repaired_from_the_stores_and_it_is_said(here: Place) -> None:
    made = ballots(6, 10)
    async with Node.up(here) as node:
        await some_votes(node, made, end=4)
    shutil.rmtree(here.data / "nats" / "jetstream")
    async with Node.up(here) as node, node.client() as client:
        await some_votes(node, made, first=4)
        await everything(client, made)
        assert "was replaced" in node.text()
    repairs = here.run("journal", "votes_db", "--event", "repair_noted", "--json")
    assert "was replaced" in repairs.out, repairs
    verified(here)


@pytest.mark.slow
async def test_an_older_copy_of_the_stream_gets_its_tail_back(here: Place, tmp_path: Path) -> None:
    made = ballots(8, 10)
    async with Node.up(here) as node:
        await some_votes(node, made, end=3)
    copied(here.data / "nats", tmp_path / "older")
    async with Node.up(here) as node:
        await some_votes(node, made, first=3, end=6)
    copied(tmp_path / "older", here.data / "nats")
    async with Node.up(here) as node, node.client() as client:
        await some_votes(node, made, first=6)
        await everything(client, made)
        assert "lost its tail" in node.text()
    verified(here)


@pytest.mark.slow
async def test_an_older_copy_of_a_store_goes_on_as_a_new_incarnation(here: Place, tmp_path: Path) -> None:
    made = ballots(8, 10)
    async with Node.up(here) as node:
        await some_votes(node, made, end=3)
    copied(here.data / "stores" / "votes_db", tmp_path / "older")
    async with Node.up(here) as node:
        await some_votes(node, made, first=3, end=6)
    copied(tmp_path / "older", here.data / "stores" / "votes_db")
    async with Node.up(here) as node, node.client() as client:
        await some_votes(node, made, first=6)
        await everything(client, made)
        assert "new incarnation" in node.text()
    verified(here)


# ------------------------------------------------------------------------------------------------ the stream's limit


@pytest.mark.full
async def test_a_node_runs_through_many_times_its_streams_limit(here: Place) -> None:
    limit = 600
    here.settings |= {
        "feed.source": "dev",
        "feed.interval_ms": 1,
        "nats.stream_messages_max": limit,
        "nats.history_messages": 100,
        "nats.trim_ms": 100,
    }
    async with Node.up(here) as node, node.client() as client:
        with anyio.fail_after(60):
            while True:
                report = await node.report(client)
                assert report.stream.messages <= limit
                if report.stream.last > 6 * limit:
                    break
                await anyio.sleep(0.1)
        assert node.events("child_failed") == []
        assert [s.state for s in report.subsystems] == ["ready"] * len(SUBSYSTEMS)
        assert node.events("trimmed")
        assert await node.stop() == 0
    # Started again on what the trimming left, it goes on.
    async with Node.up(here) as node, node.client() as client:
        first = (await node.report(client)).stream.last
        with anyio.fail_after(30):
            while True:
                if (await node.report(client)).stream.last > first + limit:
                    break
                await anyio.sleep(0.1)
        assert "history" not in " ".join(str(e.get("what")) for e in node.events("trouble"))
    verified(here)


# ------------------------------------------------------------------------------------------------ verify


@pytest.fixture
async def stopped(here: Place) -> Place:
    """A node that has run and stopped."""
    made = ballots(2, 10)
    async with Node.up(here) as node:
        await some_votes(node, made)
    return here


async def changed(place: Place, table: str, change: Callable[[bytes], bytes]) -> bytes:
    """Change the first row of a table of votes_db, as no program of ours would; what it was."""
    subsystem = build_subsystem("votes_db", place.loaded())
    store = open_store(NodeFolder(place.data), "node", subsystem.declaration)
    try:
        key, value = next(iter(store.scan(table, b"", None)))
        writes = WriteSet()
        writes.put(table, key, change(value))
        await store.commit(writes)
        return value
    finally:
        store.close()


def flip(value: bytes) -> bytes:
    """Another last bit; a row without a value gets one."""
    return value[:-1] + bytes([value[-1] ^ 1]) if value else b"\1"


@pytest.mark.parametrize("table", ["journal", "outbox_node"])
@pytest.mark.slow
async def test_verify_finds_a_flipped_bit_of_the_runners_tables(stopped: Place, table: str) -> None:
    await changed(stopped, table, flip)
    done = stopped.run("verify", "votes_db", "--json")
    assert done.code == 1, done
    assert done.json[0]["ok"] is False
    assert done.json[0]["faults"]


@pytest.mark.slow
async def test_verify_finds_rot_in_the_largest_file(stopped: Place) -> None:
    files = (stopped.data / "stores" / "votes_db").glob("*.sst")
    largest = max(files, key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 3] ^= 0x10
    largest.write_bytes(data)
    done = stopped.run("verify", "votes_db", "--json")
    assert done.code == 1, done
    assert done.json[0]["ok"] is False
    assert "Traceback" not in done.error


@pytest.mark.slow
async def test_verify_finds_a_flipped_bit_of_any_table(stopped: Place) -> None:
    subsystem = build_subsystem("votes_db", stopped.loaded())
    store = open_store(NodeFolder(stopped.data), "node", subsystem.declaration)
    filled = [t.name for t in subsystem.declaration.tables if next(iter(store.scan(t.name, b"", None)), None) is not None]
    store.close()
    assert len(filled) >= 4
    for table in filled:
        before = await changed(stopped, table, flip)
        done = stopped.run("verify", "votes_db", "--json")
        assert done.code == 1, done
        faults = done.json[0]["faults"]
        assert faults
        assert all(f"table {table}:" in fault for fault in faults)
        await changed(stopped, table, lambda _, before=before: before)
    verified(stopped)
