"""Elections on a running node: by the command line, and under kills."""

import json
import os
import signal

import anyio
import pytest

from messages.ballots import BallotElection, CastBallot, CloseElection, GetBallotElection, OpenElection
from messages.codec import decode
from messages.elections import Recorded
from overseer.node.client import Client, Refused
from tests.node.asking import recorded_of
from tests.node.nodes import Node, Place, answered, eventually, told, verified

pytestmark = [pytest.mark.anyio, pytest.mark.real]

OPEN = OpenElection(election="mayor-2026", title="Mayor", choices=["Ada", "Grace"])


async def test_an_election_from_its_opening_to_its_result_by_the_command_line(here: Place) -> None:
    async with Node.up(here):

        async def said(*arguments: str) -> str:
            done = await anyio.to_thread.run_sync(here.run, "election", *arguments)
            assert done.code == 0, done
            return done.out

        await said("open", "mayor-2026", "--title", "Mayor", "--choice", "Ada", "--choice", "Grace", "--electorate", "4")
        for voter, choice in (("v1", "Ada"), ("v2", "Grace"), ("v3", "Ada")):
            await said("cast", "mayor-2026", voter, choice)
        refused = await anyio.to_thread.run_sync(here.run, "election", "cast", "mayor-2026", "v1", "Grace")
        assert (refused.code, refused.error.strip()) == (1, 'error: elections refused cast_ballot: already_cast {"round": 1}')
        await said("close", "mayor-2026")
        for voter in ("v1", "v2"):
            await said("validate", "mayor-2026", "--voter", voter)
        await said("invalidate", "mayor-2026", "--voter", "v3", "--reason", "blank")
        await said("validate", "mayor-2026")
        result = json.loads(await said("results", "mayor-2026", "--json"))
        assert (result["phase"], result["cast"], result["valid"], result["invalid"]) == ("valid", 3, 2, 1)
        assert result["tally"] == [
            {"choice": "Ada", "cast": 2, "valid": 1, "invalid": 1},
            {"choice": "Grace", "cast": 1, "valid": 1, "invalid": 0},
        ]
        shown = await said("results", "mayor-2026")
        assert "3 ballots of 4 (75.0%), 2 valid, 1 invalid" in shown
        events = [json.loads(line)["event"] for line in (await said("history", "mayor-2026", "--json")).splitlines()]
        assert events[0] == "election_opened"
        assert events.count("ballot_cast") == 3
        assert "archived from" in await said("show", "mayor-2026")
    verified(here)


@pytest.mark.slow
async def test_ballots_cast_while_the_subsystem_is_killed_count_once_each_as_acknowledged(here: Place) -> None:
    acknowledged: dict[str, int] = {}
    voters = [f"voter {n}" for n in range(120)]

    async def voting(client: Client) -> None:
        while voters:
            voter = voters.pop()
            command = CastBallot(election="mayor-2026", voter=voter.encode(), choice="Ada")
            outcome = await told(client, command, f"ballot of {voter}")
            recorded = recorded_of(outcome)
            acknowledged[voter] = recorded.sequence

    async with Node.up(here) as node, node.client() as client:
        await told(client, OPEN, "opening")
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(voting, client)
            for share in (30, 70):
                await eventually(lambda share=share: len(acknowledged) >= share, f"{share} ballots are acknowledged", log=node.text)
                os.kill(node.pid("elections"), signal.SIGKILL)
                await node.logged("child_started", child="elections", times=2 if share == 30 else 3)
        assert sorted(acknowledged.values()) == list(range(2, 122)), "each ballot has a number of its own"
        await told(client, CloseElection(election="mayor-2026"), "closing")
        answer = await answered(client, GetBallotElection(election="mayor-2026"))
        assert isinstance(answer, BallotElection)
        assert answer.rounds[0].cast == 120
        # The same id again: the outcome of the first time, and no second ballot.
        again = CastBallot(election="mayor-2026", voter=b"voter 5", choice="Ada")
        outcome = await client.request(again, command_id="ballot of voter 5.0")
        assert outcome.reply is not None
        assert decode(Recorded.spec, outcome.reply) == Recorded(election="mayor-2026", sequence=acknowledged["voter 5"], copies=1)
        with pytest.raises(Refused, match="wrong_phase"):
            await client.request(again)
    verified(here)
