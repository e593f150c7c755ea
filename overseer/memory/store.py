"""The Store port in memory: what a disk would hold is a `MemoryDisk`, so that a store can crash and be opened again.

disk = MemoryDisk()
store = MemoryStore(tables, disk=disk)
await store.commit(writes)
store = store.crash()              # as after a kill in the middle of anything
disk.on_step = fail_at(SYNCED)     # faults: the hook may raise at any step of a commit
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import Enum

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from overseer.memory.rows import MemoryRows
from overseer.ports.store import StoreError, StoreIdentity, StoreLocked, WrongStore, check_checkpoint_name
from overseer.tables import WriteSet

__all__ = ["CommitStep", "MemoryDisk", "MemoryStore"]


class CommitStep(Enum):
    """Where a commit is."""

    # Nothing is written.
    BEGIN = "begin"
    # Written and seen by readers; lost when power goes now.
    WRITTEN = "written"
    # Durable, but the caller does not know yet.
    SYNCED = "synced"


class MemoryDisk:
    """What outlives a process. `history`: how many of the last commits a lying disk could lose (see `crash`)."""

    def __init__(self, *, history: int = 0) -> None:
        self.identity: StoreIdentity | None = None
        # Called at each step of a commit. What it raises comes out of `commit` (StoreFull: the handle is then dead).
        self.on_step: Callable[[CommitStep], None] | None = None
        # How long a sync takes: awaited between WRITTEN and SYNCED.
        self.syncing: Callable[[], Awaitable[None]] | None = None
        # Sees what a commit wrote once it is durable (also when that is by a crash that kept it).
        self.on_durable: Callable[[WriteSet], None] | None = None
        self.rows = MemoryRows([])
        self.kept: dict[str, MemoryRows] = {}
        # Durable commits so far.
        self.commits = 0
        self._owner: MemoryStore | None = None
        # What undoes the last commits, the latest last; of an unsynced one too.
        self._undo: deque[WriteSet] = deque(maxlen=history + 1)
        self._unsynced: WriteSet | None = None

    @property
    def history(self) -> int:
        """How many synced commits can be lost now."""
        return len(self._undo) - (self._unsynced is not None)

    def crash(self, *, keep_unsynced: bool = False, lose_commits: int = 0) -> None:
        """The process is gone. An unsynced commit is lost (power) or kept (a mere kill), never torn.

        `lose_commits` takes that many synced ones too, as a lying disk does; at most the `history`.
        """
        if self._owner is not None:
            self._owner.die("the process crashed")
        if keep_unsynced:
            self.sync()
        elif self._unsynced is not None:
            self.rows.apply(self._undo.pop())
        self._unsynced = None
        if lose_commits > len(self._undo):
            raise ValueError(f"{lose_commits} commits to lose, {len(self._undo)} in the history")
        for _ in range(lose_commits):
            self.rows.apply(self._undo.pop())
            self.commits -= 1

    def backup(self) -> "MemoryDisk":
        """A copy of what is durable now, to be opened in its place later."""
        other = MemoryDisk(history=(self._undo.maxlen or 1) - 1)
        other.identity = self.identity
        other.rows = self.rows.copy()
        if self._unsynced is not None:
            other.rows.apply(self._undo[-1])
        other.kept = {name: rows.copy() for name, rows in self.kept.items()}
        other.commits = self.commits
        return other

    def acquire(self, owner: "MemoryStore") -> None:
        if self._unsynced is not None:
            self.crash()
        if self._owner is not None:
            raise StoreLocked("another process has this store open", where="memory")
        self._owner = owner

    def release(self, owner: "MemoryStore") -> None:
        if self._owner is owner:
            self._owner = None

    def write(self, writes: WriteSet) -> None:
        """The first half of a commit."""
        undo = self.rows.inverse(writes)
        self.rows.apply(writes)
        self._undo.append(undo)
        self._unsynced = writes

    def sync(self) -> None:
        """The second half."""
        durable, self._unsynced = self._unsynced, None
        if durable is not None:
            self.commits += 1
            if self.on_durable is not None:
                self.on_durable(durable)


class _Reader:
    """Rows until closed."""

    def __init__(self, rows: MemoryRows, tables: Sequence[str]) -> None:
        self._rows = rows
        self._names = frozenset(tables)
        self._gone = ""

    def tables(self) -> list[str]:
        return sorted(self._names)

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._reading(table).get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._guarded(self._reading(table).scan(table, start, end, reverse=reverse))

    def close(self) -> None:
        self.die("the store is closed")

    def die(self, why: str) -> None:
        self._gone = self._gone or why

    def _alive(self) -> None:
        if self._gone:
            raise StoreError(self._gone, where="memory", advice="Open it again.")

    def _reading(self, table: str) -> MemoryRows:
        self._alive()
        if table not in self._names:
            raise KeyError(table)
        return self._rows

    def _guarded(self, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self._alive()
            yield row


class MemoryStore(_Reader):
    """A store on a MemoryDisk (a new one by default)."""

    def __init__(self, tables: Sequence[str], *, disk: MemoryDisk | None = None, identity: StoreIdentity | None = None) -> None:
        """Open it. Raises StoreLocked, WrongStore."""
        self.disk = MemoryDisk() if disk is None else disk
        super().__init__(self.disk.rows, tables)
        wanted = identity or StoreIdentity("memory", "memory")
        found = self.disk.identity or wanted
        if (found.node, found.subsystem) != (wanted.node, wanted.subsystem) or found.schema > wanted.schema:
            raise WrongStore(f"it is the store of {found}, not of {wanted}", where="memory")
        self.disk.acquire(self)
        self.disk.identity = wanted
        self.disk.rows.add_tables(tables)
        self._committing = False

    async def commit(self, writes: WriteSet) -> None:
        self._alive()
        if self._committing:
            raise RuntimeError("one commit at a time")
        for table in (*writes.rows, *(table for table, _, _ in writes.ranges)):
            self._reading(table)
        self._committing = True
        try:
            self._step(CommitStep.BEGIN)
            self.disk.write(writes)
            self._step(CommitStep.WRITTEN)
            if self.disk.syncing is None:
                await cancel_shielded_checkpoint()
            else:
                with anyio.CancelScope(shield=True):
                    await self.disk.syncing()
            # A crash meanwhile has dealt with what was unsynced.
            self._alive()
            self.disk.sync()
            self._step(CommitStep.SYNCED)
        except StoreError as error:
            self.die(f"it failed before: {error}")
            raise
        finally:
            self._committing = False

    def checkpoint(self, name: str) -> None:
        self._alive()
        if self._committing:
            raise RuntimeError("no checkpoint during a commit")
        self.disk.kept[check_checkpoint_name(name)] = self.disk.rows.copy()

    def checkpoints(self) -> list[str]:
        self._alive()
        return sorted(self.disk.kept)

    def open_checkpoint(self, name: str) -> _Reader:
        self._alive()
        rows = self.disk.kept[name]
        return _Reader(rows, rows.tables())

    def drop_checkpoint(self, name: str) -> None:
        self._alive()
        self.disk.kept.pop(name, None)

    def crash(self, *, keep_unsynced: bool = False, lose_commits: int = 0) -> "MemoryStore":
        """What a new process finds after this one was killed; see MemoryDisk.crash. This handle is dead."""
        self.disk.crash(keep_unsynced=keep_unsynced, lose_commits=lose_commits)
        return MemoryStore(sorted(self._names), disk=self.disk, identity=self.disk.identity)

    def die(self, why: str) -> None:
        super().die(why)
        self.disk.release(self)

    def _step(self, step: CommitStep) -> None:
        if self.disk.on_step is not None:
            self.disk.on_step(step)
            self._alive()
