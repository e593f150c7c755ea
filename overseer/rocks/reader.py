"""Reading a RocksDB store: rows, scans that cannot end early unnoticed, and offline inspection beside its owner."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast
from weakref import WeakSet

from rocksdict import AccessType, Rdict, RdictIter, ReadOptions

from overseer.ports.store import StoreError, StoreIdentity, StoreMissing
from overseer.rocks.checkpoints import CheckpointFolder
from overseer.rocks.errors import store_error
from overseer.rocks.identity import OWNER_FILE, read_identity
from overseer.rocks.moment import moment_of
from overseer.rocks.options import open_rocks
from overseer.rocks.seal import check_manifest, check_sequence, read_seal

__all__ = ["RocksReader", "is_owned"]

# Rows fetched at a time: few at first (most scans look at a row or two), then many.
_FETCH_FIRST = 4
_FETCH_MAX = 256
# A running owner may remove a file between our reading of its name and our opening it,
_OPEN_ATTEMPTS = 5
# and flush tables, one after the other, while we open them: an opening takes 0.1 s, a flush is there every few minutes.
_MOMENTS = 20


class _Tables(dict[str, Rdict]):
    """Column families by name. Once the store is gone it is empty, and says why."""

    gone: StoreError | None = None

    def __missing__(self, table: str) -> Rdict:
        if self.gone is not None:
            raise type(self.gone)(self.gone.what, where=self.gone.where, advice=self.gone.advice)
        raise KeyError(table)


class _Cursor:
    """The only reference to an iterator between two fetches, so that closing the store can take it away."""

    __slots__ = ("__weakref__", "iterator", "options")

    def __init__(self, iterator: RdictIter, options: ReadOptions) -> None:
        self.iterator: RdictIter | None = iterator
        # The iterator's upper bound points into its options' memory without owning it (rocksdict): they must live as long.
        self.options = options


class RocksReader:
    """Committed rows of an open database; `tables` are the ones that may be read."""

    # Whether somebody else may drop a checkpoint while it is read here.
    _checkpoints_may_go = True
    # Whether it was opened beside a running owner.
    _beside = False

    def __init__(self, path: Path, db: Rdict, tables: Sequence[str], *, released: Callable[[], None] | None = None) -> None:
        self.path = path
        self._db: Rdict | None = db
        self._released = released
        self._tables = _Tables({name: db.get_column_family(name) for name in tables})
        self._names = sorted(tables)
        self._cursors: WeakSet[_Cursor] = WeakSet()
        self._kept = CheckpointFolder(path)

    @classmethod
    def open_read_only(cls, path: Path | str) -> "RocksReader":
        """A store as of now, for inspection: without its lock, writing nothing into it, running owner or not.

        What the owner has not synced yet may be seen. Raises StoreMissing, StoreCorrupted, WrongStore, StoreError.
        """
        path = Path(path)
        if not (path / "CURRENT").exists():
            raise StoreMissing("there is no store", where=str(path), advice="Check the folder, and whether the node ever ran.")
        for _ in range(_MOMENTS):
            before = moment_of(path)
            try:
                reader = cls._opened(path)
            except StoreError:
                if moment_of(path) == before:
                    raise
                continue
            if moment_of(path) == before:
                return reader
            reader.close()
        raise StoreError("its files change too quickly to be read as of one moment", where=str(path), advice="Try again.")

    @classmethod
    def _opened(cls, path: Path) -> "RocksReader":
        # Before the opening: a running owner may renew it meanwhile.
        seal = read_seal(path)
        check_manifest(path, seal)
        scratch = tempfile.TemporaryDirectory(prefix="overseer-reader-")
        try:
            tables, db, owned = _open_beside(path, scratch.name)
        except Exception as error:
            scratch.cleanup()
            raise store_error(error, str(path), "opening it for reading") from None
        reader = cls(path, db, tables, released=scratch.cleanup)
        reader._beside = owned
        try:
            check_sequence(path, seal, db.latest_sequence_number())
            reader.identity()
        except BaseException:
            reader.close()
            raise
        return reader

    def identity(self) -> StoreIdentity:
        """Whose store it is. Raises WrongStore."""
        return read_identity(self._alive(), str(self.path))

    def catch_up(self) -> bool:
        """See what the owner has written since, at a third of the cost of opening it again.

        False where nobody owned the store when it was opened, or owns it now: only opening it again shows it as it is. So does it after
        the owner has flushed (its manifest grows): `get` then tells what was before, up to the next write (RocksDB). Not during a scan.
        Raises StoreError.
        """
        if self._beside:
            try:
                self._alive().try_catch_up_with_primary()
            except StoreError:
                raise
            except Exception as error:
                raise self._failed(error, "catching up with its owner") from None
        return self._beside and is_owned(self.path)

    def tables(self) -> list[str]:
        return list(self._names)

    def get(self, table: str, key: bytes) -> bytes | None:
        # No local name for the table here: the traceback of an error would keep it, and with it RocksDB's lock.
        try:
            return cast("bytes | None", self._tables[table].get(key))
        except (KeyError, StoreError):
            raise
        except Exception as error:
            raise self._failed(error, f"reading {table}") from None

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Rows as they are now, lazily; dropping the iterator releases what it holds.

        Closing the store ends running scans with a StoreError.
        """
        family = self._tables[table]
        if end is not None and end <= start:
            return iter(())
        options = ReadOptions()
        if end is not None:
            # Its neighbour set_iterate_lower_bound sets the upper bound as well (a bug of rocksdict): do not use it.
            options.set_iterate_upper_bound(end)
        iterator = family.iter(options)
        if reverse:
            iterator.seek_to_last()
        else:
            iterator.seek(start)
        cursor = _Cursor(iterator, options)
        self._cursors.add(cursor)
        return self._rows(table, cursor, start if reverse else None)

    def close(self) -> None:
        self._release(StoreError("the store is closed", where=str(self.path), advice="Open it again."))

    def checkpoints(self) -> list[str]:
        self._alive()
        return self._kept.names()

    def open_checkpoint(self, name: str) -> "RocksReader":
        self._alive()
        path = self._kept.path(name)
        try:
            tables = families(path)
            db = open_rocks(str(path), tables, access=AccessType.read_only(False), keep_open=self._checkpoints_may_go)
        except Exception as error:
            raise store_error(error, str(path), "opening a checkpoint") from None
        return RocksReader(path, db, tables)

    def _rows(self, table: str, cursor: _Cursor, lowest: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        size = _FETCH_FIRST
        while True:
            rows = self._fetch(table, cursor, lowest, size)
            yield from rows
            if len(rows) < size:
                return
            size = min(size * 4, _FETCH_MAX)

    def _fetch(self, table: str, cursor: _Cursor, lowest: bytes | None, size: int) -> list[tuple[bytes, bytes]]:
        """The next rows; fewer than `size` at the end. `lowest`: go backwards down to it."""
        iterator = cursor.iterator
        if iterator is None:
            self._alive()
            raise StoreError("the scan was ended", where=str(self.path))
        rows: list[tuple[bytes, bytes]] = []
        valid, key_at, value_at = iterator.valid, iterator.key, iterator.value
        step = iterator.next if lowest is None else iterator.prev
        try:
            while valid():
                key = key_at()
                if lowest is not None and key < lowest:
                    break
                rows.append((key, value_at()))
                step()
                if len(rows) == size:
                    return rows
            # An iterator that meets rot just ends: only its status tells (rocksdict's own `items` never asks).
            iterator.status()
        except Exception as error:
            del iterator, valid, key_at, value_at, step
            raise self._failed(error, f"scanning {table}") from None
        return rows

    def _alive(self) -> Rdict:
        """The database. Raises StoreError when it was closed or failed."""
        if self._db is None:
            self._tables[""]
            raise StoreError("the store is closed", where=str(self.path))
        return self._db

    def _failed(self, error: BaseException, doing: str) -> StoreError:
        """The handle is dead from now on: nothing it would say can be trusted."""
        named = store_error(error, str(self.path), doing)
        self._release(named)
        return named

    def _release(self, reason: StoreError) -> None:
        """Let go of every handle: RocksDB keeps its lock until the last one is gone."""
        db, self._db = self._db, None
        if db is None:
            return
        self._tables.gone = reason
        for cursor in self._cursors:
            cursor.iterator = None
        self._tables.clear()
        # After a write error closing fails as well; what was committed is synced, and the handle goes in any case.
        with suppress(Exception):
            db.close()
        del db
        if self._released is not None:
            self._released()


def _open_beside(path: Path, scratch: str) -> tuple[list[str], Rdict, bool]:
    """Its tables, the database, and whether somebody owns it. Raises whatever rocksdict raises.

    Beside a running owner a secondary instance is needed. It takes the newest state whose files can all be read, without a word:
    a store that nobody owns is opened in the way that refuses damaged files.
    """
    attempt = 1
    while True:
        try:
            tables = families(path)
            owned = is_owned(path)
            access = AccessType.secondary(scratch) if owned else AccessType.read_only(False)
            return tables, open_rocks(str(path), tables, access=access), owned
        except Exception as error:
            if "No such file" not in str(error) or attempt == _OPEN_ATTEMPTS:
                raise
        attempt += 1


def is_owned(path: Path) -> bool:
    """Whether a process holds the store, as far as the system tells: trying its lock could keep an owner from opening it."""
    owner = path / OWNER_FILE
    if not owner.exists():
        return False
    try:
        inode = str(owner.stat().st_ino)
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return True
    # "1: FLOCK  ADVISORY  WRITE 1234 fe:00:12345 0 EOF"
    return any(f":{inode} " in line and "FLOCK" in line for line in locks)


def families(path: Path) -> list[str]:
    """The column families there, without the default one. Raises whatever rocksdict raises."""
    return sorted(name for name in Rdict.list_cf(str(path)) if name != "default")
