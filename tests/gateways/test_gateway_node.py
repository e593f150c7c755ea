"""Gateway elections on a running node, its subsystems processes of their own: by the command line, under kills, and to the cascade."""

import json
import os
import signal
from pathlib import Path

import anyio
import pytest
from blake3 import blake3
from lie_story import story_of_a_lie
from queue_story import QUEUE, digest

from messages.chain_api import ImportBlock
from messages.elections import ElectionHistory, QueryHistory
from messages.gateway_queries import PendingRequests, RequestPage
from overseer.feeds.author import genesis_of
from overseer.feeds.story import Await, Send
from overseer.node.client import Client
from tests.node.nodes import Node, answered, eventually, here, place, told, verified

__all__ = ["here"]

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]


async def grow(client: Client, first: int, last: int, branch: str = "a", *, on: str = "a") -> None:
    """Blocks of the development chain's genesis, by number and branch."""
    for number in range(first, last + 1):
        above = genesis_of("0") if number == 1 else digest(f"{number - 1}/{on if number == first else branch}")
        block = ImportBlock(hash=digest(f"{number}/{branch}"), parent=above, number=number, session=0)
        await told(client, block, f"block {number} {branch}")


@pytest.mark.parametrize("sites", [1, pytest.param(5, marks=pytest.mark.full)])
async def test_a_queue_from_its_opening_to_a_proof_and_a_reorganisation_by_the_command_line(tmp_path: Path, sites: int) -> None:
    with place(tmp_path, elections__sites=sites) as here:
        content = tmp_path / "content"
        content.write_bytes(b"what is to be done")
        request = f"0x{blake3(content.read_bytes()).hexdigest()}"
        async with Node.up(here) as node, node.client() as client:

            async def said(*arguments: str, code: int = 0) -> str:
                done = await anyio.to_thread.run_sync(here.run, "gateway", *arguments)
                assert done.code == code, done
                return done.out if code == 0 else done.error

            async def shown(what: str, *arguments: str) -> dict[str, object]:
                return json.loads(await said(what, *arguments, "--json"))

            async def until(phase: str, round: int) -> None:
                """Asked again while the subsystem is on its way back."""
                with anyio.fail_after(60):
                    while True:
                        done = await anyio.to_thread.run_sync(here.run, "gateway", "show", "ingestion", "--json")
                        queue = json.loads(done.out)["queue"] if done.code == 0 else {"phase": None, "round": None}
                        if (queue["phase"], queue["round"]) == (phase, round):
                            return

            await said("open", "ingestion", "--collect", "4", "--vote", "3")
            for name in ("alice", "bob"):
                await said("bond", "ingestion", name, "100")
                await said("declare", "ingestion", name)
            await said("submit", "ingestion", "--content", str(content), "--balance", "7")
            await grow(client, 1, 5)
            await until("voting", 0)
            advice = await shown("recommend", "ingestion", "alice", "--capacity", "1000", "--vote")
            assert advice == {"queue": "ingestion", "round": 0, "votes": [{"request": request, "amount": 100}], "cast": True}
            await said("vote", "ingestion", "bob", request, "30")
            if sites == 1:
                os.kill(node.pid("elections"), signal.SIGKILL)
            await grow(client, 6, 9)
            await until("closed", 0)
            [row] = (await shown("results", "ingestion"))["results"]["results"]  # type: ignore[index]
            assert row[1] == "assigned"
            assert [weight for _, weight in row[2] + row[3]] == [100, 30]
            assert "not_authorized" in await said("prove", "ingestion", "bob", request, "--content", str(content), code=1)
            assert "round 0 closed, no votes now; 0 requests wait" in await said("show", "ingestion")
            await grow(client, 9, 10, "b", on="a")
            await until("voting", 1)
            assert "not_authorized" in await said("prove", "ingestion", "alice", request, "--content", str(content), code=1)
            await said("vote", "ingestion", "bob", request, "30")
            await grow(client, 11, 14, "b", on="b")
            await until("closed", 1)
            await said("prove", "ingestion", "bob", request, "--content", str(content))
            done = await shown("results", "ingestion", "1")
            assert done["executions"]["executions"][0][2] is not None  # type: ignore[index]
            assert "already_executed" in await said("prove", "ingestion", "bob", request, "--content", str(content), code=1)
        if sites == 1:
            verified(here)


async def in_the_open_queue(client: Client) -> list[bytes]:
    page = await answered(client, PendingRequests(election=QUEUE))
    assert isinstance(page, RequestPage)
    return [row.request for row in page.requests]


async def test_G22_a_lying_validators_vote_brings_a_request_back_to_the_open_queue_through_real_processes(tmp_path: Path) -> None:
    story = story_of_a_lie()
    with place(tmp_path, genesis=story.genesis.hex()) as here:
        async with Node.up(here) as node, node.client() as client:
            for number, step in enumerate(story.steps):
                match step:
                    case Send():
                        await told(client, step.message, f"step {number}")
                    case Await():
                        with anyio.fail_after(60):
                            while not step.holds(await answered(client, step.query)):
                                await anyio.sleep(0.02)
                    case _:
                        pass
            with anyio.fail_after(60):
                while digest("x") not in await in_the_open_queue(client):
                    await anyio.sleep(0.02)
            page = await answered(client, QueryHistory(election=QUEUE))
            assert isinstance(page, ElectionHistory)
            told_of = [row.message.rsplit(".", 1)[-1] for row in page.events]
            course = [each for each in told_of if each.startswith(("round_", "requests_"))]
            assert course == ["round_cut", "round_closed", "round_results", "round_revoked", "requests_returned"]
            await eventually(lambda: len(node.events("child_started")) >= 4, "each subsystem is a process")
        verified(here)
