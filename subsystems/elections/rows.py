"""The rows that every election has: its head, and its events one by one."""

from functools import lru_cache
from typing import cast

import msgspec
from blake3 import blake3

from messages.codec import decode, decode_value, encode, encode_value
from messages.elections import ElectionEvent
from messages.message import CATALOG
from overseer.tables import HASH, TEXT, U8, U64, Table, View

__all__ = [
    "ELECTIONS",
    "EVENTS",
    "GOVERNANCE",
    "ElectionRow",
    "StoredEvent",
    "dump_event",
    "governed",
    "key_hash",
    "load_event",
    "pack_event",
    "stored_event",
]


class ElectionRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The head of one election. `terminal_ms` is 0 until it came to its end; `digest` chains its events."""

    kind: str
    sequence: int
    digest: bytes
    created_ms: int
    last_ms: int
    terminal_ms: int = 0
    archived: bool = False


class StoredEvent(msgspec.Struct, frozen=True, array_like=True):
    """One event as it is kept: `message` is its type's key."""

    message: str
    version: int
    body: bytes


# (key): of archived ones too, so that a key is never used twice
ELECTIONS = Table("elections", key=(TEXT,), value=ElectionRow)
# (election, sequence) -> dump_event
EVENTS = Table("events", key=(HASH, U64), value=bytes)
# (0) -> 1 while governance mode lasts
GOVERNANCE = Table("governance", key=(U8,), value=bytes)


@lru_cache(maxsize=4096)
def key_hash(key: str) -> bytes:
    """What an election's rows are found by: keys of one width, evenly spread."""
    return blake3(key.encode()).digest()


def pack_event(message: str, version: int, body: bytes) -> bytes:
    """An event as it is kept and hashed. `message`: its type's key, as in StoredEvent."""
    return encode_value(StoredEvent(message, version, body))


def dump_event(event: ElectionEvent) -> bytes:
    return pack_event(event.spec.key, event.spec.version, encode(event))


def stored_event(data: bytes) -> StoredEvent:
    return decode_value(StoredEvent, data)


def load_event(data: bytes) -> ElectionEvent:
    """The event, brought up to the present version of its type."""
    stored = stored_event(data)
    spec = CATALOG.by_key(stored.message)
    if spec is None:
        raise TypeError(f"{stored.message} is of a newer release")
    return cast(ElectionEvent, decode(spec, stored.body, version=stored.version))


def governed(view: View) -> bool:
    """Whether governance mode lasts."""
    return view.get(GOVERNANCE, (0,)) is not None
