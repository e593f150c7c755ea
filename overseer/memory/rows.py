"""An ordered in-memory map of tables: what the memory store and the given/when/then kit stand on."""

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedDict

from overseer.tables import WriteSet

__all__ = ["MemoryRows"]


class MemoryRows:
    """Rows in memory. Unknown tables raise KeyError, as a real store does."""

    def __init__(self, tables: list[str]) -> None:
        self._tables: dict[str, SortedDict[bytes, bytes]] = {name: SortedDict() for name in tables}

    def tables(self) -> list[str]:
        return list(self._tables)

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._tables[table].get(key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        rows = self._tables[table]
        # A snapshot of the keys: the caller may write while iterating.
        for key in list(islice(rows.irange(start, end, inclusive=(True, False), reverse=reverse), None)):
            value = rows.get(key)
            if value is not None:
                yield key, value

    def apply(self, writes: WriteSet) -> None:
        for table, start, end in writes.ranges:
            rows = self._tables[table]
            for key in list(rows.irange(start, end, inclusive=(True, False))):
                del rows[key]
        for table, changed in writes.rows.items():
            rows = self._tables[table]
            for key, value in changed.items():
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value

    def copy(self) -> "MemoryRows":
        """An independent copy as of now."""
        other = MemoryRows([])
        other._tables = {name: SortedDict(rows) for name, rows in self._tables.items()}
        return other
