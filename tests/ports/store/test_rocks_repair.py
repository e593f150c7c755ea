"""Another store in the place of a damaged one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from overseer.ports.store import StoreIdentity, StoreLocked
from overseer.rocks.repair import put_in_place, unowned
from overseer.rocks.store import RocksStore

pytestmark = pytest.mark.real

IDENTITY = StoreIdentity("node", "votes_db")


def test_a_store_that_a_process_has_open_is_not_taken_away(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "store", tables=["rows"], identity=IDENTITY)
    try:
        with pytest.raises(StoreLocked, match="has this store open"), unowned(tmp_path / "store"):
            pytest.fail("it is taken away")
    finally:
        store.close()


def test_nobody_can_open_a_store_while_another_takes_its_place(tmp_path: Path) -> None:
    place, new = tmp_path / "store", tmp_path / "new"
    for path in (place, new):
        RocksStore.open(path, tables=["rows"], identity=IDENTITY).close()
    with unowned(place):
        with pytest.raises(StoreLocked):
            RocksStore.open(place, tables=["rows"], identity=IDENTITY)
        aside = put_in_place(new, place, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert aside == tmp_path / "store.aside-20260102T030405Z"
    RocksStore.open(place, tables=["rows"], identity=IDENTITY).close()
