"""`overseer keys`: private, never shown, and replaced while the node runs without losing anything."""

import json
import os
import re
import signal
import stat
from pathlib import Path

import anyio
import pytest

from overseer.nats.accounts import inbox_prefix
from overseer.nats.connection import connect
from overseer.nats.keys import KeyFolder, Seed, UnusableKey
from overseer.nats.server import EmbeddedServer
from overseer.node.bus import RELOAD_SIGNAL
from overseer.node.catalogue import SECTIONS
from overseer.node.folder import NodeFolder
from overseer.ports.bus import BusDenied
from overseer.settings import load_config, settings_toml
from tests.cli.conftest import Command
from tests.node.nodes import SUBSYSTEMS, Node, Place, ballots, eventually, history, said_once, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]

USERS = {
    "provisioner",
    "overseer",
    "votes_db",
    "dispute_conclusion",
    "chain_api",
    "elections",
    "consensus_manager",
    "operator",
    "feed",
    "reader",
}


def keys_of(place: Place) -> KeyFolder:
    return KeyFolder(place.data / "keys")


async def taken(url: str, user: str, seed: Seed) -> bool:
    try:
        made = await connect(url, name="test", inbox_prefix=inbox_prefix(user, "node"), nkey_seed=seed.reveal())
    except BusDenied:
        return False
    await made.close()
    return True


@pytest.mark.slow
async def test_all_keys_are_rotated_under_load_and_nothing_is_lost(here: Place) -> None:
    made = ballots(40, 10)
    async with Node.up(here) as node, node.client() as client:
        old = {user: keys_of(here).seed(user) for user in USERS}
        await told(client, made.opening, "opening")
        done: list[int] = []

        async def vote() -> None:
            for number, bundle in enumerate(made.bundles):
                await told(client, bundle, f"bundle {number}")
                done.append(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(vote)
            while not done:
                await anyio.sleep(0.02)
            rotated = await anyio.to_thread.run_sync(here.run, "keys", "rotate", "--all", "--json")
            assert rotated.code == 0, rotated
            assert set(rotated.json["users"]) == USERS
        assert len(done) == len(made.bundles)
        for user, seed in old.items():
            assert not await taken(node.info.url, user, seed), user
            assert await taken(node.info.url, user, keys_of(here).seed(user)), user
        for bundle in made.bundles:
            assert len((await votes_of(client, bundle)).votes) == 10
        said_once(await history(client))
        await eventually(lambda: here.run("status").code == 0, "all is well", log=node.text)
        # Nobody was restarted for it: everybody came back by itself.
        assert len(node.events("child_started")) == len(SUBSYSTEMS)
        assert len(node.events("nats_started")) == 1
        assert here.run("keys", "check").code == 0
        # A server that is started anew takes the new ones as well.
        os.kill(node.pid("nats-server"), signal.SIGKILL)
        await node.logged("nats_started", times=2)
        await eventually(lambda: here.run("keys", "check").code == 0, "the new server takes the new keys", log=node.text)
        assert await node.stop() == 0
    verified(here)


@pytest.mark.slow
async def test_one_key_is_rotated_and_the_others_are_not_disturbed(here: Place) -> None:
    async with Node.up(here) as node, node.client() as client:
        before = {user: keys_of(here).public(user) for user in USERS}
        epoch = client.connection.epoch
        assert here.run("keys", "rotate", "votes_db").code == 0
        after = {user: keys_of(here).public(user) for user in USERS}
        assert {user for user in USERS if after[user] != before[user]} == {"votes_db"}
        made = ballots(1, 10)
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "bundle")
        assert client.connection.epoch == epoch
        assert node.events("child_failed") == []


