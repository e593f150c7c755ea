"""Sites as processes under the overseer, with a real server and real stores: what the rows of the specification say, by kills and stops."""

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from messages.ballots import BallotElection, CastBallot, GetBallotElection, OpenElection
from messages.election_pairs import CopyReport
from messages.elections import OfElection, Recorded
from overseer.cli.subsystem import KILL_AT
from overseer.node.client import Refused
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient
from overseer.sites.layout import sites_of
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.runtime.placement import placed
from tests.node.asking import recorded_of
from tests.node.nodes import Node, Place, eventually, history, place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

KEY = "mayor-2026"
OPEN = OpenElection(election=KEY, title="Mayor", choices=["Ada", "Grace"])
FIVE = sites_of(ElectionsConfig(sites=5))
assert FIVE.topology is not None
MEMBERS = placed(FIVE.topology, KEY).sites
WRITER = MEMBERS[0]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path, subsystems="elections", elections__sites=5) as made:
        yield made


def ballot(number: int) -> CastBallot:
    return CastBallot(election=KEY, voter=f"voter {number}".encode(), choice="Ada")


@asynccontextmanager
async def people(node: Node, *, patience_s: float = 20.0) -> AsyncIterator[SitesClient]:
    async with node.client() as client:
        yield SitesClient(client.connection, client.node, node.info.sites, patience_s=patience_s)


async def done(client: SitesClient, command: OfElection, command_id: str = "") -> Recorded:
    return recorded_of(await client.request(command, command_id=command_id))


async def cast(client: SitesClient) -> int:
    found = await client.query(GetBallotElection(election=KEY))
    assert isinstance(found, BallotElection)
    return found.rounds[-1].cast


async def level(client: SitesClient, events: int) -> dict[str, CopyReport]:
    """Wait until all copies have so many events; what they are then."""
    with anyio.fail_after(30):
        while True:
            found = {site: report for site, report in (await client.copies(KEY)).items() if report is not None}
            if len(found) == len(client.sites) and all(report.head.sequence == events for report in found.values()):
                assert len({report.head.digest for report in found.values()}) == 1, "all copies are the same"
                return found
            await anyio.sleep(0.05)


def send(node: Node, number: signal.Signals, *sites: str) -> None:
    for site in sites:
        os.kill(node.pid(f"elections_{site}"), number)


async def test_B12_an_election_on_five_sites_by_the_command_line_whichever_site_is_killed(here: Place) -> None:
    async with Node.up(here) as node:

        async def said(*arguments: str) -> str:
            finished = await anyio.to_thread.run_sync(here.run, "election", *arguments)
            assert finished.code == 0, finished
            return finished.out

        await said("open", KEY, "--title", "Mayor", "--choice", "Ada", "--choice", "Grace")
        await said("cast", KEY, "v1", "Ada")
        send(node, signal.SIGKILL, WRITER)
        await said("cast", KEY, "v2", "Grace")
        send(node, signal.SIGKILL, MEMBERS[1])
        await said("cast", KEY, "v3", "Ada")
        refused = await anyio.to_thread.run_sync(here.run, "election", "cast", KEY, "v1", "Grace")
        assert (refused.code, refused.error.strip()) == (1, 'error: elections refused cast_ballot: already_cast {"round": 1}')
        await said("close", KEY)
        async with people(node) as client:
            await level(client, 5)
        async with node.client() as client:
            told = {message.subject for message in await history(client)}
            # As `nats req` and `nats micro info` ask.
            mail = f"overseer.node.elections_{MEMBERS[2]}.mail.{KEY}.get_ballot_election"
            asked = await client.connection.request(mail, json.dumps({"election": KEY}).encode(), timeout_ms=5_000)
            assert json.loads(asked.body)["title"] == "Mayor"
            info = await client.connection.request(f"$SRV.INFO.elections_{MEMBERS[2]}", b"", timeout_ms=5_000)
        (endpoint,) = json.loads(info.body)["endpoints"]
        assert {"cast_ballot_request", "cast_ballot_reply", "get_copy_response", "list_elections_response"} <= endpoint["metadata"].keys()
        assert "peers_request" not in endpoint["metadata"]
        assert {"overseer.node.elections.evt.election_opened", "overseer.node.elections.evt.election_closed"} <= told
        result = json.loads(await said("results", KEY, "--json"))
        assert (result["phase"], result["cast"]) == ("closed", 3)
        assert not result["behind"]
        assert len((await said("history", KEY, "--json")).splitlines()) == 5
        found = json.loads(await said("where", KEY, "--json"))
        assert [row["events"] for row in found["copies"]] == [5] * 5
        assert [row["site"] for row in found["copies"]] == list(MEMBERS)
        assert found["writer"] in await said("where", KEY)
        assert [row["election"] for row in json.loads(await said("list", "--json"))] == [KEY]
        status = await anyio.to_thread.run_sync(here.run, "status", "--json")
        assert [row["name"] for row in status.json["subsystems"]] == [f"elections_{site}" for site in node.info.sites]
    stores = {path.name for path in (here.data / "stores").iterdir()}
    assert stores == {f"elections_{site}" for site in FIVE.names}
    one = {"OVERSEER_ELECTIONS_SITES": "1", "OVERSEER_SUBSYSTEMS": "votes_db,dispute_conclusion,chain_api,elections"}
    back = await anyio.to_thread.run_sync(lambda: here.run("run", env=one))
    assert back.code == 2
    assert "this node's elections are on 5 sites" in back.error


