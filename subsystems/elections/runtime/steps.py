"""What goes into the machines of the runtime and what comes out: data alone.

A machine takes one input at a time, with the time, and returns effects. Whoever drives it performs the effects of one input in order
and before the next input of that election: `Store`, `Apply` and `Install` are done when they return. What the world answers
(`Append`, `ReadLog`, `Decide`, ...) comes back as an input; an answer may be late, double or missing.
"""

import msgspec

from messages.election_pairs import Head, IdReused, LogEntry, PairMessage, Record
from messages.message import Rejection
from subsystems.elections.runtime.entry import BEGIN, connects, dump_entry, head_after
from subsystems.elections.runtime.placement import Placement

__all__ = [
    "BLANK",
    "Alarm",
    "Answer",
    "Append",
    "AppendUnsettled",
    "Appended",
    "Apply",
    "CatchUpTopology",
    "Command",
    "Copy",
    "CopyVerified",
    "Decide",
    "Decided",
    "Effect",
    "FailStop",
    "FetchSnapshot",
    "Fill",
    "Input",
    "Install",
    "LogDelivered",
    "LogLast",
    "LogRead",
    "LogReplaced",
    "Placed",
    "Prepared",
    "ReadLast",
    "ReadLog",
    "Received",
    "Released",
    "Report",
    "Send",
    "Serving",
    "SetAlarm",
    "Settled",
    "SnapshotFailed",
    "SnapshotFetched",
    "Start",
    "Store",
    "Stored",
    "Submit",
    "Told",
    "Verdict",
    "VerifyCopy",
]


class _Data(msgspec.Struct, frozen=True):
    """Inputs and effects are compared and printed, never changed."""


# ------------------------------------------------------------------------------------------------ a site's copy


class Prepared(_Data, frozen=True):
    """An entry that is stored and that the log has not shown yet, with the head behind it."""

    entry: LogEntry
    head: Head


class Copy(_Data, frozen=True):
    """What one site holds of one election, as far as the protocol looks at it; the rows are beside it.

    `applied` came from the log `stream` ("" before anything came), up to `log_sequence`: the log's sequence of the last entry, which the
    next append expects. `prepared` connect to it and to each other. `told`: see LogEntry.
    """

    stream: str = ""
    applied: Head = BEGIN
    log_sequence: int = 0
    prepared: tuple[Prepared, ...] = ()
    told: int = 0

    @property
    def last(self) -> Head:
        """With what is prepared."""
        return self.prepared[-1].head if self.prepared else self.applied

    @property
    def epoch(self) -> int:
        """The highest epoch known here: no batch of a lower one is stored."""
        return max(self.applied.epoch, self.last.epoch)

    def held(self, data: bytes) -> LogEntry | None:
        """The prepared entry of these bytes (`dump_entry`), as the log delivers it: it is not read twice."""
        return next((prepared.entry for prepared in self.prepared if dump_entry(prepared.entry) == data), None)

    @classmethod
    def stored(cls, stream: str, applied: Head, log_sequence: int, told: int, prepared: list[LogEntry]) -> "Copy":
        """A copy as it was kept: prepared entries in order of their numbers; those that do not connect are left out."""
        connected: list[Prepared] = []
        head = applied
        for entry in prepared:
            if not connects(head, entry):
                break
            head = head_after(entry)
            connected.append(Prepared(entry, head))
        return cls(stream, applied, log_sequence, tuple(connected), told)


BLANK = Copy()


# ------------------------------------------------------------------------------------------------ inputs


class Command(_Data, frozen=True):
    """A command for this election. `digest` is the hash of its type, version and body; `message` is for the deciding alone."""

    id: str
    digest: bytes
    message: object


class Submit(_Data, frozen=True):
    """A command was delivered here. `origin`: whom to answer, opaque."""

    command: Command
    origin: str


class Received(_Data, frozen=True):
    """A message of another member; that `message.site` sent it has been checked."""

    message: PairMessage


class LogDelivered(_Data, frozen=True):
    """The site's reader of the log came to this entry. In order, from somewhere on."""

    stream: str
    log_sequence: int
    entry: LogEntry


class LogRead(_Data, frozen=True):
    """The answer to ReadLog: this election's entries behind `after`, in order; `remaining`: about how many come after them."""

    stream: str
    after: int
    entries: tuple[tuple[int, LogEntry], ...]
    remaining: int = 0


class LogLast(_Data, frozen=True):
    """The answer to ReadLast: this election's last entry, with its sequence in the log; 0 and None where there is none."""

    stream: str
    log_sequence: int
    entry: LogEntry | None


class Settled(_Data, frozen=True):
    """The command's id is known: this is its outcome, from the rows, or the refusal of another command under that id."""

    outcome: Record | IdReused


Verdict = Record | Settled


class Decided(_Data, frozen=True):
    """The answer to Decide: a verdict for each command, or for the first ones if their records filled a message; at least one."""

    verdicts: tuple[Verdict, ...]


