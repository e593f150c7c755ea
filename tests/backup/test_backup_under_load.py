"""A backup that was taken under load is restored on an empty machine, and goes on; one that was killed is known as such."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from messages.ballots import BallotElection, GetBallotElection
from tests.backup.backup_load import KEY, outcome_text, vote
from tests.node.nodes import Node, Place, answered, eventually, place, told, verified

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.anyio]

# Acknowledged before anything is done with them.
SOME = 40
# Asked again after a restoring, of the first and of the last.
ASKED = 20


@contextmanager
def load(here: Place, prefix: str) -> Iterator[Path]:
    """A process that injects until the end of the block; the file of what was acknowledged."""
    file = here.folder / f"acknowledged-{prefix}"
    file.touch()
    argv = [sys.executable, "-m", "tests.backup.backup_load", str(here.data), str(file), prefix]
    process = subprocess.Popen(argv, env=here.environment, stdin=subprocess.DEVNULL)
    try:
        yield file
    finally:
        process.kill()
        process.wait()


def acknowledged(file: Path) -> list[list[str]]:
    """What was acknowledged so far; a line that is being written is none yet."""
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


async def more(file: Path, count: int = SOME) -> list[list[str]]:
    """Wait until so many more are acknowledged; all of them."""
    before = len(acknowledged(file))
    await eventually(lambda: len(acknowledged(file)) >= before + count, f"{count} more commands are acknowledged")
    return acknowledged(file)


def backed_up(here: Place, name: str) -> dict[str, object]:
    done = here.run("backup", name, "--json")
    assert done.code == 0, done
    return done.json


async def killed_in_the_middle(here: Place, name: str) -> Path:
    """A backup that is killed while it copies; what it leaves."""
    left = here.folder / f"{name}.unfinished"
    process = here.start("backup", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await eventually(lambda: any(left.glob("stores/*/*")) or process.poll() is not None, "the backup copies")
    finally:
        process.kill()
        process.wait()
    return left


async def test_what_was_acknowledged_before_a_backup_is_in_it_and_the_node_goes_on(here: Place, tmp_path: Path) -> None:
    async with Node.up(here):
        with load(here, "first") as file:
            first = await more(file)
            backed_up(here, "b1")
            left = await killed_in_the_middle(here, "b2")
            if not (here.folder / "b2").exists():
                refused = here.run("restore", str(left), "--data-dir", str(tmp_path / "nothing"))
                assert refused.code == 2, refused
                assert "broken off" in refused.error
                # One of the same name begins anew.
                before = await more(file)
                manifest = backed_up(here, "b2")
                assert not left.exists()
            else:
                before = await more(file)
                manifest = backed_up(here, "b3")
            # Nothing holds the stream any more.
            await more(file)
        assert manifest["running"] is True
    newest = here.folder / ("b3" if (here.folder / "b3").exists() else "b2")
    checked = here.run("backup", "--check", str(newest), "--json")
    assert checked.code == 0, checked
    assert [store["ok"] for store in checked.json["stores"]] == [True] * 5
    await goes_on(tmp_path / "other", newest, before)
    # An older one too, without its streams: the subsystems tell again what they have.
    await goes_on(tmp_path / "without", here.folder / "b1", first, "--without-stream")


async def goes_on(folder: Path, backup: Path, before: list[list[str]], *options: str) -> None:
    """Restore on an empty machine; everything of `before` has the outcome that it had, and more is taken."""
    with place(folder) as there:
        done = there.run("restore", str(backup), *options)
        assert done.code == 0, done
        assert "settings.toml" in done.out
        async with Node.up(there) as node, node.client() as client:
            casts = [line for line in before if line[1].startswith("cast ")]
            assert len(casts) >= ASKED
            # The first, and those just before the backup.
            for voter, command_id, outcome in (*casts[:ASKED], *casts[-ASKED:]):
                again = await told(client, vote(voter), command_id)
                assert outcome_text(again) == outcome, f"{command_id} has another outcome than it had"
            with load(there, "second") as file:
                await more(file)
            answer = await answered(client, GetBallotElection(election=KEY))
            assert isinstance(answer, BallotElection)
            assert answer.rounds[-1].cast >= len(casts) + SOME // 2
        verified(there)


async def test_a_backup_that_is_ended_in_order_is_whole_or_leaves_nothing(here: Place) -> None:
    async with Node.up(here):
        process = here.start("backup", "b", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await eventually(lambda: (here.folder / "b.unfinished").exists() or process.poll() is not None, "the backup begins")
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None, "the backup ends")
        assert not (here.folder / "b.unfinished").exists()
        # It may have been through before.
        assert process.returncode in (0, 130)
        assert (here.folder / "b").exists() is (process.returncode == 0)


async def test_commands_are_answered_while_a_backup_is_taken(here: Place) -> None:
    unfinished = here.folder / "b.unfinished"
    async with Node.up(here):
        with load(here, "load") as file:
            await more(file)
            process = here.start("backup", "b", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            await eventually(lambda: unfinished.exists() or process.poll() is not None, "the backup begins")
            began, counts = time.monotonic(), [len(acknowledged(file))]
            # What is counted while the folder is still unfinished was acknowledged before the end of the backup.
            while (count := len(acknowledged(file))) and unfinished.exists() and process.poll() is None:
                counts.append(count)
                await anyio.sleep(0.01)
            took = time.monotonic() - began
            await eventually(lambda: process.poll() is not None, "the backup ends")
        assert process.returncode == 0
        # Slower perhaps, never standing.
        assert counts[-1] > counts[0], f"nothing was acknowledged in {took:.1f} s"
