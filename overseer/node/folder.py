"""A node's folder: where everything of it lies, who has it open, and how others find the running node.

<data_dir>/
    node.lock         held while a node runs on this folder
    run.json          the running (or last) run: pid, addresses; for the command line
    keys/             nkey seeds, and in keys/identity what the node signs and opens boxes with, 0600
    sessions/         a key for each attempt at electing a consensus group that the node takes part in, 0600
    nats/             the embedded server: configuration, log, streams
    stores/<name>/    one RocksDB for each subsystem
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from overseer.nats.private_files import private_folder, write_private

__all__ = ["FolderInUse", "NodeFolder", "NotRunning", "RunInfo"]


class FolderInUse(Exception):
    """Another node runs on this folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another node is running on {path}: stop it first, or choose another --data-dir")
        self.path = path


class NotRunning(Exception):
    """No node runs on this folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no node is running on {path}: start one with `overseer run`, or name its folder with --data-dir")
        self.path = path


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What others need to know of a run."""

    node: str
    run_id: str
    pid: int
    url: str
    http_port: int
    monitor_url: str = ""
    started_ms: int
    # Of the elections, where they have several.
    sites: tuple[str, ...] = ()


class NodeFolder:
    """The folder of one node."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def nats(self) -> Path:
        return self.path / "nats"

    @property
    def sessions(self) -> Path:
        return self.path / "sessions"

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    def store(self, subsystem: str) -> Path:
        """The subsystem's store; its parent exists."""
        parent = self.path / "stores"
        private_folder(parent)
        return parent / subsystem

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Hold the folder for one node. Raises FolderInUse."""
        private_folder(self.path)
        descriptor = os.open(self.path / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderInUse(self.path) from None
            yield
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether a node runs on this folder now."""
        try:
            descriptor = os.open(self.path / "node.lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def tell(self, info: RunInfo) -> None:
        """Let others find this run."""
        write_private(self.run_file, msgspec.json.format(msgspec.json.encode(info), indent=2).decode() + "\n")

    def running(self) -> RunInfo:
        """The run that is on now. Raises NotRunning."""
        if not self.is_locked():
            raise NotRunning(self.path)
        return self.last_run()

    def last_run(self) -> RunInfo:
        """The run that is on now, or the last one. Raises NotRunning when there was none."""
        try:
            return msgspec.json.decode(self.run_file.read_bytes(), type=RunInfo)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            raise NotRunning(self.path) from None
