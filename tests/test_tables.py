"""Tables, keys and overlays, against plain dictionaries."""

from collections.abc import Sequence
from itertools import islice, pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.codec import CodecError
from overseer.memory.rows import MemoryRows
from overseer.tables import HASH, TAIL, TEXT, U8, U16, U32, U64, KeyPart, Overlay, Remembered, Rows, Table, Tables, View, WriteSet, after

Model = dict[bytes, bytes]
Change = tuple[str, bytes, bytes | None]

# Few distinct bytes, so that keys collide and prefixes of 0xff are frequent.
KEYS = st.lists(st.sampled_from([0, 1, 2, 0xFE, 0xFF]), max_size=3).map(bytes)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("put_all"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("range"), KEYS, st.none() | KEYS),
        st.tuples(st.just("scan"), KEYS, st.none() | KEYS),
    ),
    max_size=12,
)
LAYERS = st.lists(CHANGES, min_size=1, max_size=4)


def within(key: bytes, start: bytes, end: bytes | None) -> bool:
    return key >= start and (end is None or key < end)


def apply(writes: WriteSet, model: Model, changes: Sequence[Change]) -> Model:
    """The changes, on both; `scan` makes an overlay sort its keys in between."""
    model = dict(model)
    for kind, key, value in changes:
        if kind == "range":
            writes.delete_range("t", key, value)
            model = {k: v for k, v in model.items() if not within(k, key, value)}
        elif kind == "put_all":
            keys = [key + bytes([n]) for n in range(20)]
            writes.put_all("t", keys, value or b"")
            model.update(dict.fromkeys(keys, value or b""))
        elif kind == "scan":
            if isinstance(writes, Overlay):
                assert list(writes.scan("t", key, value)) == rows_of(model, key, value)
        else:
            writes.put("t", key, value)
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
    return model


def rows_of(model: Model, start: bytes = b"", end: bytes | None = None) -> list[tuple[bytes, bytes]]:
    return [(k, v) for k, v in sorted(model.items()) if within(k, start, end)]


def stacked(layers: Sequence[Sequence[Change]]) -> tuple[MemoryRows, list[Overlay], list[Model]]:
    """Rows, overlays over them, and what a plain dictionary holds from each layer on."""
    rows = MemoryRows(["t"])
    base = WriteSet()
    models = [apply(base, {}, layers[0])]
    rows.apply(base)
    overlays: list[Overlay] = []
    below: Rows = rows
    for changes in layers[1:]:
        overlays.append(Overlay(below))
        models.append(apply(overlays[-1], models[-1], changes))
        below = overlays[-1]
    return rows, overlays, models


@given(layers=LAYERS, start=KEYS, end=st.none() | KEYS)
def test_a_stack_of_overlays_reads_as_a_plain_dictionary(layers: list[list[Change]], start: bytes, end: bytes | None) -> None:
    rows, overlays, models = stacked(layers)
    top: Rows = overlays[-1] if overlays else rows
    expected = rows_of(models[-1], start, end)
    assert list(top.scan("t", start, end)) == expected
    assert list(top.scan("t", start, end, reverse=True)) == expected[::-1]
    for key in {key for layer in layers for _, key, _ in layer}:
        assert top.get("t", key) == models[-1].get(key)


@given(layers=LAYERS)
def test_merging_overlays_down_and_applying_them_changes_nothing_one_reads(layers: list[list[Change]]) -> None:
    rows, overlays, models = stacked(layers)
    while len(overlays) > 1:
        upper = overlays.pop()
        overlays[-1].merge(upper)
        assert list(overlays[-1].scan("t", b"", None)) == rows_of(models[-1])
    if overlays:
        rows.apply(overlays[0])
    assert list(rows.scan("t", b"", None)) == rows_of(models[-1])


