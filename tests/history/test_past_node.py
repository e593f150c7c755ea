"""A running node and its past: what it answered is what the past answers; the commands, as an operator types them; followers."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from messages.chain_api import Best, GovernanceStatus
from messages.codec import encode
from messages.dispute_conclusion import ListConclusions
from messages.message import Message
from messages.votes_db import RecentDisputes
from overseer.history.journals import StoredJournal, places
from overseer.history.moments import AtIndex, AtPosition, time_text
from overseer.history.past import answer_from, rebuilt
from overseer.history.stored import StoredNode
from overseer.node.catalogue import build_subsystem
from overseer.node.client import Client
from tests.node.nodes import DISPUTE_PATH, Node, Place, eventually, history

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

ASKED: dict[str, tuple[Message, ...]] = {
    "chain_api": (Best(), GovernanceStatus()),
    "votes_db": (RecentDisputes(limit=10),),
    "dispute_conclusion": (ListConclusions(open_only=False, limit=10),),
}
# Rebuilding begins at one of them; all are kept here.
CHECKPOINT_RECORDS = 50


class Remembered(NamedTuple):
    """What the node answered, and the last record of the subsystem then."""

    subsystem: str
    index: int
    query: Message
    answer: bytes


async def asked(here: Place, client: Client, name: str, query: Message) -> Remembered:
    """An answer that no record came in between of."""
    stored = StoredNode(here.data)
    while True:
        before = stored.last_index(name)
        answer = await client.query(query)
        if stored.last_index(name) == before:
            return Remembered(name, before, query, encode(answer))


async def same_in_the_past(here: Place, memories: list[Remembered]) -> None:
    """Assert that the past answers as the node did, byte for byte."""
    for memory in memories:
        subsystem = build_subsystem(memory.subsystem, here.loaded())
        with StoredNode(here.data).reader(memory.subsystem) as reader:
            stored = StoredJournal(memory.subsystem, reader, evolve_version=subsystem.declaration.evolve_version)
            (place,) = places(AtIndex(memory.subsystem, memory.index), [stored], [stored])
            answer = answer_from(subsystem, await rebuilt(subsystem, stored, place), memory.query)
            assert encode(answer) == memory.answer, memory
            if place.position:
                # The position that it was at is another name of the moment.
                (again,) = places(AtPosition(place.position), [stored], [stored])
                by_position = answer_from(subsystem, await rebuilt(subsystem, stored, again), memory.query)
                assert encode(by_position) == memory.answer, (memory, again)


async def test_the_past_of_a_running_node_answers_as_the_node_did(here: Place) -> None:
    here.settings |= {"feed.source": "dev", "feed.interval_ms": 300}
    here.settings |= {"limits.checkpoint_records": CHECKPOINT_RECORDS, "limits.checkpoints_kept": 1_000}
    memories: list[Remembered] = []
    async with Node.up(here) as node, node.client() as client:
        await eventually(lambda: here.run("query", "best", "--json").code == 0, "the feed has begun")
        made = here.run("make", "bundle", "--valid", "0-6", "--invalid", "7")
        await eventually(lambda: here.run("send", "register_vote", "-", stdin=made.out.encode()).code == 0, "votes_db takes the bundle")
        for _ in range(6):
            memories += [await asked(here, client, name, query) for name in DISPUTE_PATH for query in ASKED[name]]
            await anyio.sleep(0.3)
        stored = StoredNode(here.data)
        await eventually(lambda: stored.last_index("chain_api") > 2 * CHECKPOINT_RECORDS, "checkpoints are taken")
        # While it runs.
        await same_in_the_past(here, memories[-8:])
        last = (await history(client))[-1].sequence
        shown = here.run("replay", "--until", str(last - 20), "--json")
        assert shown.code == 0, shown
        assert {state["subsystem"] for state in shown.json["states"]} >= set(DISPUTE_PATH)
        assert any(state["from_index"] > 0 for state in shown.json["states"])
        moment = time_text(int(time.time() * 1000) - 5_000)
        then = here.run("query", "best", "--until", moment, "--json")
        assert then.code == 0, then
        assert then.json["number"] < here.run("query", "best", "--json").json["number"]
        between = here.run("diff", moment, "chain_api", "--json", "--limit", "1000")
        assert between.code == 0, between
        (levels,) = [table for table in between.json[0]["tables"] if table["table"] == "levels"]
        assert levels["added"] == len(levels["rows"]) == between.json[0]["events"]["block_recorded"]
        assert then.json["hash"] not in [row["key"][1] for row in levels["rows"]]
        assert "  levels: " in here.run("diff", moment, "chain_api").out
    # After it stopped.
    await same_in_the_past(here, memories)
    assert len({memory.answer for memory in memories}) > 3
    kept(here, memories[-1])


def kept(here: Place, memory: Remembered) -> None:
    """A rebuilt past in a folder: asked without a node, and nothing runs on it."""
    moment = f"{memory.subsystem}:{memory.index}"
    done = here.run("replay", "--until", moment, "--into", "then")
    assert done.code == 0, done
    assert "overseer query best --past then" in done.out
    body = json.dumps({"limit": 10})
    answers = [here.run("query", "list_conclusions", body, "--json", *where).json for where in (["--past", "then"], ["--until", moment])]
    assert answers[0] == answers[1]


def followed(file: Path) -> dict[str, list[int]]:
    """Indices by subsystem, in the order of their lines; a line that is being written is none."""
    found: dict[str, list[int]] = {}
    for line in file.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            record = json.loads(line)
            found.setdefault(record["subsystem"], []).append(record["index"])
    return found


async def test_a_follower_shows_every_record_once_whatever_becomes_of_the_node(here: Place) -> None:
    here.settings |= {"feed.source": "dev", "feed.interval_ms": 300, "limits.checkpoint_records": 30}
    out, said, stored = here.folder / "followed", here.folder / "said", StoredNode(here.data)

    def shown(name: str) -> int:
        return max(followed(out).get(name, [0]))

    async with Node.up(here) as node:
        with out.open("wb") as file, said.open("wb") as errors:
            follower = here.start("journal", "--follow", "--json", "--limit", "4", stdout=file, stderr=errors)
        reading = here.start("journal", "votes_db", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            await eventually(lambda: shown("votes_db") > 0 and shown("chain_api") > 0, "something is followed")
            assert reading.stdout is not None
            reading.stdout.close()
            # Its reader is gone, whether there is more to be said or not.
            await eventually(lambda: reading.poll() is not None, "it notices that nobody reads")
            assert reading.returncode == 141
            before = shown("chain_api")
            os.kill(node.pid("chain_api"), signal.SIGKILL)
            await eventually(lambda: shown("chain_api") > before + 10, "it goes on after the owner's restart")
            # The beginning of the journal goes meanwhile.
            await eventually(lambda: stored.first_index("chain_api") > before, "the journal is shortened")
            assert await node.stop() == 0
            async with Node.up(here):
                before = stored.last_index("chain_api")
                await eventually(lambda: shown("chain_api") > before + 3, "it goes on with the next run")
            last = {name: stored.last_index(name) for name in DISPUTE_PATH}
            await eventually(lambda: all(shown(name) == index for name, index in last.items()), "it shows all", log=said.read_text)
        finally:
            follower.send_signal(signal.SIGINT)
            reading.kill()
            assert reading.stderr is not None
            with reading.stderr:
                also = reading.stderr.read()
            follower.wait()
            reading.wait()
    assert (follower.returncode, said.read_text(), also) == (130, "", b"")
    for name, indices in followed(out).items():
        assert indices == list(range(indices[0], indices[-1] + 1)), name
