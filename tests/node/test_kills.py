"""Whatever is killed, at whatever moment: what was acknowledged is there, once, and everything that follows from it."""

import os
import signal
from functools import partial

import anyio
import pytest

from messages.chain_api import GovernanceReport, GovernanceStatus, PendingTransactions, TransactionPool
from messages.dispute_conclusion import Conclusion, ConclusionState, GetConclusion
from messages.votes_db import DisputeStatus, RegisterVote
from overseer.demo.playing import find_out, play
from overseer.feeds.devchain import DevChain, Shape
from overseer.node.client import Client, Refused
from overseer.runner.observer import Step
from tests.node.nodes import (
    DISPUTE_PATH,
    SUBSYSTEMS,
    Ballots,
    Node,
    Place,
    answered,
    ballots,
    eventually,
    history,
    said_once,
    told,
    verified,
    votes_of,
)

pytestmark = [pytest.mark.anyio, pytest.mark.real]

PROCESSES = (*SUBSYSTEMS, "nats-server")


class Import:
    """Sends all bundles, several at a time; counts what was acknowledged."""

    def __init__(self, place: Place, made: Ballots, *, at_once: int) -> None:
        self.place = place
        self.made = made
        self.acknowledged = 0
        self._left = list(enumerate(made.bundles))
        self._at_once = at_once

    async def run(self, client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(self._at_once):
                tasks.start_soon(self._send, client)

    async def _send(self, client: Client) -> None:
        while self._left:
            number, bundle = self._left.pop(0)
            await told(client, bundle, f"bundle {number}")
            self.acknowledged += 1

    async def reached(self, share: float) -> None:
        await eventually(lambda: self.acknowledged >= share * len(self.made.bundles), f"{share} of the import")


async def concluded(client: Client, bundle: RegisterVote) -> bool:
    """Whether the process that follows the dispute has come to its end; a subsystem just restarted may not know it yet."""
    try:
        conclusion = await answered(client, GetConclusion(session=1, candidate=bundle.candidate_hash))
    except Refused as refused:
        if refused.code != "unknown_conclusion":
            raise
        return False
    return isinstance(conclusion, Conclusion) and conclusion.state is ConclusionState.VALID


async def complete(client: Client, made: Ballots) -> None:
    """Every vote is stored, every dispute concluded, every transaction in the pool; nothing twice."""
    voters = len(made.bundles[0].explicit_votes)
    for bundle in made.bundles:
        votes = await votes_of(client, bundle)
        assert (votes.status, len(votes.pro), len(votes.cons)) == (DisputeStatus.CONCLUDED_FOR, voters - 1, 1)
    with anyio.fail_after(60):
        while True:
            pool = await answered(client, PendingTransactions(limit=1))
            assert isinstance(pool, TransactionPool)
            if pool.total == made.votes:
                break
            assert pool.total < made.votes, "a vote was paid twice"
            await anyio.sleep(0.05)
        for bundle in made.bundles:
            while not await concluded(client, bundle):
                await anyio.sleep(0.05)
    said_once(await history(client))


def killed(node: Node, victim: str) -> bool:
    """Kill it, unless it is only just being restarted."""
    try:
        os.kill(node.pid(victim), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def import_with_kills(here: Place, made: Ballots, victims: tuple[str, ...]) -> None:
    """Kill each of `victims` once in the course of the import."""
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        importing = Import(here, made, at_once=4)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(importing.run, client)
            for i, victim in enumerate(victims):
                await importing.reached((i + 1) / (len(victims) + 1))
                await eventually(partial(killed, node, victim), f"there is a {victim} to be killed")
        assert importing.acknowledged == len(made.bundles)
        await complete(client, made)
        for victim in victims:
            event, field = ("nats_started", {}) if victim == "nats-server" else ("child_started", {"child": victim})
            await node.logged(event, times=2, **field)
        assert await node.stop() == 0
    verified(here)


@pytest.mark.slow
async def test_every_process_killed_once_in_the_import_of_a_thousand_votes(here: Place) -> None:
    await import_with_kills(here, ballots(50, 20), PROCESSES)


# The other pairs take as long each, and go the same way.
OFTEN_KILLED = (("votes_db", 100), ("dispute_conclusion", 10), ("nats-server", 100))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "bundles"),
    [
        pytest.param(victim, bundles, marks=[] if (victim, bundles) in OFTEN_KILLED else pytest.mark.full)
        for victim in PROCESSES
        for bundles in (100, 10)
    ],
)
async def test_a_process_killed_three_times_in_the_import_of_ten_thousand_votes(here: Place, victim: str, bundles: int) -> None:
    await import_with_kills(here, ballots(bundles, 10_000 // bundles), (victim,) * 3)


async def overseer_killed(here: Place, made: Ballots) -> None:
    """The overseer dies: so does everything of it, at once; it is started again by hand."""
    async with anyio.create_task_group() as tasks:
        node = Node.start(here)
        await node.ready()
        async with node.client() as client:
            await told(client, made.opening, "opening")
            importing = Import(here, made, at_once=4)
            tasks.start_soon(importing.run, client)
            await importing.reached(0.4)
            node.kill()
            await eventually(lambda: not here.processes(), "nothing of it is left")
            async with Node.up(here) as again:
                await importing.reached(1)
                await complete(client, made)
                assert await again.stop() == 0
    verified(here)


@pytest.mark.slow
async def test_the_overseer_killed_in_the_import(here: Place) -> None:
    await overseer_killed(here, ballots(50, 20))


@pytest.mark.full
async def test_the_overseer_killed_in_the_import_of_ten_thousand_votes(here: Place) -> None:
    await overseer_killed(here, ballots(100, 100))


SMALL = Shape(
    validators=4,
    sessions=2,
    session_blocks=6,
    churn=1,
    candidates_per_block=1,
    disputes_for=1,
    disputes_against=1,
    subtree_depth=3,
    blocks_after=2,
)
# A step of a subsystem, and at which of its batches.
KILLS = [(name, step, 3 if name == "dispute_conclusion" else 6) for name in DISPUTE_PATH for step in Step]
QUICK_KILLS = [("votes_db", Step.COMMITTED, 6), ("dispute_conclusion", Step.PUBLISHED, 3)]


async def story_with_a_kill(here: Place, name: str, step: Step, count: int) -> None:
    story = DevChain("kills", SMALL).story()
    here.settings |= {"genesis": story.genesis.hex(), "governance.authority": story.authority.public.hex()}
    made = here.folder / "killed"
    async with Node.up(here, env={"OVERSEER_TEST_KILL_AT": f"{name} {step.value} {count} {made}"}) as node, node.client() as client:
        await play(client, story, lambda *_: None)
        outcome = await find_out(client, story)
        assert outcome.differences == []
        assert made.exists(), "it was never killed"
        failed = await node.logged("child_failed", child=name)
        assert "SIGKILL" in failed["cause"]
        said_once(await history(client))
        report = await answered(client, GovernanceStatus())
        assert isinstance(report, GovernanceReport)
        await eventually(lambda: here.run("status").code == 0, "all is well again")
        assert await node.stop() == 0
    verified(here)


@pytest.mark.parametrize(("name", "step", "count"), QUICK_KILLS)
async def test_killed_at_a_step_of_the_runner_it_goes_on_as_if_nothing_had_been(here: Place, name: str, step: Step, count: int) -> None:
    await story_with_a_kill(here, name, step, count)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step", "count"), [kill for kill in KILLS if kill not in QUICK_KILLS])
async def test_killed_at_every_other_step_of_every_subsystem(here: Place, name: str, step: Step, count: int) -> None:
    await story_with_a_kill(here, name, step, count)
