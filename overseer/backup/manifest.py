"""What a backup says of itself.

<backup>/
    BACKUP            the last thing written: the hash of the manifest
    manifest.json     versions, node, time, stores and streams as of when, and each file's size and BLAKE3
    settings.toml     what the node was told when it last ran
    run.json          of that run
    keys/             as in the node's folder, 0600
    network/          the network's nodes, if the node knows any
    stores/<name>/    each a store as of one moment, with its checkpoints
    streams/<NAME>/   backup.json and stream.tar.s2, as `nats stream restore` takes them
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from blake3 import blake3

from overseer.release import RELEASE, is_newer

__all__ = [
    "FORMAT",
    "MANIFEST",
    "SEAL",
    "BackupRefused",
    "FileEntry",
    "Manifest",
    "StoreEntry",
    "StreamEntry",
    "damaged_files",
    "hash_of",
    "read_manifest",
    "seal_text",
]

# Raise when a backup is laid out in a way that older code cannot restore.
FORMAT = 1
MANIFEST = "manifest.json"
SEAL = "BACKUP"
PIECE_BYTES = 1024 * 1024
_SEAL = re.compile(r"overseer backup ([0-9]{1,9})\n([0-9a-f]{64})\n")


class BackupRefused(Exception):
    """A backup that cannot be taken, used or restored: why, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    bytes: int
    blake3: str


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """How far a store had taken a stream: its random id, and the sequence."""

    stream: str
    sequence: int


class StoreEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A store as of its moment. `index`: its newest journal record (of a site of the elections, which has no journal: 0)."""

    name: str
    schema: int
    release: str
    evolve_version: int = 0
    index: int = 0
    # By stream.
    positions: dict[str, Reached] = {}


class StreamEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as of a later moment than every store. `id` is the random one of its metadata, "" without."""

    name: str
    id: str
    first: int
    last: int
    messages: int
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    release: str = RELEASE
    node: str
    made_ms: int
    took_ms: int
    # Whether the node ran meanwhile.
    running: bool
    stores: list[StoreEntry]
    streams: list[StreamEntry]
    files: list[FileEntry]
    # What the node has and this backup has not, each in a sentence.
    left_out: list[str] = []

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def seal_text(manifest: bytes) -> str:
    return f"overseer backup {FORMAT}\n{blake3(manifest).hexdigest()}\n"


def read_manifest(backup: Path) -> Manifest:
    """Raises BackupRefused when this is no backup, was broken off, is damaged, or was made by a newer release."""
    if not backup.is_dir():
        raise BackupRefused(f"There is no folder {backup}.", "Name the folder of a backup.")
    if not (backup / SEAL).exists():
        unfinished = backup.name.endswith(".unfinished") or (backup / "stores").is_dir()
        problem = f"{backup} is no whole backup: it was broken off." if unfinished else f"{backup} is no backup."
        raise BackupRefused(problem, "Name a folder that `overseer backup` ended with.")
    found = _SEAL.fullmatch((backup / SEAL).read_bytes().decode("ascii", "replace"))
    if found is None:
        raise BackupRefused(f"{backup / SEAL} is damaged.", "Take another backup.")
    if int(found[1]) > FORMAT:
        raise BackupRefused(f"{backup} was made by a newer release.", f"This is release {RELEASE}: use that one.")
    data = (backup / MANIFEST).read_bytes() if (backup / MANIFEST).exists() else b""
    if blake3(data).hexdigest() != found[2]:
        raise BackupRefused(f"{backup / MANIFEST} is damaged or missing.", "Take another backup.")
    manifest = msgspec.json.decode(data, type=Manifest)
    if is_newer(manifest.release, RELEASE):
        raise BackupRefused(
            f"{backup} was made by release {manifest.release}, this is release {RELEASE}.", "Use that release, or a newer one."
        )
    return manifest


def hash_of(path: Path) -> str:
    """BLAKE3 of a file's content, in hexadecimal."""
    digest = blake3()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def damaged_files(backup: Path, manifest: Manifest) -> Iterator[str]:
    """What is not as the manifest says, a sentence for each file: missing, damaged, or too many."""
    known = {file.path for file in manifest.files}
    for file in manifest.files:
        path = backup / file.path
        if not path.is_file():
            yield f"{file.path} is missing"
        elif path.stat().st_size != file.bytes:
            yield f"{file.path} has {path.stat().st_size} bytes, and had {file.bytes}"
        elif hash_of(path) != file.blake3:
            yield f"{file.path} is damaged: its hash is another"
    for path in sorted(backup.rglob("*")):
        name = str(path.relative_to(backup))
        if path.is_file() and name not in known and name not in (SEAL, MANIFEST):
            yield f"{name} does not belong to the backup"
