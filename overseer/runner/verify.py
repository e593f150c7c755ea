"""Replay and verify: state is a function of the journal, and so is everything that was told."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

import anyio.lowlevel
import msgspec

from messages.codec import decode_value, encode_value
from messages.message import Kind, Message
from messages.overseer import CheckpointTaken
from messages.subjects import HEADER_ID, MessageId
from overseer.memory.rows import MemoryRows
from overseer.ports.store import HistoryReader, StoreReader
from overseer.runner import journal
from overseer.runner.books import Books, fits_outcome
from overseer.runner.checkpoints import tables_hash
from overseer.runner.errors import EvolveFailed, JournalBroken
from overseer.runner.schema import (
    LAST_PLACE,
    OUTBOX_NET,
    OUTBOX_NODE,
    OUTCOMES,
    OUTCOMES_BY_TIME,
    TIMERS,
    WATERMARKS,
    Head,
    OutboxRow,
    OutcomeRow,
    Record,
    TimerRow,
    outbox_of,
)
from overseer.runner.wire import Sender, reactions
from overseer.subsystem import Subsystem
from overseer.tables import Overlay, Rows, Tables

__all__ = ["Verdict", "base_of", "rebuild", "verify"]

# Differences listed; more are only counted.
_LISTED_MAX = 20
# Records replayed between two turns of the event loop.
_SLICE_RECORDS = 1_000


class Verdict(msgspec.Struct, kw_only=True):
    """What `verify` found. `faults` is empty when all is well."""

    subsystem: str
    records: int = 0
    rows: int = 0
    messages: int = 0
    from_index: int = 0
    to_index: int = 0
    faults: list[str] = []
    more_faults: int = 0

    @property
    def ok(self) -> bool:
        return not self.faults

    def fault(self, text: str) -> None:
        if len(self.faults) < _LISTED_MAX:
            self.faults.append(text)
        else:
            self.more_faults += 1


def _apply_events(subsystem: Subsystem, events: Iterable[Message], rows: MemoryRows) -> None:
    """Apply one record's events to `rows`. Raises EvolveFailed."""
    overlay = Overlay(rows)
    for event in events:
        if event.spec.owner == "overseer":
            continue
        try:
            subsystem.evolve(Tables(overlay), event)
        except Exception as error:
            raise EvolveFailed(subsystem.declaration.name, event.spec.key, error) from error
    rows.apply(overlay)


@contextmanager
def base_of(store: HistoryReader) -> Generator[StoreReader | None, None, None]:
    """The oldest checkpoint, where the journal no longer begins at its first record."""
    names = store.checkpoints()
    base = store.open_checkpoint(names[0]) if names and journal.first_index(store) > 1 else None
    try:
        yield base
    finally:
        if base is not None:
            base.close()


async def rebuild(
    subsystem: Subsystem,
    rows: Rows,
    base: Rows | None,
    *,
    until: int | None = None,
    each: Callable[[Record, list[Message]], None] | None = None,
) -> MemoryRows:
    """The tables as of journal index `until` (default: the last), from the checkpoint `base` (default: from nothing).

    `each` sees every record with its events. Raises JournalBroken, EvolveFailed.
    """
    names = [table.name for table in subsystem.declaration.tables]
    built = MemoryRows(names)
    after, previous = 0, bytes(32)
    if base is not None:
        head = journal.read_head(base)
        if head is None:
            raise JournalBroken(0, "the checkpoint holds no head")
        after, previous = head.index, head.hash
        for name in names:
            built.load(name, base.scan(name, b"", None))
    for record, _ in journal.records(rows, after=after, until=until, previous=previous):
        if record.index % _SLICE_RECORDS == 0:
            await anyio.lowlevel.checkpoint()
        events = journal.events_of(rows, record)
        _apply_events(subsystem, events, built)
        if each is not None:
            each(record, events)
    return built


