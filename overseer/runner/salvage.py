"""A store written anew from what of a damaged one is intact: its journal up to the first damage, and what follows from it.

The journal's hash chain tells what is intact. Tables, timers, outgoing bytes, watermarks and the head are made from it; the
runner then takes the rest from the stream, under a new incarnation if it had told more (docs/adr/0005).
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec
from blake3 import blake3

from messages.codec import decode_value, encode_value
from messages.message import Message
from messages.overseer import CheckpointTaken, Position, RepairNoted
from overseer.limits import Limits
from overseer.ports.entropy import Entropy
from overseer.ports.store import Store, StoreError
from overseer.runner import journal
from overseer.runner.books import Books, fits_outcome
from overseer.runner.checkpoints import checkpoint_name, tables_hash
from overseer.runner.engine import Engine
from overseer.runner.errors import JournalBroken
from overseer.runner.schema import (
    BLOBS,
    HEAD,
    JOURNAL,
    OUTBOX_NET,
    OUTBOX_NODE,
    OUTCOMES,
    OUTCOMES_BY_TIME,
    TIMERS,
    WATERMARKS,
    Head,
    OutcomeRow,
    Record,
    Watermark,
)
from overseer.runner.verify import rebuild
from overseer.runner.wire import Sender, reactions
from overseer.subsystem import Subsystem
from overseer.tables import Rows, WriteSet

__all__ = ["Intact", "Salvaged", "intact_part", "keep_base", "note_repair", "salvage"]

# Rows of one commit into the new store.
_COMMIT_ROWS = 2_000
# Of a sender that was announced, and of which nothing was taken.
_NOTHING_TAKEN = encode_value(Watermark(0, 0))
# Where the stream's id is not known: the runner then looks for the message itself.
_UNKNOWN = "unknown"


class Intact(msgspec.Struct, frozen=True, kw_only=True):
    """Records `first` to `last` are there, chained and readable; `damage` says what ends them, "" when that is the head."""

    first: int
    last: int
    damage: str


class Salvaged(msgspec.Struct, kw_only=True):
    """What a new store holds, and what could not be brought into it."""

    records: int = 0
    rows: int = 0
    messages: int = 0
    outcomes: int = 0
    lost: list[str] = []


class _Walked:
    """Rows whose journal is read record by record: a scan reads ahead, and what it met of rot would spoil what is before it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._rows.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if table != JOURNAL.name or reverse:
            yield from self._rows.scan(table, start, end, reverse=reverse)
            return
        index = int.from_bytes(start, "big") or 1
        if self._rows.get(table, JOURNAL.pack((index,))) is None:
            index = next((int.from_bytes(key, "big") for key, _ in self._rows.scan(table, start, end)), index)
        key = JOURNAL.pack((index,))
        while (end is None or key < end) and (data := self._rows.get(table, key)) is not None:
            yield key, data
            index += 1
            key = JOURNAL.pack((index,))


def intact_part(rows: Rows) -> Intact:
    """How far the journal can be trusted, from its oldest record on. `rows` may be dead afterwards."""
    rows = _Walked(rows)
    head: Head | None = None
    with suppress(Exception):
        head = journal.read_head(rows)
    first = last = 0
    newest = bytes(32)
    damage = ""
    try:
        first = journal.first_index(rows)
        for record, digest in journal.records(rows, after=first - 1, previous=bytes(32) if first == 1 else None):
            for row in record.events:
                journal.event_of(rows, row, record.index)
            last, newest = record.index, digest
    except JournalBroken as error:
        last, damage = error.last_intact, str(error)
    except (StoreError, KeyError) as error:
        damage = str(error)
    else:
        if head is None:
            damage = "the head cannot be read"
        elif head.index != last:
            damage = f"the journal ends at {last}, the head says {head.index}"
        elif head.hash != newest:
            last, damage = last - 1, f"journal record {last} is not the one that the head names"
    return Intact(first=first, last=last if last >= first else 0, damage=damage)


