"""Five sites as processes, and what may go wrong with their disks, log and time: nothing acknowledged is lost, and it is said."""

import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import anyio
import pytest

from messages.ballots import CastBallot, OpenElection
from messages.elections import OfElection, Recorded
from overseer.node.client import Refused
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient
from tests.crash.damage import Figures
from tests.crash.power_image import SmallDisk, why_not
from tests.crash.site_damage import SiteSample, inject, prepared
from tests.crash.site_stores import store_problems
from tests.crash.sites import crash_sites
from tests.node.asking import outcome_of, recorded_of
from tests.node.nodes import Node, Place, eventually, place, readiness
from tests.sites.test_site_processes import MEMBERS, OPEN, WRITER, ballot, cast, done, level, people, send

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

# A ballot that is cast while there is no log.
LIMBO = 1_000_000
USERS = [f"elections_{site}" for site in sorted(MEMBERS)]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path, subsystems="elections", elections__sites=5) as made:
        yield made


class Voting:
    """Ballots for as long as the block lasts, by several clients at once; what was acknowledged, by number."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, int] = {}
        self._next = 0
        self._ended = False

    @asynccontextmanager
    async def going_on(self, node: Node, *, clients: int = 3) -> AsyncIterator[None]:
        self._ended = False
        async with people(node, patience_s=2.0) as client, anyio.create_task_group() as tasks:
            for _ in range(clients):
                tasks.start_soon(self._vote, client)
            yield
            self._ended = True

    async def _vote(self, client: SitesClient) -> None:
        while not self._ended:
            number, self._next = self._next, self._next + 1
            self.acknowledged[number] = (await persistent(client, ballot(number), f"ballot {number}")).sequence

    async def more(self, count: int, node: Node) -> None:
        wanted = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= wanted, f"{wanted} ballots are acknowledged", log=node.text)

    async def settled(self, client: SitesClient) -> None:
        """The ballot whose outcome nobody knew: it may have come to life with a new log, and has one effect either way."""
        self.acknowledged[LIMBO] = (await persistent(client, ballot(LIMBO), "limbo")).sequence

    async def counted(self, client: SitesClient) -> None:
        """All of them are there, each once, at every site."""
        assert sorted(self.acknowledged.values()) == list(range(2, len(self.acknowledged) + 2))
        await level(client, len(self.acknowledged) + 1)
        for site in sorted(MEMBERS):
            client.sites = (site,)
            assert await cast(client) == len(self.acknowledged)


async def persistent(client: SitesClient, command: OfElection, id: str) -> Recorded:
    """Acknowledged under this id, whatever is wrong meanwhile."""
    return recorded_of(await outcome_of(client, command, id))


async def refused(node: Node, command: OfElection, id: str, code: str) -> None:
    """Some site refuses it with this code, in the end."""
    async with people(node, patience_s=2.0) as client:
        with anyio.fail_after(60):
            while True:
                try:
                    await done(client, command, id)
                except Refused as error:
                    if error.code == code:
                        return
                except BusError:
                    pass
                await anyio.sleep(0.02)


# ------------------------------------------------------------------------------------------------ damaged stores


def rotten(store: Path) -> None:
    """A bit flips in every table, where rows are."""
    for file in store.glob("*.sst"):
        data = bytearray(file.read_bytes())
        data[len(data) // 4] ^= 0x10
        file.unlink()
        file.write_bytes(data)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SiteSample:
    """A node with five sites that has run and was killed. Work on copies."""
    return anyio.run(prepared, tmp_path_factory.mktemp("sample"))


async def test_a_sample_of_damage_to_a_node_with_five_sites_is_named_or_harmless(sample: SiteSample, tmp_path: Path) -> None:
    figures = Figures()
    began = time.monotonic()
    for number in range(12):
        if time.monotonic() - began < 30:
            await inject(sample, tmp_path, number, 1, figures)
    assert not figures.wrong, figures.wrong
    assert figures.outcomes.get("refused"), figures


async def test_a_damaged_store_of_a_site_is_refused_by_name_set_aside_by_repair_and_filled_again_from_the_others(here: Place) -> None:
    voting = Voting()
    for life in range(2):
        async with Node.up(here) as node, people(node) as client:
            if not life:
                await done(client, OPEN)
            async with voting.going_on(node):
                await voting.more(20, node)
            await voting.counted(client)
    user, healthy = f"elections_{WRITER}", f"elections_{MEMBERS[1]}"
    rotten(here.data / "stores" / user)
    found = here.run("verify")
    assert found.code == 1
    assert f"`overseer repair {user} --replay`" in found.out
    started = here.run("run")
    assert started.code == 1
    assert f"`overseer repair {user} --replay`" in started.error
    assert "Traceback" not in started.error
    # Not by guessing: which site, how, and only one that is damaged.
    for argv, text in (
        (("repair", "elections", "--replay"), "Name the one whose store is damaged"),
        (("repair", user, "--from", "x"), "needs no copy"),
        (("repair", user), "Say how"),
    ):
        not_done = here.run(*argv)
        assert (not_done.code, text in not_done.error) == (2, True), not_done
    assert here.run("repair", healthy, "--replay", "--json").json["method"] == "nothing"
    tried = here.run("repair", user, "--replay", "--dry-run", "--json").json
    assert (tried["method"], tried["aside"]) == ("replay", "")
    mended = here.run("repair", user, "--replay", "--json").json
    assert Path(mended["aside"]).is_dir()
    async with Node.up(here) as node, people(node) as client:
        await voting.counted(client)
        client.sites = (WRITER,)
        await voting_goes_on(voting, node, client)
    verdicts = here.run("verify", "--json")
    assert {row["subsystem"]: row["ok"] for row in verdicts.json} == dict.fromkeys(USERS, True), verdicts
    assert await store_problems(here.data, USERS) == []


async def voting_goes_on(voting: Voting, node: Node, client: SitesClient) -> None:
    async with voting.going_on(node):
        await voting.more(10, node)
    client.sites = node.info.sites
    await voting.counted(client)


# ------------------------------------------------------------------------------------------------ the log


def log_of(here: Place) -> Path:
    (found,) = (here.data / "nats").rglob("streams/OVERSEER_LOG_node")
    return found


async def test_the_log_deleted_under_running_sites_the_best_copy_becomes_the_truth_and_nothing_acknowledged_is_lost(here: Place) -> None:
    here.settings |= {"supervise.backoff_first_ms": 1_500, "supervise.backoff_max_ms": 1_500}
    voting = Voting()
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        async with voting.going_on(node):
            await voting.more(20, node)
        os.kill(node.pid("nats-server"), signal.SIGKILL)
        shutil.rmtree(log_of(here))
        await node.logged("nats_started", times=2)
        async with people(node, patience_s=1.0) as hasty:
            with pytest.raises((Refused, BusError)):
                await done(hasty, ballot(LIMBO), "limbo")
        # It is made anew at the node's next start.
        assert await node.stop() == 0
    async with Node.up(here) as node, people(node) as client:
        await voting.settled(client)
        async with voting.going_on(node):
            await voting.more(5, node)
        await node.logged("log_replaced")
        await voting.counted(client)


async def test_the_log_shortened_under_running_sites_stops_the_election_by_name_and_is_made_anew_by_repair(here: Place) -> None:
    here.settings |= {"supervise.backoff_first_ms": 1_500, "supervise.backoff_max_ms": 1_500}
    voting = Voting()
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        async with voting.going_on(node):
            await voting.more(30, node)
        await level(client, len(voting.acknowledged) + 1)
        os.kill(node.pid("nats-server"), signal.SIGKILL)
        block = sorted(log_of(here).glob("msgs/*.blk"))[-1]
        os.truncate(block, block.stat().st_size // 2)
        await node.logged("nats_started", times=2)
        await refused(node, ballot(LIMBO), "limbo", "key_stopped")
        assert "the log was shortened" in (await node.logged("election_stopped"))["reason"]
        # Another election is not harmed, at any site; and it is said where people look.
        await persistent(client, OpenElection(election="council", title="Council", choices=["yes"]), "council")
        await persistent(client, CastBallot(election="council", voter=b"ann", choice="yes"), "ann")
        with anyio.fail_after(30):
            while {report.head.sequence if report else 0 for report in (await client.copies("council")).values()} != {2}:
                await anyio.sleep(0.05)
        await readiness(node, False)
        assert await node.stop() == 0
    made = here.run("repair", "nats")
    assert made.code == 0, made
    async with Node.up(here) as node, people(node) as client:
        await voting.settled(client)
        async with voting.going_on(node):
            await voting.more(5, node)
        await voting.counted(client)


# ------------------------------------------------------------------------------------------------ disks and time


@pytest.mark.skipif(bool(why_not()), reason=f"no small disk can be mounted: {why_not()}")
async def test_a_full_disk_at_the_writers_site_costs_no_ballot_another_one_writes_and_it_comes_back_when_there_is_room(
    tmp_path: Path,
) -> None:
    with SmallDisk(tmp_path / "disk", 24) as disk, place(tmp_path, subsystems="elections", elections__sites=5) as here:
        voting, user = Voting(), f"elections_{WRITER}"
        (here.data / "stores").mkdir(parents=True)
        here.data.chmod(0o700)
        (here.data / "stores").chmod(0o700)
        (disk.mount / user).mkdir(mode=0o700)
        os.symlink(disk.mount / user, here.data / "stores" / user)
        async with Node.up(here) as node, people(node) as client:
            await done(client, OPEN)
            async with voting.going_on(node):
                await voting.more(10, node)
                filler = disk.fill()
                await node.logged("site_away")
                await voting.more(30, node)
                await readiness(node, False)
                assert here.run("status").code == 1, "the site that cannot write is named"
                filler.unlink()
                await node.logged("site_back")
                await voting.more(10, node)
            await voting.counted(client)
        assert await store_problems(here.data, USERS) == []


async def test_B21_a_writer_stopped_for_many_leases_wakes_to_be_fenced_while_others_count_on(here: Place) -> None:
    """Eleven seconds of real time: the other tests of this row wait for the lease alone."""
    here.settings |= {"supervise.stall_ms": 60_000}
    voting = Voting()
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        async with voting.going_on(node):
            await voting.more(20, node)
            began = time.monotonic()
            send(node, signal.SIGSTOP, WRITER)
            await voting.more(20, node)
            await node.logged("site_away")
            await anyio.sleep(max(0.0, began + 11 - time.monotonic()))
            before = len(voting.acknowledged)
            send(node, signal.SIGCONT, WRITER)
            await node.logged("election_released", subsystem=f"elections_{WRITER}")
            await voting.more(20, node)
            assert before > 40
        await voting.counted(client)
        assert len(node.events("child_started")) == 5, "nobody was restarted"
    assert await store_problems(here.data, USERS) == []


# ------------------------------------------------------------------------------------------------ kills at random


async def test_whatever_of_five_sites_is_killed_at_random_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    """The full run is `python -m tests.crash.sites --kills 300`."""
    with place(tmp_path) as here:
        report = await crash_sites(here, kills=12, seed=Random().randrange(1 << 32), seconds=20)
    assert report.problems == [], report
    assert report.kills_total >= 3
    assert report.ballots_counted == report.ballots_acknowledged > 0
