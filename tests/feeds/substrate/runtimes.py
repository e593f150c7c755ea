"""A relay chain's runtime, as small as it may be: its metadata (V14) and the SCALE bytes of what it stores, written by hand.

Independent of the library that the feed reads with: `Registry` writes type definitions and encodes values by them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xxhash

from messages.scale import encode_compact, encode_option, encode_vec

PRIMITIVES = ("bool", "char", "str", "u8", "u16", "u32", "u64", "u128")
WIDTHS = {"bool": 1, "u8": 1, "u16": 2, "u32": 4, "u64": 8, "u128": 16}


def scale_text(value: str) -> bytes:
    data = value.encode()
    return encode_compact(len(data)) + data


class Variant(NamedTuple):
    name: str
    index: int
    # (name or "", type id)
    fields: Sequence[tuple[str, int]] = ()


class Registry:
    """Portable types in the order they were added; each is its metadata and an encoder of values."""

    def __init__(self) -> None:
        self._types: list[tuple[str, bytes, Any]] = []
        self._known: dict[str, int] = {}

    def _add(self, path: str, definition: bytes, shape: Any) -> int:
        self._types.append((path, definition, shape))
        return len(self._types) - 1

    def primitive(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = self._add("", b"\x05" + bytes([PRIMITIVES.index(name)]), ("primitive", name))
        return self._known[name]

    def composite(self, path: str, fields: Sequence[tuple[str, int]]) -> int:
        return self._add(path, b"\x00" + self._fields(fields), ("composite", tuple(fields)))

    def variant(self, path: str, variants: Sequence[Variant]) -> int:
        items = [scale_text(v.name) + self._fields(v.fields) + bytes([v.index]) + b"\x00" for v in variants]
        return self._add(path, b"\x01" + encode_vec(items), ("variant", {v.name: v for v in variants}))

    def sequence(self, item: int) -> int:
        return self._add("", b"\x02" + encode_compact(item), ("sequence", item))

    def array(self, length: int, item: int) -> int:
        return self._add("", b"\x03" + length.to_bytes(4, "little") + encode_compact(item), ("array", (length, item)))

    def group(self, items: Sequence[int]) -> int:
        return self._add("", b"\x04" + encode_vec([encode_compact(i) for i in items]), ("tuple", tuple(items)))

    def bits(self, store: int, order: int) -> int:
        return self._add("", b"\x07" + encode_compact(store) + encode_compact(order), ("bits", None))

    @staticmethod
    def _fields(fields: Sequence[tuple[str, int]]) -> bytes:
        return encode_vec([encode_option(scale_text(name) if name else None) + encode_compact(kind) + b"\x00\x00" for name, kind in fields])

    def scale(self) -> bytes:
        """The registry in metadata."""
        return encode_vec(
            [
                encode_compact(i) + encode_vec([scale_text(part) for part in path.split("::") if part]) + b"\x00" + definition + b"\x00"
                for i, (path, definition, _) in enumerate(self._types)
            ]
        )

    def encode(self, kind: int, value: Any) -> bytes:
        """A value of that type. Bytes stand for themselves wherever they are given; enums are (name, *fields) or a name."""
        form, shape = self._types[kind][2]
        if isinstance(value, bytes):
            return value
        match form:
            case "primitive":
                return scale_text(value) if shape == "str" else int(value).to_bytes(WIDTHS[shape], "little")
            case "composite":
                fields: Sequence[Any] = [value] if len(shape) == 1 and not isinstance(value, (Mapping, tuple)) else value  # pyright: ignore
                if isinstance(fields, Mapping):
                    fields = [fields[name] for name, _ in shape]
                return b"".join(self.encode(inner, each) for (_, inner), each in zip(shape, fields, strict=True))
            case "variant":
                name, *given = (value,) if isinstance(value, str) else value
                chosen = shape[name]
                return bytes([chosen.index]) + b"".join(self.encode(k, v) for (_, k), v in zip(chosen.fields, given, strict=True))
            case "sequence":
                return encode_vec([self.encode(shape, each) for each in value])
            case "tuple":
                return b"".join(self.encode(inner, each) for inner, each in zip(shape, value, strict=True))
            case _:
                raise AssertionError(f"give {form} as bytes")


class Entry(NamedTuple):
    """A storage entry: plain (no hashers), or a map."""

    name: str
    value: int
    key: int | None = None
    # 5: Twox64Concat, 6: Identity
    hashers: tuple[int, ...] = ()


class Pallet(NamedTuple):
    name: str
    index: int
    storage: Sequence[Entry] = ()
    calls: int | None = None
    event: int | None = None


def _storage(pallet: Pallet) -> bytes:
    def entry(each: Entry) -> bytes:
        if each.key is None:
            kind = b"\x00" + encode_compact(each.value)
        else:
            kind = b"\x01" + encode_vec([bytes([h]) for h in each.hashers]) + encode_compact(each.key) + encode_compact(each.value)
        return scale_text(each.name) + b"\x00" + kind + b"\x00\x00"

    return encode_option(scale_text(pallet.name) + encode_vec([entry(e) for e in pallet.storage]) if pallet.storage else None)


def metadata(registry: Registry, pallets: Sequence[Pallet], extrinsic: int) -> bytes:
    """Metadata of version 14, as `state_getMetadata` gives it."""
    listed = [
        scale_text(p.name)
        + _storage(p)
        + encode_option(None if p.calls is None else encode_compact(p.calls))
        + encode_option(None if p.event is None else encode_compact(p.event))
        + b"\x00"
        + encode_option(None)
        + bytes([p.index])
        for p in pallets
    ]
    return b"meta\x0e" + registry.scale() + encode_vec(listed) + encode_compact(extrinsic) + b"\x04" + b"\x00" + encode_compact(extrinsic)


def storage_key(pallet: str, entry: str, key: bytes = b"") -> bytes:
    """Of a plain entry, or of a map whose hasher leaves the key as it is."""
    return _twox128(pallet) + _twox128(entry) + key


def _twox128(name: str) -> bytes:
    return b"".join(xxhash.xxh64_intdigest(name.encode(), seed=seed).to_bytes(8, "little") for seed in (0, 1))
