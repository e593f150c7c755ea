"""What five sites tell of their elections, taken by a subsystem as any other sender's facts: each takes effect once, none is parked."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from messages.ballots import CastBallot, CloseElection, ElectionClosed, ElectionOpened, OpenElection
from messages.elections import OfElection
from messages.message import Message, Rejection, event
from messages.overseer import Parked
from messages.primitives import U32
from overseer.ports.bus import Outgoing
from overseer.sites.client import SitesClient
from overseer.subsystem import Check, Context, Decision, Declaration
from overseer.tables import TEXT, Table, Tables, View
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryWorld
from tests.node.nodes import Node, Stored, eventually, history, place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

KEYS = ("mayor-2026", "council-2026")
FACTS = "overseer.node.elections.evt."


@event(by="bulletin")
class Posted(Message, frozen=True, kw_only=True):
    """A fact was heard. `cast`: of a closed round; 0 of an opened one."""

    what: str
    cast: U32


NOTICES = Table("notices", key=(TEXT,), value=int)


class Bulletin:
    """Posts what it hears of elections: how often, and how many ballots there were."""

    declaration = Declaration(
        name="bulletin",
        description="Posts which elections were opened and closed",
        consumes=(ElectionOpened, ElectionClosed),
        sends=(),
        answers=(),
        events=(Posted,),
        tables=(NOTICES,),
    )

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        match message:
            case ElectionOpened(election=key, round=round):
                return Decision(events=[Posted(what=f"{key} {round} opened", cast=0)])
            case ElectionClosed(election=key, round=round, cast=cast):
                return Decision(events=[Posted(what=f"{key} {round} closed", cast=cast)])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        if isinstance(event, Posted):
            tables.put(NOTICES, (event.what,), (tables.get(NOTICES, (event.what,)) or 0) + 1)

    def react(self, event: Message) -> Iterable[Message]:
        return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        raise NotImplementedError

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return ()


async def told_by_five_sites(folder: Path) -> list[Stored]:
    """All that a node's stream holds of two elections whose writers were killed on the way, as it is stored."""
    with place(folder, subsystems="elections") as here:
        async with Node.up(here, "--sites", "5") as node, node.client() as client:
            sites = SitesClient(client.connection, client.node, node.info.sites)

            async def done(command: OfElection) -> None:
                await sites.request(command)

            facts: list[Stored] = []
            for key in KEYS:
                await done(OpenElection(election=key, title="?", choices=["yes", "no"]))
                await done(CastBallot(election=key, voter=b"ann", choice="yes"))
                report = next(report for report in (await sites.copies(key)).values() if report is not None)
                process = f"elections_{report.writer}"
                runs = sum(started["child"] == process for started in node.events("child_started"))
                os.kill(node.pid(process), signal.SIGKILL)
                await done(CloseElection(election=key))
                await node.logged("child_started", child=process, times=runs + 1)
            with anyio.fail_after(30):
                while sum(message.subject == f"{FACTS}election_closed" for message in facts) < len(KEYS):
                    facts = [message for message in await history(client) if message.subject.startswith(FACTS)]
            await eventually(lambda: len(node.events("ready")) == 1, "it is up", log=node.text)
            return facts


async def test_a_subsystem_hears_of_each_election_of_five_sites_once_however_often_it_is_told(tmp_path: Path) -> None:
    facts = await told_by_five_sites(tmp_path)
    async with MemoryWorld() as world, VirtualOverseer(Bulletin(), world, node="node") as bulletin:
        await bulletin.start()
        # Told at least once: all of it, and once more as writers do that took over, in whatever order they come to it.
        for again in (facts, facts, facts[::-1]):
            for fact in again:
                await world.append(Outgoing(fact.subject, fact.headers, fact.body))
        await bulletin.settled()
        assert bulletin.events(Parked) == [], "nothing is a dead letter"
        assert sorted((posted.what, posted.cast) for posted in bulletin.events(Posted)) == sorted(
            (f"{key} 1 {what}", cast) for key in KEYS for what, cast in (("opened", 0), ("closed", 1))
        )
        assert (await bulletin.verify()).ok
