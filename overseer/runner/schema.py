"""What the runner keeps beside a subsystem's own tables: the system tables and their rows."""

import msgspec

from messages.message import Row
from messages.overseer import Position
from overseer.tables import HASH, TEXT, U32, U64, Table

__all__ = [
    "BLOBS",
    "HEAD",
    "JOURNAL",
    "LAST_PLACE",
    "OUTBOX_NET",
    "OUTBOX_NODE",
    "OUTCOMES",
    "OUTCOMES_BY_TIME",
    "SYSTEM_TABLES",
    "TIMERS",
    "WATERMARKS",
    "Cause",
    "EventRow",
    "Head",
    "OutboxRow",
    "OutcomeRow",
    "Published",
    "Record",
    "Result",
    "TimerRow",
    "Watermark",
    "outbox_of",
]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The last message known to be published on a line: where it is, and what it was (journal index, place in the record)."""

    stream: str
    sequence: int
    index: int
    place: int


class Head(msgspec.Struct, kw_only=True):
    """The one row that says where this store stands; rewritten by every commit. Mutable: the engine's own copy."""

    incarnation: bytes
    # The first journal record of this incarnation, and the incarnations before it as far as they are known.
    began: int = 1
    past: list[bytes] = []
    # By stream name: what was known to be published at the time of the last commit.
    published: dict[str, Published] = {}
    # The last journal record and the hash of its bytes.
    index: int = 0
    hash: bytes = bytes(32)
    # context.time never goes below this.
    last_ms: int = 0
    # By stream name: the last message taken.
    positions: dict[str, Position] = {}
    evolve_version: int = 1
    # The last checkpoint whose hash is recorded, by journal index.
    checkpoint: int = 0
    # History before our first position was already trimmed: senders are adopted on first sight.
    history_incomplete: bool = False


class Cause(Row, frozen=True):
    """Where an input came from. `stream` is empty for a timer or a step of the runner itself."""

    stream: str
    sequence: int
    sender: str
    # Overseer-Id or command id, if any.
    id: str
    # BLAKE3 of the message as stored.
    identity: bytes
    correlation: str
    # Trace id of the cause's traceparent, hex, or "".
    trace: str


class EventRow(Row, frozen=True):
    """One recorded event: `body` is its canonical CBOR, or with `blob` the hash under which that is kept."""

    key: str
    version: int
    body: bytes
    blob: bool


class TimerRow(Row, frozen=True):
    """A timer set, or (at_ms None) cancelled or fired."""

    key: str
    at_ms: int | None
    message: str
    body: bytes


class Result(Row, frozen=True):
    """What became of the input: accepted | rejected | parked | timer | system, with the code and body of a refusal."""

    status: str
    code: str = ""
    detail: bytes = b""


class Record(Row, frozen=True):
    """One journal record: an input that was handled and all that followed. Chained by `previous`."""

    index: int
    previous: bytes
    time_ms: int
    cause: Cause
    # The spec key of the message handled, "" when it could not be told.
    input: str
    result: Result
    events: list[EventRow]
    timers: list[TimerRow]


class OutboxRow(Row, frozen=True):
    """A message exactly as it goes, or went, onto the wire."""

    subject: str
    headers: dict[str, str]
    body: bytes


class Watermark(Row, frozen=True):
    """The last message taken of one (sender, incarnation): journal index at the sender, place in that record."""

    sequence: int
    index: int


class OutcomeRow(Row, frozen=True):
    """The outcome of an outside command by its id, so that a retry gets the same."""

    at_ms: int
    # BLAKE3 of spec key and body: the same id with another body is an alarm.
    hash: bytes
    outcome: bytes


# Behind every place in a record: the mark of a store that was restored, up to its new incarnation.
LAST_PLACE = 2**32 - 1

HEAD = Table("meta", key=(TEXT,), value=Head)
JOURNAL = Table("journal", key=(U64,), value=Record)
# Under the record that wrote it, so that both go together.
BLOBS = Table("blobs", key=(U64, HASH), value=bytes)
TIMERS = Table("timers", key=(TEXT,), value=TimerRow)
WATERMARKS = Table("watermarks", key=(TEXT,), value=Watermark)
OUTCOMES = Table("outcomes", key=(TEXT,), value=OutcomeRow)
OUTCOMES_BY_TIME = Table("outcomes_by_time", key=(U64, TEXT), value=bytes)
# Keyed by (journal index, place in the record): the key is the published mark.
OUTBOX_NODE = Table("outbox_node", key=(U64, U32), value=OutboxRow)
OUTBOX_NET = Table("outbox_net", key=(U64, U32), value=OutboxRow)


def outbox_of(line: str) -> Table[OutboxRow]:
    """Where messages wait for that line."""
    return OUTBOX_NODE if line == "node" else OUTBOX_NET


SYSTEM_TABLES = (HEAD, JOURNAL, BLOBS, TIMERS, WATERMARKS, OUTCOMES, OUTCOMES_BY_TIME, OUTBOX_NODE, OUTBOX_NET)
