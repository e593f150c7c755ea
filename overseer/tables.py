"""Tables: typed, ordered key-value maps over an untyped ordered store, with overlays for what is not yet committed.

A subsystem declares its tables; keys are tuples packed order-preservingly (big-endian integers, fixed-length bytes), so
that a prefix of the tuple is a range of the table. Values are canonical CBOR of a msgspec type, or raw bytes.

    VOTES = Table("votes", key=(U32, HASH, U32), value=VoteRecord)
    tables.put(VOTES, (session, candidate, index), record)
    for (session, candidate, index), record in view.scan(VOTES, prefix=(session, candidate)): ...

`decide` and `answer` get a `View` (read only); `evolve` gets `Tables`. Both read through the overlay stack: what this
message wrote, what the batch before it wrote, what is committed.
"""

import struct
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Generic, Protocol, TypeVar, cast

from msgspec import inspect

from messages.codec import decode_value, encode_value

__all__ = [
    "HASH",
    "TAIL",
    "TEXT",
    "U8",
    "U16",
    "U32",
    "U64",
    "KeyPart",
    "Overlay",
    "Remembered",
    "Rows",
    "Table",
    "Tables",
    "View",
    "WriteSet",
    "after",
]

V = TypeVar("V")


class KeyPart:
    """One element of a key: how it is packed. `size` is its width in bytes, None for a tail that ends the key."""

    def __init__(self, name: str, size: int | None, kind: type) -> None:
        if kind is str and size is not None:
            raise ValueError(f"key part {name}: text has no fixed width")
        if kind is int and size not in _INTEGER_CODES:
            raise ValueError(f"key part {name}: integers are 1, 2, 4 or 8 bytes wide")
        self.name = name
        self.size = size
        self.kind = kind

    @property
    def code(self) -> str:
        """Its struct format; "" for a tail."""
        return "" if self.size is None else _INTEGER_CODES[self.size] if self.kind is int else f"{self.size}s"

    def __repr__(self) -> str:
        return self.name


_INTEGER_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

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

    `value=bytes` stores the value as it is, without CBOR. `reads` tells what such a packed value says, for people (`overseer diff`).
    """

    def __init__(self, name: str, *, key: tuple[KeyPart, ...], value: type[V], reads: Callable[[bytes], object] | None = None) -> None:
        if any(part.size is None for part in key[:-1]):
            raise ValueError(f"table {name}: an unbounded key part must be the last")
        self.name = name
        self.key = key
        self.value = value
        self.reads = reads
        fixed = [part for part in key if part.size is not None]
        # One packer for each length of a prefix; the tail, if any, is appended.
        self._packers = [struct.Struct(">" + "".join(part.code for part in fixed[:n])) for n in range(len(fixed) + 1)]
        # struct pads and cuts byte strings silently, so their lengths are checked first.
        self._sized = [(at, part.size) for at, part in enumerate(fixed) if part.kind is bytes]
        self._tail = key[-1] if len(fixed) < len(key) else None
        # What cannot change is decoded once, however often it is asked for.
        is_fixed = _is_fixed(inspect.type_info(value))
        self._again = lru_cache(_DECODED_MAX)(self._decode) if is_fixed else self._decode
        self._again_large = lru_cache(_LARGE_DECODED_MAX)(self._decode) if is_fixed else self._decode

    def __repr__(self) -> str:
        return f"Table({self.name})"

    def pack(self, key: tuple[Any, ...]) -> bytes:
        """The stored key of a tuple, or the common prefix of a shorter one.

        Raises ValueError (a byte string of another length, too many elements), OverflowError (an integer too big).
        """
        count = len(key)
        for at, size in self._sized:
            if at < count and len(key[at]) != size:
                raise ValueError(f"table {self.name}: key part {at} has {len(key[at])} bytes, expected {size}")
        fixed = len(self._packers) - 1
        try:
            if count <= fixed:
                return self._packers[count].pack(*key)
            if self._tail is None or count > fixed + 1:
                raise ValueError(f"table {self.name}: {count} key parts, it has {len(self.key)}")
            tail = key[-1].encode() if self._tail.kind is str else key[-1]
            return self._packers[fixed].pack(*key[:-1]) + tail
        except struct.error as error:
            raise OverflowError(f"table {self.name}: {error}") from None

    def unpack(self, data: bytes) -> tuple[Any, ...]:
        """The tuple of a whole stored key."""
        packer = self._packers[-1]
        if self._tail is None:
            return packer.unpack(data)
        tail = data[packer.size :]
        return (*packer.unpack_from(data), tail.decode() if self._tail.kind is str else tail)

    def bounds(self, prefix: tuple[Any, ...], start: tuple[Any, ...] | None, end: tuple[Any, ...] | None) -> tuple[bytes, bytes | None]:
        """The stored keys [low, high) under `prefix`, from `start` (inclusive) to `end` (exclusive), both whole tuples."""
        low = self.pack(prefix)
        high = after(low)
        if start is not None:
            low = max(low, self.pack(start))
        if end is not None:
            stop = self.pack(end)
            high = stop if high is None else min(high, stop)
        return low, high

    def dump(self, value: V) -> bytes:
        return cast(bytes, value) if self.value is bytes else encode_value(value)

    def load(self, data: bytes) -> V:
        if self.value is bytes:
            return cast(V, data)
        if len(data) <= _DECODED_BYTES_MAX:
            return self._again(data)
        return self._again_large(data) if len(data) <= _LARGE_DECODED_BYTES_MAX else self._decode(data)

    def _decode(self, data: bytes) -> V:
        return decode_value(self.value, data)


# Decoded rows that are kept of each table, and the largest of them: they bound the memory.
_DECODED_MAX = 1_024
_DECODED_BYTES_MAX = 256
# Of larger ones a few: a decision asks for the same again and again.
_LARGE_DECODED_MAX = 16
_LARGE_DECODED_BYTES_MAX = 32 * 1024


def _is_fixed(kind: inspect.Type) -> bool:
    """Whether a value of this type never changes, nor anything in it."""
    match kind:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            return _is_fixed(inner)
        case inspect.UnionType(types=members):
            return all(map(_is_fixed, members))
        case inspect.TupleType(item_types=items):
            return all(map(_is_fixed, items))
        case inspect.StructType(cls=cls, fields=fields):
            return cls.__struct_config__.frozen and all(_is_fixed(field.type) for field in fields)
        case _:
            return isinstance(kind, _FIXED)


_FIXED = (inspect.IntType, inspect.StrType, inspect.BytesType, inspect.BoolType, inspect.NoneType, inspect.EnumType)


def after(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key that starts with `prefix`; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class Rows(Protocol):
    """An ordered map from (table, key) to value, as a store or an overlay offers it.

    A scan goes over the rows as they are when it is called, whatever is written meanwhile. `end` is exclusive, None is
    the end of the table.
    """

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]: ...


class Remembered:
    """Rows that do not change as long as this is used, each looked up once: a batch asks for the same few again and again."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._found: dict[tuple[str, bytes], bytes | None] = {}

    def get(self, table: str, key: bytes) -> bytes | None:
        place = (table, key)
        if place in self._found:
            return self._found[place]
        data = self._rows.get(table, key)
        if len(self._found) < _REMEMBERED_MAX and (data is None or len(data) <= _REMEMBERED_BYTES_MAX):
            self._found[place] = data
        return data

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._rows.scan(table, start, end, reverse=reverse)


