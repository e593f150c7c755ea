"""Mutants: one guard of the system broken in each, by patching; the simulation's checkers must notice every one.

A mutant is a context manager. What it changes is said in its docstring, with the promise that goes with the guard.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cbor2
import msgspec
from msgspec.structs import replace

from messages.message import Kind, Message, Spec
from overseer.memory.bus.stream import MemoryStream
from overseer.memory.store import MemoryDisk
from overseer.ports.bus import OutcomeUnknown
from overseer.runner import intake as intake_module
from overseer.runner import journal, opening, taking
from overseer.runner.engine import Engine, Told
from overseer.runner.intake import Reader
from overseer.runner.outbox import Outbox
from overseer.runner.runner import Runner
from overseer.runner.schema import HEAD, OUTBOX_NODE, OUTCOMES, WATERMARKS
from overseer.runner.timers import Timers
from overseer.tables import Table

__all__ = ["MUTANTS", "Mutant", "mutant", "patched", "registering"]

Mutant = Callable[[], AbstractContextManager[None]]
MUTANTS: dict[str, Mutant] = {}


@contextmanager
def patched(owner: object, name: str, value: object) -> Iterator[None]:
    """`owner.name` is `value` for a while. It must be there: a guard that was renamed is not broken by a mutant of old."""
    assert hasattr(owner, name), name
    own = name in vars(owner)
    before = vars(owner)[name] if own else None
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def registering(table: dict[str, Mutant]) -> Callable[[Mutant], Mutant]:
    """What puts a mutant into that table, under its name."""

    def mutant(make: Mutant) -> Mutant:
        table[make.__name__] = make
        return make

    return mutant


mutant = registering(MUTANTS)


# ------------------------------------------------------------------------------------------------ commit


@mutant
def skip_the_sync() -> AbstractContextManager[None]:
    """The store reports a commit that it only wrote."""
    return patched(MemoryDisk, "sync", lambda self: None)


@mutant
def answer_before_the_commit() -> AbstractContextManager[None]:
    """Callers are told before the outcome is durable."""
    commit = Runner._commit

    async def early(self: Runner, batch: Any, decide_s: float, taken: int) -> None:
        for told in batch.told:
            self._waiting.tell(told)
        await commit(self, batch, decide_s, taken)

    return patched(Runner, "_commit", early)


@mutant
def publish_before_the_commit() -> AbstractContextManager[None]:
    """The outbox gets what is not committed yet."""
    commit = Runner._commit

    async def early(self: Runner, batch: Any, decide_s: float, taken: int) -> None:
        self._outboxes["node"].offer(batch.node)
        batch.node = []
        await commit(self, batch, decide_s, taken)

    return patched(Runner, "_commit", early)


@mutant
def acknowledge_before_the_commit() -> AbstractContextManager[None]:
    """A message is acknowledged when it is pulled."""
    read = taking.Taker._read

    async def early(self: Any, deliveries: Any) -> None:
        await self._line.ack(deliveries[-1])
        await read(self, deliveries)

    return patched(taking.Taker, "_read", early)


@mutant
def journal_and_tables_in_two_commits() -> AbstractContextManager[None]:
    """The tables of a record are written with the commit after it."""
    finish = Engine.finish
    held: dict[int, dict[str, dict[bytes, bytes | None]]] = {}

    def torn(self: Engine, batch: Any) -> None:
        finish(self, batch)
        late = held.pop(id(self), {})
        own = {table.name for table in self.subsystem.declaration.tables}
        held[id(self)] = {name: dict(rows) for name, rows in batch.writes.rows.items() if name in own}
        for name in own:
            for key in list(batch.writes.rows.get(name, ())):
                del batch.writes.rows[name][key]
        for name, rows in late.items():
            for key, value in rows.items():
                batch.writes.put(name, key, value)

    return patched(Engine, "finish", torn)


@mutant
def position_not_committed() -> AbstractContextManager[None]:
    """The head row (position, journal index) is left out of every other commit."""
    finish = Engine.finish
    count = [0]

    def forgetful(self: Engine, batch: Any) -> None:
        finish(self, batch)
        count[0] += 1
        if count[0] % 2:
            batch.writes.rows[HEAD.name].pop(journal.HEAD_KEY)

    return patched(Engine, "finish", forgetful)


@mutant
def outgoing_bytes_not_stored() -> AbstractContextManager[None]:
    """What is to be told is kept in memory alone."""
    return _never_written(OUTBOX_NODE)


@mutant
def outcomes_not_stored() -> AbstractContextManager[None]:
    """What callers were told is kept in memory alone."""
    return _never_written(OUTCOMES)


def _never_written(table: Table[Any]) -> AbstractContextManager[None]:
    finish = Engine.finish

    def forgetful(self: Engine, batch: Any) -> None:
        finish(self, batch)
        batch.writes.rows.pop(table.name, None)

    return patched(Engine, "finish", forgetful)


@mutant
def broken_hash_chain() -> AbstractContextManager[None]:
    """A record names zeros as the hash of the one before."""
    append = journal.append

    def unchained(overlay: Any, head: Any, **given: Any) -> int:
        head.hash = bytes(32)
        return append(overlay, head, **given)

    return patched(journal, "append", unchained)


# ------------------------------------------------------------------------------------------------ once only


@mutant
def drop_the_watermark() -> AbstractContextManager[None]:
    """Subsystems' messages are taken however often they come."""
    once = Engine._once

    def lax(self: Engine, batch: Any, overlay: Any, given: Any) -> Any:
        fresh = once(self, batch, overlay, given)
        return True if fresh is False and given.id is not None else fresh

    return patched(Engine, "_once", lax)


