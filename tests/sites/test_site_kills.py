"""Ballots of many clients while the sites are killed, one at a time: what was acknowledged is counted, once each (B25).

The row names 100 000 ballots and 64 clients: `pytest tests/sites/test_site_kills.py -m full`. The ordinary size is for two cores.
"""

import math
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from messages.ballots import BallotCast, BallotElection, CastBallot, GetBallotElection, OpenElection
from messages.codec import decode
from messages.election_pairs import CopyReport, Head
from messages.elections import ElectionHistory, OfElection, ProjectionPage, QueryHistory, QueryProjection, Recorded
from overseer.sites.client import SitesClient
from overseer.sites.layout import sites_of
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.runtime.placement import placed
from tests.node.asking import outcome_of, recorded_of
from tests.node.nodes import Node, eventually, place

pytestmark = [pytest.mark.anyio, pytest.mark.real]

# Each has its home at another site, so that whichever is killed is the writer of one of them.
KEYS = ("east", "west", "district-4", "council-2026", "north")
CHOICES = ("Ada", "Grace", "Mary")
# Until the outcome of a single ballot is known, and until a site has caught up.
OUTCOME_S = 120.0
# The clients share so many connections: an account may have no more than fifty or so.
CONNECTIONS = 16
# Acknowledged ballots of each election that are sent once more at the end.
SENT_AGAIN = 5


class Size(NamedTuple):
    """`rounds`: how often each site is killed. `patience_s`: until a counted number of ballots is acknowledged."""

    ballots: int
    clients: int
    rounds: int
    patience_s: float


class Cast(NamedTuple):
    """An acknowledged ballot."""

    number: int
    sequence: int


Acknowledged = dict[str, list[Cast]]


def ballot(number: int) -> CastBallot:
    """Elections in turn; choices in turn as well, in another rhythm."""
    key = KEYS[number % len(KEYS)]
    return CastBallot(election=key, voter=f"voter {number}".encode(), choice=CHOICES[number % len(CHOICES)])


def command_id(number: int) -> str:
    return f"ballot {number}"


async def recorded(client: SitesClient, command: OfElection, id: str) -> Recorded:
    return recorded_of(await outcome_of(client, command, id, seconds=OUTCOME_S))


async def voting(client: SitesClient, numbers: MemoryObjectReceiveStream[int], acknowledged: Acknowledged) -> None:
    async with numbers:
        async for number in numbers:
            found = await recorded(client, ballot(number), command_id(number))
            acknowledged[found.election].append(Cast(number, found.sequence))


async def kill(node: Node, client: SitesClient, site: str, acknowledged: Acknowledged) -> None:
    """Kill a site's process; returns when the site has all that was acknowledged by then."""
    process = f"elections_{site}"
    runs = sum(event["child"] == process for event in node.events("child_started"))
    needed = {key: max((cast.sequence for cast in casts), default=1) for key, casts in acknowledged.items()}
    os.kill(node.pid(process), signal.SIGKILL)
    await node.logged("child_started", child=process, times=runs + 1)
    with anyio.fail_after(OUTCOME_S):
        for key, sequence in needed.items():
            while (report := (await client.copies(key))[site]) is None or report.head.sequence < sequence:
                await anyio.sleep(0.05)