# A few rows for each message of a batch, none of them large: they bound the memory.
_REMEMBERED_MAX = 4_096
_REMEMBERED_BYTES_MAX = 1_024


class _Ranges:
    """Disjoint, sorted ranges of one table: a lookup costs a bisection, however many were erased."""

    def __init__(self) -> None:
        self.starts: list[bytes] = []
        # Exclusive; None, the end of the table, can only be the last.
        self.ends: list[bytes | None] = []

    def add(self, start: bytes, end: bytes | None) -> None:
        """Erase [start, end), joining what it touches."""
        first = bisect_left(self.starts, start)
        if first and (self.ends[first - 1] is None or cast(bytes, self.ends[first - 1]) >= start):
            first -= 1
            start = self.starts[first]
        last = len(self.starts) if end is None else bisect_right(self.starts, end)
        if last > first:
            before = self.ends[last - 1]
            end = None if before is None or end is None else max(end, before)
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]

    def __contains__(self, key: bytes) -> bool:
        at = bisect_right(self.starts, key) - 1
        if at < 0:
            return False
        end = self.ends[at]
        return end is None or key < end

    def gaps(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes | None]]:
        """What of [start, end) is not erased, in order."""
        out: list[tuple[bytes, bytes | None]] = []
        at = max(bisect_right(self.starts, start) - 1, 0)
        low: bytes | None = start
        for erased_from, erased_to in zip(self.starts[at:], self.ends[at:], strict=True):
            if end is not None and erased_from >= end:
                break
            if erased_from > low:
                out.append((low, erased_from))
            if erased_to is None:
                return out
            low = max(low, erased_to)
        if end is None or low < end:
            out.append((low, end))
        return out