@mutant
def drop_the_memory_of_outcomes() -> AbstractContextManager[None]:
    """Every repetition of a command is handled anew."""
    return patched(Engine, "_once_by_command_id", lambda self, batch, overlay, given: True)


@mutant
def one_id_for_any_body() -> AbstractContextManager[None]:
    """Another body under a used id gets the outcome of the first."""
    once = Engine._once_by_command_id

    def lax(self: Engine, batch: Any, overlay: Any, given: Any) -> Any:
        fresh = once(self, batch, overlay, given)
        if isinstance(fresh, bool):
            return fresh
        row = cbor2.loads(overlay.get(OUTCOMES.name, given.command_id.encode()))
        batch.told.append(Told(given.command_id, given.delivery.message.sequence, row[2]))
        return False

    return patched(Engine, "_once_by_command_id", lax)


@mutant
def dedupe_by_sender_alone() -> AbstractContextManager[None]:
    """A sender's new incarnation counts on from the old one."""
    once = Engine._once

    def lax(self: Engine, batch: Any, overlay: Any, given: Any) -> Any:
        if given.id is not None:
            given = replace(given, id=replace(given.id, incarnation="0" * 32))
            if not isinstance(given.message, intake_module.IncarnationStarted):
                return once(self, batch, overlay, given)
            overlay.put(WATERMARKS.name, f"{given.id.sender}/{given.id.incarnation}".encode(), cbor2.dumps([given.id.sequence, 0]))
            return True
        return once(self, batch, overlay, given)

    return patched(Engine, "_once", lax)


@mutant
def ignore_the_position() -> AbstractContextManager[None]:
    """A message at or below the position is handled again."""
    handle = Engine.handle

    def lax(self: Engine, batch: Any, stream: str, *given: Any, **more: Any) -> None:
        self.head.positions.pop(stream, None)
        handle(self, batch, stream, *given, **more)

    return patched(Engine, "handle", lax)


@mutant
def ignore_contiguity() -> AbstractContextManager[None]:
    """A torn pull is taken as if it were whole."""
    return patched(taking, "_contiguous", lambda deliveries, expected: deliveries)


# ------------------------------------------------------------------------------------------------ telling


@mutant
@contextmanager
def skip_compare_and_set() -> Iterator[None]:
    """The stream takes every append, and who heard no answer just sends again. (Each of the two guards makes up for the other.)"""
    store = MemoryStream.store

    def lax(self: MemoryStream, messages: Any, *, own_filter: str = "", expected_last: int | None = None) -> int:
        return store(self, messages, own_filter=own_filter)

    async def blind(self: Outbox) -> None:
        return None

    with patched(MemoryStream, "store", lax), patched(Outbox, "_resync", blind):
        yield


@mutant
def unknown_outcome_taken_as_published() -> AbstractContextManager[None]:
    """An append without an answer is not looked after."""
    publish = Outbox._publish_some

    async def trusting(self: Outbox) -> None:
        try:
            await publish(self)
        except OutcomeUnknown:
            self._mark = self._waiting.popleft()[0]

    return patched(Outbox, "_publish_some", trusting)


