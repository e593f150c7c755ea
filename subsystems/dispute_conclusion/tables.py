"""The tables of `dispute_conclusion` and the reading of them that several functions share.

Whatever grows with the chain is keyed by session first, so that forgetting a session is a range delete.
"""

import enum

import msgspec

from messages.dispute_conclusion import ConclusionState, ConclusionStep, Voter
from overseer.tables import HASH, U8, U32, Table, View

__all__ = [
    "ANSWERS",
    "ASKED",
    "AWAITED",
    "BLACKLISTED",
    "BLOCKS",
    "CONCLUSIONS",
    "DETECTIONS",
    "INCLUSIONS",
    "NEWEST",
    "PAGES",
    "ROUNDS",
    "SESSIONS",
    "STEPS",
    "TABLES",
    "VOTERS",
    "WATCHED",
    "AnswerRow",
    "BlockRow",
    "ConclusionRow",
    "DetectionRow",
    "InclusionRow",
    "Key",
    "Phase",
    "RoundRow",
    "block_row",
    "conclusion_row",
    "including_blocks",
    "newest_session",
    "state_of",
]

# (session, candidate): the identity of a dispute, and of its conclusion.
Key = tuple[int, bytes]


class ConclusionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One dispute's process. The counters are of including blocks in each phase, so that the state needs no scan."""

    contradicting: int | None = None
    challenged: bool = False
    # The challenge is over: nothing is reverted early any more.
    lifted: bool = False
    # None: not resolved.
    valid: bool | None = None
    asked: int = 0
    requested: int = 0
    blacklisted: int = 0
    # ConclusionConcluded(valid=False) was told.
    concluded_against: bool = False
    rounds: int = 0
    steps: int = 0


class DetectionRow(msgspec.Struct, frozen=True, kw_only=True):
    block_number: int
    voted_candidates: list[bytes]
    voters: list[Voter]


class Phase(enum.StrEnum):
    """How far the cascade has come for one including block."""

    NONE = "none"
    ASKED = "asked"
    ANSWERED = "answered"
    REQUESTED = "requested"
    BLACKLISTED = "blacklisted"


class BlockRow(msgspec.Struct, frozen=True, kw_only=True):
    """An including block that something was done about."""

    reverted: bool = False
    phase: Phase = Phase.NONE
    round: int = 0


class RoundRow(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks asked for together; at `pending` 0 they are blacklisted together."""

    pending: int


class AnswerRow(msgspec.Struct, frozen=True, kw_only=True):
    """What has come of one block's answer. `last` is the number of the last page once that page is here."""

    pages: int = 0
    count: int = 0
    listed: int = 0
    last: int | None = None


class InclusionRow(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    # On the blacklist when it was imported.
    blacklisted: bool


CONCLUSIONS = Table("conclusions", key=(U32, HASH), value=ConclusionRow)
DETECTIONS = Table("detections", key=(U32, HASH), value=DetectionRow)
# (session, candidate, verdict as 0 | 1): who voted how when that verdict came.
VOTERS = Table("voters", key=(U32, HASH, U8), value=list[Voter])
STEPS = Table("steps", key=(U32, HASH, U32), value=ConclusionStep)
# (session, candidate, block)
BLOCKS = Table("blocks", key=(U32, HASH, HASH), value=BlockRow)
ROUNDS = Table("rounds", key=(U32, HASH, U32), value=RoundRow)
# (candidate, session): conclusions that an inclusion matters to (challenged, or concluded against).
WATCHED = Table("watched", key=(HASH, U32), value=bytes)
# (block, session, candidate): who waits for that block's descendants, and for that root's blacklisting.
ASKED = Table("asked", key=(HASH, U32, HASH), value=bytes)
AWAITED = Table("awaited", key=(HASH, U32, HASH), value=bytes)
ANSWERS = Table("answers", key=(HASH,), value=AnswerRow)
# (block, page): the hashes kept of that page, joined.
PAGES = Table("pages", key=(HASH, U32), value=bytes)
# (session of the block, candidate, block), and the sessions that have any.
INCLUSIONS = Table("inclusions", key=(U32, HASH, HASH), value=InclusionRow)
SESSIONS = Table("sessions", key=(U32,), value=bytes)
# (newest session when it was told, block)
BLACKLISTED = Table("blacklisted", key=(U32, HASH), value=bytes)
# (0) -> the newest session
NEWEST = Table("newest", key=(U8,), value=int)

TABLES = (
    CONCLUSIONS,
    DETECTIONS,
    VOTERS,
    STEPS,
    BLOCKS,
    ROUNDS,
    WATCHED,
    ASKED,
    AWAITED,
    ANSWERS,
    PAGES,
    INCLUSIONS,
    SESSIONS,
    BLACKLISTED,
    NEWEST,
)


def conclusion_row(view: View, key: Key) -> ConclusionRow:
    """The conclusion's row, or that of one nothing is known of."""
    return view.get(CONCLUSIONS, key) or ConclusionRow()


def block_row(view: View, key: Key, block: bytes) -> BlockRow:
    return view.get(BLOCKS, (*key, block)) or BlockRow()


def newest_session(view: View) -> int:
    return view.get(NEWEST, (0,)) or 0


def including_blocks(view: View, candidate: bytes) -> list[bytes]:
    """The blocks known to include `candidate`, lowest first, on whatever fork."""
    found = [
        (row.number, block) for (session,), _ in view.scan(SESSIONS) for (_, _, block), row in view.scan(INCLUSIONS, (session, candidate))
    ]
    return [block for _, block in sorted(found)]


def state_of(row: ConclusionRow) -> ConclusionState:
    """The process's state: the least advanced of its blocks counts."""
    if row.valid is None:
        return ConclusionState.CHALLENGED if row.challenged and not row.lifted else ConclusionState.DETECTED
    if row.valid:
        return ConclusionState.VALID
    if row.asked:
        return ConclusionState.ASKING_DESCENDANTS
    if row.requested:
        return ConclusionState.BLACKLISTING
    return ConclusionState.BLACKLISTED if row.blacklisted else ConclusionState.AWAITING_INCLUSION
