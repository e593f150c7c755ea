"""Two copies of one subsystem at once: the second one is named and ends; nothing is told twice."""

import shutil
from pathlib import Path

import anyio
import pytest

from overseer.supervise.policy import EXIT_FATAL
from tests.node.nodes import Node, Place, ballots, copied, history, said_once, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.mark.slow
async def test_a_second_copy_on_the_same_store_is_refused_by_name_and_the_first_goes_on(here: Place) -> None:
    made = ballots(2, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "bundle 0")
        pid = node.pid("votes_db")
        # In a thread: the client's connection must live on.
        second = await anyio.to_thread.run_sync(lambda: here.run("subsystem", "votes_db", env={"OVERSEER_NATS_URL": node.info.url}))
        assert second.code == EXIT_FATAL, second
        assert "StoreLocked" in second.error
        assert str(here.data / "stores" / "votes_db") in second.error
        assert "Traceback" not in second.error
        await told(client, made.bundles[1], "bundle 1")
        for bundle in made.bundles:
            assert len((await votes_of(client, bundle)).votes) == 10
        assert node.pid("votes_db") == pid, "the first one was disturbed"
        said_once(await history(client))
        assert await node.stop() == 0
    verified(here)


@pytest.mark.full
async def test_a_second_copy_on_a_copied_store_is_found_out_one_ends_by_name_and_nothing_is_told_twice(here: Place, tmp_path: Path) -> None:
    """The store cannot be locked twice, but it can be copied: the stream tells, by what is last under their common name."""
    made = ballots(12, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "bundle 0")
        assert await node.stop() == 0
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "stores").mkdir(parents=True)
    copied(here.data / "stores" / "votes_db", elsewhere / "stores" / "votes_db")
    # The node gives up, by name, if it is its own copy that finds the other one out.
    node = Node.start(here)
    try:
        await node.ready()
        env = {"OVERSEER_NATS_URL": node.info.url, "OVERSEER_DATA_DIR": str(elsewhere), "OVERSEER_NATS_KEYS_DIR": str(here.data / "keys")}
        log = here.folder / "second.log"
        with log.open("wb") as file:
            second = here.start("subsystem", "votes_db", env=env, stderr=file)
        try:
            async with node.client() as client:
                with anyio.move_on_after(30):
                    for number, bundle in enumerate(made.bundles[1:], start=1):
                        if second.poll() is not None or node.process.poll() is not None:
                            break
                        await client.inject(bundle, command_id=f"bundle {number}")
                        await anyio.sleep(0.05)
                    while second.poll() is None and node.process.poll() is None:
                        await anyio.sleep(0.02)
        finally:
            second.kill()
            second.wait()
        told_by = [text for text in (log.read_text(), node.text()) if "SecondCopy" in text and "another copy is running" in text]
        assert told_by, (log.read_text()[-2000:], node.text()[-2000:])
        assert all("Traceback" not in text for text in told_by)
    finally:
        await node.stop()
    shutil.rmtree(elsewhere)
    # Alone again, it goes on from what is in the stream.
    async with Node.up(here) as node, node.client() as client:
        for number, bundle in enumerate(made.bundles):
            await told(client, bundle, f"bundle {number}")
            assert len((await votes_of(client, bundle)).votes) == 10
        said_once(await history(client))
        assert await node.stop() == 0
    verified(here)
