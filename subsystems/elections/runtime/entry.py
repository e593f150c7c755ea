"""The chain of an election's log: how an entry connects to what is before it, and how far a copy is after it.

A site may hold an entry that the log never got. What tells apart is (epoch, number): one writer for each epoch, one entry of each number
by it. So two copies that have the same (epoch, number) have the same entries up to there, and if their hashes differ, one
of them is damaged.
"""

from collections.abc import Iterable
from typing import TypedDict, cast

from blake3 import blake3

from messages.codec import decode, decode_value, encode, encode_value
from messages.election_pairs import BatchLogged, Head, LogEntry, LogRestarted
from messages.message import CATALOG
from subsystems.elections.rows import pack_event

__all__ = [
    "BEGIN",
    "EntryPlace",
    "behind",
    "chained",
    "connects",
    "contradicts",
    "dump_entry",
    "head_after",
    "load_entry",
    "place_before",
    "stored_events",
]

# Before the first entry.
BEGIN = Head(0, 0, 0, bytes(32))


class EntryPlace(TypedDict):
    """The fields that all entries have."""

    election: str
    epoch: int
    number: int
    previous: int
    sequence: int
    before: bytes
    site: str
    topology: int
    told: int


def behind(head: Head, *, election: str, epoch: int, site: str, topology: int, told: int) -> EntryPlace:
    """The fields of an entry that comes behind `head`."""
    return EntryPlace(
        election=election,
        epoch=epoch,
        number=head.number + 1,
        previous=head.epoch,
        sequence=head.sequence,
        before=head.digest,
        site=site,
        topology=topology,
        told=told,
    )


def dump_entry(entry: LogEntry) -> bytes:
    """An entry with its type and version: as it is sent, prepared, and appended to the log. The same bytes each time."""
    held = vars(entry)
    if "packed" not in held:
        held["packed"] = encode_value([entry.spec.key, entry.spec.version, encode(entry)])
    return held["packed"]


def load_entry(data: bytes) -> LogEntry:
    """The entry, brought up to the present version of its type. Raises CodecError, TypeError (of a newer release)."""
    key, version, body = decode_value(tuple[str, int, bytes], data)
    spec = CATALOG.by_key(key)
    if spec is None or not issubclass(spec.body, LogEntry):
        raise TypeError(f"{key} is no log entry of this release")
    entry = cast(LogEntry, decode(spec, body, version=version))
    if version == spec.version:
        vars(entry)["packed"] = data
    return entry


def place_before(entry: LogEntry) -> Head:
    """Where a copy must be to take `entry`."""
    return Head(entry.previous, entry.number - 1, entry.sequence, entry.before)


def stored_events(entry: BatchLogged) -> list[bytes]:
    """Its events as the copies keep them (`rows.dump_event`): what is hashed. Worked out once."""
    held = vars(entry)
    if "events" not in held:
        held["events"] = [pack_event(event.message, event.version, event.body) for record in entry.records for event in record.events]
    return held["events"]


def head_after(entry: LogEntry) -> Head:
    """Where a copy is that took `entry`: told by the entry alone."""
    sequence, digest = entry.sequence, entry.before
    if isinstance(entry, BatchLogged):
        events = stored_events(entry)
        sequence, digest = sequence + len(events), chained(digest, events)
    return Head(entry.epoch, entry.number, sequence, digest)


def chained(digest: bytes, events: Iterable[bytes]) -> bytes:
    """The hash chain over stored events (`rows.dump_event`), from `digest` on: what a copy's rows are checked against."""
    for event in events:
        digest = blake3(digest + event).digest()
    return digest


def connects(head: Head, entry: LogEntry) -> bool:
    """Whether `entry` is the next one of a copy at `head`."""
    return place_before(entry) == head


def contradicts(head: Head, entry: LogEntry) -> bool:
    """Whether the log's `entry`, in the place behind a copy's committed `head`, was made of another history.

    Two hashes for one committed sequence: one of both is damaged, and nobody can tell which (point 7).
    """
    at = place_before(entry)
    if isinstance(entry, LogRestarted):
        # It begins a new log: an event that it does not know of, and we had applied, would be forgotten. Barriers of the lost log may
        # be: whoever appended one need not have been heard by those whose copy the new log goes on from.
        return at.sequence < head.sequence or (at.sequence == head.sequence and at.digest != head.digest)
    return at.number == head.number and at != head
