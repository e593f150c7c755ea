"""Mail between sites over a real server and its accounts: heard and answered, and never in another site's name."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from messages.codec import encode
from messages.election_pairs import PairMessage, PositionAsked, SnapshotAsked
from messages.elections import ListElections
from messages.message import Message
from overseer.nats.connection import Connection
from overseer.nats.site_mail import NatsSiteMail
from overseer.nats.sites import site_user
from overseer.ports.bus import BusDenied, BusUnavailable, Request, Response
from tests.ports.bus.bus_worlds import until
from tests.ports.sites.sites_worlds import NODE, NatsWorld, nats_server

pytestmark = [pytest.mark.anyio, pytest.mark.real]


def asked(site: str, key: str = "k") -> PositionAsked:
    return PositionAsked(election=key, site=site, topology=1)


class Site:
    """A site that only has mail."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.mail = NatsSiteMail(connection, node=NODE, site=name)
        self.heard: list[PairMessage] = []
        self.requests: list[Request] = []

    async def open(self) -> "Site":
        await self.mail.serve(self.heard.append, self._answer, self._handle)
        return self

    async def _answer(self, message: PairMessage) -> Response:
        return Response(f"to {message.site}".encode(), {}, ("404", "none") if message.election == "missing" else None)

    async def _handle(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(b"handled")

    async def until(self, count: int) -> None:
        with anyio.fail_after(10):
            while len(self.heard) < count:
                await anyio.sleep(0.005)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NatsWorld]:
    server, keys = nats_server(tmp_path)
    async with AsyncExitStack() as closing:
        closing.callback(server.kill)
        yield await NatsWorld(server.start(), keys, closing).fresh()


async def site(world: NatsWorld, name: str) -> Site:
    return await Site(await world.connect(site_user(name)), name).open()


async def test_sites_hear_and_answer_each_other(world: NatsWorld) -> None:
    a, b = await site(world, "a"), await site(world, "b")
    for number in range(50):
        await a.mail.send("b", asked("a", f"k{number}"))
    await b.until(50)
    assert b.heard == [asked("a", f"k{number}") for number in range(50)]
    question = SnapshotAsked(election="k", site="a", topology=1)
    assert await a.mail.ask("b", question, 5_000) == Response(b"to a")
    missing = await a.mail.ask("b", SnapshotAsked(election="missing", site="a", topology=1), 5_000)
    assert missing.error == ("404", "none")
    await b.mail.close()
    with pytest.raises(BusUnavailable):
        await a.mail.ask("b", question, 300)
    await a.mail.send("b", asked("a"))


async def test_a_site_whose_session_ended_while_it_opened_its_mail_hears_everything_once_when_it_opens_it_again(world: NatsWorld) -> None:
    a = await site(world, "a")
    b = Site(await world.connect(site_user("b")), "b")
    # Takes what is sent, and confirms nothing.
    world.server.signal(signal.SIGSTOP)
    await until(world.server.stopped)

    async def end_the_session() -> None:
        await until(lambda: b.mail._listening is not None)  # pyright: ignore[reportPrivateUsage]
        world.server.kill()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_the_session)
        with pytest.raises(BusUnavailable):
            await b.open()
    world.server.start()
    with anyio.fail_after(30):
        await a.connection.ready()
        await b.connection.ready()
        await b.open()
    for key in ("first", "second"):
        await a.mail.send("b", asked("a", key))
    await b.until(2)
    assert b.heard == [asked("a", "first"), asked("a", "second")]


async def test_a_site_that_speaks_in_anothers_name_is_neither_heard_nor_answered(world: NatsWorld) -> None:
    a, b = await site(world, "a"), await site(world, "b")
    await a.mail.send("b", asked("c"))
    with pytest.raises(BusUnavailable):
        await a.mail.ask("b", SnapshotAsked(election="k", site="b", topology=1), 300)
    # Another election than the subject says, no message at all, and what is no body.
    subject = f"overseer.{NODE}.{site_user('b')}.pair"
    await a.connection.publish(f"{subject}.other.position_asked", encode(asked("a")))
    await a.connection.publish(f"{subject}.k.cast_ballot", encode(asked("a")))
    await a.connection.publish(f"{subject}.k.position_asked", b"\xff")
    await a.mail.send("b", asked("a"))
    await b.until(1)
    assert (b.heard, b.mail.refused) == ([asked("a")], 5)


async def test_operators_reach_the_mailroom_and_nobody_but_sites_the_pair(world: NatsWorld) -> None:
    b = await site(world, "b")
    operator = await world.connect("operator")
    query: Message = ListElections()
    reply = await operator.request(f"overseer.{NODE}.{site_user('b')}.mail._.list_elections", encode(query), timeout_ms=5_000)
    assert (reply.body, b.requests[0].account) == (b"handled", f"{NODE}-operator")
    reader = await world.connect("reader")
    with pytest.raises(BusDenied):
        await reader.request(f"overseer.{NODE}.{site_user('b')}.mail.k.cast_ballot", b"", timeout_ms=2_000)
    for user in (operator, reader):
        with pytest.raises(BusDenied):
            await user.request(f"overseer.{NODE}.{site_user('b')}.pair.k.position_asked", encode(asked("a")), timeout_ms=2_000)
    assert b.heard == []
