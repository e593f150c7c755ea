"""What differs between two states of a subsystem: rows added, removed and changed, in the words of its tables."""

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from messages.text import plain
from overseer.runner import journal
from overseer.tables import Rows, Table

__all__ = ["Change", "Kind", "TableDifference", "changed_fields", "changes", "differences", "plain_key", "plain_value", "recorded_between"]


class Kind(enum.StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Change(msgspec.Struct, frozen=True):
    """One row that differs, as stored. `before` is None where it was added, `after` where it was removed."""

    key: bytes
    before: bytes | None
    after: bytes | None

    @property
    def kind(self) -> Kind:
        if self.before is None:
            return Kind.ADDED
        return Kind.REMOVED if self.after is None else Kind.CHANGED


class TableDifference(msgspec.Struct):
    """One table's. `rows`: the first of them in key order, as many as were asked for; the numbers are of all."""

    table: Table[Any]
    added: int = 0
    removed: int = 0
    changed: int = 0
    rows: list[Change] = []

    @property
    def count(self) -> int:
        return self.added + self.removed + self.changed


def changes(table: str, before: Rows, after: Rows) -> Iterator[Change]:
    """All rows of `table` that differ, in key order: one pass over both, a row of each in memory."""
    old, new = before.scan(table, b"", None), after.scan(table, b"", None)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield Change(left[0], left[1], None)
            left = next(old, None)
        elif left is None or right[0] < left[0]:
            yield Change(right[0], None, right[1])
            right = next(new, None)
        else:
            if left[1] != right[1]:
                yield Change(left[0], left[1], right[1])
            left, right = next(old, None), next(new, None)


def differences(tables: Sequence[Table[Any]], before: Rows, after: Rows, *, limit: int) -> list[TableDifference]:
    """Of every table that differs, in the order of the declaration, at most `limit` rows."""
    found: list[TableDifference] = []
    for table in tables:
        difference = TableDifference(table, rows=[])
        for change in changes(table.name, before, after):
            match change.kind:
                case Kind.ADDED:
                    difference.added += 1
                case Kind.REMOVED:
                    difference.removed += 1
                case Kind.CHANGED:
                    difference.changed += 1
            if len(difference.rows) < limit:
                difference.rows.append(change)
        if difference.count:
            found.append(difference)
    return found


def recorded_between(rows: Rows, after: int, until: int) -> dict[str, int]:
    """How often each event was recorded behind record `after`, up to record `until`. Raises JournalBroken."""
    counted: Counter[str] = Counter()
    for record, _ in journal.records(rows, after=after, until=until):
        counted.update(row.key.rpartition(".")[2] for row in record.events)
    return dict(counted)


# ------------------------------------------------------------------------------------------------ in words


def plain_key(table: Table[Any], key: bytes) -> Any:
    """The parts of a stored key as JSON data, bytes as 0x-hex; the bytes themselves where they are none of this table."""
    try:
        return plain(list(table.unpack(key)))
    except Exception:
        return plain(key)


def plain_value(table: Table[Any], data: bytes) -> Any:
    """A stored value as JSON data: structs with the names of their fields, bytes as 0x-hex; what cannot be read, as its bytes."""
    try:
        return _named(table.load(data) if table.reads is None else table.reads(data))
    except Exception:
        return plain(data)


def changed_fields(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """Where two values of a table differ: the field (of fields in it: with dots; "" for the value as a whole), before and after."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [("", before, after)]
    old, new = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
    found: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*old, *new]):
        inner = changed_fields(old.get(name), new.get(name))
        found += [(f"{name}.{path}" if path else name, was, now) for path, was, now in inner]
    return found


@runtime_checkable
class _Fields(Protocol):
    """A named tuple."""

    def _asdict(self) -> dict[str, Any]: ...


def _named(value: object) -> Any:
    """As JSON data, with the names of fields: rows are stored as arrays."""
    match value:
        case msgspec.Struct():
            return {name: _named(getattr(value, name)) for name in value.__struct_fields__}
        case bytes():
            return plain(value)
        case enum.Enum():
            return value.value
        case Mapping():
            return {_key_text(key): _named(each) for key, each in cast("Mapping[Any, Any]", value).items()}
        case _Fields():
            # Public, whatever its name says.
            return _named(value._asdict())  # pyright: ignore[reportPrivateUsage]
        case list() | tuple() | set() | frozenset():
            return [_named(each) for each in cast("Sequence[Any]", value)]
        case _:
            return value


def _key_text(key: object) -> str:
    shown = _named(key)
    return shown if isinstance(shown, str) else str(shown)
