"""The rows of a site: what is in its store, and on top of it what is on the way there.

Elections change rows at the same time, the store takes one commit at a time: what came together is committed together. Rows are seen as
soon as they are put, whole change by whole change and in order, so a commit never holds a later change without an earlier one.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import anyio

from overseer.limits import SiteLimits
from overseer.ports.clock import Clock
from overseer.ports.store import Store
from overseer.tables import Overlay, Rows, Table, Tables, View, WriteSet

__all__ = ["Change", "Ledger"]

V = TypeVar("V")


class _Below:
    """Rows under an overlay, which are those of the store again once that has taken what was between."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.rows.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.scan(table, start, end, reverse=reverse)


class Change(Tables):
    """Rows that one election, or the site itself, wants to write; nobody sees them before `Ledger.put`.

    Values that are read and put by their key are held as they are, and encoded once: an election's counters change with each event
    of a batch.
    """

    def __init__(self, below: Rows) -> None:
        super().__init__(Overlay(below))
        # By table and key; None: there is no such row.
        self._values: dict[tuple[str, tuple[Any, ...]], Any] = {}
        # Those that were put, or deleted, and that the overlay does not have yet.
        self._unwritten: dict[tuple[str, tuple[Any, ...]], Table[Any]] = {}

    @property
    def writes(self) -> Overlay:
        """All of it, as it is written; to be changed before anything else is read or put here."""
        for place, table in self._unwritten.items():
            value = self._values[place]
            self._overlay.put(table.name, table.pack(place[1]), None if value is None else table.dump(value))
        self._unwritten.clear()
        self._values.clear()
        return self._overlay

    def get(self, table: Table[V], key: tuple[Any, ...]) -> V | None:
        place = (table.name, key)
        if place not in self._values:
            data = self._overlay.get(table.name, table.pack(key))
            self._values[place] = None if data is None else table.load(data)
        return self._values[place]

    def has(self, table: Table[Any], key: tuple[Any, ...]) -> bool:
        return self.get(table, key) is not None

    def put(self, table: Table[V], key: tuple[Any, ...], value: V) -> None:
        self._hold(table, key, value)

    def delete(self, table: Table[Any], key: tuple[Any, ...]) -> None:
        self._hold(table, key, None)

    def _hold(self, table: Table[Any], key: tuple[Any, ...], value: object) -> None:
        place = (table.name, key)
        self._values[place] = value
        self._unwritten[place] = table

    # What goes by packed keys, or over many rows, goes past what is held.

    def scratch(self) -> Tables:
        return Tables(Overlay(self.writes))

    def get_packed(self, table: Table[Any], key: bytes) -> bytes | None:
        return self.writes.get(table.name, key)

    def scan_packed(
        self,
        table: Table[Any],
        prefix: tuple[Any, ...] = (),
        *,
        start: tuple[Any, ...] | None = None,
        end: tuple[Any, ...] | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        low, high = table.bounds(prefix, start, end)
        return self.writes.scan(table.name, low, high, reverse=reverse)

    def put_packed(self, table: Table[Any], key: bytes, value: bytes) -> None:
        self.writes.put(table.name, key, value)

    def put_all_packed(self, table: Table[Any], keys: Iterable[bytes], value: bytes) -> None:
        self.writes.put_all(table.name, keys, value)

    def delete_all_packed(self, table: Table[Any], keys: Iterable[bytes]) -> None:
        self.writes.put_all(table.name, keys, None)

    def delete_range(
        self, table: Table[Any], prefix: tuple[Any, ...] = (), *, start: tuple[Any, ...] | None = None, end: tuple[Any, ...] | None = None
    ) -> None:
        low, high = table.bounds(prefix, start, end)
        self.writes.delete_range(table.name, low, high)


class Ledger:
    """Implements `overseer.tables.Rows` over everything that was put. `run` writes; without it nothing becomes durable."""

    def __init__(self, store: Store, clock: Clock, limits: SiteLimits) -> None:
        self.store = store
        self._clock = clock
        self._limits = limits
        self._below = _Below(store)
        self._pending = Overlay(self._below)
        # Changes put so far, and how many of them are durable.
        self._put = 0
        self._durable = 0
        # Since when the store is at the present commit; 0 while it is at none.
        self._writing_ms = 0
        self._wake = anyio.Event()
        self._hurry = anyio.Event()
        self._written = anyio.Event()

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._pending.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Use it up before anything is awaited."""
        return self._pending.scan(table, start, end, reverse=reverse)

    def stuck(self, for_ms: int) -> bool:
        """Whether the store has been at one commit for longer than that: its disk does not get on."""
        return bool(self._writing_ms) and self._clock.now_ms() - self._writing_ms > for_ms

    @property
    def view(self) -> View:
        return View(self)

    def change(self) -> Change:
        return Change(self)

    def put(self, change: Change) -> None:
        """Seen at once, durable some time."""
        self.merge(change.writes)

    def merge(self, writes: WriteSet) -> None:
        """As `put`."""
        self._pending.merge(writes)
        self._put += 1
        self._wake.set()

    async def durable(self) -> None:
        """Return when everything that was put until now is durable."""
        until = self._put
        self._wake.set()
        self._hurry.set()
        while self._durable < until:
            await self._written.wait()

    async def run(self) -> None:
        """Write, for ever. Raises StoreError, after which nothing of this is of any use."""
        while True:
            await self._wake.wait()
            # While nobody waits for it, more may come along.
            with anyio.move_on_after(self._limits.flush_ms / 1000):
                await self._hurry.wait()
            self._wake, self._hurry = anyio.Event(), anyio.Event()
            await self._write()

    async def _write(self) -> None:
        flying, count = self._pending, self._put
        below = _Below(flying)
        self._pending = Overlay(below)
        self._writing_ms = self._clock.now_ms()
        await self.store.commit(flying)
        self._writing_ms = 0
        below.rows = self.store
        self._durable = count
        self._written.set()
        self._written = anyio.Event()
