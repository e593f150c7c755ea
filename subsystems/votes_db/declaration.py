"""What `votes_db` is, as data."""

from typing import Annotated

import msgspec

from messages.chain_api import BlockImported, SubmitTransaction
from messages.dispute_conclusion import Challenged, ChallengeLifted, Detection, Resolution
from messages.signals import BlocksBlacklisted, SessionChange
from messages.votes_db import (
    ActiveDisputes,
    Dispute,
    DisputeStatusChanged,
    DoubleVoteSeen,
    MalformedBundle,
    QueryBySession,
    QueryByValidatorAndSessionIndex,
    QueryByValidatorId,
    QueryVotes,
    RecentDisputes,
    RegisterVote,
    SessionOutOfWindow,
    SessionsPruned,
    SpamRefused,
    UnknownDispute,
)
from messages.votes_db_journal import (
    CandidateOpened,
    CandidatesKnown,
    CascadeTold,
    ChallengeEnded,
    ChallengeRaised,
    DisputeDetected,
    DisputeResolved,
    GossipHeld,
    GossipReleased,
    ImportHeld,
    PovRecorded,
    PruneStep,
    RowsPruned,
    SessionOpened,
    TransactionsIssued,
    VotesImported,
)
from overseer.subsystem import Declaration
from subsystems.votes_db.tables import TABLES

__all__ = ["DECLARATION", "VotesDbConfig"]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class VotesDbConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Choices of the operator and bounds, each with its reason."""

    # Sessions kept, the current one included.
    window: Positive = 6
    # Unconfirmed disputes over candidates unknown to the chain that one validator may raise in a session (D16).
    spam_slots: Annotated[int, msgspec.Meta(ge=1, le=255)] = 50
    # A concluded dispute counts as active for this long.
    inactive_after_ms: Annotated[int, msgspec.Meta(ge=0)] = 180_000
    # Rows deleted by one step of pruning: other work goes on between steps.
    prune_rows_per_step: Positive = 10_000
    # Whether a new dispute is told to the network.
    gossip: bool = True
    # Disputes of other nodes held until their session starts here: what is held is not verified yet.
    held_max: Annotated[int, msgspec.Meta(ge=0)] = 64
    # Other candidates of the contradicting validator that a detection carries: the newest.
    voted_candidates_max: Positive = 256
    # Rows looked at to find them.
    voted_candidates_scanned_max: Positive = 4_096
    # Hashes or candidates in one page of an answer.
    page_rows_max: Positive = 1_000
    # Bytes of candidates or votes in one page of an answer, or carried by one detection: far below a message's size.
    page_bytes_max: Positive = 384 * 1024
    # Disputes that one list query looks at: bounded work also when few of them are active.
    rows_scanned_max: Positive = 2_000


DECLARATION = Declaration(
    name="votes_db",
    description="Every dispute vote of every validator: verified, stored, counted, concluded, pruned with its session",
    consumes=(RegisterVote, Dispute, SessionChange, BlockImported, BlocksBlacklisted),
    sends=(
        Detection,
        Challenged,
        ChallengeLifted,
        Resolution,
        SubmitTransaction,
        DoubleVoteSeen,
        DisputeStatusChanged,
        SessionsPruned,
        Dispute,
    ),
    answers=(
        QueryByValidatorAndSessionIndex,
        QueryByValidatorId,
        QueryBySession,
        QueryVotes,
        RecentDisputes,
        ActiveDisputes,
    ),
    requests=(RegisterVote,),
    events=(
        SessionOpened,
        CandidateOpened,
        PovRecorded,
        VotesImported,
        DisputeDetected,
        ChallengeRaised,
        ChallengeEnded,
        DisputeResolved,
        TransactionsIssued,
        CandidatesKnown,
        CascadeTold,
        GossipHeld,
        GossipReleased,
        RowsPruned,
    ),
    timers=(PruneStep, ImportHeld),
    rejections=(MalformedBundle, SessionOutOfWindow, SpamRefused, UnknownDispute),
    tables=TABLES,
)
