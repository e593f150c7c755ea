"""A node's folder: where everything of it lies, who has it open, and how others find the running node.

<data_dir>/
    node.lock         held while a node runs on this folder, or a command works on it; of a node that can be found it holds the run's id
    run.json          the running (or last) run: pid, addresses; for the command line
    keys/             nkey seeds, and in keys/identity what the node signs and opens boxes with, 0600
    settings.toml     what the running (or last) run has been told
    sessions/         a key for each attempt at electing a consensus group that the node takes part in, 0600
    nats/             the embedded server: configuration, log, streams
    stores/<name>/    one RocksDB for each subsystem
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from overseer.nats.private_files import private_folder, write_private

__all__ = ["PAST_FILE", "FolderInUse", "HalfRestored", "NodeFolder", "NotRunning", "NotTold", "PastFolder", "RunInfo", "refuse_past"]

# It marks a folder as a rebuilt past, that nothing may run on (overseer/history/scratch.py).
PAST_FILE = "past.json"
# Who only looks whether the folder is held has it for an instant itself: who wants it tries so often.
_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.02


class FolderInUse(Exception):
    """Another node runs on this folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another node is running on {path}: stop it first, or choose another --data-dir")
        self.path = path


class HalfRestored(Exception):
    """A backup was being restored here, and that was broken off."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the restoring of a backup into {path} was broken off: remove what is in the folder, and restore it again")
        self.path = path


class NotRunning(Exception):
    """No node runs on this folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no node is running on {path}: start one with `overseer run`, or name its folder with --data-dir")
        self.path = path


class NotTold(NotRunning):
    """Somebody holds this folder who does not tell where, or not yet: a node that is starting, or a command that works on it."""

    def __init__(self, path: Path) -> None:
        what = "a node that is just starting, or a backup, repair or migration: try again in a moment"
        Exception.__init__(self, f"{path} is held by {what}. Of a testnet name the folder of a node")
        self.path = path


class PastFolder(Exception):
    """The folder holds a rebuilt past, and is no node's."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds a rebuilt past, not a node: ask it with `overseer query MESSAGE --past {path}`")
        self.path = path


def refuse_past(path: Path) -> None:
    """Raises PastFolder."""
    if (path / PAST_FILE).exists():
        raise PastFolder(path)


def _taken(descriptor: int, kind: int, *, tries: int) -> bool:
    """Whether the lock is ours now, and not another process's."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError:
            if left:
                time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


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
    # Milliseconds between two blocks, of a feed that goes on for ever; 0: there is none.
    feed_ms: int = 0
    # There are other nodes.
    networked: bool = False


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
    def _lock(self) -> Path:
        return self.path / "node.lock"

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def restoring(self) -> Path:
        """There while a backup is being restored here: until then nothing may run."""
        return self.path / ".restoring"

    def store(self, subsystem: str) -> Path:
        """The subsystem's store; its parent exists."""
        parent = self.path / "stores"
        private_folder(parent)
        return parent / subsystem

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Hold the folder for one node. Raises FolderInUse, PastFolder, HalfRestored."""
        refuse_past(self.path)
        private_folder(self.path)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _taken(descriptor, fcntl.LOCK_EX, tries=_LOCK_TRIES):
                raise FolderInUse(self.path)
            # Whoever held it before told of a run that is over.
            os.ftruncate(descriptor, 0)
            if self.restoring.exists():
                raise HalfRestored(self.path)
            yield
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether somebody holds this folder now: a node, or a command that works on it."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            # Shared: two that look do not take each other for a holder.
            return not _taken(descriptor, fcntl.LOCK_SH, tries=1)
        finally:
            os.close(descriptor)

    def tell(self, info: RunInfo) -> None:
        """Let others find this run, whose folder is locked."""
        write_private(self.run_file, msgspec.json.format(msgspec.json.encode(info), indent=2).decode() + "\n")
        # In the file that is locked, which must stay the same: it says that run.json is the holder's.
        with self._lock.open("r+") as lock:
            lock.write(info.run_id)

    @property
    def settings_file(self) -> Path:
        return self.path / "settings.toml"

    def running(self) -> RunInfo:
        """The run that is on now. Raises NotRunning, NotTold, PastFolder."""
        refuse_past(self.path)
        if not self.is_locked():
            raise NotRunning(self.path)
        with suppress(NotRunning):
            info = self.last_run()
            if self._lock.read_text(errors="replace") == info.run_id:
                return info
        raise NotTold(self.path)

    def last_run(self) -> RunInfo:
        """The run that is on now, or the last one. Raises NotRunning when there was none."""
        try:
            return msgspec.json.decode(self.run_file.read_bytes(), type=RunInfo)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            raise NotRunning(self.path) from None
