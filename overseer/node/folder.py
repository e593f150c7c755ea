"""A node's folder: where everything of it lies, who has it open, and how others find the running node.

<data_dir>/
    node.lock         held while a node runs on this folder
    run.json          the running (or last) run: pid, addresses; for the command line
    keys/             nkey seeds, and in keys/identity what the node signs and opens boxes with, 0600
    settings.toml     what the running (or last) run has been told
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

__all__ = ["PAST_FILE", "FolderInUse", "HalfRestored", "NodeFolder", "NotRunning", "PastFolder", "RunInfo", "refuse_past"]

# It marks a folder as a rebuilt past, that nothing may run on (overseer/history/scratch.py).
PAST_FILE = "past.json"


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


class PastFolder(Exception):
    """The folder holds a rebuilt past, and is no node's."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds a rebuilt past, not a node: ask it with `overseer query MESSAGE --past {path}`")
        self.path = path


def refuse_past(path: Path) -> None:
    """Raises PastFolder."""
    if (path / PAST_FILE).exists():
        raise PastFolder(path)


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
        descriptor = os.open(self.path / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderInUse(self.path) from None
            if self.restoring.exists():
                raise HalfRestored(self.path)
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

    @property
    def settings_file(self) -> Path:
        return self.path / "settings.toml"

    def running(self) -> RunInfo:
        """The run that is on now. Raises NotRunning, PastFolder."""
        refuse_past(self.path)
        if not self.is_locked():
            raise NotRunning(self.path)
        return self.last_run()

    def last_run(self) -> RunInfo:
        """The run that is on now, or the last one. Raises NotRunning when there was none."""
        try:
            return msgspec.json.decode(self.run_file.read_bytes(), type=RunInfo)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            raise NotRunning(self.path) from None
