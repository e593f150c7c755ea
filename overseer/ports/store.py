"""The Store port: ordered tables with atomic, durable commits. One per subsystem, owned by one process."""

import re
from typing import Protocol

import msgspec

from overseer.tables import Rows, WriteSet

__all__ = [
    "HistoryReader",
    "Store",
    "StoreCorrupted",
    "StoreError",
    "StoreFull",
    "StoreIdentity",
    "StoreLocked",
    "StoreMissing",
    "StoreReader",
    "WrongStore",
    "check_checkpoint_name",
]


_CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


def check_checkpoint_name(name: str) -> str:
    """`name`, if it may name a checkpoint. Raises ValueError."""
    if not _CHECKPOINT_NAME.fullmatch(name):
        raise ValueError(f"checkpoint name {name!r}: letters, digits, '-', '_' and '.' (not first), 64 at most")
    return name


class StoreIdentity(msgspec.Struct, frozen=True):
    """Whose store it is, the version of its layout, and the newest release that opened it for work ("": not known).

    A store of a newer schema or release is refused, one of an older opened.
    """

    node: str
    subsystem: str
    schema: int = 1
    release: str = ""


class StoreError(Exception):
    """The store failed; the handle is dead and the process must stop (fatal).

    StoreError
    +-- StoreLocked     another process has it open
    +-- StoreCorrupted  rot was found
    +-- StoreFull       no space left: nothing of the commit is there after reopening, or all of it
    +-- StoreMissing    there is none, and none was to be created
    +-- WrongStore      the folder holds something else
    """

    def __init__(self, what: str, *, where: str = "", advice: str = "") -> None:
        super().__init__(what, where, advice)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.advice}" if self.advice else text


class StoreLocked(StoreError):
    """Another process has this store open."""


class StoreCorrupted(StoreError):
    """Rot was found: the store refuses to open or serve."""


class StoreFull(StoreError):
    """The disk or a quota is full. Free space, then open again."""


class StoreMissing(StoreError):
    """There is no store."""


class WrongStore(StoreError):
    """The folder holds another node's, another subsystem's or a newer schema's store, or something else."""


class StoreReader(Rows, Protocol):
    """Read access to committed rows. Unknown tables raise KeyError."""

    def tables(self) -> list[str]: ...

    def close(self) -> None:
        """Release everything, the lock included. Idempotent."""
        ...


class HistoryReader(StoreReader, Protocol):
    """A store's committed rows, and those it has kept of before."""

    def checkpoints(self) -> list[str]:
        """Their names, sorted."""
        ...

    def open_checkpoint(self, name: str) -> StoreReader:
        """The state kept under `name`; to be closed by the caller. Raises KeyError."""
        ...


class Store(HistoryReader, Protocol):
    """Rows may be seen between a commit's write and its sync: whoever serves readers must not tell them before `commit` returns."""

    async def commit(self, writes: WriteSet) -> None:
        """Apply `writes` atomically: ranges deleted first, then rows. Durable (fsynced) when this returns.

        One at a time (RuntimeError otherwise). The event loop stays alive meanwhile, and a cancellation waits. After a
        StoreError nothing may be assumed: reopen and look.
        """
        ...

    def checkpoint(self, name: str) -> None:
        """Keep the committed state as of now under `name` (cheap: hard links). Replaces one of the same name.

        Names are of letters, digits, `-`, `_` and `.`, 64 at most, and do not begin with a dot (ValueError). Not during a
        commit (RuntimeError).
        """
        ...

    def drop_checkpoint(self, name: str) -> None:
        """Forget it; no error when there is none."""
        ...