async def killing(
    node: Node, client: SitesClient, size: Size, numbers: MemoryObjectSendStream[int], acknowledged: Acknowledged
) -> list[int]:
    """Let the ballots be cast, a portion for each kill and one more; how many were still to be cast at each kill.

    A kill comes when a quarter of its portion is acknowledged: the rest is cast while the site is away.
    """
    sites = node.info.sites * size.rounds
    portion = size.ballots // (len(sites) + 1)
    released, left = 0, list[int]()

    def done() -> int:
        return sum(map(len, acknowledged.values()))

    async def more(count: int) -> None:
        wanted = done() + count
        await eventually(lambda: done() >= wanted, f"{wanted} ballots are acknowledged", log=node.text, seconds=size.patience_s)

    async with numbers:
        for site in sites:
            for number in range(released, released + portion):
                numbers.send_nowait(number)
            released += portion
            await more(portion // 4)
            left.append(released - done())
            await kill(node, client, site, acknowledged)
        for number in range(released, size.ballots):
            numbers.send_nowait(number)
    return left


async def same_head(client: SitesClient, key: str, events: int) -> Head:
    """Wait until all five copies have the same head, with at least so many events."""
    reports: dict[str, CopyReport | None] = {}
    with anyio.move_on_after(OUTCOME_S):
        while True:
            reports = await client.copies(key)
            heads = {None if report is None else report.head for report in reports.values()}
            head = heads.pop()
            if not heads and head is not None and head.sequence >= events:
                return head
            await anyio.sleep(0.05)
    raise AssertionError(f"{key}: {events} events are acknowledged, the copies are {reports}")


async def history(client: SitesClient, key: str) -> dict[int, BallotCast]:
    """All ballots that are cast, by the numbers of their events; the first event is the opening."""
    found, start, more = dict[int, BallotCast](), 2, True
    while more:
        page = await client.query(QueryHistory(election=key, start=start))
        assert isinstance(page, ElectionHistory)
        for row in page.events:
            assert (row.sequence, row.message) == (start, "elections.event.ballot_cast")
            event = decode(BallotCast.spec, row.body, version=row.version)
            assert isinstance(event, BallotCast)
            found[row.sequence] = event
            start += 1
        more = page.more
    return found


async def tally(client: SitesClient, key: str) -> dict[str, int]:
    page = await client.query(QueryProjection(election=key, projection="tally"))
    assert isinstance(page, ProjectionPage)
    assert (page.state.stale, page.more) == ("", False)
    return {row.key.removeprefix("1 cast "): row.count for row in page.counts}


async def counted(client: SitesClient, sites: tuple[str, ...], key: str, casts: list[Cast]) -> None:
    """Assert: every copy of the election holds what was acknowledged, each ballot at its number, and nothing else."""
    assert (await same_head(client, key, len(casts) + 1)).sequence == len(casts) + 1
    acknowledged = {cast.sequence: ballot(cast.number) for cast in casts}
    assert len(acknowledged) == len(casts), "no two ballots have the same event"
    for site in sites:
        client.sites = (site,)
        events = await history(client, key)
        assert len({event.voter for event in events.values()}) == len(events), f"{site} has a voter twice in {key}"
        assert {number: (event.voter, event.choice) for number, event in events.items()} == {
            number: (command.voter, command.choice) for number, command in acknowledged.items()
        }, f"{site}, {key}"
        assert await tally(client, key) == Counter(command.choice for command in acknowledged.values())
        election = await client.query(GetBallotElection(election=key))
        assert isinstance(election, BallotElection)
        assert [row.cast for row in election.rounds] == [len(casts)]
    client.sites = sites


async def cast_while_killed(folder: Path, size: Size) -> None:
    """The scenario, in any size."""
    acknowledged: Acknowledged = {key: [] for key in KEYS}
    with place(folder, subsystems="elections") as here:
        async with Node.up(here, "--sites", "5") as node, AsyncExitStack() as stack:
            sites = node.info.sites

            connections = [await stack.enter_async_context(node.client()) for _ in range(min(size.clients, CONNECTIONS))]

            def voter(number: int) -> SitesClient:
                """A client that asks another site first than the next one does: so no site has them all."""
                first, client = number % len(sites), connections[number % len(connections)]
                return SitesClient(client.connection, client.node, sites[first:] + sites[:first])

            person = voter(0)
            for key in KEYS:
                await recorded(person, OpenElection(election=key, title=key, choices=list(CHOICES)), f"open {key}")
            send, receive = anyio.create_memory_object_stream[int](math.inf)
            left = list[int]()
            async with anyio.create_task_group() as tasks, receive:
                for number in range(size.clients):
                    tasks.start_soon(voting, voter(number), receive.clone(), acknowledged)
                left = await killing(node, person, size, send, acknowledged)
            assert all(number >= size.clients for number in left), f"at each kill all clients were casting: {left}"
            assert sum(map(len, acknowledged.values())) == size.ballots
            assert len(node.events("child_started")) == len(sites) * (1 + size.rounds), "nothing else died"
            for key, casts in acknowledged.items():
                for cast in casts[:SENT_AGAIN]:
                    again = await recorded(person, ballot(cast.number), command_id(cast.number))
                    assert again.sequence == cast.sequence, "an id has one outcome for good"
                await counted(person, sites, key, casts)


def test_the_elections_have_their_homes_at_five_sites() -> None:
    five = sites_of(ElectionsConfig(sites=5))
    assert five.topology is not None
    assert {placed(five.topology, key).sites[0] for key in KEYS} == set(five.names)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(
            Size(ballots=840, clients=16, rounds=1, patience_s=60), id="two_cores", marks=[pytest.mark.slow, pytest.mark.timeout(600)]
        ),
        pytest.param(
            Size(ballots=100_000, clients=64, rounds=4, patience_s=1_200), id="full", marks=[pytest.mark.full, pytest.mark.timeout(7_200)]
        ),
    ],
)
async def test_B25_ballots_cast_by_many_clients_while_sites_are_killed_one_at_a_time_are_counted_once_each(
    tmp_path: Path, size: Size
) -> None:
    await cast_while_killed(tmp_path, size)
