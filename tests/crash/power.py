"""Power cuts in the middle of imports: NATS's data and all stores lie on one disk, whose unsynced writes are lost at one instant.

    python -m tests.crash.power --rounds 100 --json

A life is a node on one disk through several cuts. In each round votes are imported, some through awaited commands (acknowledged
by the subsystem after its commit), some put into the stream alone (acknowledged by the server), ballots are cast in one long election,
and a gateway queue goes round with the blocks of a chain: on the node itself or, in every third life, on five sites, all of which and
their log lose their power at once. At a random moment all processes are killed and the disk is left as a power cut leaves it. The next
round's node starts on it. Everything that was ever acknowledged must be there, and `verify` must find every store equal. At the end of a
life everything is sent again that was not acknowledged, and all of it must be there once. The journal of the queue is then compared with
a model of its rules.

`--without` breaks the node on purpose (and leaves the queue out), to show what the syncs are worth: `rocks` (no sync of the stores),
`nats` (the server's default sync_interval), or both.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import msgspec

from messages.ballots import BallotCast, CastBallot, OpenElection
from messages.codec import decode
from messages.elections import ElectionHistory, QueryHistory
from messages.gateway_queries import GetQueue, QueueReport
from messages.votes_db import RegisterVote
from overseer.feeds.make import make_block
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient
from tests.crash.damage_checks import paid, verdicts
from tests.crash.power_image import Disk, why_not
from tests.crash.queues import Queue
from tests.crash.queues_reckoning import QueueFound, course_problems, facts_told, shown
from tests.crash.report import show
from tests.crash.sites import sites_client
from tests.node.asking import outcome_of, recorded_of
from tests.node.nodes import DEADLINE_S, Ballots, Node, Place, answered, ballots, eventually, history, said_once, told, votes_of

__all__ = ["Figures", "cut_rounds"]

ROUNDS_PER_LIFE = 10
BUNDLES_PER_ROUND = 150
VALIDATORS = 6
SENDERS = 4
# Every so many bundles one is put into the stream without waiting.
INJECTED_EVERY = 4
# The cut comes in the middle of an import, however slow the machine: behind so many bundles, and a moment later.
BUNDLES_BEFORE_CUT = 20
RUN_S = (0.05, 1.5)
# Between the blocks of the chain that the queue follows, on average.
BLOCK_S = 0.1
# How long what is in the stream alone may take to be in the store.
BACK_S = 5.0
# Every so many rounds, first in the second, the power fails while the node starts.
CUT_AT_START_EVERY = 5

# Subsystems as processes of their own, in one, and with the elections on five sites.
FIVE = ("--sites", "5")
HOWS = ((), ("--in-process",), FIVE)
ELECTION = "power"

# Put before everything else on the path of the node's processes.
UNSYNCED = """
import os
from tests.node.asking import outcome_of, recorded_of

broken = os.environ.get("OVERSEER_TEST_WITHOUT", "").split("+")
if "rocks" in broken:
    from overseer.rocks.store import RocksStore

    RocksStore._flush = lambda self: None
if "nats" in broken:
    from overseer.nats import server
    from overseer.nats.provision import Provisioner

    config = server.server_config
    server.server_config = lambda *given: config(*given).replace('"sync_interval": "always"', '"sync_interval": "2m"')

    async def verify(self, *given, **named):
        pass

    Provisioner.verify = verify
