"""Opening a store for work: whose it is, what it remembers, and whether the stream is still the one it knows.

A store that is new, or that is older than what it published, gets a new incarnation, announced before its first message.
A stream that is not the one the store's position names (deleted, truncated, replaced, another message there) is never used
as if nothing had happened: the last point both agree on is found through the journal (of another stream: its beginning), the lost
tail is published again from the outgoing bytes, and what was done is recorded.
"""

import msgspec

from messages.codec import decode_value, encode_value
from messages.overseer import IncarnationStarted, Position, RepairNoted
from overseer.limits import Limits
from overseer.ports.bus import Line, StreamState
from overseer.ports.clock import Clock
from overseer.ports.entropy import Entropy
from overseer.ports.store import Store
from overseer.runner import journal
from overseer.runner.engine import Engine
from overseer.runner.errors import SecondCopy
from overseer.runner.intake import identity
from overseer.runner.outbox import message_id_of
from overseer.runner.schema import HEAD, JOURNAL, Head, OutboxRow, Record, outbox_of
from overseer.runner.verify import base_of, rebuild
from overseer.subsystem import Subsystem
from overseer.tables import WriteSet

__all__ = ["Opened", "holds", "open_engine", "rebuild_tables"]

_NOWHERE = Position(stream="", sequence=0)
_INCARNATION_BYTES = 16
# How many messages are compared, newest first, before the whole stream is taken as unknown.
_COMPARED_MAX = 10_000


class Opened(msgspec.Struct, frozen=True):
    """An engine ready for intake: where each line starts, and what had to be repaired (texts for the log)."""

    engine: Engine
    streams: dict[str, StreamState]
    repairs: list[str]


async def open_engine(
    subsystem: Subsystem, store: Store, node: str, lines: dict[str, Line], *, limits: Limits, clock: Clock, entropy: Entropy
) -> Opened:
    """Load or create the head, settle incarnation and positions. Commits what it decided. Raises BusUnavailable."""
    head = journal.read_head(store)
    fresh = head is None
    if head is None:
        head = Head(incarnation=entropy.draw(16), evolve_version=subsystem.declaration.evolve_version)
    previous = await _newer_elsewhere(head, store, lines)
    streams = {name: await line.state() for name, line in lines.items()}
    repairs: list[str] = []
    if not fresh and previous is not None:
        repairs.append(f"the stream holds later messages of ours (incarnation {previous.hex()}): this store was restored; new incarnation")
        head.past.append(head.incarnation)
        head.incarnation = entropy.draw(16)
    if previous is not None:
        head.began = head.index + 1
        head.past = list(dict.fromkeys([*head.past, previous]))
    if head.evolve_version != subsystem.declaration.evolve_version:
        repairs.append(f"tables of evolve version {head.evolve_version} are rebuilt as version {subsystem.declaration.evolve_version}")
        await rebuild_tables(subsystem, store, head)
    engine = Engine(subsystem, store, node, head, limits=limits, entropy=entropy)
    batch = engine.begin()
    now_ms = clock.now_ms()
    if fresh or previous is not None:
        engine.note(batch, IncarnationStarted(incarnation=head.incarnation, previous=previous), now_ms)
    for name, line in lines.items():
        noted = await _settle(engine, store, name, line, streams[name], now_ms)
        if noted is not None:
            engine.note(batch, noted, now_ms)
            repairs.append(f"{name}: {noted.detail}{_rebuilt(noted)}")
    engine.finish(batch)
    await store.commit(batch.writes)
    return Opened(engine, streams, repairs)


async def _newer_elsewhere(head: Head, store: Store, lines: dict[str, Line]) -> bytes | None:
    """The incarnation of our last message in a stream, when this store did not write it."""
    for name, line in lines.items():
        stored = await line.last_own()
        last = message_id_of(stored)
        if stored is None or last is None or last.incarnation in {past.hex() for past in head.past}:
            continue
        table = outbox_of(name)
        row = store.get(table.name, table.pack((last.sequence, last.index)))
        # Another body under our own number: a copy of this store was at work, and has gone another way.
        kept = row is not None and decode_value(OutboxRow, row).body == stored.body
        archived = store.get(JOURNAL.name, JOURNAL.pack((last.sequence,))) is None
        known = last.sequence <= head.index and (kept or archived)
        if last.incarnation != head.incarnation.hex() or not known:
            return _incarnation(last.incarnation, lines[name].sender)
    return None