@given(layers=LAYERS)
def test_the_inverse_of_writes_undoes_them(layers: list[list[Change]]) -> None:
    rows = MemoryRows(["t"])
    model: Model = {}
    for changes in layers:
        writes = WriteSet()
        apply(writes, model, changes)
        undo = rows.inverse(writes)
        before = list(rows.scan("t", b"", None))
        rows.apply(writes)
        model = dict(rows.scan("t", b"", None))
        rows.apply(undo)
        assert list(rows.scan("t", b"", None)) == before
        rows.apply(writes)


@given(layers=LAYERS, during=CHANGES, taken=st.integers(0, 3), reverse=st.booleans())
def test_a_scan_does_not_see_what_is_written_while_it_runs(
    layers: list[list[Change]], during: list[Change], taken: int, reverse: bool
) -> None:
    _, overlays, models = stacked([*layers, []])
    expected = rows_of(models[-1])[:: -1 if reverse else 1]
    scan = overlays[-1].scan("t", b"", None, reverse=reverse)
    seen = list(islice(scan, taken))
    apply(overlays[-1], models[-1], [change for change in during if change[0] != "scan"])
    assert seen + list(scan) == expected


@given(ranges=st.lists(st.tuples(KEYS, st.none() | KEYS), max_size=8), key=KEYS)
def test_erased_ranges_are_kept_disjoint_and_sorted(ranges: list[tuple[bytes, bytes | None]], key: bytes) -> None:
    writes = WriteSet()
    for start, end in ranges:
        writes.delete_range("t", start, end)
    kept = [(start, end) for _, start, end in writes.ranges]
    assert any(within(key, start, end) for start, end in kept) == any(within(key, start, end) for start, end in ranges)
    for (_, end), (start, _) in pairwise(kept):
        assert end is not None
        assert end < start
    assert bool(writes) == any(end is None or start < end for start, end in ranges)


def test_a_scan_through_many_erased_ranges_does_not_read_what_they_hide() -> None:
    class Counted(MemoryRows):
        read = 0

        def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False):
            for row in super().scan(table, start, end, reverse=reverse):
                self.read += 1
                yield row

    rows = Counted(["t"])
    base = WriteSet()
    for n in range(10_000):
        base.put("t", n.to_bytes(2, "big"), b"v")
    rows.apply(base)
    overlay = Overlay(rows)
    overlay.delete_range("t", b"\0\2", b"\x27\0")
    assert len(list(overlay.scan("t", b"", None))) == rows.read == 2 + 10_000 - 0x2700


def test_a_batch_looks_up_each_row_below_it_once_and_reads_what_it_wrote_itself() -> None:
    class Counted(MemoryRows):
        def __init__(self) -> None:
            super().__init__(["t", "u"])
            self.read: list[tuple[str, bytes]] = []

        def get(self, table: str, key: bytes) -> bytes | None:
            self.read.append((table, key))
            return super().get(table, key)

    rows, base = Counted(), WriteSet()
    for key in (b"a", b"b", b"c"):
        base.put("t", key, b"below " + key)
    base.put("t", b"large", large := bytes(100_000))
    rows.apply(base)
    batch = Overlay(Remembered(rows))

    def seen() -> list[bytes | None]:
        message = Overlay(batch)
        return [message.get("t", key) for key in (b"a", b"b", b"c", b"none")] + [message.get("u", b"a")]

    assert seen() == seen() == [b"below a", b"below b", b"below c", None, None]
    batch.put("t", b"a", b"above")
    batch.put("u", b"a", b"other")
    batch.delete_range("t", b"b", b"c")
    assert seen() == seen() == [b"above", None, b"below c", None, b"other"]
    batch.put("t", b"b", b"again")
    assert seen() == [b"above", b"again", b"below c", None, b"other"]
    assert rows.read == [("t", b"a"), ("t", b"b"), ("t", b"c"), ("t", b"none"), ("u", b"a")]
    # What is large is read again rather than held.
    assert [batch.get("t", b"large") for _ in range(2)] == [large, large]
    assert rows.read.count(("t", b"large")) == 2
    assert list(batch.scan("t", b"", b"c")) == [(b"a", b"above"), (b"b", b"again")]


