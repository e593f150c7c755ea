"""`overseer doctor`: each check on a folder, or a machine, that is really as it should not be; and what it leaves behind: nothing."""

import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from overseer.checkup.catalogue import CHECKS
from overseer.checkup.check import Check, Patient, Told, Verdict, ok, run_checks
from overseer.checkup.installation import check_packages, check_python, check_server
from overseer.checkup.machine import check_clock, check_disk, check_files, check_filesystem, check_memory, mount_of
from overseer.cli.common import load_settings
from overseer.nats.keys import KeyFolder
from overseer.nats.server import ServerNotFound
from overseer.node.bus import describe
from overseer.node.catalogue import build_sites, build_subsystems
from overseer.node.folder import NodeFolder
from overseer.settings import settings_toml
from tests.node.nodes import Node, Place, place

pytestmark = pytest.mark.real

BY_NAME = {check.name: check for check in CHECKS}
STREAMS = "nats/jetstream/jetstream/BUS/streams"
LARGE_BYTES = 64 * 1024**2


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a node that ran once, and was ended in order."""
    import anyio

    folder = tmp_path_factory.mktemp("ran")

    async def once(here: Place) -> None:
        async with Node.up(here):
            found = told(patient(here.data), "run")
            assert found[0].what.startswith("a node runs here (pid ")
            assert told(patient(here.data), "stores")[0].verdict is Verdict.OK

    with place(folder) as here:
        anyio.run(once, here)
        yield here.data


@pytest.fixture
def data(ran: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(ran, tmp_path / "data")
    return tmp_path / "data"


def patient(folder: Path, **flags: object) -> Patient:
    return Patient(loaded=load_settings(None, folder, None, None, **flags))


def told(who: Patient, name: str) -> list[Told]:
    return list(run_checks([BY_NAME[name]], who))


def bad(who: Patient, name: str) -> Told:
    """The one thing that this check finds, and all others do not."""
    found = [each for each in told(who, name) if each.verdict is not Verdict.OK]
    assert len(found) == 1, found
    assert found[0].remedy
    return found[0]


def files(folder: Path) -> dict[Path, object]:
    """Everything in it; of rocksdict's note what it says alone: it is written anew, the same, whenever a store is opened."""
    noted = "rocksdict-config.json"
    return {
        path: path.read_bytes() if path.name == noted else (s.st_mtime_ns, s.st_size, s.st_mode)
        for path in folder.rglob("*")
        if (s := path.lstat())
    }


def test_a_sound_node_is_called_sound_and_nothing_of_it_is_touched(data: Path) -> None:
    before = files(data)
    found = list(run_checks(CHECKS, patient(data)))
    assert [each for each in found if each.verdict is Verdict.WRONG] == []
    assert {each.check for each in found} == set(BY_NAME)
    assert files(data) == before


def test_a_folder_that_is_not_there_yet_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    found = list(run_checks(CHECKS, patient(tmp_path / "none")))
    assert [each for each in found if each.verdict is Verdict.WRONG] == []
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ the folder