@mutant
def mark_not_read_at_start() -> AbstractContextManager[None]:
    """At start everything stored goes out again."""
    look = Outbox.open

    async def blind(self: Outbox) -> None:
        await look(self)
        self._mark = (0, 0)
        self._waiting.clear()
        self._load()

    return patched(Outbox, "open", blind)


@mutant
def nothing_loaded_at_start() -> AbstractContextManager[None]:
    """What an earlier run committed but did not tell is forgotten."""
    look = Outbox.open

    async def forgetful(self: Outbox) -> None:
        await look(self)
        self._waiting.clear()

    return patched(Outbox, "open", forgetful)


@mutant
def told_out_of_order() -> AbstractContextManager[None]:
    """The messages of a commit go out last first."""
    offer = Outbox.offer

    def reversing(self: Outbox, messages: Any) -> None:
        offer(self, messages)
        if len(messages) > 1 and not self._more_in_store:
            for _ in messages:
                self._waiting.pop()
            self._waiting.extend(reversed(messages))

    return patched(Outbox, "offer", reversing)


@mutant
def told_twice() -> AbstractContextManager[None]:
    """Every message of a commit is published two times."""
    offer = Outbox.offer

    def doubling(self: Outbox, messages: Any) -> None:
        offer(self, [message for message in messages for _ in range(2)])

    return patched(Outbox, "offer", doubling)


# ------------------------------------------------------------------------------------------------ opening, timers, intake


@mutant
def no_new_incarnation() -> AbstractContextManager[None]:
    """A store that is older than what it published goes on under its old incarnation."""

    async def never(*_: object) -> None:
        return None

    return patched(opening, "_newer_elsewhere", never)


@mutant
def no_repair_of_positions() -> AbstractContextManager[None]:
    """A stream that is not the one we knew is taken for it."""
    settle = opening._settle

    async def lax(engine: Any, store: Any, name: str, line: Any, state: Any, now_ms: int) -> Any:
        position = engine.head.positions.get(name)
        if position is None:
            return await settle(engine, store, name, line, state, now_ms)
        engine.head.positions[name] = replace(position, stream=state.id)
        return None

    return patched(opening, "_settle", lax)


@mutant
def timers_not_restored() -> AbstractContextManager[None]:
    """A process that starts knows no timer that was set before."""
    return patched(Timers, "load", classmethod(lambda cls, rows: cls()))


@mutant
def timers_fire_twice() -> AbstractContextManager[None]:
    """A timer that fired is still set, once more."""
    drop = Timers.drop
    spared: set[tuple[int, str]] = set()

    def sparing(self: Timers, overlay: Any, key: str, *, unless: Sequence[Any] = ()) -> None:
        if (id(self), key) in spared:
            spared.discard((id(self), key))
            drop(self, overlay, key, unless=unless)
        else:
            spared.add((id(self), key))

    return patched(Timers, "drop", sparing)


@mutant
def anybody_may_command() -> AbstractContextManager[None]:
    """Who sends a restricted command is not looked at."""
    return patched(Reader, "_permitted", lambda self, address, spec: None)


@mutant
def any_form_is_read() -> AbstractContextManager[None]:
    """CBOR is taken in every form."""
    decode = intake_module.decode

    def lax(spec: Spec, body: bytes, *, version: int | None = None) -> Message:
        if spec.kind is Kind.COMMAND:
            return msgspec.convert(cbor2.loads(body), spec.body, builtin_types=(bytes,))
        return decode(spec, body) if version is None else decode(spec, body, version=version)

    return patched(intake_module, "decode", lax)


@mutant
def dead_letters_dropped() -> AbstractContextManager[None]:
    """What cannot be read vanishes."""
    return patched(Engine, "_park", lambda self, *given: None)


@mutant
def time_goes_back() -> AbstractContextManager[None]:
    """A decision sees the stream's clock as it is, earlier than before too."""
    handle = Engine.handle

    def lax(self: Engine, *given: Any, **more: Any) -> None:
        before, self.head.last_ms = self.head.last_ms, 0
        handle(self, *given, **more)
        self.head.last_ms = self.head.last_ms or before

    return patched(Engine, "handle", lax)
