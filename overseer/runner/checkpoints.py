"""Checkpoints: the tables as of a journal index, kept beside the store, so that the journal before may go.

Taking one is cheap (hard links); hashing its tables happens in the background, in slices; only then is it recorded as an
event, and only behind a recorded one is the journal shortened.
"""

from collections.abc import Callable, Mapping

import anyio
import anyio.lowlevel
from blake3 import blake3

from messages.overseer import CheckpointTaken
from overseer.limits import Limits
from overseer.ports.store import Store
from overseer.runner import journal
from overseer.runner.schema import BLOBS, JOURNAL, OUTBOX_NET, OUTBOX_NODE, Head
from overseer.subsystem import Declaration
from overseer.tables import Overlay, Rows

__all__ = ["Checkpoints", "checkpoint_name", "tables_hash"]

# Rows hashed between two turns of the event loop.
_SLICE_ROWS = 1_000


def checkpoint_name(index: int) -> str:
    """Sorts by journal index."""
    return f"{index:020d}"


async def tables_hash(declaration: Declaration, rows: Rows) -> bytes:
    """BLAKE3 over every row of the subsystem's own tables, in order."""
    digest = blake3()
    for table in sorted(declaration.tables, key=lambda t: t.name):
        digest.update(f"\n{table.name}\n".encode())
        for count, (key, value) in enumerate(rows.scan(table.name, b"", None)):
            digest.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
            if count % _SLICE_ROWS == 0:
                await anyio.lowlevel.checkpoint()
    return digest.digest()


class Checkpoints:
    """Takes, hashes and retires the checkpoints of one store."""

    def __init__(self, declaration: Declaration, store: Store, limits: Limits, head: Head, hashed: Callable[[], None]) -> None:
        """`hashed` is called when there is something for `completed`. Checkpoints that were never recorded are dropped."""
        self._declaration = declaration
        self._store = store
        self._limits = limits
        self._last_index = head.checkpoint
        self._announcement = OUTBOX_NODE.pack((head.began, 0))
        self._hashed = hashed
        self._wanted: int | None = None
        self._wake = anyio.Event()
        self._done: CheckpointTaken | None = None
        for name in store.checkpoints():
            if int(name) > head.checkpoint:
                store.drop_checkpoint(name)

    def begin_if_due(self, head: Head) -> None:
        """Keep the committed state under its index, when enough records came since the last."""
        if self._wanted is not None or self._done is not None or head.index - self._last_index < self._limits.checkpoint_records:
            return
        self._store.checkpoint(checkpoint_name(head.index))
        self._wanted = head.index
        self._wake.set()

    async def run(self) -> None:
        """Hash what was taken, for ever."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            if self._wanted is None:
                continue
            name = checkpoint_name(self._wanted)
            reader = self._store.open_checkpoint(name)
            try:
                head = journal.read_head(reader)
                assert head is not None
                digest = await tables_hash(self._declaration, reader)
            finally:
                reader.close()
            positions = [head.positions[name] for name in sorted(head.positions)]
            self._done = CheckpointTaken(index=self._wanted, name=name, tables_hash=digest, positions=positions)
            self._last_index, self._wanted = self._wanted, None
            self._hashed()

    def completed(self) -> CheckpointTaken | None:
        """A checkpoint to be recorded now, once."""
        done, self._done = self._done, None
        return done

    def prune(self, writes: Overlay, published: Mapping[str, tuple[int, int]]) -> None:
        """Retire checkpoints beyond those kept, and the journal, blobs and outgoing bytes up to the oldest one kept.

        What is not `published` yet (by line: journal index and place of the last that is) stays, and so does the announcement
        of our incarnation: without it nobody new would take what comes after it.
        """
        names = sorted(self._store.checkpoints())
        for name in names[: -self._limits.checkpoints_kept]:
            self._store.drop_checkpoint(name)
        kept = names[-self._limits.checkpoints_kept :]
        if len(kept) < self._limits.checkpoints_kept:
            return
        behind = (int(kept[0]) + 1,)
        for table in (JOURNAL, BLOBS):
            writes.delete_range(table.name, b"", table.pack(behind))
        told = {name: min(OUTBOX_NODE.pack(behind), OUTBOX_NODE.pack(mark) + b"\0") for name, mark in published.items()}
        writes.delete_range(OUTBOX_NET.name, b"", told.get("net", b""))
        writes.delete_range(OUTBOX_NODE.name, b"", min(self._announcement, told["node"]))
        writes.delete_range(OUTBOX_NODE.name, self._announcement + b"\0", told["node"])
