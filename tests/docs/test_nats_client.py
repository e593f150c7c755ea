"""The official `nats` client against a running node: what docs/operating.md says it shows, it shows."""

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

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("nats") is None, reason="no official nats client here: .ci/run builds one where there is Go"),
]

NATS = "nats --context overseer-node"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with terminal(tmp_path) as made:
        yield made


async def after_block(number: int, here: Place) -> dict[str, object]:
    """The best block, once it is that high."""
    with anyio.fail_after(60):
        while (best := json.loads(await typed("overseer query best --json", here)))["number"] < number:
            await anyio.sleep(0.1)
    return best


async def test_every_line_for_the_nats_client_in_the_operating_guide_works(here: Place) -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "operating.md", "sh") if "nats-context" in block)
    async with Node.up(here):
        best = await after_block(8, here)
        said: dict[str, str] = {}
        for line in block.splitlines():
            # It would go on for ever.
            bounded = f"{line} --count 3" if " sub " in line else line
            said[line] = await typed(bounded.replace("0x...", str(best["hash"])), here)
    (seen,) = (text for line, text in said.items() if " sub " in line)
    # Readable by subject and headers alone, and the body as JSON.
    assert seen.count("Nats-Subject: overseer.node.") == 3
    assert seen.count("Overseer-Schema: 1") == 3
    # Short bodies come on one line, longer ones indented.
    assert sum(line.startswith("{") for line in seen.splitlines()) == 3
    (services,) = (text for line, text in said.items() if "micro ls" in line)
    assert all(name in services for name in SUBSYSTEMS)
    (answer,) = (text for line, text in said.items() if "qry.best" in line)
    assert '"number":' in answer
    (finalized,) = (text for line, text in said.items() if "req.finalize_block" in line)
    assert '"accepted"' in finalized
    (message,) = (text for line, text in said.items() if "stream get" in line)
    assert "overseer.node." in message


async def test_who_may_only_read_asks_and_looks_and_commands_nothing(here: Place) -> None:
    async with Node.up(here):
        best = await after_block(1, here)
        written = await typed("overseer nats-context --user reader", here)
        name = Path(written.splitlines()[0].removeprefix("wrote ")).stem
        reader = f"nats --context {name}"
        assert '"number":' in await typed(f"{reader} req overseer.node.chain_api.qry.best '{{}}'", here)
        body = json.dumps({"hash": best["hash"]})
        refused = await typed(f"{reader} req overseer.node.chain_api.req.finalize_block '{body}' --timeout 2s 2>&1 || true", here)
        assert "accepted" not in refused
        assert "permissions violation" in refused.lower()
