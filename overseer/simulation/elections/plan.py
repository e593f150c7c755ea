"""What goes wrong among the sites of one run, drawn from its seed before it begins."""

import enum
from collections.abc import Sequence
from random import Random

import msgspec

__all__ = ["VARIANTS", "SiteFault", "SiteFaultKind", "draw_site_faults"]


class SiteFaultKind(enum.StrEnum):
    """Every way in which things go wrong; what is done is in overseer/simulation/elections/faults.py."""

    # Between sites, and between them and the log.
    MESSAGES_LOST = "messages_lost"
    MESSAGES_SLOW = "messages_slow"
    MESSAGES_DOUBLED = "messages_doubled"
    READS_OUTDATED = "reads_outdated"
    PARTITION = "partition"
    PARTITION_2_2_1 = "partition_2_2_1"
    CUT_ONE_WAY = "cut_one_way"
    LOG_UNHEARD = "log_unheard"
    WRITER_ALONE = "writer_alone"
    # Processes and disks.
    PAUSE = "pause"
    PAUSE_PAST_LEASE = "pause_past_lease"
    KILL = "kill"
    POWER_CUT = "power_cut"
    CRASH_BETWEEN_EFFECTS = "crash_between_effects"
    FOLLOWERS_DOWN = "followers_down"
    SLOW_READER = "slow_reader"
    # The log.
    APPEND_LOST = "append_lost"
    APPEND_UNANSWERED = "append_unanswered"
    APPEND_LATE = "append_late"
    LOG_UNAVAILABLE = "log_unavailable"
    # The topology.
    MARKED_AWAY = "marked_away"
    SITE_ADDED = "site_added"
    SITE_REMOVED = "site_removed"
    # What takes something for good.
    DISK_LOST = "disk_lost"
    LOG_REPLACED = "log_replaced"


Kind = SiteFaultKind


class SiteFault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that goes wrong at `at_ms`. `target`: a site, or `writer` or `follower` of `election` as it is by then."""

    kind: SiteFaultKind
    at_ms: int
    election: int
    target: str
    for_ms: int
    amount: int

    def __str__(self) -> str:
        return f"{self.kind.value} of {self.target} ({self.election}) for {self.for_ms} ms, amount {self.amount}"


_WEIGHTS: dict[SiteFaultKind, int] = {
    Kind.MESSAGES_LOST: 5,
    Kind.MESSAGES_SLOW: 5,
    Kind.MESSAGES_DOUBLED: 4,
    Kind.READS_OUTDATED: 4,
    Kind.PARTITION: 5,
    Kind.PARTITION_2_2_1: 4,
    Kind.CUT_ONE_WAY: 6,
    Kind.LOG_UNHEARD: 4,
    Kind.WRITER_ALONE: 5,
    Kind.PAUSE: 4,
    Kind.PAUSE_PAST_LEASE: 6,
    Kind.KILL: 6,
    Kind.POWER_CUT: 6,
    Kind.CRASH_BETWEEN_EFFECTS: 10,
    Kind.FOLLOWERS_DOWN: 5,
    Kind.SLOW_READER: 5,
    Kind.APPEND_LOST: 6,
    Kind.APPEND_UNANSWERED: 6,
    Kind.APPEND_LATE: 6,
    Kind.LOG_UNAVAILABLE: 3,
    Kind.MARKED_AWAY: 8,
    Kind.SITE_ADDED: 2,
    Kind.SITE_REMOVED: 2,
    Kind.DISK_LOST: 5,
    Kind.LOG_REPLACED: 1,
}
# By name: kinds that are drawn so much more often, for one part of the protocol each.
VARIANTS: dict[str, dict[SiteFaultKind, int]] = {
    "few_copies": {Kind.FOLLOWERS_DOWN: 8, Kind.WRITER_ALONE: 6, Kind.CUT_ONE_WAY: 3},
    "takeovers": {Kind.MARKED_AWAY: 6, Kind.PAUSE_PAST_LEASE: 6, Kind.APPEND_LATE: 4},
    "disks_lost": {Kind.DISK_LOST: 12, Kind.FOLLOWERS_DOWN: 2},
    "log_lost": {Kind.LOG_REPLACED: 1, Kind.FOLLOWERS_DOWN: 4, Kind.WRITER_ALONE: 4, Kind.MARKED_AWAY: 3, Kind.SLOW_READER: 6},
    # Nothing more often; but idle elections are forgotten all the time (scenario.py).
    "passivated": {},
    "slow_readers": {Kind.SLOW_READER: 10, Kind.POWER_CUT: 4},
}
# The log is lost in so many seeds, once. Nothing else is lost for good then, nor given to other sites: what an acknowledgement promises
# is that three of the five copies of that moment have it, and after the loss of the log they are all there is.
_LOG_LOST_SHARE = 0.2
_EXCLUDED_BY_LOSS = frozenset({Kind.DISK_LOST, Kind.SITE_ADDED, Kind.SITE_REMOVED})


def draw_site_faults(random: Random, *, variant: str, sites: Sequence[str], span_ms: int, faults: int) -> list[SiteFault]:
    """The plan, in order of time."""
    more = VARIANTS.get(variant, {})
    log_lost = variant == "log_lost" or random.random() < _LOG_LOST_SHARE
    left_out = {Kind.LOG_REPLACED} | (_EXCLUDED_BY_LOSS if log_lost else set[SiteFaultKind]())
    kinds = [kind for kind in _WEIGHTS if kind not in left_out]
    chosen = random.choices(kinds, [_WEIGHTS[kind] * more.get(kind, 1) for kind in kinds], k=faults)
    if log_lost and chosen:
        chosen[-1] = Kind.LOG_REPLACED
    return sorted((_draw(random, kind, sites, span_ms) for kind in chosen), key=lambda fault: fault.at_ms)


def _draw(random: Random, kind: SiteFaultKind, sites: Sequence[str], span_ms: int) -> SiteFault:
    for_ms = random.choice((50, 200, 500, 1_000, 2_000))
    match kind:
        case Kind.PAUSE_PAST_LEASE:
            for_ms = random.choice((1_500, 3_000, 6_000))
        case Kind.SLOW_READER:
            for_ms = random.choice((500, 2_000, 5_000))
        case _:
            pass
    return SiteFault(
        kind=kind,
        # Late enough for the loss of a log to lose something.
        at_ms=random.randrange(span_ms // 4 if kind is Kind.LOG_REPLACED else 0, span_ms),
        election=random.randrange(6),
        target=random.choice((*sites, "writer", "writer", "writer", "follower", "follower")),
        for_ms=for_ms,
        amount=random.randrange(1_000),
    )