async def verify(subsystem: Subsystem, node: str, rows: Rows, base: Rows | None, *, outcomes_kept_ms: int = 0) -> Verdict:
    """Rebuild everything from the journal and compare: tables, chain, head, checkpoint, outgoing bytes, timers, watermarks, outcomes.

    `outcomes_kept_ms`: how long outcomes must be there; with 0 a missing one is no fault.
    """
    verdict = Verdict(subsystem=subsystem.declaration.name)
    try:
        head = journal.read_head(rows)
    except Exception as error:
        verdict.fault(f"the head cannot be read: {error!r}")
        return verdict
    if head is None:
        verdict.fault("the store holds no head: nothing was ever committed")
        return verdict

    def each(record: Record, events: list[Message]) -> None:
        verdict.records += 1
        verdict.to_index = record.index
        books.add(record, events)
        _check_told(subsystem, node, rows, record, events, verdict)

    try:
        last = await _check_base(subsystem, rows, base, verdict)
        books = Books(base)
        built = await rebuild(subsystem, rows, base, each=each)
    except (JournalBroken, EvolveFailed) as error:
        verdict.fault(str(error))
        return verdict
    if max(verdict.to_index, last) != head.index:
        verdict.fault(f"the journal ends at {verdict.to_index}, the head says {head.index}")
    tail = [digest for _, digest in journal.records(rows, after=max(0, head.index - 1))]
    if tail and tail[-1] != head.hash:
        verdict.fault(f"journal record {head.index} does not have the hash the head names")
    _compare(subsystem, rows, built, verdict)
    if _timers(rows) != books.timers:
        verdict.fault("the timers that are set are not those the journal says")
    for text in (*books.differences(head), *books.wrong_marks(list(rows.scan(WATERMARKS.name, b"", None)))):
        verdict.fault(text)
    _check_published(rows, head, books, verdict)
    _check_outcomes(rows, head, books, verdict, outcomes_kept_ms)
    return verdict


def _check_published(rows: Rows, head: Head, books: Books, verdict: Verdict) -> None:
    """The published marks must name messages of ours, and nothing may wait to be published that no record tells."""
    for stream, mark in head.published.items():
        table = outbox_of(stream)
        # Of a restored store: everything before its incarnation.
        before_us = mark.place == LAST_PLACE and mark.index + 1 in books.beginnings
        known = mark.index <= verdict.from_index or before_us
        if not known and rows.get(table.name, table.pack((mark.index, mark.place))) is None:
            verdict.fault(f"the published mark of {stream} is {mark.index}.{mark.place}, and no such message was told")
    behind = (verdict.from_index + 1,)
    count = sum(1 for table in (OUTBOX_NODE, OUTBOX_NET) for _ in rows.scan(table.name, table.pack(behind), None))
    if count > verdict.messages:
        verdict.fault(f"{count - verdict.messages} outgoing messages are there that no record tells")


def _check_outcomes(rows: Rows, head: Head, books: Books, verdict: Verdict, kept_ms: int) -> None:
    """Outcomes must be what the records of their commands say, and be there for as long as is promised."""
    left = dict(books.commands)
    count = 0
    for key, data in rows.scan(OUTCOMES.name, b"", None):
        count += 1
        name = key.decode(errors="replace")
        record = left.pop(name, None)
        try:
            row = decode_value(OutcomeRow, data)
        except Exception:
            verdict.fault(f"the outcome of command {name!r} cannot be read")
            continue
        if rows.get(OUTCOMES_BY_TIME.name, row.at_ms.to_bytes(8, "big") + key) is None:
            verdict.fault(f"the outcome of command {name!r} is not listed by its time")
        if record is not None:
            if not fits_outcome(record, row):
                verdict.fault(f"the outcome of command {name!r} is not what record {record.index} says")
        elif books.base is None or books.base.get(OUTCOMES.name, key) != data:
            verdict.fault(f"the outcome of command {name!r} does not follow from the journal")
    listed = sum(1 for _ in rows.scan(OUTCOMES_BY_TIME.name, b"", None))
    if listed != count:
        verdict.fault(f"{listed} outcomes are listed by time, {count} are there")
    for name, record in left.items():
        if kept_ms and record.index > books.repaired and record.time_ms > head.last_ms - kept_ms:
            verdict.fault(f"the outcome of command {name!r}, of record {record.index}, is missing")