FF = b"\xff"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [(b"", None), (FF, None), (FF * 3, None), (b"a", b"b"), (b"a" + FF, b"b"), (b"\0" + FF * 2, b"\1"), (b"\xfe", FF)],
)
def test_after_is_the_first_key_behind_a_prefix(prefix: bytes, expected: bytes | None) -> None:
    assert after(prefix) == expected


@given(keys=st.sets(KEYS), prefix=KEYS)
def test_a_prefix_is_the_range_up_to_after_it(keys: set[bytes], prefix: bytes) -> None:
    end = after(prefix)
    assert {k for k in keys if k.startswith(prefix)} == {k for k in keys if within(k, prefix, end)}


ROWS = Table("rows", key=(U32, HASH, U8), value=bytes)
NAMES = Table("names", key=(U16, TEXT), value=int)
BLOBS = Table("blobs", key=(U64, TAIL), value=list[int])
HASHES = st.binary(min_size=32, max_size=32)
ROW_KEYS = st.tuples(st.integers(0, 2**32 - 1), HASHES, st.integers(0, 255))


@given(keys=st.lists(ROW_KEYS, max_size=8))
def test_packed_keys_sort_as_their_tuples_and_unpack_to_them(keys: list[tuple[int, bytes, int]]) -> None:
    assert [ROWS.unpack(packed) for packed in sorted(map(ROWS.pack, keys))] == sorted(keys)


@given(key=st.tuples(st.integers(0, 65535), st.text()), other=st.tuples(st.integers(0, 2**64 - 1), st.binary()))
def test_tails_pack_and_unpack(key: tuple[int, str], other: tuple[int, bytes]) -> None:
    assert NAMES.unpack(NAMES.pack(key)) == key
    assert BLOBS.unpack(BLOBS.pack(other)) == other
    assert NAMES.pack(key) == key[0].to_bytes(2, "big") + key[1].encode()


@given(key=ROW_KEYS, count=st.integers(0, 3))
def test_a_shorter_tuple_packs_to_the_common_prefix(key: tuple[int, bytes, int], count: int) -> None:
    assert ROWS.pack(key).startswith(ROWS.pack(key[:count]))


def test_keys_that_do_not_fit_are_refused() -> None:
    hash_ = bytes(32)
    for key in [(1, hash_[1:], 1), (1, hash_ + b"x", 1), (1, hash_, 1, 1)]:
        with pytest.raises(ValueError, match="table rows"):
            ROWS.pack(key)
    for key in [(2**32, hash_, 1), (-1, hash_, 1), (1, hash_, 256)]:
        with pytest.raises(OverflowError, match="table rows"):
            ROWS.pack(key)
    with pytest.raises(ValueError, match="must be the last"):
        Table("bad", key=(TAIL, U8), value=bytes)
    with pytest.raises(ValueError, match="1, 2, 4 or 8"):
        KeyPart("u24", 3, int)
    with pytest.raises(ValueError, match="no fixed width"):
        KeyPart("code", 3, str)


def test_typed_tables_read_what_was_put_and_scan_prefixes_bounds_and_backwards() -> None:
    rows = MemoryRows(["rows", "names", "blobs"])
    tables = Tables(Overlay(rows))
    one, two = bytes(32), b"\xff" * 32
    for session in (1, 2**32 - 1):
        for hash_ in (one, two):
            for index in (0, 7, 255):
                tables.put(ROWS, (session, hash_, index), bytes([index]))
    tables.put(NAMES, (1, "é"), 5)
    tables.put(BLOBS, (0, b""), [1, 2])
    assert tables.get(NAMES, (1, "é")) == 5
    assert tables.get(BLOBS, (0, b"")) == [1, 2]
    assert tables.get(NAMES, (1, "e")) is None
    assert tables.has(ROWS, (1, one, 0))
    last = [(2**32 - 1, two, index) for index in (0, 7, 255)]
    assert [key for key, _ in tables.scan(ROWS, (2**32 - 1, two))] == last
    assert [key for key, _ in tables.scan(ROWS, (2**32 - 1, two), reverse=True)] == last[::-1]
    assert [key for key, _ in tables.scan(ROWS, (1, one), start=(1, one, 1))] == [(1, one, 7), (1, one, 255)]
    assert [key for key, _ in tables.scan(ROWS, (1, one), start=(1, one, 1), end=(1, one, 255))] == [(1, one, 7)]
    assert [key[1] for key, _ in tables.scan(ROWS, end=(1, two))] == [one] * 3
    assert next(tables.scan(ROWS, reverse=True))[0] == last[-1]
    assert [value for _, value in tables.scan_packed(ROWS, (1, one))] == [b"\0", b"\7", b"\xff"]


