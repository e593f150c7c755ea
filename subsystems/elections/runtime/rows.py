"""What a site keeps of a replicated election beside its own rows: its place in the log, what is prepared, outcomes by id, timers.

The rows of COMMANDS come from the log with the events, so they are wherever the election is: a writer that took over knows every command
that was ever recorded, and whoever asks again gets the original outcome (B15).
"""

from collections.abc import Collection

import msgspec

from messages.election_pairs import BatchLogged, Head, IdReused, LogEntry, LoggedTimer, Record
from overseer.tables import HASH, TEXT, U64, Table, Tables, View
from subsystems.elections.rows import key_hash
from subsystems.elections.runtime.entry import dump_entry, head_after, load_entry
from subsystems.elections.runtime.steps import BLANK, Apply, Copy, Settled

__all__ = ["COMMANDS", "COPIES", "PREPARED", "TIMERS", "CopyRow", "TimerRow", "apply_place", "load_copy", "settled", "store_prepared"]


class CopyRow(msgspec.Struct, frozen=True, array_like=True):
    """See steps.Copy."""

    stream: str
    applied: Head
    log_sequence: int
    told: int


class TimerRow(msgspec.Struct, frozen=True, array_like=True):
    """See LoggedTimer."""

    election: str
    at_ms: int
    message: str
    version: int
    body: bytes


# (key)
COPIES = Table("copies", key=(TEXT,), value=CopyRow)
# (election, number) -> dump_entry
PREPARED = Table("prepared", key=(HASH, U64), value=bytes)
# (election, command id)
COMMANDS = Table("commands", key=(HASH, TEXT), value=Record)
# (election, timer key)
TIMERS = Table("timers", key=(HASH, TEXT), value=TimerRow)


def load_copy(view: View, key: str) -> Copy:
    """What is kept of an election here."""
    row = view.get(COPIES, (key,))
    if row is None:
        return BLANK
    prepared = [load_entry(data) for _, data in view.scan(PREPARED, prefix=(key_hash(key),))]
    return Copy.stored(row.stream, row.applied, row.log_sequence, row.told, prepared)


def store_prepared(tables: Tables, entry: LogEntry) -> None:
    """The rows of the effect Store."""
    election = key_hash(entry.election)
    _drop_prepared(tables, election, entry.number + 1)
    tables.put(PREPARED, (election, entry.number), dump_entry(entry))


def apply_place(tables: Tables, effect: Apply) -> None:
    """The rows of the effect Apply, without those that the events make: the place, the outcomes, and what is void."""
    entry = effect.entry
    election = key_hash(entry.election)
    _drop_prepared(tables, election, entry.number, kept=effect.kept)
    for record in entry.records if isinstance(entry, BatchLogged) else ():
        # The events are kept in the election's own log.
        bare = Record(record.id, record.digest, record.sender, record.at_ms, record.code, record.outcome, [])
        tables.put(COMMANDS, (election, record.id), bare)
        for timer in record.timers:
            _apply_timer(tables, entry.election, timer)
    row = tables.get(COPIES, (entry.election,))
    told = max(entry.told, row.told if row is not None else 0)
    tables.put(COPIES, (entry.election,), CopyRow(effect.stream, head_after(entry), effect.log_sequence, told))


def _drop_prepared(tables: Tables, election: bytes, number: int, *, kept: Collection[int] = ()) -> None:
    """From `number` on. What is prepared is numbered without gaps, and begins behind what is applied: no scan is needed."""
    while tables.has(PREPARED, (election, number)):
        if number not in kept:
            tables.delete(PREPARED, (election, number))
        number += 1


def _apply_timer(tables: Tables, key: str, timer: LoggedTimer) -> None:
    place = (key_hash(key), timer.key)
    if timer.at_ms is None:
        tables.delete(TIMERS, place)
    else:
        tables.put(TIMERS, place, TimerRow(key, timer.at_ms, timer.message, timer.version, timer.body))


def settled(view: View, key: str, command_id: str, digest: bytes) -> Settled | None:
    """What is to be answered to a command whose id is known; None for a new one, which is to be decided."""
    record = view.get(COMMANDS, (key_hash(key), command_id))
    if record is None:
        return None
    return Settled(record if record.digest == digest else IdReused(election=key, id=command_id))
