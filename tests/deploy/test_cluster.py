"""The profile `cluster` of docker-compose.yml as processes: servers and a site are killed, and no ballot is lost or doubled."""

import itertools
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import urlopen

import anyio
import anyio.to_thread
import pytest

from messages.ballots import BallotElection, CastBallot, CloseElection, GetBallotElection, OpenElection
from messages.codec import decode
from messages.elections import ProjectionPage, QueryProjection
from messages.overseer import CommandOutcome
from messages.subjects import HEADER_ID
from messages.text import from_json
from messages.votes_db import QueryVotes, RegisterVote, VotesRegistered, VotesSnapshot
from overseer.nats.connection import Connection
from overseer.nats.provision import ApiError, call, server_dangers
from overseer.nats.sites import site_user
from overseer.node.catalogue import SECTIONS
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusDenied, BusError
from overseer.settings import load_config
from overseer.sites.client import SitesClient
from overseer.sites.layout import sites_of
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.runtime.placement import placed
from tests.deploy.composing import Project, Service
from tests.node.asking import recorded_of
from tests.node.nodes import Place, answered, eventually, history, said_once, told
from tests.security.raw_client import refused_at_the_door

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(420)]

NATS = ("nats1", "nats2", "nats3")
STREAMS = (
    "OVERSEER_node",
    "OVERSEER_NET",
    "OBJ_overseer_node_povs",
    "OVERSEER_LOG_node",
    "KV_overseer_node_topology",
    "KV_overseer_node_lease",
)
KEY = "mayor-2026"
FIVE = sites_of(ElectionsConfig(sites=5))
assert FIVE.topology is not None
WRITER = placed(FIVE.topology, KEY).sites[0]
SOME = 30
CHOICES = ("Ada", "Grace")


@pytest.fixture
async def project(here: Place) -> AsyncIterator[Project]:
    made = Project(here, "cluster")
    try:
        await made.up()
        yield made
    finally:
        await made.down()


@asynccontextmanager
async def person(project: Project, user: str) -> AsyncIterator[Client]:
    """With all three urls, as every service has them."""
    loaded = load_config(environ={"OVERSEER_CONFIG": "", **own(project.services["cluster_overseer"])}, sections=SECTIONS)
    async with Client.connected(loaded.config, loaded.config.nats.url, user, wait_ms=20_000) as client:
        yield client


def own(service: Service) -> dict[str, str]:
    return {name: value for name, value in service.environment.items() if name.startswith("OVERSEER_") and "TEST" not in name}


async def look(connection: Connection, verb: str) -> dict[str, Any]:
    """Whoever leads meanwhile."""
    with anyio.fail_after(30):
        while True:
            try:
                return await call(connection, verb)
            except (ApiError, BusError):
                await anyio.sleep(0.1)


async def leader(connection: Connection, stream: str) -> str:
    with anyio.fail_after(30):
        while not (found := (await look(connection, f"STREAM.INFO.{stream}"))["cluster"].get("leader")):
            await anyio.sleep(0.1)
    return found


async def current(connection: Connection) -> None:
    """Wait until each stream has its leader and two others, and all of them all of it."""
    with anyio.fail_after(60):
        for stream in STREAMS:
            while True:
                cluster = (await look(connection, f"STREAM.INFO.{stream}"))["cluster"]
                others = cluster.get("replicas") or []
                if {cluster.get("leader"), *(o["name"] for o in others if o["current"] and not o.get("offline"))} == set(NATS):
                    break
                await anyio.sleep(0.1)


class Poll:
    """Voters who ask until they know, one after the other until the polls are to be closed."""

    def __init__(self, client: SitesClient) -> None:
        self.client = client
        self.recorded: dict[int, int] = {}
        self.closing = False
        self._numbers = itertools.count()

    async def vote(self) -> None:
        while not self.closing:
            number = next(self._numbers)
            command = CastBallot(election=KEY, voter=b"voter %d" % number, choice=CHOICES[number % 2])
            outcome = await self.client.request(command, command_id=f"ballot {number}")
            reply = recorded_of(outcome)
            assert reply.copies >= 3
            self.recorded[number] = reply.sequence

    async def reached(self, count: int) -> None:
        await eventually(lambda: len(self.recorded) >= count, f"{count} ballots are recorded")


@asynccontextmanager
async def killed(project: Project, name: str, poll: Poll) -> AsyncIterator[None]:
    """SIGKILL; some ballots later what its restart policy does."""
    service, before = project.services[name], len(poll.recorded)
    service.signal(signal.SIGKILL)
    await service.ended()
    yield
    await poll.reached(before + SOME)
    service.start()
    await service.healthy()


async def dispute(project: Project) -> RegisterVote:
    """Eight votes of the validators of the present session."""
    overseer = project.services["cluster_overseer"]
    made = await anyio.to_thread.run_sync(overseer.run, ["overseer", "make", "bundle", "--valid", "0-6", "--invalid", "7"])
    command = from_json(RegisterVote.spec, made.stdout)
    assert isinstance(command, RegisterVote)
    return command


