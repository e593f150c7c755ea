"""`commands_durable`: exactly-once commands, journaled and written to tables, against merely reading them from the stream."""

from pathlib import Path
from secrets import token_bytes

from messages.codec import encode
from messages.subjects import build
from overseer.bench.bare_pull import bare_pull
from overseer.bench.ledger import SOURCE, Book, Ledger, Source
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.site import NODE, open_site
from overseer.checks import InlineVerifier

__all__ = ["commands_durable"]

_BODY_BYTES = 256


async def commands_durable(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    ledger = Ledger()
    subject = build(NODE, SOURCE, Book.spec)
    pairs: list[tuple[float, float]] = []
    async with open_site(folder, [ledger, Source()]) as site, site.feeder(SOURCE) as feeder, bare_pull(site) as bare:
        for number in range(sizes.rounds):
            report(f"round {number + 1} of {sizes.rounds}")
            last = await feeder.append(feeder.render(_commands(sizes.commands)))
            first = last - sizes.commands + 1
            limit = await bare.run(subject, first, sizes.commands) if number % 2 else 0.0
            async with site.working(ledger, InlineVerifier()) as work:
                took = await work.until(last)
            limit = limit or await bare.run(subject, first, sizes.commands)
            pairs.append((sizes.commands / took, limit))
    return [
        judged(
            "commands_durable",
            "durable exactly-once commands of 256 bytes through the real runner",
            pairs,
            unit="commands/s",
            limited_by="bare pull, one ack per batch",
            target=0.35,
        )
    ]


def _commands(count: int) -> list[Book]:
    """Over a thousand accounts, each body of 256 bytes."""
    accounts = [token_bytes(32) for _ in range(min(1_000, count))]
    empty = len(encode(Book(account=bytes(32), amount=1, note=b"")))
    # A length of more than 23 takes one byte more.
    note = bytes(_BODY_BYTES - empty - 1)
    return [Book(account=accounts[i % len(accounts)], amount=1, note=note) for i in range(count)]
