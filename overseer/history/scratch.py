"""A rebuilt past kept as a folder: the tables of a moment in stores of their own, to be asked without a node.

<folder>/
    past.json         whose past it is, and of which moment
    stores/<name>/    the tables of that subsystem; nothing else runs on them: a node refuses the folder, a subsystem the store
"""

import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from overseer.history.journals import Place
from overseer.history.past import PastState
from overseer.nats.private_files import private_folder, write_private
from overseer.node.folder import PAST_FILE
from overseer.node.hosting import STORE_SCHEMA, table_names
from overseer.ports.store import StoreIdentity
from overseer.rocks.reader import RocksReader
from overseer.rocks.store import RocksStore
from overseer.subsystem import Declaration
from overseer.tables import Rows, WriteSet

__all__ = ["NoPast", "Scratch", "ScratchNote"]

# Rows written at a time: they bound the memory beside the state itself.
_CHUNK_ROWS = 5_000


class NoPast(Exception):
    """The folder cannot be used: it holds no rebuilt past, or is none to make one in."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class ScratchNote(msgspec.Struct, frozen=True, kw_only=True):
    """What `past.json` says. `moment`: as it was asked for; `complete`: whether all of it was written."""

    node: str
    source: str
    moment: str
    made_ms: int
    complete: bool = False
    places: list[Place] = []


class Scratch:
    """The folder of one rebuilt past."""

    def __init__(self, folder: Path, note: ScratchNote) -> None:
        self.folder = folder
        self.note = note

    @staticmethod
    @contextmanager
    def being_made(folder: Path, *, node: str, source: Path, moment: str) -> Generator["Scratch", None, None]:
        """A new one, to be filled by `keep`. Nothing is left of it when that fails. Raises NoPast, OSError."""
        folder = folder.absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise NoPast(f"{folder} is not empty.", "Name a new folder.")
        there = folder.is_dir()
        private_folder(folder)
        made_ms = int(time.time() * 1000)
        scratch = Scratch(folder, ScratchNote(node=node, source=str(source.absolute()), moment=moment, made_ms=made_ms))
        try:
            scratch._write()
            yield scratch
            scratch.note = msgspec.structs.replace(scratch.note, complete=True)
            scratch._write()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            if there:
                private_folder(folder)
            raise

    @staticmethod
    def at(folder: Path) -> "Scratch":
        """Raises NoPast."""
        try:
            note = msgspec.json.decode((folder / PAST_FILE).read_bytes(), type=ScratchNote)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            raise NoPast(f"{folder} holds no rebuilt past.", "Make one: overseer replay --until MOMENT --into FOLDER") from None
        if not note.complete:
            raise NoPast(f"The rebuilt past in {folder} was never finished.", "Remove the folder and make it again.")
        return Scratch(folder.absolute(), note)

    async def keep(self, declaration: Declaration, state: PastState) -> None:
        """Write the tables of `state`. Raises StoreError."""
        stores = self.folder / "stores"
        private_folder(stores)
        identity = StoreIdentity(self.note.node, _owner(declaration.name), STORE_SCHEMA)
        store = RocksStore.open(stores / declaration.name, tables=table_names(declaration), identity=identity)
        try:
            for writes in _chunks(declaration, state.rows):
                await store.commit(writes)
        finally:
            store.close()
        self.note = msgspec.structs.replace(self.note, places=[*self.note.places, state.place])

    @contextmanager
    def state(self, subsystem: str) -> Generator[PastState, None, None]:
        """What is kept of `subsystem`. Raises NoPast, StoreError."""
        place = next((place for place in self.note.places if place.subsystem == subsystem), None)
        if place is None:
            kept = ", ".join(place.subsystem for place in self.note.places)
            raise NoPast(f"{self.folder} holds nothing of {subsystem}.", f"It holds: {kept}. Replay with {subsystem}, too.")
        reader = RocksReader.open_read_only(self.folder / "stores" / subsystem)
        try:
            yield PastState(place=place, rows=reader, from_index=place.index, records=0, seconds=0.0)
        finally:
            reader.close()

    def _write(self) -> None:
        write_private(self.folder / PAST_FILE, msgspec.json.format(msgspec.json.encode(self.note), indent=2).decode() + "\n")


def _owner(subsystem: str) -> str:
    """As whose the store is marked, so that no subsystem takes it for its own."""
    return f"{subsystem} (its past)"


def _chunks(declaration: Declaration, rows: Rows) -> Iterator[WriteSet]:
    writes, count = WriteSet(), 0
    for table in declaration.tables:
        for key, value in rows.scan(table.name, b"", None):
            writes.put(table.name, key, value)
            count += 1
            if count == _CHUNK_ROWS:
                yield writes
                writes, count = WriteSet(), 0
    if count:
        yield writes
