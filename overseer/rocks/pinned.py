"""A store's files as of one moment, held open: its owner may go on writing, and remove what it needs no more.

Tables never change, logs and manifest only grow. So the files that are there at one moment, each up to its size then, are what
a kill would have left then, and RocksDB opens that. Whether it was one moment is seen by looking once more: a flush or compaction
in between shows in the manifest, a new log by its name. Nothing is written beside the store, so a killed reader leaves nothing.
"""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from overseer.ports.store import StoreError, StoreMissing
from overseer.rocks.checkpoints import CheckpointFolder
from overseer.rocks.moment import moment_of

__all__ = ["PinnedFile", "PinnedStore", "more_open_files"]

# A busy owner starts a log or ends a flush every few hundred ms; opening its files takes one.
_ATTEMPTS = 200
_WANTED = re.compile(r"[0-9]+\.(sst|log)|MANIFEST-[0-9]+|OPTIONS-[0-9]+|CURRENT|IDENTITY|SEAL|rocksdict-config\.json")


class PinnedFile(msgspec.Struct, frozen=True):
    """One file: its path in the store, how much of it counts, and its open descriptor. `inode` tells one that has several names."""

    path: str
    size: int
    descriptor: int
    inode: tuple[int, int]

    def pieces(self, piece_bytes: int) -> Iterator[bytes]:
        """Its content, in pieces of so many bytes. Raises StoreError when it became shorter."""
        offset = 0
        while offset < self.size:
            piece = os.pread(self.descriptor, min(piece_bytes, self.size - offset), offset)
            if not piece:
                raise StoreError(f"the file {self.path} became shorter while it was read")
            offset += len(piece)
            yield piece


class PinnedStore:
    """Made by `open`; closed by the caller."""

    def __init__(self, files: list[PinnedFile]) -> None:
        self.files = files

    @property
    def bytes(self) -> int:
        """What a copy takes, tables that the store shares with its checkpoints once."""
        return sum({file.inode: file.size for file in self.files}.values())

    @classmethod
    def open(cls, path: Path) -> "PinnedStore":
        """The store in the folder `path` with its checkpoints, running owner or not. Raises StoreMissing, StoreError."""
        if not (path / "CURRENT").exists():
            raise StoreMissing("there is no store", where=str(path), advice="Check the folder, and whether the node ever ran.")
        for _ in range(_ATTEMPTS):
            files: list[PinnedFile] = []
            try:
                before = _moment(path)
                _pin(path, files)
                if _moment(path) == before:
                    return cls(files)
            except FileNotFoundError:
                # Its owner removed what was just listed.
                pass
            except BaseException:
                _close(files)
                raise
            _close(files)
        raise StoreError("its files change too quickly to be read as of one moment", where=str(path), advice="Try again.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        _close(self.files)
        self.files = []


def _moment(path: Path) -> tuple[object, ...]:
    return moment_of(path), CheckpointFolder(path).names()


def _pin(path: Path, files: list[PinnedFile]) -> None:
    """Open the seal first: what it says must hold for all that is opened after it."""
    seals = [path / "SEAL"] if (path / "SEAL").exists() else []
    for file in (*seals, *(file for file in sorted(path.iterdir()) if file.name != "SEAL" and _WANTED.fullmatch(file.name))):
        _add(files, file, file.name)
    checkpoints = CheckpointFolder(path)
    for name in checkpoints.names():
        for file in sorted((checkpoints.folder / name).iterdir()):
            if _WANTED.fullmatch(file.name):
                _add(files, file, str(file.relative_to(path)))


def _add(files: list[PinnedFile], file: Path, name: str) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    status = os.fstat(descriptor)
    files.append(PinnedFile(name, status.st_size, descriptor, (status.st_dev, status.st_ino)))


def _close(files: list[PinnedFile]) -> None:
    for file in files:
        with suppress(OSError):
            os.close(file.descriptor)


def more_open_files() -> None:
    """Let this process have as many files open as it may: a store of some GB has hundreds of tables."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
