"""The Store port's contract, on memory and on RocksDB."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.memory.store import MemoryDisk, MemoryStore
from overseer.ports.store import Store, StoreError, StoreIdentity, StoreLocked, WrongStore
from overseer.rocks.store import RocksStore
from overseer.tables import Overlay, WriteSet

pytestmark = pytest.mark.anyio

IDENTITY = StoreIdentity("n1", "votes_db", 2)
TABLES = ("a", "b")


class Place:
    """Where a store lives: opens it, as often as wanted."""

    def __init__(self, kind: str, path: Path) -> None:
        self._kind = kind
        self._path = path
        self._disk = MemoryDisk()
        self._open: list[Store] = []

    def open(self, tables: Sequence[str] = TABLES, identity: StoreIdentity = IDENTITY) -> Store:
        if self._kind == "memory":
            store: Store = MemoryStore(tables, disk=self._disk, identity=identity)
        else:
            store = RocksStore.open(self._path / "store", tables=tables, identity=identity)
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in self._open:
            store.close()


@pytest.fixture(params=["memory", pytest.param("rocks", marks=pytest.mark.real)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


def puts(rows: dict[bytes, bytes | None], table: str = "a") -> WriteSet:
    writes = WriteSet()
    for key, value in rows.items():
        writes.put(table, key, value)
    return writes


def erasing(start: bytes, end: bytes | None, rows: dict[bytes, bytes | None] | None = None) -> WriteSet:
    writes = WriteSet()
    writes.delete_range("a", start, end)
    writes.merge(puts(rows or {}))
    return writes


def keys(store: Store, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False) -> list[bytes]:
    return [key for key, _ in store.scan("a", start, end, reverse=reverse)]


async def test_what_is_committed_is_read_and_what_is_deleted_is_gone(store: Store) -> None:
    await store.commit(puts({b"k": b"1", b"gone": b"x", b"": b"empty key", b"e": b""}))
    await store.commit(puts({b"k": b"2", b"gone": None, b"never": None}))
    assert (store.get("a", b"k"), store.get("a", b"gone"), store.get("a", b""), store.get("a", b"e")) == (b"2", None, b"empty key", b"")
    assert store.get("b", b"k") is None


async def test_an_empty_commit_changes_nothing(store: Store) -> None:
    await store.commit(WriteSet())
    assert keys(store) == []


async def test_scans_go_in_key_order_from_start_to_before_end_both_ways(store: Store) -> None:
    await store.commit(puts({bytes([n]): b"v" for n in (3, 255, 1, 0, 9, 4)} | {b"\xff\xff": b"v"}))
    every = [b"\0", b"\1", b"\3", b"\4", b"\x09", b"\xff", b"\xff\xff"]
    assert keys(store) == every
    assert keys(store, reverse=True) == every[::-1]
    assert keys(store, b"\1", b"\x09") == [b"\1", b"\3", b"\4"]
    assert keys(store, b"\1", b"\x09", reverse=True) == [b"\4", b"\3", b"\1"]
    assert keys(store, b"\2", b"\5", reverse=True) == [b"\4", b"\3"]
    assert keys(store, b"\x0a", None, reverse=True) == [b"\xff\xff", b"\xff"]
    assert keys(store, b"\4", b"\4") == keys(store, b"\4", b"\3") == keys(store, b"\5", b"\1", reverse=True) == []


async def test_ranges_are_deleted_first_and_rows_put_after(store: Store) -> None:
    await store.commit(puts({bytes([n]): b"old" for n in range(6)}))
    await store.commit(erasing(b"\1", b"\4", {b"\2": b"new"}))
    assert list(store.scan("a", b"", None)) == [(b"\0", b"old"), (b"\2", b"new"), (b"\4", b"old"), (b"\5", b"old")]


@pytest.mark.parametrize("count", [3, 500])
async def test_a_range_without_end_deletes_to_the_end_of_the_table_alone(store: Store, count: int) -> None:
    every = [n.to_bytes(2, "big") for n in range(count)] + [b"\xff" * 9]
    await store.commit(puts(dict.fromkeys(every, b"v")))
    await store.commit(puts({b"other": b"v"}, "b"))
    await store.commit(erasing(every[1], None))
    assert keys(store) == every[:1]
    assert store.get("b", b"other") == b"v"


async def test_a_large_range_is_deleted_and_the_rows_put_with_it_stay(store: Store) -> None:
    every = [n.to_bytes(2, "big") for n in range(1000)]
    await store.commit(puts(dict.fromkeys(every, b"v")))
    await store.commit(erasing(every[10], every[990], {every[500]: b"new"}))
    assert keys(store) == [*every[:10], every[500], *every[990:]]


async def test_a_scan_sees_the_rows_as_they_were_when_it_was_called(store: Store) -> None:
    await store.commit(puts({bytes([n]): b"old" for n in range(100)}))
    untouched, begun = store.scan("a", b"", None), store.scan("a", b"", None, reverse=True)
    assert next(begun) == (b"\x63", b"old")
    await store.commit(erasing(b"\0", b"\x32", {b"\x40": b"new", b"\xf0": b"new"}))
    assert list(untouched) == [(bytes([n]), b"old") for n in range(100)]
    assert len(list(begun)) == 99
    assert len(keys(store)) == 51


async def test_long_scans_are_complete_both_ways(store: Store) -> None:
    every = [n.to_bytes(3, "big") for n in range(3000)]
    await store.commit(puts(dict.fromkeys(every, b"v")))
    assert keys(store) == every
    assert keys(store, every[1], every[-1], reverse=True) == every[-2:0:-1]


async def test_unknown_tables_raise_and_nothing_of_that_commit_is_there(store: Store) -> None:
    writes = puts({b"k": b"v"})
    writes.put("nowhere", b"k", b"v")
    ranged = puts({b"k": b"v"})
    ranged.delete_range("nowhere", b"", None)
    for bad in (writes, ranged):
        with pytest.raises(KeyError):
            await store.commit(bad)
    with pytest.raises(KeyError):
        store.get("nowhere", b"k")
    with pytest.raises(KeyError):
        store.scan("nowhere", b"", None)
    assert store.get("a", b"k") is None
    await store.commit(puts({b"k": b"v"}))
    assert store.tables() == ["a", "b"]


async def test_overlays_stack_on_a_store_and_commit_as_one(store: Store) -> None:
    await store.commit(puts({bytes([n]): b"old" for n in range(10)}))
    batch = Overlay(store)
    batch.delete_range("a", b"\2", b"\5")
    message = Overlay(batch)
    message.put("a", b"\3", b"new")
    expected = [b"\0", b"\1", b"\3", *(bytes([n]) for n in range(5, 10))]
    assert [key for key, _ in message.scan("a", b"", None)] == expected
    batch.merge(message)
    await store.commit(batch)
    assert keys(store) == expected


async def test_what_was_committed_is_there_after_closing_and_opening(place: Place) -> None:
    store = place.open()
    await store.commit(puts({b"k": b"v"}))
    store.close()
    store.close()
    again = place.open(("a", "b", "c"))
    assert again.get("a", b"k") == b"v"
    assert again.tables() == ["a", "b", "c"]
    await again.commit(puts({b"n": b"v"}, "c"))


async def test_tables_no_longer_asked_for_keep_their_rows(place: Place) -> None:
    store = place.open()
    await store.commit(puts({b"k": b"v"}, "b"))
    store.close()
    narrow = place.open(("a",))
    assert narrow.tables() == ["a"]
    narrow.close()
    assert place.open().get("b", b"k") == b"v"


async def test_a_closed_store_answers_nothing_and_ends_running_scans(place: Place) -> None:
    store = place.open()
    await store.commit(puts({bytes([n]): b"v" for n in range(200)}))
    scan = store.scan("a", b"", None)
    next(scan)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        list(scan)
    calls: list[Callable[[], object]] = [
        lambda: store.get("a", b"k"),
        lambda: store.scan("a", b"", None),
        lambda: store.checkpoint("c"),
        store.checkpoints,
    ]
    for call in calls:
        with pytest.raises(StoreError, match="closed"):
            call()
    with pytest.raises(StoreError, match="closed"):
        await store.commit(puts({b"k": b"v"}))
    place.open()


async def test_a_second_open_is_refused_until_the_first_is_closed(place: Place) -> None:
    store = place.open()
    with pytest.raises(StoreLocked, match="another process has this store open"):
        place.open()
    await store.commit(puts({b"k": b"v"}))
    assert store.get("a", b"k") == b"v"
    store.close()
    assert place.open().get("a", b"k") == b"v"


@pytest.mark.parametrize(
    "identity",
    [StoreIdentity("n2", "votes_db", 2), StoreIdentity("n1", "chain_api", 2), StoreIdentity("n1", "votes_db", 1)],
    ids=["other_node", "other_subsystem", "newer_schema_there"],
)
async def test_another_identity_is_refused_by_name_and_harms_nothing(place: Place, identity: StoreIdentity) -> None:
    store = place.open()
    await store.commit(puts({b"k": b"v"}))
    store.close()
    with pytest.raises(WrongStore, match=r"n1|schema"):
        place.open(identity=identity)
    assert place.open().get("a", b"k") == b"v"


async def test_an_older_schema_is_opened_and_then_refused_to_the_older_release(place: Place) -> None:
    place.open().close()
    place.open(identity=StoreIdentity("n1", "votes_db", 3)).close()
    with pytest.raises(WrongStore, match=r"schema|StoreIdentity"):
        place.open()


async def test_a_checkpoint_keeps_the_state_of_its_moment(store: Store) -> None:
    await store.commit(puts({b"k": b"1"}))
    store.checkpoint("one")
    await store.commit(puts({b"k": b"2", b"n": b"2"}))
    reader = store.open_checkpoint("one")
    assert list(reader.scan("a", b"", None)) == [(b"k", b"1")]
    assert reader.get("b", b"k") is None
    assert reader.tables() == ["a", "b"]
    await store.commit(puts({b"k": b"3"}))
    assert reader.get("a", b"k") == b"1"
    reader.close()
    with pytest.raises(StoreError):
        reader.get("a", b"k")
    assert store.get("a", b"k") == b"3"


async def test_checkpoints_are_listed_replaced_dropped_and_survive_reopening(place: Place) -> None:
    store = place.open()
    assert store.checkpoints() == []
    for name, value in (("2", b"x"), ("1", b"x"), ("2", b"y")):
        await store.commit(puts({b"k": value}))
        store.checkpoint(name)
    assert store.checkpoints() == ["1", "2"]
    store.close()
    store = place.open()
    reader = store.open_checkpoint("2")
    assert reader.get("a", b"k") == b"y"
    reader.close()
    store.drop_checkpoint("1")
    store.drop_checkpoint("1")
    assert store.checkpoints() == ["2"]
    with pytest.raises(KeyError):
        store.open_checkpoint("1")


@pytest.mark.parametrize("name", ["", ".", "..", ".new.x", "a/b", "../x", "a b", "x" * 65])
async def test_names_that_are_no_checkpoint_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="checkpoint name"):
        store.checkpoint(name)
    assert store.checkpoints() == []
    await store.commit(puts({b"k": b"v"}))


KEYS = st.binary(max_size=2)
CHANGE = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("range"), KEYS, st.none() | KEYS),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=st.lists(st.lists(CHANGE, max_size=6), max_size=6), start=KEYS, end=st.none() | KEYS)
async def test_any_commits_leave_what_a_plain_dictionary_would_hold(
    place: Place, commits: list[list[tuple[str, bytes, bytes | None]]], start: bytes, end: bytes | None
) -> None:
    place.close()
    store = place.open()
    clean = WriteSet()
    clean.delete_range("a", b"", None)
    await store.commit(clean)
    model: dict[bytes, bytes] = {}
    for commit in commits:
        writes = WriteSet()
        for kind, key, value in commit:
            if kind == "range":
                writes.delete_range("a", key, value)
                model = {k: v for k, v in model.items() if k < key or (value is not None and k >= value)}
            else:
                writes.put("a", key, value)
                model.pop(key, None)
                if value is not None:
                    model[key] = value
        await store.commit(writes)
    assert list(store.scan("a", b"", None)) == sorted(model.items())
    within = [row for row in sorted(model.items()) if row[0] >= start and (end is None or row[0] < end)]
    assert list(store.scan("a", start, end)) == within
    assert list(store.scan("a", start, end, reverse=True)) == within[::-1]
    assert all(store.get("a", key) == value for key, value in model.items())
