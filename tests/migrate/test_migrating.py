"""Stores of an older release: what they need is told, done, and never half done; those of a newer one are refused."""

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from messages.ballots import BallotElection, BallotPhase, CastBallot, GetBallotElection
from messages.codec import decode_value, encode_value
from overseer.history.stored import StoredNode
from overseer.node.hosting import store_identity, table_names
from overseer.ports.store import StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.runner import journal
from overseer.runner.schema import HEAD
from overseer.tables import WriteSet
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.subsystem import Elections
from tests.node.nodes import ROOT, Node, Place, answered

pytestmark = [pytest.mark.real, pytest.mark.anyio]

# The elections' store of a node, as the code of commit 59dd1e7^ wrote it: 155 records, two elections, 140 ballots.
RECORDED = ROOT / "tests" / "recorded" / "elections-evolve-1.tar.xz"
OLD_VERSION = 2556357114
VERSION = Elections(ElectionsConfig()).declaration.evolve_version


@pytest.fixture
def old(here: Place) -> Place:
    """A node's folder with that store alone."""
    (here.data / "stores").mkdir(parents=True)
    with tarfile.open(RECORDED) as archive:
        archive.extractall(here.data / "stores", filter="data")
    return here


def migrated(here: Place, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    done = here.run("migrate", *arguments, "--json")
    assert done.code == code, done
    return done.json


def evolve_version(here: Place) -> int:
    with StoredNode(here.data).reader("elections") as reader:
        head = journal.read_head(reader)
        assert head is not None
        return head.evolve_version


def content(here: Place) -> dict[str, bytes]:
    folder = here.data / "stores"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def asides(here: Place) -> list[Path]:
    return list((here.data / "stores").glob("elections.aside-*"))


def test_a_dry_run_tells_what_would_be_done_and_changes_nothing(old: Place) -> None:
    before = content(old)
    (told,) = migrated(old, "--dry-run")
    assert (told["store"], told["action"], told["done"], told["records"]) == ("elections", "rebuild", False, 155)
    assert (told["found"]["evolve"], told["wanted"]["evolve"]) == (OLD_VERSION, VERSION)
    assert (told["found"]["release"], told["wanted"]["release"]) == ("", "0.1.0")
    assert told["rows"] > 140
    assert content(old) == before
    people = old.run("migrate", "--dry-run").out
    assert "would be made anew" in people
    assert "155 records" in people


@pytest.mark.slow
async def test_a_store_of_the_previous_schema_is_migrated_and_goes_on(old: Place) -> None:
    before = content(old)
    (told_,) = migrated(old)
    assert (told_["action"], told_["done"]) == ("rebuild", True)
    assert evolve_version(old) == VERSION
    verdict = old.run("verify", "elections", "--json")
    assert verdict.code == 0, verdict
    assert verdict.json[0]["to_index"] == 155
    # The old one is beside it, as it was.
    (aside,) = asides(old)
    kept = {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file() and path.name != "OWNER"}
    assert {f"elections/{name}": data for name, data in kept.items()} == {n: d for n, d in before.items() if not n.endswith("OWNER")}
    (again,) = migrated(old)
    assert again["action"] == "nothing"
    async with Node.up(old) as node, node.client() as client:
        assert "are rebuilt" not in node.text()
        spring = await answered(client, GetBallotElection(election="spring"))
        assert isinstance(spring, BallotElection)
        assert (spring.phase, spring.rounds[-1].cast, spring.rounds[-1].valid) == (BallotPhase.CLOSED, 120, 30)
        # An outcome of then, asked again now.
        await client.request(CastBallot(election="spring", voter=b"voter 7", choice="Grace", at=7), command_id="spring 7")
        spring = await answered(client, GetBallotElection(election="spring"))
        assert isinstance(spring, BallotElection)
        assert spring.rounds[-1].cast == 120


def test_a_kill_at_any_step_leaves_the_old_store_or_the_new(old: Place) -> None:
    program = Path(__file__).with_name("migrate_program.py")
    seen: list[int] = []
    for step in range(1, 40):
        argv = [sys.executable, str(program), str(old.data), str(step)]
        done = subprocess.run(argv, env=old.environment, capture_output=True, text=True, check=False)
        seen.append(evolve_version(old))
        verdict = old.run("verify", "elections", "--json") if seen[-1] == VERSION else None
        assert verdict is None or verdict.code == 0, (step, verdict)
        if done.returncode == 0 or seen[-1] == VERSION:
            break
        assert done.returncode == -9, done
    assert len(seen) > 6, seen
    assert set(seen[:-1]) == {OLD_VERSION}
    assert seen[-1] == VERSION
    # What a killed one left goes with the next, and once more there is nothing to do.
    assert migrated(old)[0]["action"] == "nothing"
    assert not list((old.data / "stores").glob(".migrate-*"))


def test_rows_that_become_others_are_counted(old: Place) -> None:
    """As if `evolve` of then had made another row, not made one, and made one too many."""
    store = RocksStore.open(old.data / "stores" / "elections", tables=tables(), identity=StoreIdentity("node", "elections"))
    writes = WriteSet()
    ballots = [key for key, _ in store.scan("ballots", b"", None)]
    writes.put("ballots", ballots[0], b"\x00")
    writes.put("ballots", ballots[1], None)
    writes.put("ballots", ballots[-1] + b"\x00", b"\x00")
    commit(store, writes)
    (told_,) = migrated(old, "--dry-run")
    assert (told_["added"], told_["removed"], told_["changed"]) == (1, 1, 1)
    assert migrated(old)[0]["done"]
    assert old.run("verify", "elections").code == 0


def test_a_store_that_a_newer_release_wrote_is_refused_with_both_releases(old: Place) -> None:
    identity = StoreIdentity("node", "elections", schema=1, release="3.2.1")
    RocksStore.open(old.data / "stores" / "elections", tables=tables(), identity=identity).close()
    (told_,) = migrated(old, "--dry-run", code=1)
    assert told_["action"] == "cannot"
    for command in (["migrate"], ["migrate", "--dry-run"]):
        done = old.run(*command)
        assert done.code == 1, done
        assert "release 3.2.1 wrote it, this is release 0.1.0" in done.out
        assert "restore a backup" in done.out
    assert not asides(old)
    # And so it is by the node itself.
    done = old.run("run", timeout=60)
    assert done.code != 0
    assert "release 3.2.1 wrote it" in done.error


def test_a_journal_with_an_event_that_this_release_does_not_know_is_no_store_for_it(old: Place) -> None:
    store = RocksStore.open(old.data / "stores" / "elections", tables=tables(), identity=store_identity("node", "elections"))
    key, data = next(store.scan("journal", (20).to_bytes(8, "big"), None))
    record = decode_value(list[Any], data)
    record[6][0][1] = 99
    writes = WriteSet()
    writes.put("journal", key, encode_value(record))
    commit(store, writes)
    (told_,) = migrated(old, "--dry-run", code=1)
    assert told_["action"] == "cannot"
    assert "journal record 20" in told_["problem"]


def test_what_is_not_there_is_said(here: Place) -> None:
    done = here.run("migrate")
    assert done.code == 2, done
    assert "There are no stores" in done.error


def test_an_unknown_store_is_named(old: Place) -> None:
    done = old.run("migrate", "election")
    assert done.code == 2, done
    assert "Did you mean elections?" in done.error


def tables() -> list[str]:
    return table_names(Elections(ElectionsConfig()).declaration)


def commit(store: RocksStore, writes: WriteSet) -> None:
    anyio.run(store.commit, writes)
    assert HEAD.name in store.tables()
    store.close()
