"""Timers: rows in the store, a heap in memory."""

import heapq
from collections.abc import Sequence

from messages.codec import decode_value, encode, encode_value
from messages.message import Message
from overseer.runner.errors import BadDeclaration
from overseer.runner.schema import TIMERS, TimerRow
from overseer.subsystem import CancelTimer, SetTimer
from overseer.tables import Overlay, Rows

__all__ = ["Timers"]

# Entries of timers that are no more, beyond as many as are set: rebuilding the heap costs little if it is rare.
_STALE_KEPT = 64


class Timers:
    """All timers that are set, by key; the earliest first."""

    def __init__(self, rows: Sequence[TimerRow] = ()) -> None:
        self._rows = {row.key: row for row in rows}
        self._heap = [(row.at_ms or 0, row.key) for row in rows]
        heapq.heapify(self._heap)

    @classmethod
    def load(cls, rows: Rows) -> "Timers":
        return cls([decode_value(TimerRow, data) for _, data in rows.scan(TIMERS.name, b"", None)])

    def __len__(self) -> int:
        return len(self._rows)

    def next(self) -> TimerRow | None:
        """The timer that is due first, still set."""
        while self._heap:
            at_ms, key = self._heap[0]
            row = self._rows.get(key)
            if row is not None and row.at_ms == at_ms:
                return row
            heapq.heappop(self._heap)
        return None

    def change(self, overlay: Overlay, change: SetTimer | CancelTimer, allowed: frozenset[type[Message]]) -> TimerRow:
        """Apply a decision's change; returns it as the journal records it."""
        if isinstance(change, CancelTimer):
            self.drop(overlay, change.key)
            return TimerRow(change.key, None, "", b"")
        if type(change.message) not in allowed:
            raise BadDeclaration(change.message.spec.owner, f"{change.message.spec.key} is not a declared timer")
        row = TimerRow(change.key, change.at_ms, change.message.spec.key, encode(change.message))
        self._rows[row.key] = row
        heapq.heappush(self._heap, (change.at_ms, row.key))
        self._tidy()
        overlay.put(TIMERS.name, TIMERS.pack((row.key,)), encode_value(row))
        return row

    def _tidy(self) -> None:
        """Timers cancelled or set anew long before they are due must not pile up in the heap."""
        if len(self._heap) > 2 * len(self._rows) + _STALE_KEPT:
            self._heap = [(row.at_ms or 0, row.key) for row in self._rows.values()]
            heapq.heapify(self._heap)

    def drop(self, overlay: Overlay, key: str, *, unless: Sequence[TimerRow] = ()) -> None:
        """Forget a timer (it fired or was cancelled), unless it was set anew meanwhile."""
        if any(row.key == key and row.at_ms is not None for row in unless):
            return
        self._rows.pop(key, None)
        overlay.put(TIMERS.name, TIMERS.pack((key,)), None)
