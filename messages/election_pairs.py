"""The contract of replicated elections: the log, the process pair, the mailroom, the topology (docs/elections.md).

An election's log is a sequence of *entries*, numbered from 1; the most common one, a batch, holds the outcomes of commands. An
entry is in the log or it never was: what a site has merely stored (*prepared*) counts for nothing until the log shows it.
Entries are told apart by (epoch, number): in one epoch there is one writer, which makes one entry of each number.
"""

import enum
from typing import Annotated

import msgspec

from messages.elections import ElectionKey, OfElection
from messages.message import Message, Rejection, Row, event, pair, query, rejection, reply
from messages.primitives import U8, U32, U64, Hash32, Name, TimeMs

__all__ = [
    "BatchLogged",
    "CopyReport",
    "EpochEnded",
    "EpochStarted",
    "Fenced",
    "Forwarded",
    "Freshness",
    "Gap",
    "GetCopy",
    "Head",
    "IdReused",
    "KeyStopped",
    "LogEntry",
    "LogRestarted",
    "LoggedEvent",
    "LoggedTimer",
    "NotAppliedYet",
    "NotOwnedYet",
    "NotOwnedYetReason",
    "PairMessage",
    "PositionAsked",
    "PositionTold",
    "Record",
    "Replicate",
    "Replicated",
    "SiteRow",
    "SnapshotAsked",
    "SnapshotMissing",
    "SnapshotPage",
    "SnapshotRows",
    "Superseded",
    "TooFewCopies",
    "TopologyRecord",
    "WriterBusy",
]

# A caller's own id for a command, or one that the mailroom made. Printable, at most 128 characters (headers).
CommandId = Annotated[str, msgspec.Meta(max_length=160)]


class Head(Row, frozen=True, order=True):
    """How far a copy of an election is. Ordered as the best reader is chosen: by epoch, then number (B17).

    `epoch` and `number` are those of the last entry, `sequence` is the number of the last event, and `digest` chains all
    events: `BLAKE3(digest before + event)`. Within one log the sequence never falls while the number rises.
    """

    epoch: U64
    number: U64
    sequence: U64
    digest: Hash32


# ------------------------------------------------------------------------------------------------ the log


class LoggedEvent(Row, frozen=True):
    """One event. `message` is its type (`elections.event.ballot_cast`), `body` its CBOR."""

    message: str
    version: U32
    body: bytes


class LoggedTimer(Row, frozen=True):
    """A timer of the election, set by a decision, or (`at_ms` None) gone: it was cancelled, or this very record is what it led to.

    Every copy keeps the timers; the writer's run. `message` is the timer's type, `body` its CBOR.
    """

    key: str
    at_ms: U64 | None
    message: str = ""
    version: U32 = 1
    body: bytes = b""


class Record(Row, frozen=True):
    """The outcome of one command, as it is kept with its id for whoever asks again (B15).

    `digest` is the hash of the command's body. `code` is empty for an accepted one, else the rejection's name; `outcome` is the
    CBOR of the reply or of the rejection. A refused command is recorded as well: a late second copy of it has no effect either.
    """

    id: CommandId
    digest: Hash32
    sender: str
    at_ms: TimeMs
    code: str
    outcome: bytes
    events: list[LoggedEvent]
    timers: list[LoggedTimer] = []


class LogEntry(OfElection, frozen=True, kw_only=True, dict=True):
    """The parent of what an election's log consists of. `site` made it.

    It comes after the entry of `previous` (its epoch; 0 where there is none), and `sequence` and `before` are the number and the
    chained hash of the last event before it. `topology` is the version by which the site was the writer. What followed for the
    world from the events up to `told` was published by then. What follows from its fields alone may be kept beside them (`dict`).
    """

    epoch: U64
    number: U64
    previous: U64
    sequence: U64
    before: Hash32
    site: Name
    topology: U32
    told: U64


