"""The seal: how far the store had come, in a file of its own.

RocksDB takes a log or a manifest that ends early for a torn tail, and goes back in time without a word. The seal, renewed at
every opening, checkpoint and closing, catches that for everything before it.
"""

import os
from pathlib import Path

from overseer.ports.store import StoreCorrupted

__all__ = ["check_seal", "sync_folder", "write_seal"]

_FILE = "SEAL"


def write_seal(path: Path, sequence: int) -> None:
    """`sequence`: RocksDB's, of synced writes alone. Atomic and durable."""
    new = path / f"{_FILE}.new"
    with new.open("w") as file:
        file.write(f"{sequence}\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path / _FILE)
    sync_folder(path)


def check_seal(path: Path, sequence: int) -> None:
    """Raise StoreCorrupted if the store, now at `sequence`, had been further. No seal, no check."""
    try:
        text = (path / _FILE).read_text()
    except FileNotFoundError:
        return
    sealed = int(text) if text.strip().isdecimal() else None
    if sealed is None or sequence < sealed:
        what = "the file SEAL is damaged" if sealed is None else f"it ends at write {sequence}, and had come to {sealed}: a file was cut"
        raise StoreCorrupted(what, where=str(path), advice="Restore a backup, or start with an empty folder: the stream rebuilds it.")


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