"""


class Figures(msgspec.Struct, kw_only=True):
    """What the rounds have shown."""

    rounds: int = 0
    # Bundles of votes acknowledged by a subsystem, and by the stream alone.
    acknowledged: int = 0
    appended: int = 0
    # Of those, not there after a cut.
    lost: int = 0
    lost_appended: int = 0
    # Ballots acknowledged; and of those, not there after a cut.
    ballots: int = 0
    lost_ballots: int = 0
    # Commands to the gateway queue that were accepted; those not there after a cut; its rounds that were closed; requests executed.
    queue_accepted: int = 0
    lost_queue: int = 0
    rounds_closed: int = 0
    executed: int = 0
    # Bytes of the stores' logs and of the stream that were written and not synced when the power was cut.
    unsynced_bytes: int = 0
    # Cuts before the node was up.
    cut_at_start: int = 0
    copies_repeated: int = 0
    faults: list[str] = []
    seconds: float = 0.0


class PowerPlace(Place):
    """A place whose node has its data on the disk; `without` names the syncs that are left out."""

    def __init__(self, folder: Path, data: Path, without: str) -> None:
        super().__init__(folder, **{"supervise.backoff_first_ms": 20, "supervise.backoff_max_ms": 50})
        self.data = data
        self.without = without
        self._mutants = folder / "mutants"
        self._mutants.mkdir()
        (self._mutants / "sitecustomize.py").write_text(UNSYNCED)

    @property
    def environment(self) -> dict[str, str]:
        told = super().environment
        if not self.without:
            return told
        return {**told, "PYTHONPATH": f"{self._mutants}{os.pathsep}{told['PYTHONPATH']}", "OVERSEER_TEST_WITHOUT": self.without}


class Life:
    """One disk, one node, several cuts."""

    def __init__(self, place: PowerPlace, disk: Disk, made: Ballots, chance: random.Random, figures: Figures, *how: str) -> None:
        """`how`: further arguments of `overseer run`."""
        self.how = how
        self.place = place
        self.disk = disk
        self.made = made
        self.chance = chance
        self.figures = figures
        self.left = list(range(len(made.bundles)))
        self.acknowledged: set[int] = set()
        self.appended: set[int] = set()
        # Acknowledged ballots: the numbers of their events.
        self.ballots: dict[int, int] = {}
        self._voter = 0
        self.queue = Queue("queue", chance, pause_s=0.05)
        self._chain = [made.opening]

    async def start_cut(self) -> None:
        """The power fails while the node starts."""
        node = Node.start(self.place, *self.how)
        await anyio.sleep(self.chance.uniform(0.3, 2.0))
        self._cut()
        await node.ended()
        self.figures.cut_at_start += 1

    async def round(self) -> None:
        """Start, look at what there should be, import, cut."""
        async with Node.up(self.place, *self.how) as node, node.client() as client:
            await self._look(client)
            electors = self._electors(node, client)
            await self._look_at_ballots(electors)
            await self._look_at_queue(electors)
            async with anyio.create_task_group() as tasks:
                for _ in range(SENDERS):
                    tasks.start_soon(self._send, client)
                tasks.start_soon(self._vote, electors)
                if not self.place.without:
                    tasks.start_soon(self._grow, client)
                    tasks.start_soon(self.queue.run, partial(outcome_of, electors), partial(answered, electors))
                wanted = len(self.acknowledged) + len(self.appended) + BUNDLES_BEFORE_CUT
                await eventually(lambda: len(self.acknowledged) + len(self.appended) >= wanted or not self.left, "the import is under way")
                await anyio.sleep(self.chance.uniform(*RUN_S))
                # In the middle of it: nothing here runs until it is done.
                self._cut()
                tasks.cancel_scope.cancel()

    def _cut(self) -> None:
        self.place.kill_everything()
        before = self._bytes()
        self.disk.cut()
        self.figures.unsynced_bytes += before - self._bytes()
        self.figures.rounds += 1
        self.figures.copies_repeated, self.disk.retries = self.figures.copies_repeated + self.disk.retries, 0

    def _bytes(self) -> int:
        found = [*self.place.data.glob("stores/*/*.log"), *self.place.data.glob("nats/jetstream/**/*.blk")]
        return sum(file.stat().st_size for file in found)

    async def end(self) -> None:
        """After the last cut: the rest is sent, and all of it must be there, once."""
        async with Node.up(self.place, *self.how) as node, node.client() as client:
            await self._look(client)
            electors = self._electors(node, client)
            await self._look_at_ballots(electors)
            if not self.place.without:
                await self._end_queue(client, electors)
            for number in sorted(set(range(len(self.made.bundles))) - self.acknowledged):
                if number in self.appended or number not in self.left:
                    await told(client, self.made.bundles[number], f"bundle {number}")
            sent = [bundle for number, bundle in enumerate(self.made.bundles) if number not in self.left]
            wanted = sum(len(bundle.explicit_votes) for bundle in sent)
            if (found := await paid(client, wanted)) != wanted:
                self.figures.faults.append(f"{found} votes are paid for, not {wanted}")
            messages = await history(client)
            # Of several sites the next writer may tell the last facts again.
            said_once([each for each in messages if self.how != FIVE or each.subject.split(".")[2] != "elections"])
            self._equal(await verdicts(self.place.loaded()))
            if await node.stop() != 0:
                self.figures.faults.append("the node did not end in order")
        if not self.place.without and self.how != FIVE:
            self.figures.faults += course_problems(self.place, self.queue, messages, self._chain[-1].hash)

    async def _look(self, client: Client) -> None:
        """Is everything there that was acknowledged?"""
        if not self.acknowledged and not self.appended:
            await told(client, self.made.opening, "opening")
        # A store that was broken on purpose gets it back from the stream.
        wait_s = BACK_S if self.place.without else 0.0
        lost = [number for number in sorted(self.acknowledged) if not await self._stored(client, self.made.bundles[number], wait_s)]
        # What the stream alone had acknowledged is taken in a moment.
        missing = [number for number in sorted(self.appended) if not await self._stored(client, self.made.bundles[number], BACK_S)]
        self._equal(await verdicts(self.place.loaded()))
        self.figures.lost += len(lost)
        self.figures.lost_appended += len(missing)
        # A life goes on after a loss: each is counted once.
        self.acknowledged -= set(lost)
        self.appended -= set(missing)

    def _electors(self, node: Node, client: Client) -> Client | SitesClient:
        return sites_client(client, node.info.sites) if node.info.sites else client

    async def _look_at_ballots(self, electors: Client | SitesClient) -> None:
        """Each one that was acknowledged is under its number, and nobody's is there twice."""
        await outcome_of(electors, OpenElection(election=ELECTION, title="?", choices=["yes"]), "opening the polls")
        wanted = {sequence: f"voter {number}".encode() for number, sequence in self.ballots.items()}
        # A site that was behind when the power failed reads the log; a store that was broken on purpose, the stream.
        deadline = time.monotonic() + (BACK_S if self.place.without or self.how == FIVE else 0.0)
        while True:
            found = await _cast(electors)
            lost = {sequence: voter for sequence, voter in wanted.items() if found.get(sequence) != voter}
            if not lost or time.monotonic() >= deadline:
                break
            await anyio.sleep(0.05)
        self.figures.lost_ballots += len(lost)
        self.ballots = {number: sequence for number, sequence in self.ballots.items() if sequence not in lost}
        if len(set(found.values())) != len(found):
            self.figures.faults.append(f"a voter is there twice: {sorted(found.values())}"[:300])

    async def _vote(self, electors: Client | SitesClient) -> None:
        while True:
            number, self._voter = self._voter, self._voter + 1
            ballot = CastBallot(election=ELECTION, voter=f"voter {number}".encode(), choice="yes")
            self.ballots[number] = recorded_of(await outcome_of(electors, ballot, f"voter {number}")).sequence
            self.figures.ballots += 1

    # -------------------------------------------------------------------------------------------- the queue

    async def _grow(self, client: Client) -> None:
        """A block that was under way when the power failed is sent again, under its id."""
        while True:
            await anyio.sleep(self.chance.uniform(0, 2 * BLOCK_S))
            await self._add_block(client)

    async def _add_block(self, client: Client) -> None:
        above = self._chain[-1]
        block = make_block(above.hash, above.number + 1, session=1, epoch_start=1)
        await told(client, block, f"block {block.number}")
        self._chain.append(block)

    async def _look_at_queue(self, electors: Client | SitesClient) -> QueueFound | None:
        """Every command that was accepted is there, once, and nothing of stakes and requests got lost; None without a queue."""
        if self.place.without or not self.queue.accepted:
            return None
        # What the chain makes due may be done just now; and a site that was behind when the power failed reads the log.
        deadline = time.monotonic() + BACK_S
        while (found := await shown(partial(answered, electors), self.queue)).problems and time.monotonic() < deadline:
            await anyio.sleep(0.05)
        self.figures.lost_queue += len(found.lost)
        self.figures.faults += [*found.doubled, *found.wrong]
        return found

    async def _end_queue(self, client: Client, electors: Client | SitesClient) -> None:
        """Everything said is acknowledged, the queue knows the chain to its end, and the world was told of its course."""
        answer = partial(answered, electors)
        self.queue.end()
        await self.queue.run(partial(outcome_of, electors), answer)
        # The one that was under way, or the next.
        await self._add_block(client)
        with anyio.fail_after(DEADLINE_S):
            while True:
                report = await answer(GetQueue(election=self.queue.key))
                assert isinstance(report, QueueReport)
                if report.height == self._chain[-1].number:
                    break
                await anyio.sleep(0.05)
        found = await self._look_at_queue(electors)
        assert found is not None
        deadline = time.monotonic() + BACK_S
        while missing := found.facts ^ facts_told(self.queue.key, await history(client)).keys():
            if time.monotonic() >= deadline:
                break
            await anyio.sleep(0.1)
            # What the last block makes due may be done just now, and who answers may be a little behind.
            found = await shown(answer, self.queue)
        self.figures.queue_accepted += len(self.queue.accepted)
        self.figures.rounds_closed += found.closed
        self.figures.executed += found.executed
        self.figures.faults += [f"queue: {fact} is in one of events and stream only" for fact in sorted(missing)]

    async def _stored(self, client: Client, bundle: RegisterVote, wait_s: float = 0.0) -> bool:
        deadline = time.monotonic() + wait_s
        while True:
            with suppress(Refused):
                if len((await votes_of(client, bundle)).votes) == len(bundle.explicit_votes):
                    return True
            if time.monotonic() >= deadline:
                return False
            await anyio.sleep(0.02)

    def _equal(self, found: dict[str, list[str]]) -> None:
        self.figures.faults += [f"verify {name}: {text}" for name, faults in found.items() for text in faults]

    async def _send(self, client: Client) -> None:
        while self.left:
            number = self.left.pop(0)
            bundle = self.made.bundles[number]
            try:
                if number % INJECTED_EVERY == 0:
                    await client.inject(bundle, command_id=f"bundle {number}.0")
                    self.appended.add(number)
                    self.figures.appended += 1
                else:
                    await client.request(bundle, command_id=f"bundle {number}.0", timeout_ms=3_000)
                    self.acknowledged.add(number)
                    self.figures.acknowledged += 1
            except (BusError, Refused) as error:
                self.figures.faults.append(f"bundle {number} while nothing was broken: {error}")


