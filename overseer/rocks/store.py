"""The Store port on RocksDB (raw mode; facts and figures in docs/adr).

A commit writes the batch without sync, then flushes the log in a worker thread: as durable, once it returns, as a synced
write, which would hold the GIL, and with it the event loop, for the whole fsync. In between the rows can already be read:
the runner must not answer from them before `commit` returns.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
from anyio import CancelScope, CapacityLimiter, to_thread
from rocksdict import Checkpoint, ColumnFamily, Rdict, WriteBatch

from overseer.ports.store import StoreError, StoreIdentity, StoreLocked
from overseer.rocks.errors import store_error
from overseer.rocks.identity import IDENTITY_KEY, OWNER_FILE, check_identity, check_place, pack_identity, read_identity
from overseer.rocks.options import open_rocks
from overseer.rocks.reader import RocksReader, families
from overseer.rocks.seal import check_manifest, check_sequence, manifest_size, read_seal, write_seal
from overseer.tables import WriteSet

__all__ = ["RocksStore"]

# Deleting a range of up to so many rows deletes the rows: many range tombstones make reads slow (0.5 ms each at 10 000).
_RANGE_ROWS_MIN = 64


class RocksStore(RocksReader):
    """An open store, owned by this process. Made by `open`."""

    _checkpoints_may_go = False

    def __init__(self, path: Path, db: Rdict, tables: Sequence[str], owner: int) -> None:
        super().__init__(path, db, tables, released=partial(os.close, owner))
        self._handles: dict[str, ColumnFamily] = {name: db.get_column_family_handle(name) for name in tables}
        self._committing = False
        self._flusher: CapacityLimiter | None = None
        # The size of the manifest that the seal covers.
        self._sealed = 0
        # The schema the store had before this release opened it; None when it is new.
        self.previous_schema: int | None = None

    @classmethod
    def open(cls, path: Path | str, *, tables: Sequence[str], identity: StoreIdentity, create: bool = True) -> "RocksStore":
        """Open the store in the folder `path`, creating it and missing tables (unless `create` is False: then only tables).

        Raises StoreLocked, StoreCorrupted, StoreFull, StoreMissing, WrongStore. Tables there that are not asked for stay.
        """
        path = Path(path)
        if "default" in tables:
            raise ValueError("the table name 'default' is taken by RocksDB")
        if not (path / OWNER_FILE).exists():
            # Nothing is to be written into a folder that may be another's.
            check_place(path, identity, create=create)
        path.mkdir(parents=True, exist_ok=True)
        owner = _own(path)
        try:
            seal = read_seal(path)
            check_manifest(path, seal)
            there = check_place(path, identity, create=create)
            store = cls._open_owned(path, tables, owner, there)
            db = store._alive()
        except BaseException:
            os.close(owner)
            raise
        try:
            check_sequence(path, seal, db.latest_sequence_number())
            store._mark(identity)
            store._sealed = write_seal(path, db.latest_sequence_number())
            store._kept.settle()
        except Exception as error:
            store.close()
            raise error if isinstance(error, StoreError) else store_error(error, str(path), "opening it") from None
        return store

    @classmethod
    def _open_owned(cls, path: Path, tables: Sequence[str], owner: int, there: bool) -> "RocksStore":
        try:
            found = families(path) if there else []
            db = open_rocks(str(path), sorted({*found, *tables}), create=True)
        except Exception as error:
            raise store_error(error, str(path), "opening it") from None
        return cls(path, db, tables, owner)

    async def commit(self, writes: WriteSet) -> None:
        self._alive()
        if self._committing:
            raise RuntimeError("one commit at a time")
        if not writes:
            return
        self._committing = True
        try:
            self._alive().write(self._batch(writes))
            if self._flusher is None:
                self._flusher = CapacityLimiter(1)
            with CancelScope(shield=True):
                await to_thread.run_sync(self._flush, limiter=self._flusher)
        except (KeyError, StoreError):
            raise
        except Exception as error:
            raise self._failed(error, "committing") from None
        finally:
            self._committing = False

    def checkpoint(self, name: str) -> None:
        """Flushes the memory tables: some ms, during which the event loop stands."""
        self._alive()
        if self._committing:
            raise RuntimeError("no checkpoint during a commit")
        try:
            self._kept.make(name, lambda path: Checkpoint(self._alive()).create_checkpoint(path))
            self._sealed = write_seal(self.path, self._alive().latest_sequence_number())
        except ValueError:
            raise
        except Exception as error:
            raise self._failed(error, f"taking the checkpoint {name}") from None

    def drop_checkpoint(self, name: str) -> None:
        self._alive()
        self._kept.drop(name)

    def close(self) -> None:
        if self._committing:
            raise RuntimeError("a commit is running: await it before closing")
        if self._db is not None:
            # A full disk must not keep us from closing; an older seal only catches less.
            with suppress(OSError):
                write_seal(self.path, self._db.latest_sequence_number())
        super().close()

    def _release(self, reason: StoreError) -> None:
        self._handles.clear()
        super()._release(reason)

    def _flush(self) -> None:
        db = self._alive()
        db.flush_wal(True)
        # Without room for it the commit is no less durable; an older seal only catches less.
        with suppress(OSError):
            if manifest_size(self.path) > self._sealed:
                self._sealed = write_seal(self.path, db.latest_sequence_number())

    def _batch(self, writes: WriteSet) -> WriteBatch:
        """Ranges first, then rows. Raises KeyError."""
        for table in writes.rows:
            _ = self._tables[table]
        batch = WriteBatch(raw_mode=True)
        for table, start, end in writes.ranges:
            self._erase(batch, table, start, end)
        for table, rows in writes.rows.items():
            handle = self._handles[table]
            put, delete = batch.put, batch.delete
            for key, value in rows.items():
                if value is None:
                    delete(key, handle)
                else:
                    put(key, value, handle)
        return batch

    def _erase(self, batch: WriteBatch, table: str, start: bytes, end: bytes | None) -> None:
        handle_of = self._tables[table]
        rows: list[bytes] = []
        for key, _ in self.scan(table, start, end):
            rows.append(key)
            if len(rows) > _RANGE_ROWS_MIN:
                break
        handle = self._handles[table]
        if len(rows) <= _RANGE_ROWS_MIN:
            for key in rows:
                batch.delete(key, handle)
            return
        if end is None:
            last = handle_of.iter()
            last.seek_to_last()
            # The end of a range is exclusive: the smallest key behind the last.
            end = cast(bytes, last.key()) + b"\0"
        batch.delete_range(start, end, handle)

    def _mark(self, identity: StoreIdentity) -> None:
        """Write or raise the identity row; durable when this returns."""
        db = self._alive()
        if db.get(IDENTITY_KEY) is not None:
            found = read_identity(db, str(self.path))
            check_identity(found, identity, str(self.path))
            self.previous_schema = found.schema
            # Who does not say which release it is takes no mark away.
            identity = msgspec.structs.replace(identity, release=identity.release or found.release)
            if found == identity:
                return
        batch = WriteBatch(raw_mode=True)
        batch.put(IDENTITY_KEY, pack_identity(identity))
        db.write(batch)
        db.flush_wal(True)


def _own(path: Path) -> int:
    """Our own lock beside RocksDB's: it names the holder, and keeps a second copy from touching anything at all.

    A flock ends with the process, however that ends. Raises StoreLocked.
    """
    handle = os.open(path / OWNER_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(handle, 64).decode(errors="replace").strip()
        os.close(handle)
        raise StoreLocked(
            f"another process has this store open ({holder or 'it did not tell its number'})",
            where=str(path),
            advice="Stop that process, or use another folder.",
        ) from None
    # Who has it is a courtesy: a full disk must not keep us from saying what is the matter.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()}\n".encode(), 0)
    return handle