@pytest.mark.slow
async def test_a_rotation_that_was_killed_anywhere_leaves_a_node_that_works_and_can_be_finished(here: Place) -> None:
    async with Node.up(here) as node:
        folder = keys_of(here)
        old = folder.seed("votes_db")
        # Killed after the first step: both are there, the present one is in force.
        folder.prepare("votes_db")
        checked = here.run("keys", "check", "--json")
        assert checked.code == 1
        assert "rotate votes_db" in next(k["problem"] for k in checked.json["keys"] if k["user"] == "votes_db")
        os.kill(node.pid("votes_db"), signal.SIGKILL)
        await node.logged("child_started", child="votes_db", times=2)
        # Killed after the second: the server knows both, the file has the new one.
        os.kill(node.process.pid, RELOAD_SIGNAL)
        await node.logged("accounts_reloaded")
        folder.adopt("votes_db")
        os.kill(node.pid("votes_db"), signal.SIGKILL)
        await node.logged("child_started", child="votes_db", times=3)
        await eventually(lambda: here.run("status").code == 0, "all is well", log=node.text)
        assert await taken(node.info.url, "votes_db", old)
        # Again, and it is finished.
        assert here.run("keys", "rotate", "votes_db").code == 0
        assert not await taken(node.info.url, "votes_db", old)
        assert here.run("keys", "check").code == 0
    assert node.process.returncode == 0


async def test_without_a_node_new_keys_come_with_the_next_start(here: Place, command: Command) -> None:
    assert command("provision", "--accounts").code == 0
    before = keys_of(here).public("reader")
    done = command("keys", "rotate", "reader")
    assert "next start" in done.out
    after = keys_of(here).public("reader")
    assert after != before
    accounts = command("provision", "--accounts").out
    assert after in accounts
    assert before not in accounts


async def test_under_a_node_that_is_just_starting_no_key_is_changed(here: Place, command: Command) -> None:
    assert command("provision", "--accounts").code == 0
    before = keys_of(here).public("reader")
    with NodeFolder(here.data).locked():
        done = command("keys", "rotate", "reader")
        # Looking changes nothing.
        assert here.run("keys", "check").code == 0
    assert (done.code, "just starting" in done.error) == (2, True)
    assert keys_of(here).public("reader") == before


@pytest.mark.slow
async def test_on_a_server_of_ones_own_rotation_takes_two_steps_and_each_says_the_next(here: Place, tmp_path: Path) -> None:
    accounts = here.run("provision", "--accounts").out
    async with EmbeddedServer(tmp_path / "server", accounts) as server:
        assert here.run("provision", "--nats", server.url).code == 0
        old = keys_of(here).seed("feed")
        rotate = ("keys", "rotate", "feed", "--nats", server.url, "--json")
        first = here.run(*rotate)
        assert (first.code, first.json["rotated"]) == (0, False)
        assert "provision --accounts" in first.json["next"]
        early = here.run(*rotate)
        assert early.json["rotated"] is False
        assert "does not take those of feed yet" in early.json["next"]
        assert keys_of(here).public("feed") == old.public()
        await server.reload(here.run("provision", "--accounts").out)
        done = here.run(*rotate)
        assert done.json["rotated"] is True, done
        assert await taken(server.url, "feed", keys_of(here).seed("feed"))
        assert await taken(server.url, "feed", old)
        await server.reload(here.run("provision", "--accounts").out)
        assert not await taken(server.url, "feed", old)
        assert here.run("keys", "check", "--nats", server.url).code == 0


# ------------------------------------------------------------------------------------------------ looking


def test_keys_are_listed_without_their_seeds(here: Place, command: Command) -> None:
    assert command("provision", "--accounts").code == 0
    listed = command("keys", "list", "--json")
    shown = json.loads(listed.out)["keys"]
    assert {key["user"] for key in shown} == USERS
    assert all(key["public"].startswith("U") and key["problem"] == "" for key in shown)
    table = command("keys", "list").out
    for user in USERS:
        secret = keys_of(here).seed(user).reveal()
        assert secret not in listed.out + table
        assert keys_of(here).public(user) in table