def test_typed_deletes_take_one_row_a_prefix_or_a_part_of_it() -> None:
    rows = MemoryRows(["rows"])
    overlay = Overlay(rows)
    tables = Tables(overlay)
    one, two = bytes(32), b"\xff" * 32

    def left() -> list[tuple[int, int]]:
        return [(key[0], key[2]) for key, _ in tables.scan(ROWS)]

    for session in (1, 2, 3):
        for index in (0, 1, 2):
            tables.put(ROWS, (session, two, index), b"v")
    rows.apply(overlay)
    tables.delete(ROWS, (1, two, 1))
    tables.delete_range(ROWS, (2,), start=(2, two, 1))
    tables.delete_range(ROWS, (3,), end=(3, two, 1))
    tables.delete_range(ROWS, (3, one))
    assert left() == [(1, 0), (1, 2), (2, 0), (3, 1), (3, 2)]
    tables.put_packed(ROWS, ROWS.pack((2, two, 2)), b"again")
    assert View(overlay).get(ROWS, (2, two, 2)) == b"again"
    tables.delete_range(ROWS)
    assert left() == []


def test_a_loop_may_delete_what_it_scans() -> None:
    rows = MemoryRows(["names"])
    tables = Tables(Overlay(rows))
    for n in range(50):
        tables.put(NAMES, (n, "x"), n)
    for key, value in tables.scan(NAMES):
        if value % 2:
            tables.delete(NAMES, key)
        else:
            tables.delete_range(NAMES, (value + 1,))
            tables.put(NAMES, (value, "y"), value)
    assert [key for key, _ in tables.scan(NAMES)] == [(n, name) for n in range(0, 50, 2) for name in "xy"]


class Fixed(msgspec.Struct, frozen=True, array_like=True):
    name: str
    marks: tuple[int, ...] = ()
    inner: "Fixed.Part | None" = None
    pairs: tuple[tuple[bytes, int], ...] = ()

    class Part(msgspec.Struct, frozen=True, array_like=True):
        number: int


class Growing(msgspec.Struct, frozen=True, array_like=True):
    marks: list[int]


def test_rows_that_cannot_change_are_decoded_once_and_others_each_time() -> None:
    fixed, growing = Table("fixed", key=(U8,), value=Fixed), Table("growing", key=(U8,), value=Growing)
    row = fixed.dump(Fixed("a", (1, 2), Fixed.Part(3)))
    assert fixed.load(row) is fixed.load(bytes(bytearray(row)))
    assert fixed.load(fixed.dump(Fixed("b"))) == Fixed("b")
    # Whoever changes what it was given changes nobody else's.
    growing.load(growing.dump(Growing([1]))).marks.append(2)
    assert growing.load(growing.dump(Growing([1]))) == Growing([1])
    large, largest = fixed.dump(Fixed("a" * 1_000)), fixed.dump(Fixed("a" * 40_000))
    assert fixed.load(large) is fixed.load(bytes(bytearray(large)))
    assert fixed.load(largest) is not fixed.load(largest)
    for _ in range(2):
        with pytest.raises(CodecError, match="damaged"):
            fixed.load(row[:-1])
