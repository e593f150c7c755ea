"""Tables: typed, ordered key-value maps over an untyped ordered store, with overlays for what is not yet committed.

A subsystem declares its tables; keys are tuples packed order-preservingly (big-endian integers, fixed-length bytes), so
that a prefix of the tuple is a range of the table. Values are canonical CBOR of a msgspec type, or raw bytes.

    VOTES = Table("votes", key=(U32, HASH, U32), value=VoteRecord)
    tables.put(VOTES, (session, candidate, index), record)
    for (session, candidate, index), record in view.scan(VOTES, prefix=(session, candidate)): ...

`decide` and `answer` get a `View` (read only); `evolve` gets `Tables`. Both read through the overlay stack: what this
message wrote, what the batch before it wrote, what is committed.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from typing import Any, Generic, Protocol, TypeVar, cast

from messages.codec import decode_value, encode_value

__all__ = ["HASH", "TAIL", "TEXT", "U8", "U16", "U32", "U64", "KeyPart", "Overlay", "Rows", "Table", "Tables", "View", "WriteSet", "after"]

V = TypeVar("V")


class KeyPart:
    """One element of a key: how it is packed. `size` is its width in bytes, None for a tail that ends the key."""

    def __init__(self, name: str, size: int | None, kind: type) -> None:
        self.name = name
        self.size = size
        self.kind = kind

    def __repr__(self) -> str:
        return self.name


U8 = KeyPart("u8", 1, int)
U16 = KeyPart("u16", 2, int)
U32 = KeyPart("u32", 4, int)
U64 = KeyPart("u64", 8, int)
# A 32-byte hash or public key.
HASH = KeyPart("hash", 32, bytes)
# Bytes, or text, of any length; only as the last element.
TAIL = KeyPart("tail", None, bytes)
TEXT = KeyPart("text", None, str)

Key = tuple[int | bytes | str, ...]


class Table(Generic[V]):
    """The declaration of a table: name (its column family), key shape and value type.

    `value=bytes` stores the value as it is, without CBOR.
    """

    def __init__(self, name: str, *, key: tuple[KeyPart, ...], value: type[V]) -> None:
        if any(part.size is None for part in key[:-1]):
            raise ValueError(f"table {name}: an unbounded key part must be the last")
        self.name = name
        self.key = key
        self.value = value

    def __repr__(self) -> str:
        return f"Table({self.name})"

    def pack(self, key: tuple[Any, ...]) -> bytes:
        """The stored key of a tuple, or the common prefix of a shorter one. Raises OverflowError, ValueError."""
        out = b""
        for part, item in zip(self.key, key, strict=False):
            if part.kind is int:
                out += cast(int, item).to_bytes(cast(int, part.size), "big")
            else:
                data: bytes = item.encode() if part.kind is str else item
                if part.size is not None and len(data) != part.size:
                    raise ValueError(f"table {self.name}: key part of {len(data)} bytes, expected {part.size}")
                out += data
        return out

    def unpack(self, data: bytes) -> tuple[Any, ...]:
        out: list[Any] = []
        at = 0
        for part in self.key:
            end = len(data) if part.size is None else at + part.size
            piece = data[at:end]
            out.append(int.from_bytes(piece, "big") if part.kind is int else piece.decode() if part.kind is str else piece)
            at = end
        return tuple(out)

    def dump(self, value: V) -> bytes:
        return cast(bytes, value) if self.value is bytes else encode_value(value)

    def load(self, data: bytes) -> V:
        return cast(V, data) if self.value is bytes else decode_value(self.value, data)


def after(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key that starts with `prefix`; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class Rows(Protocol):
    """An ordered map from (table, key) to value, as a store or an overlay offers it. `end` is exclusive."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]: ...


class WriteSet:
    """What one atomic commit changes: ranges deleted first, then rows put (bytes) or deleted (None)."""

    def __init__(self) -> None:
        self.ranges: list[tuple[str, bytes, bytes | None]] = []
        self.rows: dict[str, dict[bytes, bytes | None]] = {}

    def put(self, table: str, key: bytes, value: bytes | None) -> None:
        rows = self.rows.get(table)
        if rows is None:
            rows = self.rows[table] = {}
        rows[key] = value

    def delete_range(self, table: str, start: bytes, end: bytes | None) -> None:
        rows = self.rows.get(table)
        if rows:
            for key in [k for k in rows if k >= start and (end is None or k < end)]:
                del rows[key]
        self.ranges.append((table, start, end))

    def merge(self, other: "WriteSet") -> None:
        """Apply `other` on top of this."""
        for table, start, end in other.ranges:
            self.delete_range(table, start, end)
        for table, rows in other.rows.items():
            mine = self.rows.get(table)
            if mine is None:
                self.rows[table] = dict(rows)
            else:
                mine.update(rows)

    def __bool__(self) -> bool:
        return bool(self.ranges or self.rows)