def _incarnation(text: str, sender: str) -> bytes:
    """An incarnation as the header has it. Raises SecondCopy when it is none: somebody else writes under our name."""
    try:
        incarnation = bytes.fromhex(text)
    except ValueError:
        incarnation = b""
    if len(incarnation) != _INCARNATION_BYTES:
        raise SecondCopy(sender, "(at start)", text)
    return incarnation


async def _settle(engine: Engine, store: Store, name: str, line: Line, state: StreamState, now_ms: int) -> RepairNoted | None:
    """Compare our position with the stream; set where intake goes on. Returns what had to be repaired."""
    head = engine.head
    position = head.positions.get(name)
    if position is None:
        head.positions[name] = Position(stream=state.id, sequence=state.first_sequence - 1 if state.first_sequence else 0)
        if state.first_sequence > 1:
            head.history_incomplete = True
            return RepairNoted(
                expected=_NOWHERE,
                found=Position(stream=state.id, sequence=state.first_sequence),
                restored=0,
                detail=f"the stream begins at {state.first_sequence}: what was before is not in this store",
                at_ms=now_ms,
            )
        return None
    if await holds(line, state, position):
        return None
    # Nothing was taken of another stream, whatever may be there again at the place that it had.
    agreed = await _last_agreed(store, name, line, state) if position.stream == state.id else 0
    head.positions[name] = Position(stream=state.id, sequence=agreed, identity=b"")
    if position.stream != state.id:
        what = "was replaced"
    elif position.sequence > state.last_sequence:
        what = "lost its tail"
    else:
        what = "holds other messages"
    return RepairNoted(
        expected=position,
        found=Position(stream=state.id, sequence=state.last_sequence),
        restored=await _to_tell_again(store, name, line),
        detail=f"the stream {what}: we had taken {position.sequence}, it ends at {state.last_sequence}; going on after {agreed}",
        at_ms=now_ms,
    )


async def holds(line: Line, state: StreamState, position: Position) -> bool:
    """Whether this is the stream of that position, and the message taken last is still where it was, if it was not trimmed."""
    if position.stream != state.id or position.sequence > state.last_sequence:
        return False
    if not position.identity or position.sequence < state.first_sequence:
        return True
    there = await line.message_at(position.sequence)
    return there is None or identity(there) == position.identity


def _rebuilt(noted: RepairNoted) -> str:
    """What comes back into a stream that lost messages, and what does not: for the log."""
    if noted.expected == _NOWHERE:
        return ""
    return f"; {noted.restored} of our messages are published again; commands that were in it alone are gone"


async def _to_tell_again(store: Store, name: str, line: Line) -> int:
    """How many of our outgoing messages the stream does not hold (any more): what the outbox publishes before anything new."""
    table = outbox_of(name)
    last = message_id_of(await line.last_own())
    start = table.pack((last.sequence, last.index + 1)) if last is not None else b""
    return sum(1 for _ in store.scan(table.name, start, None))


async def _last_agreed(store: Store, name: str, line: Line, state: StreamState) -> int:
    """The highest sequence at which the stream still holds the message our journal says was there; 0 if none."""
    compared = 0
    for _, data in store.scan(JOURNAL.name, b"", None, reverse=True):
        cause = decode_value(Record, data).cause
        if cause.stream != name or not state.first_sequence <= cause.sequence <= state.last_sequence:
            continue
        compared += 1
        if compared > _COMPARED_MAX:
            break
        there = await line.message_at(cause.sequence)
        if there is not None and identity(there) == cause.identity:
            return cause.sequence
    return 0


async def rebuild_tables(subsystem: Subsystem, store: Store, head: Head) -> None:
    """New code, old journal: the tables are made anew from it, in one commit with the new version. Raises JournalBroken, EvolveFailed."""
    with base_of(store) as base:
        built = await rebuild(subsystem, store, base)
    head.evolve_version = subsystem.declaration.evolve_version
    writes = WriteSet()
    for table in subsystem.declaration.tables:
        writes.delete_range(table.name, b"", None)
        for key, value in built.scan(table.name, b"", None):
            writes.put(table.name, key, value)
    writes.put(HEAD.name, journal.HEAD_KEY, encode_value(head))
    await store.commit(writes)