def _timers(rows: Rows) -> dict[str, TimerRow]:
    """The timers that are set, by key; one that cannot be read is there under its key's bytes, as nothing the journal could say."""
    found: dict[str, TimerRow] = {}
    for key, data in rows.scan(TIMERS.name, b"", None):
        try:
            row = decode_value(TimerRow, data)
            found[row.key] = row
        except Exception:
            found[key.hex()] = TimerRow(key.hex(), None, "unreadable", data)
    return found


async def _check_base(subsystem: Subsystem, rows: Rows, base: Rows | None, verdict: Verdict) -> int:
    """The checkpoint must be what the journal recorded of it. Returns its index."""
    if base is None:
        return 0
    head = journal.read_head(base)
    if head is None:
        verdict.fault("the checkpoint holds no head")
        return 0
    verdict.from_index = head.index
    digest = await tables_hash(subsystem.declaration, base)
    for record, _ in journal.records(rows, after=head.index):
        for row in record.events:
            if row.key == CheckpointTaken.spec.key:
                taken = journal.event_of(rows, row, record.index)
                if isinstance(taken, CheckpointTaken) and taken.index == head.index and taken.tables_hash != digest:
                    verdict.fault(f"the checkpoint at {head.index} does not have the hash recorded for it")
    return head.index


def _check_told(subsystem: Subsystem, node: str, rows: Rows, record: Record, events: Sequence[Message], verdict: Verdict) -> None:
    """The outgoing bytes must be what `react` makes of the recorded events."""
    try:
        messages = [message for event in events for message in reactions(subsystem, event)]
    except Exception as error:
        raise JournalBroken(record.index, f"nothing can be told of it: {error!r}") from error
    for place, message in enumerate(messages):
        table = OUTBOX_NET if message.spec.kind is Kind.NETWORK else OUTBOX_NODE
        data = rows.get(table.name, table.pack((record.index, place)))
        if data is None:
            verdict.fault(f"record {record.index}: the outgoing {message.spec.key} is missing")
            continue
        verdict.messages += 1
        if not _is_rendered(node, subsystem.declaration.name, record, place, message, data):
            verdict.fault(f"record {record.index}: the outgoing {message.spec.key} is not what the journal says")


def _is_rendered(node: str, name: str, record: Record, place: int, message: Message, data: bytes) -> bool:
    """Whether `data` is the outgoing row that `message` makes, under the incarnation that the row names."""
    try:
        row = decode_value(OutboxRow, data)
        incarnation = bytes.fromhex(MessageId.parse(row.headers[HEADER_ID]).incarnation)
        return encode_value(Sender(node, name, incarnation).render(record.cause, record.index, place, message)) == data
    except Exception:
        # Whatever can be wrong with damaged bytes: they are not what was written.
        return False


def _compare(subsystem: Subsystem, rows: Rows, built: MemoryRows, verdict: Verdict) -> None:
    """Every table row by row, both ways, in one ordered pass."""
    for table in subsystem.declaration.tables:
        expected = dict(built.scan(table.name, b"", None))
        for key, value in rows.scan(table.name, b"", None):
            verdict.rows += 1
            wanted = expected.pop(key, None)
            if wanted is None:
                verdict.fault(f"table {table.name}: the row {key.hex()} does not follow from the journal")
            elif wanted != value:
                verdict.fault(f"table {table.name}: the row {key.hex()} differs from what the journal says")
        for key in expected:
            verdict.fault(f"table {table.name}: the row {key.hex()} is missing")
