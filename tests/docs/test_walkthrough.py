"""The commands of the README, typed one after the other against a running node."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.docs.generated import ROOT
from tests.docs.test_snippets import blocks
from tests.node.nodes import Node, Place, place

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path, feed__source="dev", feed__interval_ms=200) as made:
        program = tmp_path / "bin" / "overseer"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m overseer.cli.entry "$@"\n')
        program.chmod(0o755)
        yield made


async def typed(line: str, here: Place) -> str:
    """What the shell says to this line; it must succeed."""
    path = f"{here.folder / 'bin'}:{os.environ['PATH']}"
    environment = {**here.environment, "PATH": path, "XDG_CONFIG_HOME": str(here.folder / "config")}
    with anyio.fail_after(60):
        done = await anyio.run_process(["sh", "-c", line], env=environment, cwd=here.folder, check=False)
    assert done.returncode == 0, (line, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()


async def test_the_commands_of_the_readme_do_what_they_say(here: Place) -> None:
    (block,) = (block for block in blocks(ROOT / "README.md", "sh") if "overseer run" in block)
    first, *lines = [line.split("   #")[0].strip() for line in block.splitlines()]
    assert first == "overseer run"
    async with Node.up(here):
        with anyio.fail_after(30):
            # The first block starts the session.
            while json.loads(await typed("overseer query best --json", here))["number"] < 1:
                await anyio.sleep(0.1)
        said = {line: await typed(line, here) for line in lines if line.startswith("overseer ")}
        if shutil.which("nats"):
            for line in lines:
                if line.startswith("nats ") and " req " in line:
                    said[line] = await typed(f"{line} --raw", here)
                    json.loads(said[line])
    assert '"stored"' in said["overseer make bundle --valid 0-6 --invalid 7 | overseer send register_vote -"]
    # Seven of ten is the supermajority.
    assert "concluded_for" in said["overseer dispute list"]
    assert said["overseer verify"].count("equal") == 3
    assert "register_vote" in said["overseer journal votes_db"]
