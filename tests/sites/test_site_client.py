"""A person's client of several sites: what a site that is gone or silent costs, and that asking two has one effect."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from messages.ballots import CastBallot, OpenElection
from messages.codec import encode
from messages.election_pairs import NotOwnedYet, NotOwnedYetReason
from messages.elections import Recorded
from messages.message import Rejection
from messages.overseer import CommandOutcome, OutcomeStatus
from messages.subjects import HEADER_COMMAND_ID
from overseer.nats.site_mail import NatsSiteMail
from overseer.nats.sites import site_user
from overseer.ports.bus import BusDenied, BusUnavailable, Request, Response
from overseer.runner.responses import refuse, respond
from overseer.sites.client import SitesClient
from tests.node.asking import recorded_of
from tests.node.nodes import Node, place
from tests.ports.bus.bus_worlds import until
from tests.ports.sites.sites_worlds import NODE, SITES, NatsWorld, nats_server

pytestmark = [pytest.mark.anyio, pytest.mark.real]

SILENT_MS = 300
# Longer than any test: what would take so long never happens, however slow the machine.
NEVER_MS = 600_000
# For what a test waits for.
IN_TIME_S = 60
# Each of the sites is the first one for some.
KEYS = ("east", "west", "north", "south", "mayor", "council")
BALLOT = CastBallot(election="mayor", voter=b"v", choice="Ada")
OUTCOME = CommandOutcome(status=OutcomeStatus.ACCEPTED, sequence=0, reply=encode(Recorded(election="mayor", sequence=7, copies=3)))


Handle = Callable[[], Awaitable[Response]]


class World:
    """Three sites that only have mail. `heard`: (site, command id) of everything that was asked, in order."""

    def __init__(self, nats: NatsWorld) -> None:
        self.nats = nats
        self.heard: list[tuple[str, str]] = []
        self._handles: dict[str, Handle] = {}

    async def client(self, *, patience_s: float = NEVER_MS / 1000, silent_ms: int = NEVER_MS) -> SitesClient:
        """One that waits for every answer without end, and asks nobody beside meanwhile, unless told otherwise."""
        connection = await self.nats.connect("operator")
        return SitesClient(connection, NODE, SITES, patience_s=patience_s, silent_ms=silent_ms)

    async def site(self, name: str, handle: Handle) -> None:
        """A site that answers so from now on."""
        known = name in self._handles
        self._handles[name] = handle
        if not known:
            mail = NatsSiteMail(await self.nats.connect(site_user(name)), node=NODE, site=name)
            await mail.serve(lambda _: None, _nothing, lambda request: self._take(name, request))

    async def _take(self, name: str, request: Request) -> Response:
        self.heard.append((name, request.headers[HEADER_COMMAND_ID]))
        return await self._handles[name]()

    @property
    def asked(self) -> list[str]:
        return [site for site, _ in self.heard]


async def _nothing(_: object) -> Response:
    return Response(b"")


async def accept() -> Response:
    return respond(OUTCOME, False)


async def be_silent() -> Response:
    await anyio.sleep_forever()
    raise AssertionError


def refusing(rejection: Rejection) -> Handle:
    async def handle() -> Response:
        return refuse(rejection, False)

    return handle


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("overseer.sites.client._COMMAND_MS", NEVER_MS)
    monkeypatch.setattr("overseer.sites.client._SHUNNED_S", NEVER_MS / 1000)
    server, keys = nats_server(tmp_path)
    async with AsyncExitStack() as closing:
        closing.callback(server.kill)
        yield World(await NatsWorld(server.start(), keys, closing).fresh())


async def took(work: Awaitable[object]) -> float:
    """Seconds."""
    began = anyio.current_time()
    await work
    return anyio.current_time() - began


async def test_elections_begin_at_different_sites(world: World) -> None:
    for name in SITES:
        await world.site(name, accept)
    client, first = await world.client(), set[str]()
    for key in KEYS:
        world.heard.clear()
        await client.request(CastBallot(election=key, voter=b"v", choice="Ada"))
        first.add(world.asked[0])
    assert first == set(SITES)


async def test_a_site_that_is_gone_is_passed_over_at_once(world: World) -> None:
    # Whichever of them is first: two of three are gone.
    await world.site("c", accept)
    for key in KEYS:
        with anyio.fail_after(IN_TIME_S):
            # Each time by a client that has not learnt yet who is gone.
            await (await world.client()).request(CastBallot(election=key, voter=b"v", choice="Ada"))


async def test_a_silent_site_costs_no_more_than_the_named_time_and_the_other_is_asked_with_the_same_id(world: World) -> None:
    for name in SITES:
        await world.site(name, accept)
    await (await world.client()).request(BALLOT)
    (first,) = world.asked

    async def accept_after_the_first() -> Response:
        # A busy server may hand on first what it got second.
        await until(lambda: first in world.asked, IN_TIME_S)
        return await accept()

    for name in SITES:
        await world.site(name, be_silent if name == first else accept_after_the_first)
    client = await world.client(silent_ms=SILENT_MS)
    world.heard.clear()
    # Who waited for the silent one alone would not come to an end.
    with anyio.fail_after(IN_TIME_S):
        assert await took(client.request(BALLOT, command_id="one")) >= SILENT_MS / 1000
    assert len(set(world.asked)) == 2
    assert first in world.asked
    assert [id for _, id in world.heard] == ["one", "one"]
    # It is asked last from then on.
    with anyio.fail_after(IN_TIME_S):
        await client.request(BALLOT)
    assert len(world.asked) >= 3
    assert first not in world.asked[2:]


async def test_two_sites_are_asked_at_a_time_and_no_more_within_the_clients_patience(world: World) -> None:
    patience_s = 1.0
    moments: list[float] = []

    async def note() -> Response:
        moments.append(anyio.current_time())
        return await be_silent()

    for name in SITES:
        await world.site(name, note)
    client = await world.client(patience_s=patience_s, silent_ms=10)
    began = anyio.current_time()
    with pytest.raises(BusUnavailable, match="no answer"):
        await client.request(BALLOT)
    await until(lambda: len(moments) >= 2, IN_TIME_S)
    # Another one only when the first ones were given up.
    assert len([moment for moment in moments if moment < began + 0.9 * patience_s]) <= 2


async def test_a_refusal_that_is_no_outcome_is_asked_again_elsewhere_and_one_that_is_stands(world: World) -> None:
    await world.site("a", refusing(NotOwnedYet(election="mayor", reason=NotOwnedYetReason.RECOVERING)))
    await world.site("b", refusing(NotOwnedYet(election="mayor", reason=NotOwnedYetReason.LOOP)))
    await world.site("c", accept)
    client = await world.client()
    for _ in range(3):
        assert (await client.request(BALLOT)).reply == OUTCOME.reply
    assert world.asked.count("c") == 3
    assert max(Counter(id for _, id in world.heard).values()) <= 3


async def test_who_may_not_ask_is_told_at_once(world: World) -> None:
    await world.site("a", accept)
    reader = SitesClient(await world.nats.connect("reader"), NODE, SITES)
    with pytest.raises(BusDenied):
        await reader.request(BALLOT)


@pytest.mark.slow
async def test_B15_ballots_that_are_asked_for_at_two_sites_at_a_time_are_counted_once(tmp_path: Path) -> None:
    voters, clients = 120, 6
    with place(tmp_path, subsystems="elections") as here:
        async with Node.up(here, "--sites", "5") as node, AsyncExitStack() as stack:

            async def impatient() -> SitesClient:
                client = await stack.enter_async_context(node.client())
                return SitesClient(client.connection, client.node, node.info.sites, silent_ms=0)

            person, found = await impatient(), dict[int, bytes]()
            await person.request(OpenElection(election="mayor", title="Mayor", choices=["Ada"]))

            async def vote(client: SitesClient, numbers: range) -> None:
                for number in numbers:
                    voter = b"%d" % number
                    outcome = await client.request(CastBallot(election="mayor", voter=voter, choice="Ada"), command_id=f"ballot {number}")
                    reply = recorded_of(outcome)
                    found[reply.sequence] = voter

            async with anyio.create_task_group() as tasks:
                for number in range(clients):
                    tasks.start_soon(vote, await impatient(), range(number, voters, clients))
            assert set(found) == set(range(2, voters + 2))
            with anyio.fail_after(20):
                while any(report is None or report.head.sequence <= voters for report in (await person.copies("mayor")).values()):
                    await anyio.sleep(0.02)
            heads = [report.head for report in (await person.copies("mayor")).values() if report is not None]
            assert [head.sequence for head in heads] == [voters + 1] * 5