async def salvage(subsystem: Subsystem, node: str, rows: Rows, base: Rows | None, part: Intact, into: Store) -> Salvaged:
    """Write the records of `part` and all that follows from them into the empty store `into`.

    Raises StoreError, JournalBroken, EvolveFailed.
    """
    rows, until = _Walked(rows), part.last
    books, found, told = Books(base), Salvaged(), list[tuple[str, bytes, bytes]]()

    def each(record: Record, events: list[Message]) -> None:
        books.add(record, events)
        sender = Sender(node, subsystem.declaration.name, books.incarnation)
        for mark, to_net, row in sender.render_all(record.cause, record.index, _told(subsystem, events)):
            table = OUTBOX_NET if to_net else OUTBOX_NODE
            told.append((table.name, table.pack(mark), encode_value(row)))

    # Read before anything that may kill the handle.
    head = _old_head(rows)
    built = await rebuild(subsystem, rows, base, until=until, each=each)
    tables = [(table.name, key, value) for table in subsystem.declaration.tables for key, value in built.scan(table.name, b"", None)]
    found.rows, found.messages = len(tables), len(told)
    await _write(into, tables)
    await _write(into, told)
    if base is not None:
        await _write(into, _of_base(base))
    last = bytes(32)
    kept: list[tuple[str, bytes, bytes]] = []
    for record, digest in journal.records(rows, after=part.first - 1, until=until):
        last = digest
        found.records += 1
        kept += _raw(rows, record)
        if len(kept) > _COMMIT_ROWS:
            await _write(into, kept)
            kept = []
    kept += [(TIMERS.name, TIMERS.pack((row.key,)), encode_value(row)) for row in books.timers.values()]
    await _write(into, kept)
    marks, complete = _watermarks(rows, books)
    await _write(into, [(WATERMARKS.name, key, value) for key, value in marks.items()])
    if not complete:
        found.lost.append("who was announced and has told nothing yet: senders are taken at first sight from now on")
    await _write(into, _outcomes(rows, books, found))
    await _write(into, [(HEAD.name, journal.HEAD_KEY, encode_value(_new_head(subsystem, books, head, until, last, complete)))])
    return found


def _told(subsystem: Subsystem, events: Iterable[Message]) -> Iterator[Message]:
    for event in events:
        yield from reactions(subsystem, event)


def _old_head(rows: Rows) -> Head | None:
    try:
        return journal.read_head(rows)
    except StoreError:
        raise
    except Exception:
        return None


def _of_base(base: Rows) -> list[tuple[str, bytes, bytes]]:
    """What only the checkpoint still has of the time before it: outgoing bytes, watermarks, outcomes."""
    names = (OUTBOX_NODE.name, OUTBOX_NET.name, WATERMARKS.name, OUTCOMES.name, OUTCOMES_BY_TIME.name)
    return [(name, key, value) for name in names for key, value in base.scan(name, b"", None)]


def _raw(rows: Rows, record: Record) -> list[tuple[str, bytes, bytes]]:
    """A record's rows as they were: its own, and its blobs."""
    keys = [(JOURNAL.name, JOURNAL.pack((record.index,)))]
    keys += [(BLOBS.name, BLOBS.pack((record.index, event.body))) for event in record.events if event.blob]
    found: list[tuple[str, bytes, bytes]] = []
    for table, key in keys:
        data = rows.get(table, key)
        if data is None or (table == BLOBS.name and blake3(data).digest() != key[-32:]):
            raise JournalBroken(record.index, f"its row in {table} is gone")
        found.append((table, key, data))
    return found


def _watermarks(rows: Rows, books: Books) -> tuple[dict[bytes, bytes], bool]:
    """The journal's watermarks, and every other known sender with nothing taken; whether all such could be read."""
    marks = {key: encode_value(Watermark(sequence, index)) for key, (sequence, index) in books.marks.items()}
    kept: set[bytes] = set()
    if books.base is not None:
        kept = {key for key, _ in books.base.scan(WATERMARKS.name, b"", None)}
    try:
        for key, _ in rows.scan(WATERMARKS.name, b"", None):
            if key not in kept:
                marks.setdefault(key, _NOTHING_TAKEN)
    except StoreError:
        return marks, False
    return marks, True


