"""`overseer repair`: a damaged store is named, and comes back from a copy, from its checkpoint, or from its journal and the stream."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from overseer.node.catalogue import build_subsystem
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.ports.store import StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.runner.schema import JOURNAL
from overseer.tables import WriteSet
from tests.crash.damage import SETTINGS, Sample
from tests.crash.damage_checks import paid
from tests.node.nodes import Node, Place, copied, history, place, said_once, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]

NAME = "votes_db"


@pytest.fixture
def here(sample: Sample, tmp_path: Path) -> Iterator[Place]:
    """A copy of it."""
    with place(tmp_path, **SETTINGS) as made:
        shutil.copytree(sample.folder, made.data)
        yield made


def store_of(here: Place, name: str = NAME) -> Path:
    return here.data / "stores" / name


def rotten_tables(here: Place) -> None:
    """A bit flips in every table file: in the middle, where rows are."""
    for file in store_of(here).glob("*.sst"):
        data = bytearray(file.read_bytes())
        data[len(data) // 4] ^= 0x10
        file.unlink()
        file.write_bytes(data)


async def refused(here: Place, *texts: str, how: tuple[str, ...] = ()) -> None:
    """The node does not start, and says why and what to do."""
    done = here.run("run", *how)
    assert done.code in (1, 2), done
    for text in texts:
        assert text in done.error, done.error
    assert "Traceback" not in done.error


async def trimmed(here: Place) -> None:
    """The node runs until its stream no longer begins at 1."""
    here.settings |= {"nats.history_messages": 0, "nats.trim_ms": 50}
    async with Node.up(here, "--in-process") as node:
        await node.logged("trimmed")


async def whole(here: Place, sample: Sample) -> None:
    """The node goes on with everything there, once; its stores are as their journals say."""
    async with Node.up(here, "--in-process") as node, node.client() as client:
        for bundle in sample.made.bundles:
            assert len((await votes_of(client, bundle)).votes) == len(bundle.explicit_votes)
        assert await paid(client, sample.made.votes) == sample.made.votes
        await told(client, sample.made.bundles[0], "once more")
        assert await paid(client, sample.made.votes) == sample.made.votes
        said_once(await history(client))
        assert await node.stop() == 0
    verified(here)


async def test_a_damaged_store_is_given_up_at_once_in_one_process_as_in_several(here: Place) -> None:
    rotten_tables(here)
    await refused(here, "StoreCorrupted", "overseer repair votes_db --replay", "failed once", how=("--in-process",))


# ------------------------------------------------------------------------------------------------ by replay


@pytest.mark.slow
async def test_a_store_with_rotten_tables_is_refused_by_name_and_rebuilt_by_replay(here: Place, sample: Sample) -> None:
    rotten_tables(here)
    await refused(here, "StoreCorrupted", "overseer repair votes_db --replay")
    tried = here.run("repair", NAME, "--replay", "--dry-run", "--json")
    assert tried.code == 0, tried
    assert tried.json["dry_run"] is True
    assert tried.json["aside"] == ""
    await refused(here, "StoreCorrupted")
    done = here.run("repair", NAME, "--replay", "--json")
    assert done.code == 0, done
    assert done.json["method"] == "replay"
    assert done.json["damage"]
    assert (Path(done.json["aside"]) / "CURRENT").exists()
    await whole(here, sample)
    noted = here.run("journal", NAME, "--event", "repair_noted", "--json")
    assert done.json["last"] == 0 or "rebuilt by repair" in noted.out, noted.out


@pytest.mark.slow
async def test_a_flipped_bit_in_the_log_loses_only_what_is_behind_it_and_the_stream_has_that(here: Place, sample: Sample) -> None:
    log = max(store_of(here).glob("*.log"), key=lambda path: path.stat().st_size)
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0x10
    log.write_bytes(data)
    await refused(here, "StoreCorrupted", "overseer repair votes_db")
    done = here.run("repair", NAME, "--replay", "--json")
    assert done.code == 0, done
    assert done.json["source"] == "the store up to the damage in its log"
    assert done.json["last"] > int(sorted(path.name for path in (store_of(here) / "checkpoints").iterdir())[-1])
    assert any("journal records" in text for text in done.json["rebuilt"])
    await whole(here, sample)


async def record_changed(here: Place, index: int) -> None:
    """A record of the journal is another one, as no damage of a file could make it."""
    subsystem = build_subsystem(NAME, here.loaded())
    store = open_store(NodeFolder(here.data), "node", subsystem.declaration)
    try:
        data = store.get(JOURNAL.name, JOURNAL.pack((index,)))
        assert data is not None
        writes = WriteSet()
        writes.put(JOURNAL.name, JOURNAL.pack((index,)), data[:-1] + bytes([data[-1] ^ 1]))
        await store.commit(writes)
    finally:
        store.close()


@pytest.mark.slow
async def test_a_changed_record_in_the_middle_of_the_journal_is_named_and_cut_off(here: Place, sample: Sample) -> None:
    last = here.run("journal", NAME, "--limit", "1", "--json")
    index = int(last.json["index"]) - 4
    await record_changed(here, index)
    found = here.run("verify", NAME, "--json")
    assert found.code == 1
    assert f"journal record {index + 1}" in found.out or f"journal record {index}" in found.out
    done = here.run("repair", NAME, "--replay", "--json")
    assert done.code == 0, done
    assert done.json["last"] == index - 1
    await whole(here, sample)


@pytest.mark.slow
async def test_a_store_without_a_fault_is_left_alone(here: Place) -> None:
    before = sorted(path.name for path in store_of(here).iterdir())
    done = here.run("repair", NAME, "--replay", "--json")
    assert done.code == 0, done
    assert done.json["method"] == "nothing"
    assert done.json["aside"] == ""
    assert sorted(path.name for path in store_of(here).iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["trimmed", "gone"])
async def test_a_store_without_a_fault_loses_nothing_whatever_the_stream_holds(here: Place, stream: str) -> None:
    if stream == "trimmed":
        await trimmed(here)
    else:
        shutil.rmtree(here.data / "nats")
    for how in ((), ("--accept-loss",)):
        done = here.run("repair", NAME, "--replay", "--json", *how)
        assert done.code == 0, done
        assert (done.json["method"], done.json["lost"], done.json["aside"]) == ("nothing", [], "")


@pytest.mark.slow
async def test_a_store_of_which_nothing_is_left_begins_anew_from_the_stream(here: Place, sample: Sample) -> None:
    for file in [*store_of(here).rglob("*.sst"), *store_of(here).rglob("*.log")]:
        os.truncate(file, 0)
    await refused(here, "StoreCorrupted")
    done = here.run("repair", NAME, "--replay", "--json")
    assert done.code == 0, done
    assert "nothing of it is intact" in " ".join(done.json["lost"])
    await whole(here, sample)


@pytest.mark.slow
async def test_what_the_stream_no_longer_holds_is_not_given_up_unless_told_so(here: Place) -> None:
    await trimmed(here)
    rotten_tables(here)
    for file in store_of(here).glob("*.log"):
        os.truncate(file, 0)
    shutil.rmtree(store_of(here) / "checkpoints")
    done = here.run("repair", NAME, "--replay")
    assert done.code == 2, done
    assert "This would lose" in done.error
    assert "--accept-loss" in done.error
    assert not list((here.data / "stores").glob("*.aside-*"))
    done = here.run("repair", NAME, "--replay", "--accept-loss", "--json")
    assert done.code == 0, done
    assert "the stream begins at" in " ".join(done.json["lost"])


# ------------------------------------------------------------------------------------------------ from a copy


@pytest.mark.slow
@pytest.mark.parametrize("of", ["the store", "the node"])
async def test_a_copy_is_verified_and_put_in_the_place_of_the_damaged_store(here: Place, sample: Sample, tmp_path: Path, of: str) -> None:
    copied(here.data if of == "the node" else store_of(here), tmp_path / "copy")
    rotten_tables(here)
    done = here.run("repair", NAME, "--from", str(tmp_path / "copy"), "--json")
    assert done.code == 0, done
    assert done.json["method"] == "copy"
    await whole(here, sample)


@pytest.mark.slow
async def test_a_checkpoint_is_restored_and_the_stream_gives_the_rest(here: Place, sample: Sample) -> None:
    checkpoint = sorted((store_of(here) / "checkpoints").iterdir())[-1]
    rotten_tables(here)
    # Tables are shared with the store by links: those of the checkpoint were left.
    done = here.run("repair", NAME, "--from", str(checkpoint), "--json")
    assert done.code == 0, done
    assert done.json["last"] == int(checkpoint.name)
    assert done.json["position"] < done.json["stream"]["last"]
    await whole(here, sample)


@pytest.mark.slow
async def test_a_damaged_copy_and_one_of_another_store_are_refused(here: Place, tmp_path: Path) -> None:
    copied(store_of(here), tmp_path / "damaged")
    for file in (tmp_path / "damaged").glob("*.sst"):
        os.truncate(file, file.stat().st_size // 2)
    RocksStore.open(tmp_path / "other", tables=["a"], identity=StoreIdentity("elsewhere", NAME)).close()
    RocksStore.open(tmp_path / "newer", tables=["a"], identity=StoreIdentity("node", NAME, 99)).close()
    for name, text in (
        ("damaged", "is damaged"),
        ("other", "the store of votes_db on node elsewhere"),
        ("newer", "its schema is 99"),
        ("none", "there is no store"),
    ):
        done = here.run("repair", NAME, "--from", str(tmp_path / name))
        assert done.code == 2, done
        assert text in done.error
        assert "Traceback" not in done.error
    done = here.run("repair", NAME, "--from", str(store_of(here, "chain_api")))
    assert "the store of chain_api on node node" in done.error
    assert not list((here.data / "stores").glob("*.aside-*"))


# ------------------------------------------------------------------------------------------------ the stream, mistakes


@pytest.mark.slow
async def test_streams_that_cannot_be_read_are_named_and_made_anew_from_the_stores(here: Place, sample: Sample) -> None:
    os.truncate(next((here.data / "nats").rglob("streams/OVERSEER_node/meta.inf")), 10)
    await refused(here, "OVERSEER_node", "overseer repair nats")
    done = here.run("repair", "nats", "--json")
    assert done.code == 0, done
    assert Path(done.json["aside"]).is_dir()
    await whole(here, sample)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("votes_db",), "Say how"),
        (("votes_db", "--replay", "--from", "x"), "Say how"),
        (("votes", "--replay"), "Did you mean votes_db"),
    ],
)
async def test_a_repair_that_is_not_understood_says_what_is(here: Place, argv: tuple[str, ...], text: str) -> None:
    done = here.run("repair", *argv)
    assert done.code == 2
    assert text in done.error


@pytest.mark.slow
async def test_a_running_node_is_not_repaired(here: Place) -> None:
    async with Node.up(here, "--in-process"):
        done = here.run("repair", NAME, "--replay")
        assert done.code == 2
        assert "another node is running" in done.error
