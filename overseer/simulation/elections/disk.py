"""What one site has on its disk: the rows of its elections, and what a loss of power takes of them."""

from collections.abc import Callable
from typing import Any, Protocol, cast

import anyio

from messages.codec import encode_value
from messages.election_pairs import BatchLogged
from messages.message import Message
from overseer.memory.rows import MemoryRows
from overseer.simulation.scenario import CALLER
from overseer.sites.deciding import Decider
from overseer.subsystem import Context
from overseer.tables import HASH, Overlay, Table, Tables, View, WriteSet, after
from subsystems.elections.rows import EVENTS, key_hash, load_event
from subsystems.elections.runtime import rows, steps
from subsystems.elections.runtime.entry import LogEntry, chained
from subsystems.elections.runtime.placement import ACKNOWLEDGEMENTS
from subsystems.elections.subsystem import Elections

__all__ = ["Disk", "RowsDisk", "Snapshot"]

# What one decision may record: small, so that batches are cut short at times.
BATCH_BYTES_MAX = 1_200
# The rows of one election, by table.
Snapshot = dict[str, list[tuple[bytes, bytes]]]


class Disk(Protocol):
    """What the effects of a member are performed on."""

    def copy(self, election: str) -> steps.Copy:
        """As a process that starts finds it."""
        ...

    def store(self, entry: LogEntry) -> None:
        """The effect Store: durable with all that came before."""
        ...

    def apply(self, effect: steps.Apply) -> None:
        """The effect Apply: durable with the next sync."""
        ...

    def install(self, election: str, copy: steps.Copy, snapshot: object | None) -> None:
        """The effect Install: durable."""
        ...

    def snapshot(self, election: str) -> object: ...

    def sound(self, election: str) -> bool:
        """Whether the chain over the stored events ends where the copy says."""
        ...

    def decide(self, election: str, commands: tuple[steps.Command, ...], now_ms: int) -> tuple[steps.Verdict, ...]: ...

    def sync(self) -> None: ...

    def cut_power(self, survive: Callable[[int], int]) -> None:
        """`survive(n)` of the n writes since the last sync are there, the first ones."""
        ...

    def erase(self) -> None: ...


class _Moment:
    """The clock of whoever decides."""

    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms

    async def sleep_until(self, at_ms: int) -> None:
        raise NotImplementedError("nobody sleeps while deciding")

    async def wait(self, event: anyio.Event, until_ms: int) -> None:
        raise NotImplementedError("nobody waits while deciding")


class _NoEntropy:
    """Elections draw nothing."""

    def draw(self, size: int) -> bytes:
        return bytes(size)


class RowsDisk:
    """The real rows, by the real rules of elections, in an ordered map."""

    _elections = Elections()
    _tables: tuple[Table[Any], ...] = tuple(
        {table.name: table for table in (*_elections.declaration.tables, rows.COPIES, rows.PREPARED, rows.COMMANDS, rows.TIMERS)}.values()
    )

    def __init__(self) -> None:
        self.rows = MemoryRows([table.name for table in self._tables])
        # What undoes each write since the last sync.
        self._undo: list[WriteSet] = []
        self._moment = _Moment()
        self._decider = Decider(self._elections, self._moment, _NoEntropy(), bytes_max=BATCH_BYTES_MAX, verify=lambda check: False)

    def view(self) -> View:
        return View(self.rows)

    def copy(self, election: str) -> steps.Copy:
        return rows.load_copy(self.view(), election)

    def store(self, entry: LogEntry) -> None:
        overlay = Overlay(self.rows)
        rows.store_prepared(Tables(overlay), entry)
        self._write(overlay)
        self.sync()

    def apply(self, effect: steps.Apply) -> None:
        overlay = Overlay(self.rows)
        tables = Tables(overlay)
        if isinstance(effect.entry, BatchLogged):
            for record in effect.entry.records:
                for event in record.events:
                    self._elections.evolve(tables, load_event(encode_value([event.message, event.version, event.body])))
        rows.apply_place(tables, effect)
        self._write(overlay)

    def install(self, election: str, copy: steps.Copy, snapshot: object | None) -> None:
        writes = WriteSet()
        for table in self._tables:
            low, high = _bounds(table, election)
            writes.delete_range(table.name, low, high)
        if snapshot is not None:
            for name, found in cast(Snapshot, snapshot).items():
                for key, value in found:
                    writes.put(name, key, value)
        overlay = Overlay(self.rows)
        overlay.merge(writes)
        tables = Tables(overlay)
        if copy != steps.BLANK:
            tables.put(rows.COPIES, (election,), rows.CopyRow(copy.stream, copy.applied, copy.log_sequence, copy.told))
        for prepared in copy.prepared:
            rows.store_prepared(tables, prepared.entry)
        self._write(overlay)
        self.sync()

    def snapshot(self, election: str) -> Snapshot:
        """All rows but the copy's place and what is prepared, which the copy itself tells."""
        kept = [table for table in self._tables if table.name not in (rows.COPIES.name, rows.PREPARED.name)]
        return {table.name: list(self.rows.scan(table.name, *_bounds(table, election))) for table in kept}

    def sound(self, election: str) -> bool:
        copy = self.copy(election)
        events = [data for _, data in self.view().scan(EVENTS, prefix=(key_hash(election),))]
        return (len(events), chained(bytes(32), events)) == (copy.applied.sequence, copy.applied.digest)

    def decide(self, election: str, commands: tuple[steps.Command, ...], now_ms: int) -> tuple[steps.Verdict, ...]:
        self._moment.ms = now_ms
        return self._decider.decide(self.rows, election, commands, copies=1 + ACKNOWLEDGEMENTS)

    def ask(self, query: Message) -> Message:
        """What a reader of the rows is told."""
        return self._elections.answer(self.view(), query, Context(now_ms=0, sender=CALLER, verify=lambda check: False))

    def sync(self) -> None:
        self._undo = []

    def cut_power(self, survive: Callable[[int], int]) -> None:
        kept = survive(len(self._undo))
        for undo in reversed(self._undo[kept:]):
            self.rows.apply(undo)
        self._undo = []

    def erase(self) -> None:
        self.rows = MemoryRows([table.name for table in self._tables])
        self._undo = []

    def _write(self, writes: WriteSet) -> None:
        self._undo.append(self.rows.inverse(writes))
        self.rows.apply(writes)


def _bounds(table: Table[Any], election: str) -> tuple[bytes, bytes | None]:
    """Where the rows of one election are: keyed by its hash first, or by its key alone, or not of one election."""
    first = table.key[0]
    if first is HASH:
        prefix = key_hash(election)
        return prefix, after(prefix)
    if first.kind is str:
        return election.encode(), election.encode() + b"\0"
    return b"", b""