async def registered(client: Client, command: RegisterVote) -> CommandOutcome:
    """The outcome, asked for under the same id until it is known."""
    attempt = 0
    while True:
        try:
            return await told(client, command, f"votes {attempt}")
        except Refused as refused:
            # Until the feed's first block has started the session, it is unknown: that is an outcome, so another id is needed.
            if refused.code != "session_out_of_window":
                raise
            attempt += 1


async def no_stranger_is_a_server(nats: Service) -> None:
    """Whoever comes to the cluster port without the password, or with another one, is shown the door."""
    for user in ("", '"user":"routes","pass":"routes",', '"user":"operator","pass":"",'):
        line = f'CONNECT {{{user}"verbose":false,"name":"nats4","cluster":"overseer"}}\r\n'.encode()
        said = await refused_at_the_door(f"nats://127.0.0.1:{nats.ports['6222']}", line, b"PING\r\n")
        assert b"Authorization Violation" in said, said[:300]
        assert b"PONG" not in said


def monitored(nats: Service) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{nats.ports['8222']}/varz", timeout=5) as page:
        return json.load(page)


async def counted_once(sites: SitesClient, poll: Poll) -> None:
    """As many events as ballots were acknowledged, at each site, and as many in the tally."""
    ballots = len(poll.recorded)
    assert sorted(poll.recorded.values()) == list(range(2, ballots + 2))
    await sites.request(CloseElection(election=KEY), command_id="close")
    with anyio.fail_after(60):
        while {report.head.sequence for report in (await sites.copies(KEY)).values() if report is not None} != {ballots + 2}:
            await anyio.sleep(0.1)
    found = await sites.query(GetBallotElection(election=KEY))
    assert isinstance(found, BallotElection)
    assert found.rounds[-1].cast == ballots
    tally = await sites.query(QueryProjection(election=KEY, projection="tally"))
    assert isinstance(tally, ProjectionPage)
    odd = ballots // 2
    assert {row.key: row.count for row in tally.counts} == {"1 cast Ada": ballots - odd, "1 cast Grace": odd}


async def a_reader_may_look(project: Project) -> None:
    async with person(project, "reader") as reader:
        sites = SitesClient(reader.connection, reader.node, FIVE.names)
        found = await sites.query(GetBallotElection(election=KEY))
        assert isinstance(found, BallotElection)
        assert found.phase.value == "closed"
        with pytest.raises(BusDenied):
            await sites.request(OpenElection(election="mine", title="Mine", choices=["me"]))


async def the_nodes_stream_is_whole(client: Client, votes: RegisterVote, outcome: CommandOutcome) -> None:
    """Votes that were sent while its leader was away are stored once; nobody said anything twice."""
    assert outcome.reply is not None
    reply = decode(VotesRegistered.spec, outcome.reply)
    assert isinstance(reply, VotesRegistered)
    assert [row.outcome.value for row in reply.outcomes] == ["stored"] * 8
    found = await answered(client, QueryVotes(session=reply.session, candidate=votes.candidate_hash))
    assert isinstance(found, VotesSnapshot)
    assert (found.pro, found.cons) == ([0, 1, 2, 3, 4, 5, 6], [7])
    messages = await history(client)
    said_once([message for message in messages if message.subject.split(".")[2] != "elections"])
    # A fact whose writer is replaced just then may be told again, under the same id.
    facts = {m.headers[HEADER_ID]: m.subject.rpartition(".")[2] for m in messages if ".elections.evt.election_" in m.subject}
    assert list(facts.values()) == ["election_opened", "election_closed"]


async def test_leaders_and_a_site_are_killed_while_ballots_are_cast_and_each_is_counted_once(project: Project) -> None:
    assert [server_dangers(monitored(project.services[name])) for name in NATS] == [[], [], []]
    await no_stranger_is_a_server(project.services["nats2"])
    async with person(project, "operator") as client:
        await current(client.connection)
        sites = SitesClient(client.connection, client.node, FIVE.names, patience_s=60)
        await sites.request(OpenElection(election=KEY, title="Mayor", choices=list(CHOICES)), command_id="open")
        poll = Poll(sites)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(poll.vote)
            await poll.reached(SOME)
            votes = await dispute(project)
            async with killed(project, await leader(client.connection, "OVERSEER_LOG_node"), poll):
                pass
            async with killed(project, site_user(WRITER), poll):
                pass
            async with killed(project, await leader(client.connection, "OVERSEER_node"), poll):
                outcome = await registered(client, votes)
            await poll.reached(len(poll.recorded) + SOME)
            poll.closing = True
        await counted_once(sites, poll)
        await current(client.connection)
        await the_nodes_stream_is_whole(client, votes, outcome)
    await a_reader_may_look(project)
    overseer = project.services["cluster_overseer"]
    await eventually(lambda: json.loads(overseer.run(["overseer", "status", "--json"]).stdout or b"{}").get("wrong") == [], "all is well")
    codes = await project.down()
    assert codes == dict.fromkeys(codes, 0) | {name: codes[name] for name in NATS}
