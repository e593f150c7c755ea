"""The Store port: ordered tables with atomic, durable commits. One per subsystem, owned by one process."""

from typing import Protocol

from overseer.tables import Rows, WriteSet

__all__ = ["Store", "StoreCorrupted", "StoreError", "StoreLocked", "StoreReader", "WrongStore"]


class StoreError(Exception):
    """The store failed; the handle is dead and the process must stop (fatal)."""


class StoreLocked(StoreError):
    """Another process has this store open."""


class StoreCorrupted(StoreError):
    """Rot was found: the store refuses to open or serve."""


class WrongStore(StoreError):
    """The folder holds another node's, another subsystem's or a newer schema's store, or something else."""


class StoreReader(Rows, Protocol):
    """Read access to committed rows. Unknown tables raise KeyError."""

    def tables(self) -> list[str]: ...

    def close(self) -> None:
        """Release everything, the lock included. Idempotent."""
        ...


class Store(StoreReader, Protocol):
    async def commit(self, writes: WriteSet) -> None:
        """Apply `writes` atomically: ranges deleted first, then rows. Durable (fsynced) when this returns.

        The event loop stays alive meanwhile. After a StoreError nothing may be assumed: reopen and look.
        """
        ...

    def checkpoint(self, name: str) -> None:
        """Keep the committed state as of now under `name` (cheap: hard links). Replaces one of the same name."""
        ...

    def checkpoints(self) -> list[str]: ...

    def open_checkpoint(self, name: str) -> StoreReader: ...

    def drop_checkpoint(self, name: str) -> None: ...
