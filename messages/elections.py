"""The contract of `elections`, what all kinds of election have in common: keys, lifecycle, projections, retention.

The messages of each kind are in a module of its own (`ballots`). Every election has a key; it is a subject token and never
changes. The events of one election are numbered from 1 and chained by hash: `head = BLAKE3(head before + type, version, body)`.
"""

from typing import Annotated

import msgspec

from messages.message import Message, Rejection, Row, command, event, fact, query, rejection, reply, timer
from messages.primitives import U8, U32, U64, BlockNumber, Hash32, Name, PublicKey, SessionIndex, TimeMs

__all__ = [
    "ArchiveDue",
    "ArchiveElection",
    "Archived",
    "ChainDue",
    "ChainSeen",
    "ElectionArchived",
    "ElectionEvent",
    "ElectionFact",
    "ElectionHistory",
    "ElectionKey",
    "ElectionReport",
    "ElectionSummary",
    "Elections",
    "GetElection",
    "GovernanceHeld",
    "GovernanceSeen",
    "HistoryRow",
    "ListElections",
    "OfElection",
    "ProjectionCount",
    "ProjectionPage",
    "ProjectionState",
    "QueryHistory",
    "QueryProjection",
    "Recorded",
    "Retained",
    "SessionSeen",
    "UnknownElection",
    "UnknownProjection",
    "WrongPhase",
]

# A subject token: letters, digits, `_` and `-`.
ElectionKey = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\Z")]


class OfElection(Message, frozen=True, kw_only=True):
    """The parent of every message that concerns one election."""

    election: ElectionKey


class ElectionEvent(OfElection, frozen=True, kw_only=True):
    """The parent of every event in an election's log, facts among them. `at_ms`: when it was decided."""

    at_ms: TimeMs


class ElectionFact(ElectionEvent, frozen=True, kw_only=True):
    """The parent of those that are told to the world. `sequence` is the event's number in its election: its identity there."""

    sequence: U64


@reply(by="elections")
class Recorded(OfElection, frozen=True, kw_only=True):
    """An election command had its effect: the number of its event. `copies`: on how many sites it was durable by then."""

    sequence: U64
    copies: U8


# ------------------------------------------------------------------------------------------------ retention


@command(to="elections", reply=Recorded)
class ArchiveElection(OfElection, frozen=True, kw_only=True):
    """End an election's retention: its rows are dropped, a summary stays. Refused before `retain_until` (`retained`)."""


@timer(by="elections")
class ArchiveDue(OfElection, frozen=True, kw_only=True):
    """The retention of this election may be over, and elections are archived by themselves."""


@fact(by="elections")
class ElectionArchived(ElectionFact, frozen=True, kw_only=True):
    """The end of an election. `events` are dropped, `head` is the hash of the last of them."""

    kind: Name
    events: U64
    head: Hash32


@event(by="elections")
class GovernanceSeen(Message, frozen=True, kw_only=True):
    """Governance mode began or ended."""

    entered: bool


# ------------------------------------------------------------------------------------------------ the chain


@event(by="elections")
class ChainSeen(Message, frozen=True, kw_only=True):
    """The best chain is what it was up to `kept`, and these blocks on it. What is below `forgotten` need not be known any more.

    `at_ms`, `position`: when and where the node's stream stored the signal.
    """

    kept: BlockNumber
    hashes: list[Hash32]
    forgotten: BlockNumber
    at_ms: TimeMs
    position: U64


@event(by="elections")
class SessionSeen(Message, frozen=True, kw_only=True):
    """These are the session's validators now."""

    index: SessionIndex
    validators: list[PublicKey]


@timer(by="elections")
class ChainDue(OfElection, frozen=True, kw_only=True):
    """Something follows for this election from the chain with this best block, behind event `sequence`: one step of it is due."""

    sequence: U64
    height: BlockNumber
    block: Hash32


# ------------------------------------------------------------------------------------------------ queries


class ProjectionState(Row, frozen=True):
    """How far a projection has come: up to event `applied`. `stale` says why it does not go on ("" while it does)."""

    name: Name
    version: U32
    applied: U64
    stale: str


class ElectionSummary(Row, frozen=True):
    """One line about an election. `terminal_ms`: when it came to its end, if it did."""

    election: ElectionKey
    kind: Name
    sequence: U64
    created_ms: TimeMs
    last_ms: TimeMs
    terminal_ms: TimeMs | None
    archived: bool


@reply(by="elections")
class ElectionReport(Message, frozen=True, kw_only=True):
    """`head` is the hash of the last event; `retain_until_ms` is set once the election is terminal."""

    summary: ElectionSummary
    head: Hash32
    retain_until_ms: TimeMs | None
    projections: list[ProjectionState]


@query(to="elections", reply=ElectionReport)
class GetElection(OfElection, frozen=True, kw_only=True):
    """What is known of an election of any kind."""


@reply(by="elections")
class Elections(Message, frozen=True, kw_only=True):
    """A page, by key; `more`: ask again after the last."""

    elections: list[ElectionSummary]
    more: bool


@query(to="elections", reply=Elections)
class ListElections(Message, frozen=True, kw_only=True):
    """Elections whose key comes after `after`."""

    after: str = ""
    limit: U32 = 100


class HistoryRow(Row, frozen=True):
    """One event of an election. `message` is its type (`elections.event.ballot_cast`), `body` its CBOR."""

    sequence: U64
    message: str
    version: U32
    body: bytes


@reply(by="elections")
class ElectionHistory(OfElection, frozen=True, kw_only=True):
    """A page of an election's events in their order; `more`: whether others follow."""

    events: list[HistoryRow]
    more: bool


@query(to="elections", reply=ElectionHistory)
class QueryHistory(OfElection, frozen=True, kw_only=True):
    """The events of an election from number `start` on."""

    start: U64 = 1
    limit: U32 = 1_000


class ProjectionCount(Row, frozen=True):
    key: str
    count: U64


@reply(by="elections")
class ProjectionPage(OfElection, frozen=True, kw_only=True):
    """What a projection counts, by key. A `stale` one is right up to event `applied`."""

    state: ProjectionState
    counts: list[ProjectionCount]
    more: bool


@query(to="elections", reply=ProjectionPage)
class QueryProjection(OfElection, frozen=True, kw_only=True):
    """The counts of a projection whose key comes after `after`."""

    projection: Name
    after: str = ""
    limit: U32 = 1_000


# ------------------------------------------------------------------------------------------------ refusals


@rejection(by="elections")
class UnknownElection(Rejection, frozen=True, kw_only=True):
    """No election has that key here."""

    election: ElectionKey


@rejection(by="elections")
class UnknownProjection(Rejection, frozen=True, kw_only=True):
    """No projection has that name; those that there are."""

    projection: Name
    known: list[Name]


@rejection(by="elections")
class Archived(Rejection, frozen=True, kw_only=True):
    """Its key is taken for ever, its rows are gone."""

    election: ElectionKey


@rejection(by="elections")
class Retained(Rejection, frozen=True, kw_only=True):
    """Too early to archive. `until_ms` is not known before the election came to its end."""

    election: ElectionKey
    until_ms: TimeMs | None


@rejection(by="elections", name="governance_mode")
class GovernanceHeld(Rejection, frozen=True, kw_only=True):
    """Governance mode holds this back; the same command may succeed once it is left."""

    @property
    def retriable(self) -> bool:
        return True


@rejection(by="elections")
class WrongPhase(Rejection, frozen=True, kw_only=True):
    """`command` is not for an election in this phase; `allowed` are."""

    phase: str
    command: str
    allowed: list[str]
