"""A stream full of commands that nobody has processed: refused aloud, recovered from without help, nothing acknowledged lost."""

import os
import signal

import anyio
import pytest

from messages.votes_db import RegisterVote
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusError, StreamFull
from tests.node.nodes import Node, Place, ballots, eventually, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]


async def fill(client: Client, bundles: list[RegisterVote]) -> tuple[list[RegisterVote], list[BusError]]:
    """Append them one after the other, without waiting for outcomes, until the stream refuses one; what it acknowledged."""
    stored: list[RegisterVote] = []
    refusals: list[BusError] = []
    for number, bundle in enumerate(bundles):
        try:
            await client.inject(bundle, command_id=f"raw {number}")
            stored.append(bundle)
        except BusError as error:
            refusals.append(error)
            if len(refusals) >= 3:
                break
    return stored, refusals


async def stored_votes(client: Client, bundle: RegisterVote) -> int:
    """How many of its votes are stored; none while its dispute is not known yet."""
    try:
        return len((await votes_of(client, bundle)).votes)
    except Refused as refused:
        if refused.code != "unknown_dispute":
            raise
        return 0


async def all_there(client: Client, stored: list[RegisterVote]) -> None:
    """Every acknowledged bundle's votes are stored."""
    with anyio.fail_after(60):
        for bundle in stored:
            while await stored_votes(client, bundle) < len(bundle.explicit_votes):
                await anyio.sleep(0.05)


@pytest.mark.slow
async def test_a_stream_filled_while_a_subsystem_stands_still_drains_by_itself(here: Place) -> None:
    """Not even one reaction fits: the acknowledged commands themselves must be trimmed before anything can be told."""
    limit = 200
    # Whichever is met first, the quota of commands or the limit itself.
    here.settings |= {"nats.stream_messages_max": limit, "nats.history_messages": 1_000, "nats.trim_ms": 200}
    made = ballots(limit + 22, 4)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        # Asked again until the session is known: what is appended from here on is accepted.
        await told(client, made.bundles[-2], "before")
        os.kill(node.pid("votes_db"), signal.SIGSTOP)
        try:
            stored, refusals = await fill(client, made.bundles[:-2])
        finally:
            os.kill(node.pid("votes_db"), signal.SIGCONT)
        assert refusals, "the stream took everything"
        assert all(isinstance(error, StreamFull) or "nearly full" in str(error) for error in refusals), refusals
        await all_there(client, stored)
        # Back to normal: an awaited command goes through.
        await told(client, made.bundles[-1], "afterwards")
        await eventually(lambda: here.run("status").code == 0, "all is well again")
        assert node.events("child_failed") == []
    verified(here)
