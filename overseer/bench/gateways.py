"""`gateway_votes`, `gateway_close`: weights given in gateway elections, and a ballot of a million of them closed (G25)."""

import shutil
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple, cast

from rocksdict import AccessType

from messages.elections import ElectionEvent
from messages.gateways import StakeRedistributed
from overseer.bench.bare_rows import bare_writes
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.queues import BALLOT, QUEUE, QueueOfBench
from overseer.bench.site import OPERATOR, Feeder, Site, open_site
from overseer.bench.votes import chain_of_bench
from overseer.checks import InlineVerifier
from overseer.limits import Limits
from overseer.node.folder import NodeFolder
from overseer.node.hosting import table_names
from overseer.rocks.options import open_rocks
from overseer.rocks.store import RocksStore
from overseer.tables import View
from subsystems.elections.gateways.rows import BALLOTS, WEIGHTS
from subsystems.elections.rows import EVENTS, dump_event, key_hash

__all__ = ["gateway_close", "gateway_votes"]


# ------------------------------------------------------------------------------------------------ votes


async def gateway_votes(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """The same votes into ballots with few and with many weights stored."""
    queue = QueueOfBench(sizes.queue_items, sizes.queue_gateways)
    timed = list(range(sizes.queue_many, sizes.queue_many + sizes.rounds * sizes.queue_votes))
    Random(1).shuffle(timed)
    rates: list[tuple[float, float]] = []
    costs: list[tuple[float, float]] = []
    report(f"storing {sizes.queue_many} weights")
    async with _voting(folder / "many", queue, sizes.queue_many) as many:
        for number in range(sizes.rounds):
            report(f"round {number + 1} of {sizes.rounds}")
            votes = timed[number * sizes.queue_votes : (number + 1) * sizes.queue_votes]
            bare = folder / f"bare-{number}"
            limit = _bare_votes(bare, queue, votes) if number % 2 else 0.0
            # A new one each time: it is not to become large.
            async with _voting(folder / f"few-{number}", queue, sizes.queue_few) as few:
                reached = [0.0, 0.0]
                for side in (0, 1) if number % 2 else (1, 0):
                    reached[side] = await (few, many)[side].rate(votes)
            rates.append((reached[1], limit or _bare_votes(bare, queue, votes)))
            costs.append((1e6 / reached[1], 1e6 / reached[0]))
    return [
        judged(
            "gateway_votes",
            f"weights given to requests, with {sizes.queue_many} stored, each a message of its own",
            rates,
            unit="votes/s",
            limited_by="bare RocksDB writes of the weight and event of as many, as many to a synced batch",
            target=0.10,
        ),
        judged(
            "gateway_votes_growth",
            f"time of vote {sizes.queue_many} of a ballot (and those that follow)",
            costs,
            unit="us",
            limited_by=f"time of its vote {sizes.queue_few}",
            target=1.2,
            at_most=True,
        ),
    ]


class _Voting(NamedTuple):
    """A queue that is voted on, and who votes."""

    site: Site
    queue: QueueOfBench
    people: Feeder

    async def rate(self, votes: list[int]) -> float:
        """Votes taken in a second: from a stream that holds them all to the last commit."""
        last = await self.people.append(self.people.render([self.queue.vote(number) for number in votes]))
        async with self.site.working(self.queue.elections, InlineVerifier()) as work:
            return len(votes) / await work.until(last)


@asynccontextmanager
async def _voting(folder: Path, queue: QueueOfBench, weights: int) -> AsyncGenerator[_Voting, None]:
    await queue.write(folder, weights)
    async with open_site(folder, [queue.elections, chain_of_bench()]) as site, site.feeder(OPERATOR) as people:
        yield _Voting(site, queue, people)


def _bare_votes(folder: Path, queue: QueueOfBench, votes: list[int]) -> float:
    """Votes of which RocksDB alone writes in a second what stays of each: its weight, and its event."""
    election = key_hash(QUEUE)
    rows: list[tuple[bytes, bytes]] = []
    for sequence, number in enumerate(votes, 1):
        rows += [queue.weight_row(number), (EVENTS.pack((election, sequence)), dump_event(_event(queue, number)))]
    return bare_writes(folder, rows, 2 * Limits().batch_messages_max) / 2


def _event(queue: QueueOfBench, number: int) -> ElectionEvent:
    vote = queue.vote(number)
    return StakeRedistributed(
        election=QUEUE, at_ms=0, round=vote.round, ballot=BALLOT, gateway=vote.gateway, item=vote.item, amount=vote.amount
    )


# ------------------------------------------------------------------------------------------------ close


async def gateway_close(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    queue = QueueOfBench(sizes.queue_items, sizes.queue_gateways)
    report(f"storing {sizes.queue_many} weights")
    await queue.write(folder / "voted", sizes.queue_many)
    pairs: list[tuple[float, float]] = []
    for number in range(sizes.closes):
        report(f"close {number + 1} of {sizes.closes}")
        place = folder / f"site-{number}"
        shutil.copytree(folder / "voted" / "stores", place / "stores")
        limit = _bare_close(place, queue, sizes.queue_many)
        pairs.append((await _close(place, queue), limit))
        shutil.rmtree(place)
    return [
        judged(
            "gateway_close",
            f"a ballot of {sizes.queue_items} requests and {sizes.queue_many} weights, from the block's signal to the last page",
            pairs,
            unit="s",
            limited_by="bare RocksDB reading as many weights, and sorting those of each request",
            target=10.0,
            at_most=True,
        )
    ]


async def _close(folder: Path, queue: QueueOfBench) -> float:
    """Seconds from the sending of the close block to the commit of the last page of results."""
    async with (
        open_site(folder, [queue.elections, chain_of_bench()]) as site,
        site.feeder("chain_api") as chain,
        site.working(queue.elections, InlineVerifier(), gauge=_settled) as work,
    ):
        began = time.perf_counter() - work.ready_s
        await chain.tell(queue.close)
        return await work.until(queue.items) - began


def _settled(store: RocksStore) -> int:
    """Requests settled so far."""
    ballot = View(store).get(BALLOTS, (key_hash(QUEUE), BALLOT))
    return 0 if ballot is None else ballot.reached


def _bare_close(folder: Path, queue: QueueOfBench, weights: int) -> float:
    """Seconds that RocksDB takes to read all weights, and Python to sort those of each request."""
    declared = queue.elections.declaration
    path = NodeFolder(folder).store(declared.name)
    db = open_rocks(str(path), table_names(declared), access=AccessType.read_only(False))
    table = db.get_column_family(WEIGHTS.name)
    began = time.perf_counter()
    lists: dict[bytes, list[bytes]] = {}
    for key, weight in cast("Iterable[tuple[bytes, bytes]]", table.items()):
        lists.setdefault(key[:-4], []).append(weight)
    for each in lists.values():
        each.sort(reverse=True)
    took = time.perf_counter() - began
    assert sum(map(len, lists.values())) == weights
    del table
    db.close()
    return took
