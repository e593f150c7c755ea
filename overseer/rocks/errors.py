"""What RocksDB says, as the Store port's errors: rocksdict raises plain exceptions that differ in their text alone."""

from overseer.ports.store import StoreCorrupted, StoreError, StoreFull, StoreLocked, WrongStore

__all__ = ["store_error"]

_LOCKED = ("lock hold by current process", "While lock file", "No locks available")
_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "Space limit reached")
# rocksdict marks the databases that it keeps in pickled form by a comparator of its own.
_FOREIGN = ("does not match existing comparator",)
_MISSING = ("No such file or directory",)


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
            advice="It is not used any more. Keep the folder for inspection, and restore a backup or start with an empty folder: "
            "the stream and the producers rebuild it.",
        )
    return StoreError(f"{doing} failed ({text})", where=path, advice="The handle is dead: start again and look at the disk.")