def _outcomes(rows: Rows, books: Books, found: Salvaged) -> Iterator[tuple[str, bytes, bytes]]:
    """The outcomes that can be read and are what the journal says."""
    missing = 0
    for name, record in books.commands.items():
        key = name.encode()
        try:
            data = rows.get(OUTCOMES.name, key)
            row = None if data is None else decode_value(OutcomeRow, data)
        except Exception:
            row = data = None
        if data is None or row is None or not fits_outcome(record, row):
            missing += 1
            continue
        found.outcomes += 1
        yield OUTCOMES.name, key, data
        yield OUTCOMES_BY_TIME.name, row.at_ms.to_bytes(8, "big") + key, b""
    if missing:
        found.lost.append(f"the outcomes of {missing} commands: asked again under the same id, such a command is decided again")


def _new_head(subsystem: Subsystem, books: Books, old: Head | None, until: int, last: bytes, complete: bool) -> Head:
    known = old or (None if books.base is None else journal.read_head(books.base))
    ids = {} if known is None else {name: position.stream for name, position in known.positions.items()}
    names = {*ids, *books.taken, "node"}
    positions = {
        name: Position(stream=ids.get(name, _UNKNOWN), sequence=books.taken[name][0], identity=books.taken[name][1])
        if name in books.taken
        # Taken, perhaps, and not recorded: the journal will tell.
        else Position(stream=_UNKNOWN, sequence=0)
        for name in names
        if name in books.taken or name == "node"
    }
    return Head(
        incarnation=books.incarnation,
        began=books.began,
        past=books.past,
        published={name: mark for name, mark in old.published.items() if mark.index <= until} if old is not None else {},
        index=until,
        hash=last,
        last_ms=books.last_ms,
        positions=positions,
        evolve_version=subsystem.declaration.evolve_version,
        checkpoint=books.checkpoint,
        history_incomplete=books.history_incomplete or not complete,
    )


async def _write(into: Store, rows: Iterable[tuple[str, bytes, bytes]]) -> None:
    writes, count = WriteSet(), 0
    for table, key, value in rows:
        writes.put(table, key, value)
        count += 1
        if count == _COMMIT_ROWS:
            await into.commit(writes)
            writes, count = WriteSet(), 0
    if count:
        await into.commit(writes)


async def keep_base(subsystem: Subsystem, node: str, store: Store, now_ms: int, entropy: Entropy) -> None:
    """Take a checkpoint of a store whose journal does not reach back to any, and record it: `verify` begins there from now on."""
    head = journal.read_head(store)
    if head is None:
        raise JournalBroken(0, "the store holds no head")
    name = checkpoint_name(head.index)
    store.checkpoint(name)
    digest = await tables_hash(subsystem.declaration, store)
    positions = [head.positions[line] for line in sorted(head.positions)]
    index, head.checkpoint = head.index, head.index
    await _note(
        subsystem, node, store, head, CheckpointTaken(index=index, name=name, tables_hash=digest, positions=positions), now_ms, entropy
    )


async def note_repair(subsystem: Subsystem, node: str, store: Store, detail: str, now_ms: int, entropy: Entropy) -> None:
    """Record what was done, as the runner records its own repairs."""
    head = journal.read_head(store)
    if head is None:
        return
    position = head.positions.get("node", Position(stream="", sequence=0))
    # An expectation of no stream at all is how the runner notes that history is incomplete.
    expected = Position(stream="" if head.history_incomplete else position.stream or _UNKNOWN, sequence=position.sequence)
    event = RepairNoted(expected=expected, found=position, restored=0, detail=detail, at_ms=now_ms)
    await _note(subsystem, node, store, head, event, now_ms, entropy)


async def _note(subsystem: Subsystem, node: str, store: Store, head: Head, event: Message, now_ms: int, entropy: Entropy) -> None:
    engine = Engine(subsystem, store, node, head, limits=Limits(), entropy=entropy)
    batch = engine.begin()
    engine.note(batch, event, now_ms)
    engine.finish(batch)
    await store.commit(batch.writes)
