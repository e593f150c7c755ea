"""A site that lost its store while people vote, with real processes: the others write until it has its copies again (B16)."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from messages.ballots import BallotElection, CastBallot, GetBallotElection, OpenElection
from overseer.sites.client import SitesClient
from overseer.sites.layout import sites_of
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.runtime.placement import placed
from tests.node.asking import recorded_of
from tests.node.nodes import Node, Place, place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

KEY = "mayor-2026"
BEFORE, VOTERS = 400, 4
# Nobody may wait longer for the outcome of a ballot: a lease of three seconds, its being noticed, and a new writer, on a busy machine.
ANSWERED_S = 8.0


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path, subsystems="elections", elections__sites=5) as made:
        yield made


class Votes:
    """Ballots that are cast, and how long each took."""

    def __init__(self, client: SitesClient) -> None:
        self.client = client
        self.recorded: list[int] = []
        self.longest_s = 0.0
        self._number = 0

    async def cast(self) -> None:
        self._number += 1
        began = anyio.current_time()
        ballot = CastBallot(election=KEY, voter=b"voter %d" % self._number, choice="Ada")
        outcome = await self.client.request(ballot, command_id=f"ballot {self._number}")
        reply = recorded_of(outcome)
        self.longest_s = max(self.longest_s, anyio.current_time() - began)
        self.recorded.append(reply.sequence)

    async def until(self, enough: anyio.Event) -> None:
        while not enough.is_set():
            await self.cast()
            await anyio.sleep(0.02)


async def test_B16_every_ballot_is_answered_soon_while_the_writers_store_is_lost_and_it_comes_back_as_writer(here: Place) -> None:
    topology = sites_of(ElectionsConfig(sites=5)).topology
    assert topology is not None
    writer = placed(topology, KEY).writer
    # Its store is to be gone before it is back.
    async with Node.up(here, env={"OVERSEER_SUPERVISE_BACKOFF_FIRST_MS": "1000"}) as node, node.client() as asking:
        client = SitesClient(asking.connection, asking.node, node.info.sites, patience_s=60)
        await client.request(OpenElection(election=KEY, title="Mayor", choices=["Ada", "Grace"]))
        votes, back = Votes(client), anyio.Event()

        async def some() -> None:
            while len(votes.recorded) < BEFORE:
                await votes.cast()

        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(some)
        votes.longest_s = 0.0
        async with anyio.create_task_group() as tasks:
            for _ in range(VOTERS):
                tasks.start_soon(votes.until, back)
            os.kill(node.pid(f"elections_{writer}"), signal.SIGKILL)
            shutil.rmtree(here.data / "stores" / f"elections_{writer}")
            await node.logged("child_started", child=f"elections_{writer}", times=2)
            with anyio.fail_after(90):
                while (report := (await client.copies(KEY))[writer]) is None or not report.serving or report.head.sequence <= BEFORE:
                    await anyio.sleep(0.1)
            back.set()
        assert votes.longest_s < ANSWERED_S
        assert sorted(votes.recorded) == list(range(2, len(votes.recorded) + 2)), "each once, none lost"
        with anyio.fail_after(30):
            while {report and report.head.sequence for report in (await client.copies(KEY)).values()} != {len(votes.recorded) + 1}:
                await anyio.sleep(0.1)
        assert len({report.head.digest for report in (await client.copies(KEY)).values() if report is not None}) == 1
        found = await client.query(GetBallotElection(election=KEY))
        assert isinstance(found, BallotElection)
        assert found.rounds[-1].cast == len(votes.recorded)
