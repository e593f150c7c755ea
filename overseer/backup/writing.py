"""Writing a backup's files: each hashed while it is written, synced, and only its owner's to read."""

import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from overseer.backup.manifest import PIECE_BYTES, BackupRefused, FileEntry
from overseer.nats.private_files import is_draft
from overseer.rocks.pinned import PinnedStore
from overseer.rocks.seal import sync_folder

__all__ = ["Draft", "pieces_of", "sync_folders"]

# A folder in which others write: so often it is looked at, with a pause between.
_TRIES = 200
_PAUSE_S = 0.05


class Draft:
    """A folder that is being filled. `files` lists what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[FileEntry] = []

    def write(self, name: str, pieces: Iterable[bytes]) -> str:
        """A file of these pieces, on disk when this returns; its hash. Raises OSError."""
        with self.open(name) as file:
            for piece in pieces:
                file.write(piece)
        return self.files[-1].blake3

    def open(self, name: str) -> "DraftFile":
        return DraftFile(self, name, self._place(name))

    def _place(self, name: str) -> Path:
        """Where a file goes; the folders on the way are its owner's alone."""
        path = self.folder / name
        missing: list[Path] = []
        while not (parent := (missing[-1] if missing else path).parent).is_dir():
            missing.append(parent)
        for folder in reversed(missing):
            folder.mkdir(mode=0o700)
        return path

    def copy_tree(self, source: Path, name: str) -> None:
        """All files below `source`, as of one moment; unfinished ones are left out. Raises BackupRefused, OSError."""
        for path, content in _at_one_moment(source).items():
            self.write(f"{name}/{path.relative_to(source)}", [content])

    def copy_store(self, store: PinnedStore, name: str) -> None:
        """A pinned store; what has several names in it is written once, and linked."""
        written: dict[tuple[int, int], FileEntry] = {}
        for file in store.files:
            path = f"{name}/{file.path}"
            there = written.get(file.inode)
            if there is None:
                self.write(path, file.pieces(PIECE_BYTES))
                written[file.inode] = self.files[-1]
            else:
                self.link(there, path)

    def link(self, there: FileEntry, name: str) -> None:
        """Another name for a file that is there."""
        os.link(self.folder / there.path, self._place(name))
        self.files.append(FileEntry(path=name, bytes=there.bytes, blake3=there.blake3))


class DraftFile:
    """One file being written; on disk, and listed, when it is closed without an error."""

    def __init__(self, draft: Draft, name: str, path: Path) -> None:
        self._draft = draft
        self._name = name
        self._digest = blake3()
        self._bytes = 0
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._bytes += len(piece)
        self._file.write(piece)

    def __enter__(self) -> "DraftFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with self._file:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if error is None:
            self._draft.files.append(FileEntry(path=self._name, bytes=self._bytes, blake3=self._digest.hexdigest()))


def _at_one_moment(source: Path) -> dict[Path, bytes]:
    """What is in all files below `source`, read while none came, went or became another. Raises BackupRefused, OSError.

    Read one by one while keys are rotated, an old key is kept whose next one has just gone into its place. And a listing
    may lack a name that is replaced during it (POSIX leaves that open).
    """
    for _ in range(_TRIES):
        before = _listed(source)
        try:
            contents = {path: path.read_bytes() for path in before}
        except FileNotFoundError:
            contents = None
        if contents is not None and _listed(source) == before:
            return contents
        time.sleep(_PAUSE_S)
    raise BackupRefused(
        f"The files in {source} are being changed all the time.",
        "Wait until whoever does it is done (`overseer keys rotate`, say), then take the backup again.",
    )


def _listed(source: Path) -> dict[Path, tuple[int, ...]]:
    """The files below `source` in order, each with what shows that it is still the same. Raises OSError."""
    found: dict[Path, tuple[int, ...]] = {}
    for parent, _, names in os.walk(source, onerror=_unless_gone):
        for name in names:
            path = Path(parent) / name
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode) and not is_draft(name):
                found[path] = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    return dict(sorted(found.items()))


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def pieces_of(path: Path) -> Iterable[bytes]:
    """A file's content."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def sync_folders(folder: Path) -> None:
    """All names below `folder` are on disk when this returns."""
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))
