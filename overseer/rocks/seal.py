"""The seal: how far the store had come, in a file of its own.

RocksDB takes a log or a manifest that ends early for a torn tail, and goes back in time without a word: worse, what a lost tail
of the manifest named (tables, whose logs are gone) is missing in the middle. The seal is renewed at every opening, checkpoint,
closing, and when the manifest has grown; it catches that for everything before it.
"""

import os
import re
from pathlib import Path

import msgspec
from blake3 import blake3

from overseer.ports.store import StoreCorrupted
from overseer.rocks.errors import repair_advice

__all__ = ["Seal", "check_manifest", "check_sequence", "manifest_size", "read_seal", "sync_folder", "write_seal"]

_FILE = "SEAL"
# The sequence; then, since it is kept, the manifest, so much of it, and the hash of that.
_TEXT = re.compile(r"([0-9]{1,20})\n(?:(MANIFEST-[0-9]{1,20}) ([0-9]{1,20}) ([0-9a-f]{64})\n)?")


class Seal(msgspec.Struct, frozen=True):
    """What is known for sure. `sequence` is RocksDB's, of synced writes alone."""

    sequence: int = 0
    manifest: str = ""
    bytes: int = 0
    hash: str = ""


def write_seal(path: Path, sequence: int) -> int:
    """Atomic and durable. Returns the size of the manifest it covers."""
    manifest = _manifest(path)
    data = b"" if manifest is None else manifest.read_bytes()
    named = "" if manifest is None else f"{manifest.name} {len(data)} {blake3(data).hexdigest()}\n"
    new = path / f"{_FILE}.new"
    with new.open("w") as file:
        file.write(f"{sequence}\n{named}")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path / _FILE)
    sync_folder(path)
    return len(data)


def read_seal(path: Path) -> Seal:
    """Nothing is sealed where there is none. Raises StoreCorrupted."""
    try:
        data = (path / _FILE).read_bytes()
    except FileNotFoundError:
        return Seal()
    found = _TEXT.fullmatch(data.decode("ascii", "replace"))
    if found is None:
        raise _damaged(path, "the file SEAL is damaged")
    sequence, manifest, size, digest = found.groups()
    return Seal(int(sequence), manifest or "", int(size or 0), digest or "")


def check_manifest(path: Path, seal: Seal) -> None:
    """Raise StoreCorrupted if the manifest is not the sealed one, or one made after it. Before RocksDB replaces it."""
    if not seal.manifest:
        return
    manifest = _manifest(path)
    if manifest is None or _number(manifest.name) < _number(seal.manifest):
        raise _damaged(path, f"the file CURRENT does not name {seal.manifest}, or one made after it")
    if manifest.name == seal.manifest and blake3(manifest.read_bytes()[: seal.bytes]).hexdigest() != seal.hash:
        raise _damaged(path, f"the file {manifest.name} was cut or is damaged")


def check_sequence(path: Path, seal: Seal, sequence: int) -> None:
    """Raise StoreCorrupted if the store, now at `sequence`, had been further."""
    if sequence < seal.sequence:
        raise _damaged(path, f"it ends at write {sequence}, and had come to {seal.sequence}: a file was cut, or cannot be read")


def manifest_size(path: Path) -> int:
    """Of the present one, in bytes; it grows with every table that is made or dropped."""
    manifest = _manifest(path)
    return 0 if manifest is None else manifest.stat().st_size


def _manifest(path: Path) -> Path | None:
    try:
        name = (path / "CURRENT").read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    manifest = path / name
    return manifest if re.fullmatch(r"MANIFEST-[0-9]{1,20}", name) and manifest.exists() else None


def _number(manifest: str) -> int:
    return int(manifest.partition("-")[2])


def _damaged(path: Path, what: str) -> StoreCorrupted:
    return StoreCorrupted(what, where=str(path), advice=repair_advice(str(path)))


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
