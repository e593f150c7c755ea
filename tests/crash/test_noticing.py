"""A caller whose subsystem dies under its command hears from the successor, within one call, and it has had one effect."""

import os
import signal
import time

import anyio
import pytest

from messages.codec import decode
from messages.scale import candidate_hash
from messages.votes_db import Outcome, QueryVotes, VotesRegistered, VotesSnapshot
from overseer.node.client import REQUEST_MS
from tests.crash.living import KILLED_OFTEN
from tests.node.nodes import Node, Place, ballots, eventually, history, told, verified

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.mark.slow
async def test_a_command_and_a_query_under_which_the_subsystem_dies_are_answered_by_its_successor(here: Place) -> None:
    here.settings |= KILLED_OFTEN
    made = ballots(2, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "bundle 0")
        outcomes: list[object] = []

        async def command() -> None:
            # No id of its own, and asked once.
            outcome = await client.request(made.bundles[1])
            assert outcome.reply is not None
            outcomes.append(decode(VotesRegistered.spec, outcome.reply))

        async def query() -> None:
            outcomes.append(
                await client.query(QueryVotes(session=1, candidate=candidate_hash(made.bundles[0].candidate)), timeout_ms=REQUEST_MS)
            )

        began = time.monotonic()
        pid = node.pid("votes_db")
        async with anyio.create_task_group() as tasks:
            # It takes no more notice of anything: both wait at a process that will never answer.
            os.kill(pid, signal.SIGSTOP)
            tasks.start_soon(command)
            tasks.start_soon(query)
            await anyio.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
        assert time.monotonic() - began < REQUEST_MS / 1000 - 2, "they waited for their time-out"
        (registered,) = [o for o in outcomes if isinstance(o, VotesRegistered)]
        assert [vote.outcome for vote in registered.outcomes] == [Outcome.STORED] * 10
        (snapshot,) = [o for o in outcomes if isinstance(o, VotesSnapshot)]
        assert len(snapshot.votes) == 10
        await eventually(lambda: here.run("status").code == 0, "all is well")
        assert sum(m.subject.endswith("evt.dispute_status_changed") for m in await history(client)) > 0
        assert await node.stop() == 0
    verified(here)