async def test_B13_B14_two_acknowledgements_suffice_one_does_not_and_a_retry_has_one_effect(here: Place) -> None:
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        send(node, signal.SIGSTOP, *MEMBERS[3:])
        assert (await done(client, ballot(1), "c1")).copies == 3
        send(node, signal.SIGSTOP, MEMBERS[2])
        try:
            async with people(node, patience_s=1.0) as hasty:
                with pytest.raises((Refused, BusError)):
                    await done(hasty, ballot(2), "c2")
            assert await cast(client) == 1
        finally:
            send(node, signal.SIGCONT, *MEMBERS[2:])
        assert (await done(client, ballot(2), "c2")).sequence == 3
        await level(client, 3)


async def test_B15_a_writer_killed_between_commit_and_reply_the_same_id_gets_the_original_outcome(here: Place, tmp_path: Path) -> None:
    # The barrier, the opening, the ballot.
    kill = {KILL_AT: f"elections_{WRITER} committed 3 {tmp_path / 'killed'}"}
    async with Node.up(here, env=kill) as node, people(node) as client:
        await done(client, OPEN)
        recorded = await done(client, ballot(1), "c1")
        assert (tmp_path / "killed").read_bytes() == b"x", "it was killed"
        assert (recorded.sequence, recorded.copies) == (2, 3)
        assert await done(client, ballot(1), "c1") == recorded
        await node.logged("child_started", child=f"elections_{WRITER}", times=2)
        await level(client, 2)
        assert await cast(client) == 1


async def test_B16_sites_that_lost_their_disks_but_for_one_have_every_acknowledged_event_again(here: Place) -> None:
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        for number in range(30):
            await done(client, ballot(number))
    for site in (WRITER, *MEMBERS[2:]):
        shutil.rmtree(here.data / "stores" / f"elections_{site}")
    async with Node.up(here) as node, people(node) as client:
        assert (await done(client, ballot(30))).sequence == 32
        await level(client, 32)
        assert await cast(client) == 31


async def test_B21_a_writer_stopped_past_its_lease_is_fenced_when_it_goes_on_and_nothing_forks(here: Place) -> None:
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        async with people(node, patience_s=60) as waiting, anyio.create_task_group() as tasks:
            waiting.sites = (WRITER,)
            send(node, signal.SIGSTOP, WRITER)
            tasks.start_soon(done, waiting, ballot(0), "c0")
            assert (await done(client, ballot(1))).sequence == 2
            await node.logged("site_away")
            send(node, signal.SIGCONT, WRITER)
            await node.logged("election_released", subsystem=f"elections_{WRITER}")
        for number in range(2, 6):
            await done(client, ballot(number))
        await level(client, 7)
        assert await cast(client) == 6


async def test_B23_a_follower_that_was_stopped_for_hundreds_of_ballots_is_backfilled_and_counts_again(here: Place) -> None:
    async with Node.up(here) as node, people(node) as client:
        await done(client, OPEN)
        behind, *others = MEMBERS[1:]
        send(node, signal.SIGSTOP, behind)
        numbers = list(range(400))

        async def voting() -> None:
            while numbers:
                await done(client, ballot(numbers.pop()))

        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(voting)
        send(node, signal.SIGCONT, behind)
        await level(client, 401)
        send(node, signal.SIGSTOP, *others[1:])
        try:
            assert (await done(client, ballot(400))).copies == 3, "its acknowledgement is needed"
        finally:
            send(node, signal.SIGCONT, *others[1:])
        await level(client, 402)


async def test_eight_sites_hold_five_copies_of_each_election_and_list_all(tmp_path: Path) -> None:
    with place(tmp_path, subsystems="elections", elections__sites=8) as here:
        async with Node.up(here) as node, people(node) as client:
            for number in range(6):
                await done(client, OpenElection(election=f"poll-{number}", title="?", choices=["yes", "no"]))
            for site in node.info.sites:
                client.sites = (site,)
                recorded = await done(client, CastBallot(election="poll-0", voter=site.encode(), choice="yes"))
                assert recorded.copies == 3
            listed = await anyio.to_thread.run_sync(here.run, "election", "list", "--json")
            assert [row["election"] for row in listed.json] == [f"poll-{number}" for number in range(6)]


async def test_elections_on_one_site_are_not_left_behind(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        async with Node.up(here) as node, node.client() as client:
            await client.request(OPEN)
        several = await anyio.to_thread.run_sync(lambda: here.run("run", "--sites", "5"))
        assert several.code == 2
        assert "this node has elections on one site" in several.error
        unknown = await anyio.to_thread.run_sync(lambda: here.run("run", "--sites", "3"))
        assert (unknown.code, "must be 1, 5" in unknown.error) == (2, True)


async def test_the_server_killed_while_ballots_are_cast_costs_none_and_doubles_none(here: Place) -> None:
    async with Node.up(here) as node, people(node, patience_s=60) as client:
        await done(client, OPEN)
        numbers, recorded = list(range(60)), list[int]()

        async def voting() -> None:
            while numbers:
                number = numbers.pop()
                recorded.append((await done(client, ballot(number), f"ballot {number}")).sequence)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(voting)
            await eventually(lambda: len(recorded) >= 20, "some are recorded", log=node.text)
            os.kill(node.pid("nats-server"), signal.SIGKILL)
        assert sorted(recorded) == list(range(2, 62))
        await level(client, 61)
        assert await cast(client) == 60


async def test_all_sites_in_one_process(here: Place) -> None:
    async with Node.up(here, "--in-process") as node, people(node) as client:
        await done(client, OPEN)
        assert (await done(client, ballot(1))).copies == 3
        await level(client, 2)
