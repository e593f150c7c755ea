"""An ordered in-memory map of tables: what the memory store and the given/when/then kit stand on."""

from collections.abc import Iterable, Iterator, Sequence
from weakref import WeakSet

from sortedcontainers import SortedDict

from overseer.tables import WriteSet

__all__ = ["MemoryRows"]


class MemoryRows:
    """Rows in memory. Unknown tables raise KeyError, as a real store does."""

    def __init__(self, tables: Sequence[str]) -> None:
        self._tables: dict[str, SortedDict[bytes, bytes]] = {name: SortedDict() for name in tables}
        self._scans: dict[str, WeakSet[Iterator[tuple[bytes, bytes]]]] = {name: WeakSet() for name in tables}

    def tables(self) -> list[str]:
        return list(self._tables)

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._tables[table].get(key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Rows as they are now, in key order, lazily; writing goes on meanwhile."""
        rows = self._tables[table]
        if end is not None and end <= start:
            return iter(())
        scan = _scan(rows, start, end, reverse)
        self._scans[table].add(scan)
        return scan

    def apply(self, writes: WriteSet) -> None:
        for table, start, end in writes.ranges:
            rows = self._written(table)
            for key in list(rows.irange(start, end, inclusive=(True, False))):
                del rows[key]
        for table, changed in writes.rows.items():
            rows = self._written(table)
            for key, value in changed.items():
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value

    def inverse(self, writes: WriteSet) -> WriteSet:
        """What undoes `writes`, when applied right after them. Must be asked before."""
        undo = WriteSet()
        for table, start, end in writes.ranges:
            rows = self._tables[table]
            for key in rows.irange(start, end, inclusive=(True, False)):
                undo.put(table, key, rows[key])
        for table, changed in writes.rows.items():
            rows = self._tables[table]
            for key in changed:
                undo.put(table, key, rows.get(key))
        return undo

    def load(self, table: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Put many rows at once."""
        self._tables[table].update(rows)

    def all(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """Every row of every table, in order: to be compared."""
        return {name: list(self.scan(name, b"", None)) for name in self.tables()}

    def copy(self) -> "MemoryRows":
        """An independent copy as of now."""
        other = MemoryRows(list(self._tables))
        for name, rows in self._tables.items():
            other._tables[name] = SortedDict(rows)
        return other

    def add_tables(self, names: Sequence[str]) -> None:
        """Create what is missing, empty."""
        for name in names:
            if name not in self._tables:
                self._tables[name] = SortedDict()
                self._scans[name] = WeakSet()

    def _written(self, table: str) -> "SortedDict[bytes, bytes]":
        """The table, safe to change: scans still in use keep the old rows."""
        if self._scans[table]:
            self._tables[table] = SortedDict(self._tables[table])
            self._scans[table] = WeakSet()
        return self._tables[table]


def _scan(rows: "SortedDict[bytes, bytes]", start: bytes, end: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
    for key in rows.irange(start, end, inclusive=(True, False), reverse=reverse):
        yield key, rows[key]