class WriteSet:
    """What one atomic commit changes: ranges deleted first, then rows put (bytes) or deleted (None).

    `rows` is read by stores and changed only through the methods.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes | None]] = {}
        self._erased: dict[str, _Ranges] = {}
        # Sorted keys of `rows`, brought up to date by `_own`: puts stay as cheap as a dict.
        self._keys: dict[str, list[bytes]] = {}

    @property
    def ranges(self) -> list[tuple[str, bytes, bytes | None]]:
        """The ranges deleted: (table, start, end), disjoint and in key order within a table."""
        return [
            (table, start, end) for table, erased in self._erased.items() for start, end in zip(erased.starts, erased.ends, strict=True)
        ]

    def put(self, table: str, key: bytes, value: bytes | None) -> None:
        rows = self.rows.get(table)
        if rows is None:
            rows = self.rows[table] = {}
        rows[key] = value

    def put_all(self, table: str, keys: Iterable[bytes], value: bytes | None) -> None:
        """The same value for many keys, at the speed of a dict."""
        self.rows.setdefault(table, {}).update(dict.fromkeys(keys, value))

    def delete_range(self, table: str, start: bytes, end: bytes | None) -> None:
        if end is not None and end <= start:
            return
        rows = self.rows.get(table)
        if rows:
            low, high = self._own(table, rows, start, end)
            keys = self._keys[table]
            for key in keys[low:high]:
                del rows[key]
            del keys[low:high]
        erased = self._erased.get(table)
        if erased is None:
            erased = self._erased[table] = _Ranges()
        erased.add(start, end)

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

    def _own(self, table: str, rows: dict[bytes, bytes | None], start: bytes, end: bytes | None) -> tuple[int, int]:
        """Where the keys of `rows` within [start, end) are in `_keys`, which is brought up to date."""
        keys = self._keys.get(table)
        if keys is None:
            keys = self._keys[table] = sorted(rows)
        fresh = len(rows) - len(keys)
        if fresh:
            # A dict keeps the order of insertion, so new keys are at its end.
            new = islice(reversed(rows), fresh)
            if fresh <= _INSORT_MAX:
                for key in new:
                    insort(keys, key)
            else:
                keys.extend(new)
                keys.sort()
        return bisect_left(keys, start), len(keys) if end is None else bisect_left(keys, end)

    def __bool__(self) -> bool:
        return bool(self._erased) or any(self.rows.values())


# From here on one sort of an almost sorted list beats single insertions.
_INSORT_MAX = 16


class Overlay(WriteSet):
    """Uncommitted writes over lower rows; itself rows, so overlays stack.

    What is below must not change while a scan of the overlay is in use.
    """

    def __init__(self, below: Rows) -> None:
        super().__init__()
        self._below = below

    def get(self, table: str, key: bytes) -> bytes | None:
        rows = self.rows.get(table)
        if rows is not None and key in rows:
            return rows[key]
        if self._erased:
            erased = self._erased.get(table)
            if erased is not None and key in erased:
                return None
        return self._below.get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if end is not None and end <= start:
            return iter(())
        erased = self._erased.get(table)
        below = self._below.scan(table, start, end, reverse=reverse) if erased is None else self._kept(table, erased, start, end, reverse)
        rows = self.rows.get(table)
        if not rows:
            return below
        low, high = self._own(table, rows, start, end)
        if low == high:
            return below
        keys = self._keys[table][low:high]
        if reverse:
            keys.reverse()
        # The values are taken now: a scan does not see what the loop over it writes.
        return _merged([(key, rows[key]) for key in keys], below, reverse)

    def _kept(self, table: str, erased: _Ranges, start: bytes, end: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        """The lower rows that no range erases: erased ones are skipped, not read."""
        gaps = erased.gaps(start, end)
        if reverse:
            gaps.reverse()
        return chain.from_iterable(self._below.scan(table, low, high, reverse=reverse) for low, high in gaps)


def _merged(own: list[tuple[bytes, bytes | None]], below: Iterator[tuple[bytes, bytes]], reverse: bool) -> Iterator[tuple[bytes, bytes]]:
    """Both in key order (or reversed); `own` hides equal keys of `below`, and None hides itself too."""
    lower = next(below, None)
    for key, value in own:
        while lower is not None and (lower[0] > key if reverse else lower[0] < key):
            yield lower
            lower = next(below, None)
        if lower is not None and lower[0] == key:
            lower = next(below, None)
        if value is not None:
            yield key, value
    if lower is not None:
        yield lower
        yield from below


class View:
    """Typed read access to the declared tables."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, table: Table[V], key: tuple[Any, ...]) -> V | None:
        data = self._rows.get(table.name, table.pack(key))
        return None if data is None else table.load(data)

    def get_packed(self, table: Table[Any], key: bytes) -> bytes | None:
        """As get, without packing and loading: for hot paths."""
        return self._rows.get(table.name, key)

    def has(self, table: Table[Any], key: tuple[Any, ...]) -> bool:
        return self._rows.get(table.name, table.pack(key)) is not None

    def scratch(self) -> "Tables":
        """Writable tables over this view whose writes go nowhere: a decision tries its events on them."""
        return Tables(Overlay(self._rows))

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
        low, high = table.bounds(prefix, start, end)
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

    def put_all_packed(self, table: Table[Any], keys: Iterable[bytes], value: bytes) -> None:
        """As put_packed, one value for many keys: for hot paths."""
        self._overlay.put_all(table.name, keys, value)

    def delete_all_packed(self, table: Table[Any], keys: Iterable[bytes]) -> None:
        """As delete, for many packed keys: for hot paths."""
        self._overlay.put_all(table.name, keys, None)

    def delete(self, table: Table[Any], key: tuple[Any, ...]) -> None:
        self._overlay.put(table.name, table.pack(key), None)

    def delete_range(
        self, table: Table[Any], prefix: tuple[Any, ...] = (), *, start: tuple[Any, ...] | None = None, end: tuple[Any, ...] | None = None
    ) -> None:
        """Delete all rows under `prefix`, from `start` (inclusive) to `end` (exclusive): constant work in the store."""
        low, high = table.bounds(prefix, start, end)
        self._overlay.delete_range(table.name, low, high)
