"""`growth`: whether a vote costs more in a large dispute, and an import in a large database."""

from collections.abc import Sequence
from pathlib import Path

from overseer.bench.ballots import Ballots
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.votes import database
from overseer.checks import InlineVerifier, Memo
from overseer.subsystem import Check

__all__ = ["growth"]

# Bundles made and sent at once while a database is filled: bounds memory.
_FILLED_AT_ONCE = 50


async def growth(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    return [await _in_large_dispute(folder / "dispute", sizes, report), await _in_large_database(folder, sizes, report)]


class _Trusting(InlineVerifier):
    """Takes every signature for good: votes that only fill the database are not signed."""

    def ahead(self, checks: Sequence[Check]) -> Memo:
        memo = Memo(checks)
        memo.learn(checks, [True] * len(checks))
        return memo


# ------------------------------------------------------------------------------------------------ a large dispute


async def _in_large_dispute(folder: Path, sizes: Sizes, report: Report) -> Measure:
    """Disputes of two sizes in one database, with votes on both sides, none concluded; each round adds a few votes to each."""
    early, late = sizes.grown_early, sizes.grown_late
    # So many that no timed vote changes the state of its dispute.
    ballots = Ballots(2 * (late + sizes.rounds * sizes.grown_votes))
    few, many = range(sizes.grown_disputes), range(sizes.grown_disputes, 2 * sizes.grown_disputes)
    pairs: list[tuple[float, float]] = []
    async with database(folder, ballots) as one:
        report(f"{sizes.grown_disputes} disputes of {early - 1} votes, {sizes.grown_disputes} of {late - 1}")
        for numbers, votes in ((few, early - 1), (many, late - 1)):
            for at in range(0, len(numbers), _FILLED_AT_ONCE):
                part = numbers[at : at + _FILLED_AT_ONCE]
                # One against, another in each dispute: nobody may raise many over candidates that the chain does not know.
                unsigned = [ballots.bundle(n, range(1, votes), against=[len(ballots) - 1 - n], signed=False) for n in part]
                await one.rate(unsigned, _Trusting())
        for number in range(sizes.rounds):
            report(f"round {number + 1} of {sizes.rounds}")
            added = [range(first + number * sizes.grown_votes, first + (number + 1) * sizes.grown_votes) for first in (early, late)]
            singles = [[ballots.bundle(n, [v - 1]) for v in voters for n in ns] for voters, ns in zip(added, (few, many), strict=True)]
            rates = [0.0, 0.0]
            for side in (0, 1) if number % 2 else (1, 0):
                rates[side] = await one.rate(singles[side])
            pairs.append((1e6 / rates[1], 1e6 / rates[0]))
    return judged(
        "growth",
        f"time of vote {late} of a dispute (and those that follow)",
        pairs,
        unit="us",
        limited_by=f"time of its vote {early}",
        target=1.2,
        at_most=True,
    )


# ------------------------------------------------------------------------------------------------ a large database


async def _in_large_database(folder: Path, sizes: Sizes, report: Report) -> Measure:
    per_bundle = sizes.bundle_votes
    ballots = Ballots(per_bundle)
    pairs: list[tuple[float, float]] = []
    async with database(folder / "few", ballots) as few, database(folder / "many", ballots) as many:
        filled = 0
        for each, votes in ((few, sizes.stored_few), (many, sizes.stored_many)):
            report(f"storing {votes} votes")
            count = -(-votes // per_bundle)
            for at in range(0, count, _FILLED_AT_ONCE):
                part = range(at, min(at + _FILLED_AT_ONCE, count))
                await each.rate([ballots.bundle(n, range(per_bundle), signed=False) for n in part], _Trusting())
            filled = max(filled, count)
        for number in range(sizes.rounds):
            report(f"round {number + 1} of {sizes.rounds}")
            first = filled + number * sizes.stored_bundles
            bundles = [ballots.bundle(first + i, range(per_bundle)) for i in range(sizes.stored_bundles)]
            rates = [0.0, 0.0]
            for side in (0, 1) if number % 2 else (1, 0):
                rates[side] = per_bundle * await (few, many)[side].rate(bundles)
            pairs.append((rates[1], rates[0]))
    return judged(
        "growth_stored",
        f"votes imported from bundles of {per_bundle} with {sizes.stored_many} votes stored",
        pairs,
        unit="votes/s",
        limited_by=f"the same with {sizes.stored_few} stored",
        target=0.90,
    )