def cut_manifest(data: Path) -> None:
    manifest = next((data / "stores/votes_db").glob("MANIFEST-*"))
    os.truncate(manifest, manifest.stat().st_size // 2)


def other_seal(data: Path) -> None:
    (data / "stores/chain_api/SEAL").write_text("nonsense")


def lost_current(data: Path) -> None:
    (data / "stores/votes_db/CURRENT").unlink()


def exchanged(data: Path) -> None:
    stores = data / "stores"
    shutil.rmtree(stores / "votes_db")
    shutil.copytree(stores / "elections", stores / "votes_db")


DAMAGES: dict[str, tuple[str, Any, Verdict, str]] = {
    "others may enter": ("folder", lambda data: data.chmod(0o755), Verdict.WARNING, "chmod 700"),
    "a file in its place": ("folder", lambda data: (shutil.rmtree(data), data.write_text("")), Verdict.WRONG, "--data-dir"),
    "run.json is torn": ("run", lambda data: (data / "run.json").write_text("{"), Verdict.WARNING, "Remove it"),
    "a key that others read": ("keys", lambda data: (data / "keys/votes_db.nk").chmod(0o644), Verdict.WRONG, "chmod 600"),
    "keys that others enter": ("keys", lambda data: (data / "keys").chmod(0o755), Verdict.WRONG, "chmod 700"),
    "a key that is none": ("keys", lambda data: (data / "keys/votes_db.nk").write_text("nonsense"), Verdict.WRONG, "remove it"),
    "a key is gone": ("keys", lambda data: (data / "keys/votes_db.nk").unlink(), Verdict.WRONG, "overseer provision"),
    "nobody's key": ("keys", lambda data: (data / "keys/mallory.nk").write_text(""), Verdict.WARNING, "Remove it"),
    "half an identity": ("keys", lambda data: (data / "keys/identity/box.key").unlink(), Verdict.WRONG, "backup"),
    "sessions that others enter": ("keys", lambda data: (data / "sessions").chmod(0o755), Verdict.WRONG, "chmod 700"),
    "a manifest that was cut": ("stores", cut_manifest, Verdict.WRONG, "overseer repair votes_db"),
    "a seal that is damaged": ("stores", other_seal, Verdict.WRONG, "overseer repair chain_api"),
    "a store without CURRENT": ("stores", lost_current, Verdict.WRONG, ""),
    "another subsystem's store": ("stores", exchanged, Verdict.WRONG, "own store"),
    "what a repair left": ("set aside", lambda data: (data / "stores/votes_db.aside-20260101T000000Z").mkdir(), Verdict.WARNING, "rm -r"),
    "a checkpoint of long ago": ("checkpoints", lambda data: old_checkpoint(data), Verdict.WARNING, "limits.checkpoint_records"),
    "half a checkpoint": (
        "checkpoints",
        lambda data: (data / "stores/votes_db/checkpoints/.new.7").mkdir(parents=True),
        Verdict.WARNING,
        "next start",
    ),
    "sites where there are none": ("sites", lambda data: (data / "stores/elections_dc1").mkdir(), Verdict.WRONG, "elections.sites"),
}


def old_checkpoint(data: Path) -> None:
    made = data / "stores/votes_db/checkpoints/00000000000000200000"
    made.mkdir(parents=True)
    long_ago = time.time() - 90 * 86_400
    os.utime(made, (long_ago, long_ago))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_found_by_its_check_and_says_what_to_do(data: Path, damage: str) -> None:
    name, harm, verdict, remedy = DAMAGES[damage]
    (data / "sessions").mkdir(mode=0o700, exist_ok=True)
    assert [each for each in told(patient(data), name) if each.verdict is not Verdict.OK] == []
    harm(data)
    found = bad(patient(data), name)
    assert found.verdict is verdict
    assert remedy in found.remedy


def test_another_node_s_folder_is_named_with_the_name_to_give(data: Path) -> None:
    who = Patient(loaded=load_settings(None, data, "other", None))
    assert "--node node" in bad(who, "run").remedy
    stores = told(who, "stores")
    assert {each.verdict for each in stores if "on node node, not of node other" in each.what} == {Verdict.WRONG}
    assert len([each for each in stores if each.verdict is Verdict.WRONG]) == 5


def test_a_store_of_a_newer_release_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.checkup.folder.STORE_SCHEMA", 0)
    found = told(patient(data), "stores")
    names = sorted(path.name for path in (data / "stores").iterdir())
    assert len(names) == 5
    newer = {(f"{name}: its schema is 1, this release knows 0", Verdict.WRONG) for name in names}
    assert {(each.what, each.verdict) for each in found if each.verdict is not Verdict.OK} == newer
    # And none is called whole.
    assert [each.what for each in found if each.verdict is Verdict.OK] == ["there are none yet"]


def test_a_node_that_starts_for_the_first_time_is_not_called_wrong(data: Path) -> None:
    (data / "run.json").unlink()
    with NodeFolder(data).locked():
        (found,) = told(patient(data), "run")
    assert (found.verdict, "just starting" in found.what) == (Verdict.WARNING, True)


def test_a_command_that_works_on_the_folder_does_not_pass_for_the_last_run(data: Path) -> None:
    with NodeFolder(data).locked():
        (found,) = told(patient(data), "run")
    assert (found.verdict, "backup, repair or migration" in found.what) == (Verdict.WARNING, True)


def test_a_node_that_tells_where_it_runs_is_found(data: Path) -> None:
    folder = NodeFolder(data)
    with folder.locked():
        folder.tell(folder.last_run())
        (found,) = told(patient(data), "run")
    assert (found.verdict, "a node runs here" in found.what) == (Verdict.OK, True)


def test_a_chain_without_genesis_and_authority_is_told(data: Path) -> None:
    found = told(patient(data, feed__source="none"), "settings")
    assert [each.verdict for each in found] == [Verdict.WARNING, Verdict.WARNING]
    assert "genesis" in found[0].remedy
    assert "governance.authority" in found[1].remedy


def test_the_files_of_a_network_must_name_this_node_as_it_is(data: Path, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    who = patient(data, network__nodes=str(nodes))
    assert "no file of this node" in bad(who, "network").what
    described = describe(who.loaded.config, [s.declaration for s in build_subsystems(patient(data).loaded).values()])
    (nodes / "node.json").write_text(described.to_json())
    assert told(who, "network")[0].what == "1 nodes, this one among them"
    other = described.to_json().replace(described.box, described.signing)
    (nodes / "node.json").write_text(other)
    assert "another identity" in bad(who, "network").what
    (nodes / "node.json").write_text("{")
    assert bad(who, "network").verdict is Verdict.WRONG


def large(path: Path) -> None:
    """A file of that size, which takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, LARGE_BYTES)


def test_full_streams_are_told(data: Path) -> None:
    found = bad(patient(data, nats__stream_bytes_max=1000), "streams")
    assert found.what.startswith("the stream OVERSEER_node takes")
    assert "stream_bytes_max" in found.remedy


def test_a_full_log_of_the_elections_is_told(data: Path) -> None:
    large(data / STREAMS / "OVERSEER_LOG_node/msgs/1.blk")
    found = bad(patient(data, nats__stream_bytes_max=LARGE_BYTES), "streams")
    assert found.what.startswith("the stream OVERSEER_LOG_node takes")
    assert "is never trimmed" in found.remedy


@pytest.mark.parametrize("place", ["nats/jetstream.aside-20260101T000000Z/1.blk", f"{STREAMS}/OVERSEER_NET/msgs/9.blk"])
def test_what_the_limit_of_a_stream_is_not_about_does_not_fill_it(data: Path, place: str) -> None:
    large(data / place)
    found = told(patient(data, nats__stream_bytes_max=LARGE_BYTES), "streams")
    assert [each.verdict for each in found] == [Verdict.OK], found


# ------------------------------------------------------------------------------------------------ the machine


def finds(found: Iterator[Told]) -> Told:
    (only,) = [each for each in found if each.verdict is not Verdict.OK]
    assert only.remedy
    return only


def test_what_the_machine_lacks_is_told(data: Path) -> None:
    who = patient(data)
    assert finds(check_disk(who, free=10**8)).verdict is Verdict.WRONG
    assert finds(check_disk(who, free=3 * 10**9)).verdict is Verdict.WARNING
    assert "--in-process" in finds(check_memory(who, meminfo="MemTotal: 1 kB\nMemAvailable:  500000 kB\n")).remedy
    assert finds(check_files(who, limit=1_000)).verdict is Verdict.WARNING
    assert finds(check_files(who, limit=256)).verdict is Verdict.WRONG
    assert "1970" in finds(check_clock(who, now_s=1_000.0)).what
    assert "gone back" in finds(check_clock(who, now_s=time.time() - 3_600)).remedy


@pytest.mark.parametrize(("kind", "said"), [("tmpfs", "in memory"), ("nfs4", "network"), ("overlay", "container")])
def test_a_file_system_on_which_a_sync_is_none_is_named(data: Path, kind: str, said: str) -> None:
    assert said in next(check_filesystem(patient(data), kind=kind)).what


def test_the_mount_nearest_to_a_folder_counts() -> None:
    mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:3 / /tmp\\040x rw shared:1 - tmpfs tmpfs rw\n3 1 0:4 / /tmp rw - overlay o rw"
    assert mount_of(Path("/tmp x/deep"), mounts) == "tmpfs"
    assert mount_of(Path("/tmpfile"), mounts) == "ext4"
    assert mount_of(Path("/tmp/a"), mounts) == "overlay"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(data: Path) -> None:
    data.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert bad(patient(data), "file system").verdict is Verdict.WRONG
        assert "chmod u+rwx" in bad(patient(data), "folder").remedy
    finally:
        data.chmod(0o700)


def test_a_port_that_is_taken_is_told(data: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        assert "cannot be had" in bad(patient(data, http__port=taken.getsockname()[1]), "ports").what


def test_an_old_interpreter_and_packages_out_of_bounds_are_told(data: Path) -> None:
    who = patient(data)
    assert finds(check_python(who, found="3.10.4", wanted=">=3.11")).verdict is Verdict.WRONG
    assert "pip install 'no-such-thing-here>=1'" in finds(check_packages(who, required=["no-such-thing-here>=1"])).remedy
    assert "needed is <0.1" in finds(check_packages(who, required=["anyio<0.1"])).what
    assert finds(check_packages(who, required=["anyio>=1", "nats-py[nkeys]>=99"])).remedy == "pip install 'nats-py[nkeys]>=99'"


def server(folder: Path, says: str) -> Path:
    program = folder / "nats-server"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    return program


def test_a_server_that_is_missing_old_or_broken_is_told(data: Path, tmp_path: Path) -> None:
    def none() -> Path:
        raise ServerNotFound(["/nowhere"])

    who = patient(data)
    assert "pip install" in finds(check_server(who, find=none)).remedy
    assert [each.verdict for each in check_server(patient(data, nats__url="nats://127.0.0.1:4222"), find=none)] == [Verdict.OK]
    for says, what in (("echo nats-server: v2.10.9", "is 2.10.9"), ("exit 3", "says no version")):
        assert what in finds(check_server(who, find=lambda says=says: server(tmp_path, says))).what
    assert "cannot be run" in finds(check_server(who, find=lambda: tmp_path)).what


def test_a_library_that_is_broken_is_told_and_the_others_are_checked(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        return False

    monkeypatch.setattr("overseer.verification.verify_signature", refuse)
    assert "a right signature is refused" in bad(patient(data), "sr25519").what
    assert "a right signature is refused" in bad(patient(data), "ed25519").what
    assert told(patient(data), "bls12-381")[0].verdict is Verdict.OK


# ------------------------------------------------------------------------------------------------ running checks


def test_a_check_that_hangs_or_fails_is_told_and_the_next_one_runs(data: Path) -> None:
    import threading

    never = threading.Event()

    def hang(_: Patient) -> Iterator[Told]:
        never.wait()
        yield ok("late")

    def fail(_: Patient) -> Iterator[Told]:
        yield ok("so far")
        raise RuntimeError("no such luck")

    checks = [Check("hangs", "", hang), Check("fails", "", fail), Check("works", "", lambda _: [ok("fine")])]
    try:
        found = list(run_checks(checks, patient(data), check_ms=50))
    finally:
        never.set()
    assert [(each.check, each.verdict) for each in found] == [
        ("hangs", Verdict.WRONG),
        ("fails", Verdict.WRONG),
        ("works", Verdict.OK),
    ]
    assert "no such luck" in found[1].what


def test_the_command_says_it_to_people_and_machines(data: Path, tmp_path: Path) -> None:
    with place(tmp_path / "here") as here:
        done = here.run("doctor", "--data-dir", str(data), "--json")
        assert done.code == 0, done
        assert {row["check"] for row in done.json} == set(BY_NAME)
        (data / "keys/votes_db.nk").chmod(0o644)
        (here.folder / "overseer.toml").write_text("nonsense = 3\n")
        done = here.run("doctor", "--data-dir", str(data))
        assert done.code == 1
        assert "chmod 600" in done.out
        assert "nonsense" in done.out
        assert "Traceback" not in done.error


def test_every_check_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    missing = [check.name for check in CHECKS if f"| {check.name} | {check.looks_at} |" not in text]
    assert not missing, "\n".join(f"| {check.name} | {check.looks_at} |" for check in CHECKS)


def test_sites_that_the_node_was_told_by_a_flag_are_its_own_and_so_are_their_keys(data: Path) -> None:
    flagged = load_settings(None, data, None, None, elections__sites=5)
    (data / "settings.toml").write_text(settings_toml(flagged))
    shutil.rmtree(data / "stores/elections")
    users = build_sites(flagged).users
    KeyFolder(data / "keys").ensure(users)
    (data / "keys/elections.nk").unlink()
    for user in users:
        (data / "stores" / user).mkdir()
    for name in ("keys", "sites"):
        assert {each.verdict for each in told(patient(data), name)} == {Verdict.OK}, told(patient(data), name)
