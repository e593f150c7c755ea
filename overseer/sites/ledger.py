"""The rows of a site: what is in its store, and on top of it what is on the way there.

Elections change rows at the same time, the store takes one commit at a time: what came together is committed together. Rows are seen as
soon as they are put, whole change by whole change and in order, so a commit never holds a later change without an earlier one.
"""

from collections.abc import Iterator

import anyio

from overseer.limits import SiteLimits
from overseer.ports.clock import Clock
from overseer.ports.store import Store
from overseer.tables import Overlay, Rows, Tables, View, WriteSet

__all__ = ["Change", "Ledger"]


class _Below:
    """Rows under an overlay, which are those of the store again once that has taken what was between."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.rows.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.scan(table, start, end, reverse=reverse)


class Change(Tables):
    """Rows that one election, or the site itself, wants to write; nobody sees them before `Ledger.put`."""

    def __init__(self, below: Rows) -> None:
        self.writes = Overlay(below)
        super().__init__(self.writes)


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
        self._awaited = False
        # Since when the store is at the present commit; 0 while it is at none.
        self._writing_ms = 0
        self._wake = anyio.Event()
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
        self._awaited = True
        self._wake.set()
        while self._durable < until:
            await self._written.wait()

    async def run(self) -> None:
        """Write, for ever. Raises StoreError, after which nothing of this is of any use."""
        while True:
            await self._wake.wait()
            if not self._awaited:
                await self._unless_awaited()
            self._wake, self._awaited = anyio.Event(), False
            await self._write()

    async def _unless_awaited(self) -> None:
        """Nobody waits: more may come along."""
        at_ms = self._clock.now_ms() + self._limits.flush_ms

        async def look() -> None:
            while not self._awaited:
                self._wake = anyio.Event()
                await self._wake.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await self._clock.sleep_until(at_ms)
            tasks.cancel_scope.cancel()

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
