"""What a bench reports: a figure, the limit it is compared with, and how far apart they may be."""

from collections.abc import Callable, Sequence
from statistics import median

import msgspec

__all__ = ["Measure", "Report", "Sizes", "judged"]

# Told what is being done, in a few words.
Report = Callable[[str], None]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """`ratio` is the median of value ÷ limit over the rounds; `ok`: it is at least `target` (at most, where `at_most`)."""

    name: str
    what: str
    value: float
    unit: str
    limit: float
    limited_by: str
    ratio: float
    target: float
    at_most: bool
    ok: bool


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done. Full by default; `QUICK` is for continuous integration, a few seconds for each bench."""

    # Limit and measured run take turns so often: other work on the machine hits both.
    rounds: int = 5
    # Commands of one round.
    commands: int = 30_000
    # Votes of one bundle, and bundles of one round.
    bundle_votes: int = 1_000
    bundles: int = 60
    # Votes of one round as single messages: so many for each of so many candidates.
    single_voters: int = 1_000
    single_candidates: int = 20
    # How long bare verifications run for one figure.
    bare_checks_s: float = 1.0
    descendants: int = 100_000
    cascades: int = 3
    # Disputes whose votes from the tenth and from the thousandth on are timed, and how many of each in one round.
    grown_disputes: int = 300
    grown_early: int = 10
    grown_late: int = 1_000
    grown_votes: int = 4
    # Votes stored before the import rate is measured.
    stored_few: int = 10_000
    stored_many: int = 1_000_000
    stored_bundles: int = 30
    # How long an idle node is watched.
    idle_s: float = 20.0
    # Elections in which ballots are cast, and how long they are counted in one round.
    polls: int = 64
    ballots_s: float = 8.0
    # How long bare publishes run for one figure.
    bare_appends_s: float = 4.0
    # Writers killed.
    kills: int = 50
    # Events of an election that is recovered.
    recovered_events: int = 1_000_000
    # Gateway elections: requests and gateways of a ballot, and the votes stored before votes are timed, or the ballot is closed.
    queue_items: int = 10_000
    queue_gateways: int = 500
    queue_few: int = 1_000
    queue_many: int = 1_000_000
    # Votes of one round, and closes.
    queue_votes: int = 5_000
    closes: int = 3
    # Blocks signed in one round.
    signed_blocks: int = 5
    # A network of nodes: how often a block is wanted, and how many groups are elected.
    network_interval_ms: int = 500
    network_epochs: int = 4
    # Peer elections: tokens held, proofs of one round, and the simulated network.
    peer_tokens: int = 200_000
    peer_proofs: int = 500
    peer_peers: int = 2_000
    peer_minutes: int = 2


def judged(
    name: str,
    what: str,
    pairs: Sequence[tuple[float, float]],
    *,
    unit: str,
    limited_by: str,
    target: float,
    at_most: bool = False,
) -> Measure:
    """A measure from (value, limit) of each round."""
    ratio = median(value / limit for value, limit in pairs)
    return Measure(
        name=name,
        what=what,
        value=median(value for value, _ in pairs),
        unit=unit,
        limit=median(limit for _, limit in pairs),
        limited_by=limited_by,
        ratio=ratio,
        target=target,
        at_most=at_most,
        ok=ratio <= target if at_most else ratio >= target,
    )