@event(by="elections")
class BatchLogged(LogEntry, frozen=True, kw_only=True):
    """Outcomes of commands, in the order in which they were decided. Durable on `copies` sites before it entered the log."""

    copies: U8
    records: list[Record]


@event(by="elections")
class EpochStarted(LogEntry, frozen=True, kw_only=True):
    """The barrier of a new writer: whatever was prepared in an earlier epoch and is not before this is void (points 6 and 7)."""


@event(by="elections")
class EpochEnded(LogEntry, frozen=True, kw_only=True):
    """The writer let go, in good order, for the site that the topology gives this election to (point 8)."""

    to: Name
    # By which it has to go there.
    by_topology: U32


@event(by="elections")
class LogRestarted(LogEntry, frozen=True, kw_only=True):
    """The log was lost, and goes on from what the site `best` had: the first entry in the new log. `lost`: the old stream's id."""

    best: Name
    lost: str


# ------------------------------------------------------------------------------------------------ topology


class SiteRow(Row, frozen=True):
    """One recorded site. `away`: it was found to be absent; it keeps its copies, and writes nothing (another member does)."""

    name: Name
    data_centre: Name
    zone: Name
    away: bool = False


@reply(by="elections")
class TopologyRecord(Message, frozen=True, kw_only=True):
    """The recorded sites: what every placement is computed from. Changed by compare-and-set; each change is one version up."""

    version: U32
    sites: list[SiteRow]


# ------------------------------------------------------------------------------------------------ the process pair


class PairMessage(OfElection, frozen=True, kw_only=True):
    """The parent of what the members of a pair say to each other: by `site`, knowing `topology`."""

    site: Name
    topology: U32


@pair(by="elections")
class Replicate(PairMessage, frozen=True, kw_only=True):
    """Store this batch (a packed entry) durably and say so. `committed`: what the log has, as far as the writer knows."""

    entry: bytes
    committed: Head


@pair(by="elections")
class Replicated(PairMessage, frozen=True, kw_only=True):
    """This entry, and everything before it, is stored here."""

    epoch: U64
    number: U64


@pair(by="elections")
class Fenced(PairMessage, frozen=True, kw_only=True):
    """Not stored: there is a writer of a higher epoch."""

    epoch: U64


@pair(by="elections")
class Gap(PairMessage, frozen=True, kw_only=True):
    """Not stored yet: something before it is missing here. It is being fetched from the log."""

    number: U64
    head: Head


@pair(by="elections")
class PositionAsked(PairMessage, frozen=True, kw_only=True):
    """How far is your copy? Asked by a writer that recovers, and by one that looks for followers.

    `lost_in`: the stream that the asker has seen without anything of this election, "" while it has not. It is told back: an answer
    from before the loss does not say what was acknowledged until then.
    """

    lost_in: str = ""


@pair(by="elections")
class PositionTold(PairMessage, frozen=True, kw_only=True):
    """`applied` is from the log `stream`, up to its sequence `log_sequence`; `last` counts what is prepared as well. `lost_in`: as asked.

    A copy whose hash chain does not hold is at the beginning: it counts for nothing, and was reported.
    """

    stream: str
    applied: Head
    log_sequence: U64
    last: Head
    lost_in: str = ""


@pair(by="elections")
class Superseded(PairMessage, frozen=True, kw_only=True):
    """Asked by a site whose topology is behind ours: it must catch up before it takes an election."""


class SnapshotRows(Row, frozen=True):
    """Stored rows of an election, of one table: key, value, key, value, in order of the keys."""

    table: str
    rows: list[bytes]


@pair(by="elections")
class SnapshotAsked(PairMessage, frozen=True, kw_only=True):
    """All rows of an election, page by page: those behind row `key` of `table` ("" and empty: from the beginning)."""

    table: str = ""
    key: bytes = b""


