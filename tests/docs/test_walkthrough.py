"""The commands of the README, typed one after the other against a running node."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.docs.generated import ROOT
from tests.docs.terminal import terminal, typed
from tests.docs.test_snippets import blocks
from tests.node.nodes import SUBSYSTEMS, Node, Place

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with terminal(tmp_path) as made:
        yield made


@pytest.mark.slow
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
    assert said["overseer verify"].count("equal") == len(SUBSYSTEMS)
    assert "register_vote" in said["overseer journal votes_db"]
