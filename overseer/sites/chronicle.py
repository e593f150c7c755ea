"""An election's events as a store has them, whether its elections are on one site or several; and the commands that they came of."""

from collections.abc import Iterator, Sequence

import msgspec

from messages.codec import CodecError, decode
from messages.election_pairs import Record
from messages.elections import ElectionEvent, Recorded
from overseer.tables import Rows, View
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash, load_event
from subsystems.elections.runtime.rows import COMMANDS

__all__ = ["Chronicled", "Command", "chronicle", "known_elections"]


class Command(msgspec.Struct, frozen=True):
    """Who asked for an event at a site's mailroom, under which command id."""

    sender: str
    id: str
    at_ms: int


class Chronicled(msgspec.Struct, frozen=True):
    """One event; `command` is known on several sites alone, and only of events that somebody asked for."""

    sequence: int
    event: ElectionEvent
    command: Command | None = None


def known_elections(rows: Rows, tables: Sequence[str]) -> dict[str, int]:
    """The elections in a store and how many events each has there; {} of a store that has none."""
    if ELECTIONS.name not in tables or EVENTS.name not in tables:
        return {}
    return {key: row.sequence for (key,), row in View(rows).scan(ELECTIONS)}


def chronicle(rows: Rows, tables: Sequence[str], election: str) -> Iterator[Chronicled]:
    """The election's events, in order; none of an archived one. Raises StoreError."""
    asked = _commands(rows, election) if COMMANDS.name in tables else {}
    for (_, sequence), data in View(rows).scan(EVENTS, prefix=(key_hash(election),)):
        yield Chronicled(sequence, load_event(data), asked.get(sequence))


def _commands(rows: Rows, election: str) -> dict[int, Command]:
    """By the event that each had: its outcome names it."""
    found: dict[int, Command] = {}
    for _, record in View(rows).scan(COMMANDS, prefix=(key_hash(election),)):
        sequence = _event_of(record)
        if sequence:
            found[sequence] = Command(record.sender, record.id, record.at_ms)
    return found


def _event_of(record: Record) -> int:
    """0 of a command that was refused."""
    if record.code or not record.outcome:
        return 0
    try:
        recorded = decode(Recorded.spec, record.outcome)
    except CodecError:
        return 0
    return recorded.sequence if isinstance(recorded, Recorded) else 0
