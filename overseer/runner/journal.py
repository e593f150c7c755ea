"""The journal: records appended in a hash chain, read back and checked."""

from collections.abc import Iterator

import cbor2
from blake3 import blake3

from messages.codec import decode, decode_value, encode
from messages.message import CATALOG, Message
from overseer.runner.errors import JournalBroken
from overseer.runner.schema import BLOBS, HEAD, JOURNAL, Cause, EventRow, Head, Record, Result, TimerRow
from overseer.tables import Overlay, Rows

__all__ = ["HEAD_KEY", "append", "decoded", "event_of", "events_of", "first_index", "pack_event", "read_head", "records"]

HEAD_KEY = HEAD.pack(("head",))


def pack_event(overlay: Overlay, index: int, event: Message, blob_bytes_min: int) -> EventRow:
    """The event as record `index` holds it; a large body goes to the blobs, in the same write."""
    body = encode(event)
    if len(body) < blob_bytes_min:
        return EventRow(event.spec.key, event.spec.version, body, False)
    digest = blake3(body).digest()
    overlay.put(BLOBS.name, BLOBS.pack((index, digest)), body)
    return EventRow(event.spec.key, event.spec.version, digest, True)


def events_of(rows: Rows, record: Record) -> list[Message]:
    """All events of a record, in order. Raises JournalBroken."""
    return [event_of(rows, row, record.index) for row in record.events]


def event_of(rows: Rows, row: EventRow, index: int) -> Message:
    """The recorded event, upcast to today's version. Raises JournalBroken."""
    spec = CATALOG.by_key(row.key)
    if spec is None:
        raise JournalBroken(index, f"unknown event {row.key}; a newer release wrote it")
    body = row.body
    if row.blob:
        found = rows.get(BLOBS.name, BLOBS.pack((index, row.body)))
        if found is None or blake3(found).digest() != row.body:
            raise JournalBroken(index, f"the blob {row.body.hex()} of {row.key} is missing or damaged")
        body = found
    try:
        return decode(spec, body, version=row.version)
    except ValueError as error:
        raise JournalBroken(index, f"{row.key} cannot be read: {error}") from error


def append(
    overlay: Overlay,
    head: Head,
    *,
    time_ms: int,
    cause: Cause,
    input_key: str,
    result: Result,
    events: list[EventRow],
    timers: list[TimerRow],
) -> int:
    """Add a record, chained to the one before; advances `head`. Returns its index.

    Written as plain lists: the same bytes as encode_value(Record), at a third of the cost.
    """
    index = head.index + 1
    data = cbor2.dumps(
        [
            index,
            head.hash,
            time_ms,
            [cause.stream, cause.sequence, cause.sender, cause.id, cause.identity, cause.correlation, cause.trace],
            input_key,
            [result.status, result.code, result.detail],
            [[e.key, e.version, e.body, e.blob] for e in events],
            [[t.key, t.at_ms, t.message, t.body] for t in timers],
        ]
    )
    overlay.put(JOURNAL.name, index.to_bytes(8, "big"), data)
    head.index = index
    head.hash = blake3(data).digest()
    head.last_ms = time_ms
    return index


def read_head(rows: Rows) -> Head | None:
    data = rows.get(HEAD.name, HEAD_KEY)
    return None if data is None else decode_value(Head, data)


def first_index(rows: Rows) -> int:
    """Of the oldest record that is still there; 0 without any."""
    return next((int.from_bytes(key, "big") for key, _ in rows.scan(JOURNAL.name, b"", None)), 0)


def decoded(index: int, data: bytes) -> Record:
    """The record of which the journal holds `data`. Raises JournalBroken."""
    try:
        return decode_value(Record, data)
    except Exception as error:
        raise JournalBroken(index, f"cannot be read: {error!r}") from error


def records(rows: Rows, *, after: int = 0, until: int | None = None, previous: bytes | None = None) -> Iterator[tuple[Record, bytes]]:
    """Records behind index `after` (to `until`: nothing behind it is read) with their hashes, each checked against the one before.

    `previous` is the hash of record `after` (None: taken on trust, e.g. after archiving). Raises JournalBroken.
    """
    expected = after
    for key, data in rows.scan(JOURNAL.name, JOURNAL.pack((after + 1,)), None if until is None else JOURNAL.pack((until + 1,))):
        expected += 1
        index = int.from_bytes(key, "big")
        if index != expected:
            raise JournalBroken(expected, f"missing; the next one is {index}")
        record = decoded(index, data)
        if record.index != index or (previous is not None and record.previous != previous):
            # Either of the two may be the one that was changed.
            raise JournalBroken(index, "does not follow from the record before it: the hash chain is broken", last_intact=index - 2)
        previous = blake3(data).digest()
        yield record, previous