async def _cast(electors: Client | SitesClient) -> dict[int, bytes]:
    """All ballots that are shown: who voted, by the numbers of the events. The first event is the opening.

    A site that was behind when the power failed does not know the election before it has read the log.
    """
    found, start, more = dict[int, bytes](), 2, True
    while more:
        try:
            page = await electors.query(QueryHistory(election=ELECTION, start=start))
        except Refused as refused:
            if refused.code != "unknown_election":
                raise
            return {}
        assert isinstance(page, ElectionHistory)
        for row in page.events:
            event = decode(BallotCast.spec, row.body, version=row.version)
            assert isinstance(event, BallotCast)
            found[row.sequence], start = event.voter, row.sequence + 1
        more = page.more
    return found


async def _live(life: Life, rounds: int) -> None:
    for number in range(rounds):
        await (life.start_cut() if number % CUT_AT_START_EVERY == 1 else life.round())
    await life.end()


async def cut_rounds(
    folder: Path, rounds: int, *, seed: int = 0, without: str = "", life: int = ROUNDS_PER_LIFE, first: int = 1
) -> Figures:
    """Cut the power `rounds` times. `folder` is emptied by the caller. `first`: which of HOWS the first life is."""
    figures = Figures()
    chance = random.Random(seed)
    began = time.monotonic()
    made = ballots(BUNDLES_PER_ROUND * min(rounds, life), VALIDATORS)
    number = first - 1
    while figures.rounds < rounds:
        home = folder / f"life-{number}"
        number += 1
        home.mkdir()
        with Disk(home) as disk:
            place = PowerPlace(home, disk.mount / "data", without)
            try:
                await _live(Life(place, disk, made, chance, figures, *HOWS[number % len(HOWS)]), min(life, rounds - figures.rounds))
            except AssertionError as error:
                figures.faults.append(f"life {number}, round {figures.rounds}: {str(error)[-1000:]}")
            finally:
                place.kill_everything()
        shutil.rmtree(home, ignore_errors=True)
        print(f"{figures.rounds} of {rounds}: {figures.acknowledged} acknowledged, {figures.lost} lost", file=sys.stderr, flush=True)
    figures.seconds = round(time.monotonic() - began, 1)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power in the middle of imports, and count.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", default="", help="leave out syncs: rocks, nats or rocks+nats")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if reason := why_not():
        print(f"no power can be cut here: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="overseer-power-", ignore_cleanup_errors=True) as folder:
        figures = anyio.run(lambda: cut_rounds(Path(folder), given.rounds, seed=given.seed, without=given.without))
    show(figures, as_json=given.json)
    return 1 if figures.lost or figures.lost_appended or figures.lost_ballots or figures.lost_queue or figures.faults else 0


if __name__ == "__main__":
    sys.exit(main())
