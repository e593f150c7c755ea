"""What a backup refuses: damage by the file's name, folders that are not empty, other releases. And moving a node that stands still."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from messages.ballots import BallotElection, GetBallotElection
from overseer.backup.checking import check_backup
from overseer.backup.manifest import MANIFEST, SEAL, BackupRefused, Manifest, seal_text
from overseer.backup.restoring import restore_backup
from overseer.node.folder import NodeFolder
from overseer.sites.client import SitesClient
from tests.backup.backup_load import KEY, opening, outcome_text, vote
from tests.node.asking import outcome_of
from tests.node.nodes import Node, Place, place

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.anyio]

VOTERS = 12
SITES = tuple(f"dc{number}" for number in range(1, 6))


class Moved:
    """A node of five sites that ran under a name of its own, and stands still; its backup is `backup`."""

    def __init__(self, here: Place) -> None:
        self.here = here
        self.backup = here.folder / "b"
        self.outcomes: dict[int, str] = {}

    async def play(self) -> None:
        async with Node.up(self.here, "--sites", "5", "--node", "alpha") as node, node.client() as client:
            sites = SitesClient(client.connection, "alpha", SITES)
            await outcome_of(sites, opening(), "open")
            for number in range(VOTERS):
                outcome = await outcome_of(sites, vote(f"voter {number}"), f"cast {number}")
                self.outcomes[number] = outcome_text(outcome)
        done = self.here.run("backup", str(self.backup), "--json")
        assert done.code == 0, done
        assert done.json["running"] is False

    def copy(self, folder: Path) -> Path:
        """One to be damaged."""
        return Path(shutil.copytree(self.backup, folder / "damaged"))


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    with place(tmp_path_factory.mktemp("home")) as here:
        made = Moved(here)
        anyio.run(made.play)
        yield made


async def test_a_node_of_several_sites_goes_on_elsewhere_with_what_it_was_told(moved: Moved, tmp_path: Path) -> None:
    manifest = msgspec.json.decode((moved.backup / MANIFEST).read_bytes(), type=Manifest)
    assert [store.name for store in manifest.stores if store.name.startswith("elections")] == [f"elections_{site}" for site in SITES]
    assert {"OVERSEER_alpha", "OVERSEER_LOG_alpha", "KV_overseer_alpha_topology", "OVERSEER_NET"} <= {s.name for s in manifest.streams}
    with place(tmp_path) as there:
        done = there.run("restore", str(moved.backup))
        assert done.code == 0, done
        assert not NodeFolder(there.data).restoring.exists()
        # Its name and its sites are in its settings: nothing else is given.
        async with Node.up(there, "--config", str(there.data / "settings.toml")) as node, node.client() as client:
            sites = SitesClient(client.connection, "alpha", SITES)
            for number, outcome in moved.outcomes.items():
                again = await outcome_of(sites, vote(f"voter {number}"), f"cast {number}")
                assert outcome_text(again) == outcome
            await outcome_of(sites, vote("somebody new"), "cast new")
            answer = await sites.query(GetBallotElection(election=KEY))
            assert isinstance(answer, BallotElection)
            assert answer.rounds[-1].cast == VOTERS + 1
        done = there.run("verify", "--json")
        assert done.code == 0, done


def test_a_whole_backup_is_said_to_be_whole(moved: Moved) -> None:
    done = moved.here.run("backup", "--check", str(moved.backup))
    assert done.code == 0, done
    assert "whole" in done.out
    assert "differs" not in done.out


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("stores/chain_api/*.sst", flipped),
        ("stores/*/MANIFEST-*", cut),
        ("stores/elections_dc3/*.sst", flipped),
        ("streams/OVERSEER_alpha/stream.tar.s2", flipped),
        ("streams/OVERSEER_LOG_alpha/backup.json", Path.unlink),
        ("keys/votes_db.nk", cut),
        ("keys/identity/*", flipped),
    ],
)
async def test_a_damaged_file_is_named_and_nothing_is_restored(
    moved: Moved, tmp_path: Path, pattern: str, damage: Callable[[Path], object]
) -> None:
    backup = moved.copy(tmp_path)
    file = next(path for path in sorted(backup.glob(pattern)) if path.stat().st_size)
    damage(file)
    name = str(file.relative_to(backup))
    report = await check_backup(backup)
    assert not report.ok
    assert [name in text for text in report.damaged] == [True]
    with pytest.raises(BackupRefused, match=name):
        await restore_backup(backup, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["node.lock"]


def test_damage_is_told_by_the_commands(moved: Moved, tmp_path: Path) -> None:
    backup = moved.copy(tmp_path)
    flipped(backup / "keys" / "reader.nk")
    (backup / "stray").touch()
    checked = moved.here.run("backup", "--check", str(backup))
    assert checked.code == 1, checked
    assert "damaged: keys/reader.nk is damaged" in checked.out
    assert "stray does not belong to the backup" in checked.out
    done = moved.here.run("restore", str(backup), "--data-dir", str(tmp_path / "new"))
    assert done.code == 2, done
    assert "keys/reader.nk is damaged" in done.error


@pytest.mark.parametrize("name", [SEAL, MANIFEST])
async def test_a_backup_whose_own_description_is_damaged_is_refused(moved: Moved, tmp_path: Path, name: str) -> None:
    backup = moved.copy(tmp_path)
    cut(backup / name)
    with pytest.raises(BackupRefused, match=f"{name} is damaged"):
        await restore_backup(backup, tmp_path / "new")


async def test_a_backup_of_a_newer_release_is_refused_with_both_versions(moved: Moved, tmp_path: Path) -> None:
    backup = moved.copy(tmp_path)
    manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    data = msgspec.json.encode(msgspec.structs.replace(manifest, release="7.0.1"))
    (backup / MANIFEST).write_bytes(data)
    (backup / SEAL).write_text(seal_text(data))
    with pytest.raises(BackupRefused, match=r"made by release 7\.0\.1, this is release 0\.1\.0"):
        await restore_backup(backup, tmp_path / "new")
    (backup / SEAL).write_text(seal_text(data).replace("backup 1", "backup 2"))
    with pytest.raises(BackupRefused, match="newer release"):
        await restore_backup(backup, tmp_path / "new")


async def test_a_folder_that_is_not_empty_is_refused(moved: Moved, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("of mine")
    for folder in (moved.here.data, tmp_path / "full"):
        with pytest.raises(BackupRefused, match="is not empty"):
            await restore_backup(moved.backup, folder)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["something"]


def test_no_node_runs_where_a_restoring_was_broken_off(moved: Moved, tmp_path: Path) -> None:
    NodeFolder(tmp_path / "half").restoring.mkdir(parents=True)
    done = moved.here.run("run", "--data-dir", str(tmp_path / "half"))
    assert done.code == 2, done
    assert "broken off" in done.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup", "b"], "is already there"),
        (["backup", "new", "--data-dir", "nowhere"], "There are no stores"),
        (["backup", "--check", "data"], "is no"),
        (["backup", "--check", "nothing"], "There is no folder"),
        (["restore", "nothing", "--data-dir", "new"], "There is no folder"),
    ],
)
def test_mistakes_are_told_in_a_sentence_with_a_remedy(moved: Moved, arguments: list[str], said: str) -> None:
    done = moved.here.run(*arguments)
    assert done.code == 2, done
    assert said in done.error
    assert len(done.error.strip().splitlines()) == 2


def test_the_keys_in_a_backup_are_their_owners_alone(moved: Moved) -> None:
    assert moved.backup.stat().st_mode & 0o077 == 0
    for path in moved.backup.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
