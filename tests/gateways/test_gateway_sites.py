"""Gateway elections on several sites: every site hears the chain, whoever writes a queue does what is due, and the log orders it."""

from typing import TypeVar

from queue_story import QUEUE, Story, account, digest, proof, submit, vote
from site_world import World, living

from messages.codec import decode, encode
from messages.elections import ElectionHistory, QueryHistory
from messages.gateway_queries import GetQueue, PendingRequests, QueueReport, RequestPage
from messages.gateways import Bond, ChainBehind, DeclareGateway, OpenQueue, RequestsReturned, RoundCut, RoundResults, RoundRevoked
from messages.message import Message
from messages.polkadot import Scheme
from messages.signals import BestChain, BlockRef, GovernanceMode, GovernanceState
from messages.subjects import HEADER_ID
from overseer.ports.bus import Outgoing
from overseer.sites.tables import election_tables
from subsystems.elections.chain import CHAIN, Chain, ChainRow
from subsystems.elections.gateways.rows import BALLOTS
from subsystems.elections.rows import key_hash
from subsystems.elections.runtime.placement import placed

M = TypeVar("M", bound=Message)


class Told:
    """The chain, as `chain_api` tells it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chain = [digest("genesis")]
        self.count = 0

    def signal(self, message: Message) -> None:
        self.count += 1
        headers = {HEADER_ID: f"chain_api {'0' * 32} {self.count} 0"}
        self.world.broker.publish(Outgoing(f"overseer.n1.chain_api.sig.{message.spec.name}", headers, encode(message)))

    def reach(self, height: int, branch: str = "a", *, keep: int | None = None) -> None:
        keep = len(self.chain) - 1 if keep is None else keep
        reverted = [BlockRef(self.chain[number], number) for number in range(len(self.chain) - 1, keep, -1)]
        applied = [BlockRef(digest(f"{number}/{branch}"), number) for number in range(keep + 1, height + 1)]
        self.chain = self.chain[: keep + 1] + [ref.hash for ref in applied]
        self.signal(BestChain(reverted=reverted, applied=applied))


def writer(world: World) -> str:
    return placed(world.server.recorded.record or world.topology, QUEUE).writer


async def asked(world: World, name: str, query: Message, kind: type[M]) -> M:
    answer = decode(kind.spec, (await world.ask(name, query)).body)
    assert isinstance(answer, kind)
    return answer


async def history(world: World, name: str) -> list[str]:
    page = await asked(world, name, QueryHistory(election=QUEUE), ElectionHistory)
    return [row.message.rsplit(".", 1)[-1] for row in page.events]


async def prepared(world: World) -> Told:
    """A queue with L = 4 and M = 3, A and B, and the request x."""
    await world.done(OpenQueue(election=QUEUE, collect_blocks=4, vote_blocks=3))
    for name in "AB":
        await world.done(Bond(election=QUEUE, gateway=account(name), amount=100))
        await world.done(DeclareGateway(election=QUEUE, gateway=account(name), scheme=Scheme.ED25519))
    await world.done(submit("x"))
    return Told(world)


async def cut(world: World, count: int, *names: str) -> None:
    """Until these sites (all) have applied so many cuts."""

    def there(name: str) -> bool:
        site = world.sites[name].site
        return site.progress.ready and sum(1 for _ in site.view.scan(BALLOTS, (key_hash(QUEUE),))) >= count

    await world.until(lambda: all(there(name) for name in names or world.sites), f"{count} cuts")


async def level(world: World, *kinds: type[Message]) -> None:
    """Until facts of these kinds were told, and all sites that run have the whole log."""
    await world.until(lambda: {type(fact) for _, fact in world.facts} >= set(kinds), f"told: {kinds}")
    await world.level()


def rows(world: World, name: str) -> dict[str, list[tuple[bytes, bytes]]]:
    """The election's rows at a site; timers and outcomes are not its own."""
    site = world.sites[name].site
    tables = election_tables(site._elections)[:-2]
    return {table.name: list(site.view.scan_packed(table, (key_hash(QUEUE),))) for table in tables}


