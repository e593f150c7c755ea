"""Folders of damaged stores: what can still be looked at in them, and putting another store in their place.

Nothing here changes a damaged folder but the last step, which keeps it aside under a name with the time.
"""

import ctypes
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from overseer.ports.store import StoreIdentity, StoreLocked, StoreMissing
from overseer.rocks.errors import store_error
from overseer.rocks.identity import OWNER_FILE
from overseer.rocks.options import open_rocks
from overseer.rocks.reader import RocksReader, families
from overseer.rocks.seal import sync_folder

__all__ = ["aside_path", "copied_store", "found_copy", "looks", "put_in_place", "sync_tree", "unowned"]

# What belongs to the process that had the store, not to the store.
_OF_ITS_OWNER = ("LOCK", OWNER_FILE)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def looks(damaged: Path, scratch: Path) -> Iterator[tuple[str, Callable[[], RocksReader]]]:
    """Ways to look into a damaged store, the strictest first, each on a copy of it in `scratch`: what it is, and its opening.

    They show different parts of it, and none can be trusted by itself: only the journal's hash chain tells what is intact.
    """
    yield "as it is", lambda: RocksReader.open_read_only(damaged)
    copy = scratch / "copy"
    copied_store(damaged, copy, links=True)
    (copy / "SEAL").unlink(missing_ok=True)
    yield "up to the damage in its log", lambda: _opened(copy)
    if _mend_current(copy):
        yield "by its newest manifest", lambda: _opened(copy)
    shutil.rmtree(copy)
    # RocksDB's own repair moves and rewrites files: never on links.
    copied_store(damaged, copy, links=False)
    with suppress(Exception):
        Rdict.repair(str(copy), Options(raw_mode=True))
        yield "by the tables that are left", lambda: _opened(copy)


def _opened(path: Path) -> RocksReader:
    """Up to the first damage in the log, tables as they are met. Raises StoreError."""
    try:
        tables = families(path)
        db = open_rocks(str(path), tables, access=AccessType.read_only(False), tolerant=True)
    except Exception as error:
        raise store_error(error, str(path), "looking into it") from None
    return RocksReader(path, db, tables)


def _mend_current(copy: Path) -> bool:
    """Name the newest manifest in CURRENT; False when it does so already, or there is none."""
    manifests = sorted(copy.glob("MANIFEST-*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    if not manifests:
        return False
    wanted = f"{manifests[-1].name}\n".encode()
    current = copy / "CURRENT"
    if current.exists() and current.read_bytes() == wanted:
        return False
    current.unlink(missing_ok=True)
    current.write_bytes(wanted)
    return True


def copied_store(source: Path, target: Path, *, links: bool = False) -> None:
    """Copy a store's folder with its checkpoints, without what belongs to its owner. `links`: tables, which nobody changes, as links."""

    def copy(file: str, to: str) -> None:
        if links and file.endswith(".sst"):
            with suppress(OSError):
                os.link(file, to)
                return
        shutil.copy2(file, to)

    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_OF_ITS_OWNER, "*.aside-*"), copy_function=copy)


def aside_path(place: Path, now: datetime) -> Path:
    """Where a folder is kept that another takes the place of: beside it, under a name with the time."""
    name = f"{place.name}.aside-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1000):
        path = place.with_name(name if not number else f"{name}-{number}")
        if not path.exists():
            return path
    raise FileExistsError(f"{place.with_name(name)} and a thousand more")


@contextmanager
def unowned(place: Path) -> Generator[None, None, None]:
    """While nobody can open the store there, if there is one. Raises StoreLocked."""
    if not (place / OWNER_FILE).exists():
        yield
        return
    with (place / OWNER_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreLocked("a process has this store open", where=str(place), advice="Stop it first.") from None
        yield


def put_in_place(new: Path, place: Path, now: datetime) -> Path | None:
    """Put the folder `new` in the place of `place`, on disk when this returns. Returns where the old one is, if there was one.

    At no moment is the place empty, where the system can exchange two names: whoever found nothing there would make a new store.
    """
    sync_tree(new)
    if not place.exists():
        new.rename(place)
        sync_folder(place.parent)
        return None
    aside = aside_path(place, now)
    if _exchanged(new, place):
        new.rename(aside)
    else:
        place.rename(aside)
        new.rename(place)
    sync_folder(place.parent)
    return aside


def _exchanged(one: Path, other: Path) -> bool:
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def sync_tree(folder: Path) -> None:
    """All files and names below `folder` are on disk when this returns."""
    for parent, _, files in os.walk(folder):
        for name in files:
            handle = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def found_copy(given: Path, identity: StoreIdentity) -> Path:
    """The store that `given` means: a store's folder, a checkpoint's, or a copy of a whole node's. Raises StoreMissing."""
    for path in (given, given / "stores" / identity.subsystem, given / identity.subsystem):
        if (path / "CURRENT").exists():
            return path
    raise StoreMissing("there is no store", where=str(given), advice="Name the folder of a store, of a checkpoint, or of a copied node.")