def test_what_is_wrong_with_keys_is_named_with_the_remedy(here: Place, command: Command) -> None:
    assert command("provision", "--accounts").code == 0
    folder = keys_of(here)
    assert here.run("keys", "check").code == 0
    folder.path("votes_db").chmod(0o644)
    folder.path("feed").unlink()
    folder.path("reader").write_text("nonsense")
    (folder.folder / "mallory.nk").touch(0o600)
    folder.folder.chmod(0o750)
    checked = command("keys", "check", "--json")
    assert checked.code == 1
    found = json.loads(checked.out)
    problems = {key["user"]: key["problem"] for key in found["keys"]}
    assert "others can read it; run: chmod 600" in problems["votes_db"]
    assert "there is none" in problems["feed"]
    assert "not an nkey seed" in problems["reader"]
    assert problems["operator"] == ""
    assert any("chmod 700" in text for text in found["wrong"])
    assert any("mallory.nk: nobody's key" in text for text in found["wrong"])


@pytest.mark.parametrize(
    ("argv", "says"),
    [(["rotate"], "Whose keys?"), (["rotate", "--all", "feed"], "Whose keys?"), (["rotate", "vots_db"], "Did you mean votes_db?")],
)
def test_a_mistake_in_rotating_changes_nothing(here: Place, command: Command, argv: list[str], says: str) -> None:
    done = command("keys", *argv)
    assert done.code == 2
    assert says in done.error
    assert not (here.data / "keys").exists()


def test_a_prepared_key_is_private_made_once_and_put_in_place_or_forgotten(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    present = folder.ensure(["votes_db"])["votes_db"]
    assert folder.coming(["votes_db"]) == {}
    prepared = folder.prepare("votes_db")
    assert folder.prepare("votes_db") == prepared != present
    assert folder.coming(["votes_db"]) == {"votes_db": prepared}
    assert folder.public("votes_db") == present
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.folder.iterdir()] == [0o600, 0o600]
    assert folder.strangers(["votes_db"]) == []
    folder.adopt("votes_db")
    assert folder.public("votes_db") == prepared
    with pytest.raises(UnusableKey):
        folder.adopt("votes_db")
    folder.prepare("votes_db")
    folder.discard("votes_db")
    folder.discard("votes_db")
    assert folder.coming(["votes_db"]) == {}


# ------------------------------------------------------------------------------------------------ never shown


@pytest.mark.slow
async def test_no_seed_is_ever_written_but_to_its_file(here: Place) -> None:
    """A run at debug level with a rotation and a crash: logs, run file, server's files and environment are searched."""
    here.settings |= {"log.level": "debug"}
    async with Node.up(here) as node, node.client() as client:
        seeds = {keys_of(here).seed(user).reveal() for user in USERS}
        made = ballots(1, 10)
        await told(client, made.opening, "opening")
        os.kill(node.pid("votes_db"), signal.SIGKILL)
        await node.logged("child_started", child="votes_db", times=2)
        rotated = here.run("keys", "rotate", "--all")
        assert rotated.code == 0, rotated
        seeds |= {keys_of(here).seed(user).reveal() for user in USERS}
        shown = [rotated.out, rotated.error, *(here.run(*argv).out for argv in (("keys", "check"), ("config",), ("status", "--json")))]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in here.processes()]
        arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in here.processes()]
        assert await node.stop() == 0
    assert len(seeds) == 2 * len(USERS)
    files = [path for path in here.folder.rglob("*") if path.is_file() and path.parent != here.data / "keys"]
    assert any(path.name == "nats-server.log" for path in files)
    texts = [path.read_bytes() for path in files] + environments + arguments + [text.encode() for text in shown]
    # Whole, or any part long enough to help.
    parts = {seed[start : start + 16].encode() for seed in seeds for start in (4, 20, 40)}
    pattern = re.compile(b"|".join(parts))
    assert [text[:200] for text in texts if pattern.search(text)] == []


def test_keys_are_those_of_what_ran_here_last_sites_told_by_flag_among_them(here: Place) -> None:
    told = load_config(environ={}, flags={"data_dir": here.data, "elections.sites": 5}, sections=SECTIONS)
    here.data.mkdir()
    (here.data / "settings.toml").write_text(settings_toml(told))
    users = {row["user"] for row in here.run("keys", "list", "--json").json["keys"]}
    assert len([user for user in users if user.startswith("elections_")]) == 5