def test_all_sites_hear_the_chain_and_each_step_is_in_the_log_once() -> None:
    async def story(world: World) -> None:
        told = await prepared(world)
        told.reach(5)
        await cut(world, 1)
        await world.done(vote("A", "x", 70))
        await world.done(vote("B", "x", 30))
        told.reach(12)
        await cut(world, 2)
        await world.done(proof("A", "x"))
        await level(world, RoundResults)
        assert (await history(world, "s0"))[6:] == [
            "round_cut",
            "stake_redistributed",
            "stake_redistributed",
            "round_closed",
            "round_results",
            "round_cut",
            "request_executed",
        ]
        assert sum(isinstance(fact, RoundCut) for _, fact in world.facts) == 2
        copies = [rows(world, name) for name in world.sites]
        assert all(copy == copies[0] for copy in copies)

    living(story)


def test_what_is_due_while_the_writer_is_dead_is_done_by_the_next_one() -> None:
    async def story(world: World) -> None:
        told = await prepared(world)
        dead = writer(world)
        await world.kill(dead)
        told.reach(5)
        await world.until(lambda: writer(world) != dead, "another one writes")
        told.reach(6)
        await cut(world, 1, *(name for name in world.sites if name != dead))
        world.start(dead)
        await world.done(vote("A", "x", 70))
        told.reach(9)
        await level(world, RoundResults)
        assert (await history(world, "s0")).count("round_cut") == 1

    living(story)


def test_a_round_whose_close_block_leaves_while_the_writer_is_dead_is_revoked_by_the_next_one() -> None:
    async def story(world: World) -> None:
        told = await prepared(world)
        told.reach(5)
        await cut(world, 1)
        await world.done(vote("A", "x", 70))
        told.reach(9)
        await level(world, RoundResults)
        dead = writer(world)
        await world.kill(dead)
        told.reach(8, keep=8)
        await world.until(lambda: writer(world) != dead, "another one writes")
        told.reach(10, "b")
        await level(world, RoundRevoked, RequestsReturned)
        world.start(dead)
        await cut(world, 2)
        await world.level()
        queue = await asked(world, dead, GetQueue(election=QUEUE), QueueReport)
        assert (queue.round, queue.height) == (1, 10)
        pending = await asked(world, dead, PendingRequests(election=QUEUE), RequestPage)
        assert pending.requests == [], "x is in the ballot of the next round"

    living(story)


def test_every_site_killed_once_while_blocks_come_and_each_round_is_held_once() -> None:
    async def story(world: World) -> None:
        told = await prepared(world)
        for number, name in enumerate(list(world.sites)):
            await world.kill(name)
            told.reach(5 * (number + 1))
            await world.sleep(1_500)
            world.start(name)
            await world.sleep(1_000)
        told.reach(26)
        await cut(world, 5)
        await world.level()
        found = await history(world, "s0")
        assert (found.count("round_cut"), found.count("round_closed")) == (5, 4)
        copies = [rows(world, name) for name in world.sites]
        assert all(copy == copies[0] for copy in copies)

    living(story)


def test_governance_mode_holds_the_phases_on_all_sites() -> None:
    async def story(world: World) -> None:
        told = await prepared(world)
        told.signal(GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=0))
        told.reach(6)
        await world.sleep(1_000)
        assert "round_cut" not in await history(world, "s0")
        told.signal(GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=0))
        await cut(world, 1)

    living(story)


def test_who_knows_less_of_the_chain_than_the_writer_before_judges_nothing() -> None:
    """Otherwise a new writer that reads the stream more slowly would take the last round's blocks for gone."""
    story = Story()
    story.gateways(A=100)
    story.done(submit("x"))
    story.reach(5)
    rows, elections = story.given.rows, story.given.subsystem
    row = Chain(story.given.view).row
    slow = ChainRow(3, 1, row.at_ms - 1, row.position - 1)
    rows.load(CHAIN.name, [(CHAIN.pack((0,)), CHAIN.dump(slow))])
    assert elections.due(story.given.view, QUEUE) is None  # type: ignore[attr-defined]
    assert story.refused(vote("A", "x", 10)) == ChainBehind(height=3)
    story.done(submit("y"))
    caught_up = ChainRow(3, 1, row.at_ms + 1, row.position + 1)
    rows.load(CHAIN.name, [(CHAIN.pack((0,)), CHAIN.dump(caught_up))])
    assert elections.due(story.given.view, QUEUE) is not None  # type: ignore[attr-defined]