class Overlay(WriteSet):
    """Uncommitted writes over lower rows; itself rows, so overlays stack."""

    def __init__(self, below: Rows) -> None:
        super().__init__()
        self._below = below

    def _erased(self, table: str, key: bytes) -> bool:
        return any(t == table and key >= start and (end is None or key < end) for t, start, end in self.ranges)

    def get(self, table: str, key: bytes) -> bytes | None:
        rows = self.rows.get(table)
        if rows is not None and key in rows:
            return rows[key]
        if self.ranges and self._erased(table, key):
            return None
        return self._below.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        rows = self.rows.get(table)
        below = self._below.scan(table, start, end, reverse=reverse)
        if self.ranges:
            below = ((k, v) for k, v in below if not self._erased(table, k))
        if not rows:
            return below
        return self._merged(rows, below, start, end, reverse)

    def _merged(
        self,
        rows: Mapping[bytes, bytes | None],
        below: Iterator[tuple[bytes, bytes]],
        start: bytes,
        end: bytes | None,
        reverse: bool,
    ) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted((k for k in rows if k >= start and (end is None or k < end)), reverse=reverse)
        own: Iterable[tuple[bytes, int, bytes | None]] = ((k, 0, rows[k]) for k in keys)
        lower: Iterable[tuple[bytes, int, bytes | None]] = ((k, 1, v) for k, v in below)
        last: bytes | None = None
        # Equal keys: ours (rank 0) first; with reverse the comparison is by key alone, so ours must stay first as well.
        for key, _, value in merge(own, lower, key=lambda row: row[0], reverse=reverse):
            if key == last:
                continue
            last = key
            if value is not None:
                yield key, value


class View:
    """Typed read access to the declared tables."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, table: Table[V], key: tuple[Any, ...]) -> V | None:
        data = self._rows.get(table.name, table.pack(key))
        return None if data is None else table.load(data)

    def has(self, table: Table[Any], key: tuple[Any, ...]) -> bool:
        return self._rows.get(table.name, table.pack(key)) is not None

    def scan(
        self,
        table: Table[V],
        prefix: tuple[Any, ...] = (),
        *,
        start: tuple[Any, ...] | None = None,
        end: tuple[Any, ...] | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[tuple[Any, ...], V]]:
        """Rows under `prefix` in key order (or reversed), from `start` (inclusive) to `end` (exclusive), both optional."""
        for key, data in self.scan_packed(table, prefix, start=start, end=end, reverse=reverse):
            yield table.unpack(key), table.load(data)

    def scan_packed(
        self,
        table: Table[Any],
        prefix: tuple[Any, ...] = (),
        *,
        start: tuple[Any, ...] | None = None,
        end: tuple[Any, ...] | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """As scan, without unpacking: for hot paths over large tables."""
        base = table.pack(prefix)
        low = base if start is None else max(base, table.pack(start))
        high = after(base) if base else None
        if end is not None:
            stop = table.pack(end)
            high = stop if high is None else min(high, stop)
        return self._rows.scan(table.name, low, high, reverse=reverse)


class Tables(View):
    """Typed read and write access: what `evolve` gets."""

    def __init__(self, overlay: Overlay) -> None:
        super().__init__(overlay)
        self._overlay = overlay

    def put(self, table: Table[V], key: tuple[Any, ...], value: V) -> None:
        self._overlay.put(table.name, table.pack(key), table.dump(value))

    def put_packed(self, table: Table[Any], key: bytes, value: bytes) -> None:
        """As put, already packed: for hot paths."""
        self._overlay.put(table.name, key, value)

    def delete(self, table: Table[Any], key: tuple[Any, ...]) -> None:
        self._overlay.put(table.name, table.pack(key), None)

    def delete_range(
        self, table: Table[Any], prefix: tuple[Any, ...] = (), *, start: tuple[Any, ...] | None = None, end: tuple[Any, ...] | None = None
    ) -> None:
        """Delete all rows under `prefix`, from `start` (inclusive) to `end` (exclusive): constant work in the store."""
        base = table.pack(prefix)
        low = base if start is None else max(base, table.pack(start))
        high = after(base) if base else None
        if end is not None:
            stop = table.pack(end)
            high = stop if high is None else min(high, stop)
        self._overlay.delete_range(table.name, low, high)
