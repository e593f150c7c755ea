"""What `dispute_conclusion` is, as data."""

import msgspec

from messages.chain_api import ROOTS_MAX, Blacklist, BlockImported, Descendants, LiftRevert, Revert
from messages.dispute_conclusion import (
    BlacklistedBlocksRecorded,
    BlacklistRequested,
    BlacklistSeen,
    Challenged,
    ChallengeLifted,
    ChallengeLiftRecorded,
    ChallengeRecorded,
    ConclusionConcluded,
    ConclusionOpened,
    DescendantsAnswer,
    DescendantsAsked,
    DescendantsPageRecorded,
    DescendantsSeen,
    Detection,
    DetectionRecorded,
    GetConclusion,
    InclusionsRecorded,
    ListConclusions,
    Resolution,
    ResolutionRecorded,
    RevertAsked,
    SessionRecorded,
    UnknownConclusion,
)
from messages.signals import BlocksBlacklisted, SessionChange
from overseer.subsystem import Declaration
from subsystems.dispute_conclusion.tables import TABLES

__all__ = ["DECLARATION", "Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Choices of the operator and bounds, each with its reason."""

    # Stop building on the including blocks as soon as invalid votes exceed f (D25); judge at supermajority.
    early_action: bool = True
    # Hashes kept per block of what the cascade was seen to be: for queries; the journal has all.
    descendants_listed_max: int = 1_000
    # Including blocks asked for, reverted, lifted or blacklisted by one event: its commands stay far below a message's size.
    blocks_per_round_max: int = ROOTS_MAX
    # Blocks, steps and descendants that one answer lists: replies stay below a message's size.
    listed_max: int = 1_000
    # The same for each of the up to `page_max` conclusions of a list.
    listed_in_page_max: int = 16
    # Conclusions in one page of a list.
    page_max: int = 100
    # Rows one list query looks at: bounded work also when few of them are open.
    rows_scanned_max: int = 2_000
    # Inclusions are kept for this many sessions: six more than votes_db's window, as it may be behind when it resolves.
    inclusion_sessions: int = 12
    # Conclusions are kept (and a candidate concluded against is watched for) this many sessions.
    conclusion_sessions: int = 1_000


DECLARATION = Declaration(
    name="dispute_conclusion",
    description="Follows each dispute: early revert, the cascade to the blacklist, and the record of both",
    consumes=(
        Detection,
        Challenged,
        ChallengeLifted,
        Resolution,
        DescendantsAnswer,
        BlockImported,
        BlocksBlacklisted,
        SessionChange,
    ),
    sends=(
        Descendants,
        Revert,
        LiftRevert,
        Blacklist,
        ConclusionOpened,
        DescendantsSeen,
        BlacklistRequested,
        ConclusionConcluded,
    ),
    answers=(GetConclusion, ListConclusions),
    restricted={
        Detection: ("votes_db",),
        Challenged: ("votes_db",),
        ChallengeLifted: ("votes_db",),
        Resolution: ("votes_db",),
        DescendantsAnswer: ("chain_api",),
    },
    events=(
        DetectionRecorded,
        ChallengeRecorded,
        ChallengeLiftRecorded,
        RevertAsked,
        ResolutionRecorded,
        DescendantsAsked,
        DescendantsPageRecorded,
        BlacklistSeen,
        InclusionsRecorded,
        BlacklistedBlocksRecorded,
        SessionRecorded,
    ),
    rejections=(UnknownConclusion,),
    tables=TABLES,
)
