"""`votes_bundled`, `votes_single`: votes verified, stored and journaled, against merely verifying as many signatures."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from messages.message import Message
from overseer.bench.ballots import Ballots
from overseer.bench.bare_checks import bare_checks
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.site import OPERATOR, Feeder, Site, open_site
from overseer.checks import InlineVerifier, PoolVerifier, Verifier
from overseer.feeds.author import genesis_of
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.votes_db.subsystem import VotesDb

__all__ = ["Database", "chain_of_bench", "database", "votes_bundled", "votes_single"]

# Enough that every worker gets some.
_CHECKS_TO_START = 1_000


async def votes_bundled(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    ballots = Ballots(sizes.bundle_votes)
    cores = len(os.sched_getaffinity(0))

    def messages(number: int) -> list[Message]:
        first = number * sizes.bundles
        return [ballots.bundle(first + i, range(sizes.bundle_votes)) for i in range(sizes.bundles)]

    pairs = await _rounds(folder, sizes, report, ballots, messages, lambda: bare_checks(cores, sizes.bare_checks_s))
    return [
        judged(
            "votes_bundled",
            f"votes imported and stored from bundles of {sizes.bundle_votes}, all cores",
            [(rate * sizes.bundle_votes, limit) for rate, limit in pairs],
            unit="votes/s",
            limited_by=f"bare sr25519 verifications on {cores} cores",
            target=0.80,
        )
    ]


async def votes_single(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    ballots = Ballots(sizes.single_voters)

    def messages(number: int) -> list[Message]:
        first = number * sizes.single_candidates
        candidates = [ballots.bundle(first + i, range(sizes.single_voters)) for i in range(sizes.single_candidates)]
        return [replace(bundle, explicit_votes=[bundle.explicit_votes[v]]) for v in range(sizes.single_voters) for bundle in candidates]

    pairs = await _rounds(folder, sizes, report, ballots, messages, lambda: bare_checks(1, sizes.bare_checks_s))
    return [
        judged(
            "votes_single",
            "votes imported and stored, each a message of its own",
            pairs,
            unit="votes/s",
            limited_by="bare sr25519 verifications on one core",
            target=0.50,
        )
    ]


async def _rounds(
    folder: Path,
    sizes: Sizes,
    report: Report,
    ballots: Ballots,
    messages: Callable[[int], Sequence[Message]],
    bare: Callable[[], Awaitable[float]],
) -> list[tuple[float, float]]:
    """(messages imported in a second, the limit) of each round, taking turns."""
    pairs: list[tuple[float, float]] = []
    async with database(folder, ballots) as one:
        for number in range(sizes.rounds):
            report(f"round {number + 1} of {sizes.rounds}")
            limit = await bare() if number % 2 else 0.0
            rate = await one.rate(messages(number))
            pairs.append((rate, limit or await bare()))
    return pairs


class Database(NamedTuple):
    """A votes database with its bus, and who sends to it."""

    site: Site
    people: Feeder
    subsystem: VotesDb
    verifier: Verifier

    async def rate(self, messages: Sequence[Message], verifier: Verifier | None = None) -> float:
        """Messages imported in a second: from a stream that holds them all to the last commit. `verifier`: another than its own."""
        last = await self.people.append(self.people.render(messages))
        async with self.site.working(self.subsystem, verifier or self.verifier) as work:
            return len(messages) / await work.until(last)


@asynccontextmanager
async def database(folder: Path, ballots: Ballots) -> AsyncGenerator[Database, None]:
    """A new one that knows the session."""
    subsystem = VotesDb()
    async with (
        open_site(folder, [subsystem, chain_of_bench()]) as site,
        site.feeder("chain_api") as chain,
        site.feeder(OPERATOR) as people,
        _checking(ballots) as verifier,
    ):
        await _know_session(site, subsystem, chain, ballots)
        yield Database(site, people, subsystem, verifier)


@asynccontextmanager
async def _checking(ballots: Ballots) -> AsyncGenerator[PoolVerifier, None]:
    """Workers on all cores, started already: as in a node that runs."""
    verifier = PoolVerifier()
    try:
        await verifier.verify_all(ballots.checks(_CHECKS_TO_START))
        yield verifier
    finally:
        await verifier.close()


async def _know_session(site: Site, subsystem: VotesDb, chain: Feeder, ballots: Ballots) -> None:
    """Let the session begin, before there are votes: checks ahead of it could not know the keys."""
    last = await chain.tell(ballots.session)
    async with site.working(subsystem, InlineVerifier()) as work:
        await work.until(last)


def chain_of_bench() -> ChainApi:
    """Who tells of sessions and blocks."""
    return ChainApi(ChainConfig(genesis=genesis_of("bench")))