@pair(by="elections")
class SnapshotPage(PairMessage, frozen=True, kw_only=True):
    """A page. All pages of one snapshot have the same `applied`; when it differs the asker begins again.

    `prepared` are packed entries behind `applied`, with the last page alone. `told`: see LogEntry.
    """

    stream: str
    applied: Head
    log_sequence: U64
    rows: list[SnapshotRows]
    prepared: list[bytes]
    more: bool
    told: U64 = 0


@pair(by="elections")
class SnapshotMissing(PairMessage, frozen=True, kw_only=True):
    """There is no copy of this election here, or none that is sound."""


# ------------------------------------------------------------------------------------------------ the mailroom


@pair(by="elections")
class Forwarded(PairMessage, frozen=True, kw_only=True):
    """A command on its way to the election's writer. `path`: the sites it went through, this one's last (3 at most).

    `command` is its type, as `elections.cmd.cast_ballot`; `topology` is the highest version seen on the way. A query is sent on in the
    same way, to a site with a copy; `required`: the event that its answer must rest on.
    """

    id: CommandId
    command: str
    version: U32
    body: bytes
    sender: str
    caller: str
    path: Annotated[list[Name], msgspec.Meta(max_length=3)]
    required: U64 = 0


class Freshness(Row, frozen=True):
    """Of what is read at a site: the last event that is applied there and the last that is known to be committed.

    `age_ms`: how long ago the site last had everything the log held. `stale`: it may be behind, or the writer has too few copies.
    """

    applied: U64
    committed: U64
    age_ms: U64
    stale: bool


@reply(by="elections")
class CopyReport(OfElection, frozen=True, kw_only=True):
    """One election at one site. `site` answers; `sites` hold the copies, the home first, and `writer` writes now.

    `head` is that of the copy here; `serving`: this site's writer takes commands.
    """

    site: Name
    topology: U32
    sites: list[Name]
    away: list[Name]
    writer: Name
    head: Head
    serving: bool
    freshness: Freshness


@query(to="elections", reply=CopyReport)
class GetCopy(OfElection, frozen=True, kw_only=True):
    """Where an election is, and how far the copy of the site that is asked is. Never forwarded."""


class _Retriable(Rejection, frozen=True, kw_only=True):
    """The same command, with the same id, may be sent again."""

    @property
    def retriable(self) -> bool:
        return True


class NotOwnedYetReason(enum.StrEnum):
    """Why no writer took the command."""

    # It would have to go back to where it came from: the sites see different topologies.
    LOOP = "loop"
    # Forwarded three times.
    HOPS = "hops"
    # The election moves to another site, or its writer was replaced before the command was in the log.
    MOVED = "moved"
    # It was on its way into the log when the writer was replaced; it is there or not. Ask again with the same id to learn it.
    UNSETTLED = "unsettled"
    # The writer has not recovered in time.
    RECOVERING = "recovering"


@rejection(by="elections")
class NotOwnedYet(_Retriable, frozen=True, kw_only=True):
    """No writer took the command now."""

    election: ElectionKey
    reason: NotOwnedYetReason


@rejection(by="elections")
class TooFewCopies(_Retriable, frozen=True, kw_only=True):
    """Not recorded: only so many of the sites that hold this election could be reached in time. Reading goes on."""

    election: ElectionKey
    copies: U8
    needed: U8


@rejection(by="elections")
class WriterBusy(_Retriable, frozen=True, kw_only=True):
    """So many commands for this election wait already."""

    election: ElectionKey
    waiting: U32


@rejection(by="elections")
class NotAppliedYet(_Retriable, frozen=True, kw_only=True):
    """The reader required an event that this copy does not have yet."""

    election: ElectionKey
    applied: U64
    required: U64


@rejection(by="elections")
class IdReused(Rejection, frozen=True, kw_only=True):
    """Another command was sent with this id before."""

    election: ElectionKey
    id: CommandId


@rejection(by="elections")
class KeyStopped(Rejection, frozen=True, kw_only=True):
    """This election takes nothing any more until an operator looked at it."""

    election: ElectionKey
    reason: str