class Stored(_Data, frozen=True):
    """The entry of a Store is durable here."""

    epoch: int
    number: int


class Appended(_Data, frozen=True):
    """The log took the entry, at this sequence."""

    entry: LogEntry
    log_sequence: int


class AppendUnsettled(_Data, frozen=True):
    """The log did not take the entry (10071), or nobody knows. Both are found out by reading."""

    entry: LogEntry


class SnapshotFetched(_Data, frozen=True):
    """All pages of a site's copy are here, beside the rows; `sound`: their hash chain was computed and ends in `copy.applied`."""

    site: str
    copy: Copy
    sound: bool


class SnapshotFailed(_Data, frozen=True):
    """It could not be fetched: no answer, or there is none."""

    site: str


class CopyVerified(_Data, frozen=True):
    """The answer to VerifyCopy: whether the chain over the stored events ends in `applied`."""

    sound: bool


class Placed(_Data, frozen=True):
    """The recorded topology is at this version, and the election is there."""

    placement: Placement
    topology: int


class Fill(_Data, frozen=True):
    """This site may be behind (it started, or it became a member): catch up without being asked."""


class Start(_Data, frozen=True):
    """Recover now if this site is the writer, without a command: it took over, or the log was lost."""


class LogReplaced(_Data, frozen=True):
    """The log is another stream than before: what it held is lost."""

    stream: str


class Told(_Data, frozen=True):
    """What follows from the events up to this number was published."""

    sequence: int


class Alarm(_Data, frozen=True):
    """The time of a SetAlarm has come. One too many does no harm."""


Input = (
    Submit
    | Received
    | LogDelivered
    | LogRead
    | LogLast
    | Decided
    | Stored
    | Appended
    | AppendUnsettled
    | SnapshotFetched
    | SnapshotFailed
    | CopyVerified
    | Placed
    | LogReplaced
    | Fill
    | Start
    | Told
    | Alarm
)


# ------------------------------------------------------------------------------------------------ effects


class Send(_Data, frozen=True):
    """To another member. It may get lost."""

    to: str
    message: PairMessage


class Store(_Data, frozen=True):
    """Keep this prepared entry durably (synced), and no other of its number or a higher one; then say Stored."""

    entry: LogEntry


class Apply(_Data, frozen=True):
    """The log has this entry: its events, its outcomes by command id, and the copy's place, in one write.

    Prepared entries but for those of the numbers `kept` go. Need not be synced: the log has it. `own`: by the writer here,
    so what follows from the events is told to the world.
    """

    entry: LogEntry
    stream: str
    log_sequence: int
    kept: tuple[int, ...]
    own: bool = False


class Install(_Data, frozen=True):
    """Put the fetched snapshot of this site in place of all rows of the election, in one synced write."""

    site: str
    copy: Copy


class Decide(_Data, frozen=True):
    """Decide these commands in order over the rows as they are now (each sees what the ones before it would change)."""

    commands: tuple[Command, ...]


class Answer(_Data, frozen=True):
    """The outcome for one caller."""

    origin: str
    id: str
    outcome: Record | Rejection


class Append(_Data, frozen=True):
    """Append to the election's log if it is still `stream` and the last sequence there is `expected` (0: none).

    Both must be checked by whoever orders the log, at once with the append: it may arrive late.
    """

    entry: LogEntry
    stream: str
    expected: int


class ReadLog(_Data, frozen=True):
    """Read this election's entries behind `after`, a page of them; from the beginning if the log is not `stream` any more."""

    stream: str
    after: int


class ReadLast(_Data, frozen=True):
    """Read this election's last entry from whoever orders the log."""


class FetchSnapshot(_Data, frozen=True):
    """Fetch that site's copy, all of it, beside the rows."""

    site: str


class VerifyCopy(_Data, frozen=True):
    """Compute the chain over the stored events."""


class SetAlarm(_Data, frozen=True):
    """An Alarm at this time, beside those that were set before."""

    at_ms: int


class CatchUpTopology(_Data, frozen=True):
    """Somebody knows this version of the topology."""

    version: int


class Serving(_Data, frozen=True):
    """The writer here has recovered: it takes commands; its timers run; the world is told what follows from events behind `told`."""

    epoch: int
    told: int


class Released(_Data, frozen=True):
    """There is no writer here any more. `reason`: moved | fenced | log_replaced | superseded."""

    reason: str


class Report(_Data, frozen=True):
    """For the operator. `what`: copy_excluded | log_lost | log_restarted | copies_missing."""

    what: str
    detail: str


class FailStop(_Data, frozen=True):
    """This election takes nothing any more at this site; an alarm."""

    reason: str


Effect = (
    Send
    | Store
    | Apply
    | Install
    | Decide
    | Answer
    | Append
    | ReadLog
    | ReadLast
    | FetchSnapshot
    | VerifyCopy
    | SetAlarm
    | CatchUpTopology
    | Serving
    | Released
    | Report
    | FailStop
)
