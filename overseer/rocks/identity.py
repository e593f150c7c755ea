"""Whose store a folder holds: a row in the default column family, read before anything is changed."""

from pathlib import Path
from typing import cast

import msgspec
from rocksdict import AccessType, Rdict

from messages.codec import decode_value, encode_value
from overseer.ports.store import StoreCorrupted, StoreIdentity, StoreMissing, WrongStore
from overseer.release import is_newer
from overseer.rocks.errors import repair_advice, store_error
from overseer.rocks.options import open_rocks

__all__ = ["check_identity", "check_place", "pack_identity", "read_identity"]

IDENTITY_KEY = b"overseer.store"
# Of whoever holds the store; also tells our folders from others.
OWNER_FILE = "OWNER"


class _Marker(msgspec.Struct, frozen=True):
    """`format` guards this row's own form."""

    format: int
    node: str
    subsystem: str
    schema: int
    release: str = ""


class _Note(msgspec.Struct):
    raw_mode: bool = True


def pack_identity(identity: StoreIdentity) -> bytes:
    return encode_value(_Marker(1, identity.node, identity.subsystem, identity.schema, identity.release))


def read_identity(db: Rdict, path: str) -> StoreIdentity:
    """Raises WrongStore when there is no marker that we understand, StoreCorrupted when it was lost."""
    try:
        data = cast("bytes | None", db.get(IDENTITY_KEY))
    except Exception as error:
        raise store_error(error, path, "reading whose it is") from None
    if data is None:
        if (Path(path) / OWNER_FILE).exists():
            raise StoreCorrupted("whose it is cannot be read any more: a file is damaged or gone", where=path, advice=repair_advice(path))
        raise WrongStore("it is a RocksDB, but not a store of ours", where=path, advice="Choose another folder.")
    try:
        marker = decode_value(_Marker, data)
    except ValueError:
        raise WrongStore("its identity cannot be read: a newer release wrote it", where=path, advice="Run that release.") from None
    return StoreIdentity(marker.node, marker.subsystem, marker.schema, marker.release)


def check_identity(found: StoreIdentity, wanted: StoreIdentity, path: str) -> None:
    """Raise WrongStore unless `wanted` may open what was found."""
    if (found.node, found.subsystem) != (wanted.node, wanted.subsystem):
        raise WrongStore(
            f"it is the store of {found.subsystem} on node {found.node}, not of {wanted.subsystem} on node {wanted.node}",
            where=path,
            advice="Point this subsystem to its own folder.",
        )
    newer = is_newer(found.release, wanted.release)
    if newer or found.schema > wanted.schema:
        wrote = f"release {found.release or 'newer than this'} wrote it, this is release {wanted.release or '(unknown)'}"
        schema = f" (its schema is {found.schema}, this release knows up to {wanted.schema})" if found.schema > wanted.schema else ""
        raise WrongStore(
            f"{wrote}{schema}",
            where=path,
            advice="A store does not go back to an older release: run the one that wrote it, or a newer one, "
            "or restore a backup that the older one made.",
        )


def check_place(path: Path, identity: StoreIdentity, *, create: bool) -> bool:
    """Whether a database is there and ours; False when it is to be created. Nothing is changed.

    Raises WrongStore, StoreMissing, StoreCorrupted.
    """
    if (path / "CURRENT").exists():
        return _peek(path, identity)
    if path.is_dir():
        if any(path.glob("*.sst")) or any(path.glob("[0-9]*.log")):
            raise StoreCorrupted("the file CURRENT is missing", where=str(path), advice=repair_advice(str(path)))
        # A creation that was interrupted leaves our owner file and some of RocksDB's.
        if any(path.iterdir()) and not (path / OWNER_FILE).exists():
            raise WrongStore("the folder is not empty, and no store", where=str(path), advice="Choose another folder.")
    if not create:
        raise StoreMissing("there is no store", where=str(path), advice="Check the folder, and whether the node ever ran.")
    return False


def _pickled(path: Path) -> bool:
    """Whether rocksdict's own note says that the database is in its pickled form. Opening it raw would rewrite that note."""
    try:
        return msgspec.json.decode((path / "rocksdict-config.json").read_bytes(), type=_Note).raw_mode is False
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return False


def _peek(path: Path, identity: StoreIdentity) -> bool:
    """Check the marker of what is there, opened for reading. False: it was being created and holds nothing yet."""
    if _pickled(path):
        raise WrongStore("it is a RocksDB in pickled form, not a store of ours", where=str(path), advice="Choose another folder.")
    try:
        db = open_rocks(str(path), [], access=AccessType.read_only(False))
    except Exception as error:
        raise store_error(error, str(path), "opening it") from None
    try:
        if db.latest_sequence_number() == 0:
            return False
        check_identity(read_identity(db, str(path)), identity, str(path))
    finally:
        db.close()
    return True
