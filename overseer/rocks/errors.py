"""What RocksDB says, as the Store port's errors: rocksdict raises plain exceptions that differ in their text alone."""

from pathlib import Path

from overseer.ports.store import StoreCorrupted, StoreError, StoreFull, StoreLocked, WrongStore

__all__ = ["repair_advice", "store_error"]

_LOCKED = ("lock hold by current process", "While lock file", "No locks available")
_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "Space limit reached")
# rocksdict marks the databases that it keeps in pickled form by a comparator of its own.
_FOREIGN = ("does not match existing comparator",)
_MISSING = ("No such file or directory",)


def repair_advice(path: str) -> str:
    """What to do about a damaged store, or about a checkpoint of one."""
    place = Path(path)
    name = (place.parent.parent if place.parent.name == "checkpoints" else place).name
    return (
        f"It is not used any more. Stop the node, then restore a backup (`overseer repair {name} --from COPY`), or rebuild it "
        f"(`overseer repair {name} --replay`)"
    )


def store_error(error: BaseException, path: str, doing: str) -> StoreError:
    """The error of `doing` something at `path`."""
    text = str(error)
    if any(mark in text for mark in _LOCKED):
        return StoreLocked(f"another process has this store open ({text})", where=path, advice="Stop that process, or use another folder.")
    if any(mark in text for mark in _FOREIGN):
        return WrongStore(f"it is a RocksDB, but not a store of ours ({text})", where=path, advice="Choose another folder.")
    if any(mark in text for mark in _FULL):
        return StoreFull(f"no space left while {doing} ({text})", where=path, advice="Free space on this disk, then start again.")
    if "Corruption" in text or "checksum mismatch" in text or any(mark in text for mark in _MISSING):
        return StoreCorrupted(
            f"the store is damaged, seen while {doing} ({text})",
            where=path,
            advice=repair_advice(path),
        )
    return StoreError(f"{doing} failed ({text})", where=path, advice="The handle is dead: start again and look at the disk.")
