"""The stores of a node's folder: their journals, each read as of the moment it is opened."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from messages.contract import load
from messages.message import Message
from overseer.node.folder import refuse_past
from overseer.rocks.reader import RocksReader
from overseer.runner import journal
from overseer.runner.schema import Record

__all__ = ["StoredNode"]


class StoredNode:
    """What lies in `<folder>/stores`. Needs no lock and writes nothing: a node may run on the folder."""

    def __init__(self, folder: Path) -> None:
        # Whoever reads journals meets every event there is.
        load()
        self.stores = folder / "stores"

    def subsystems(self) -> list[str]:
        """Names of those that have a store, sites of elections among them; without those that a repair set aside."""
        return sorted(path.name for path in self.stores.glob("*") if (path / "CURRENT").exists() and "." not in path.name)

    def open(self, subsystem: str) -> RocksReader:
        """Its rows as of now; to be closed by the caller. Raises StoreMissing, StoreCorrupted, WrongStore, PastFolder."""
        refuse_past(self.stores.parent)
        return RocksReader.open_read_only(self.stores / subsystem)

    @contextmanager
    def reader(self, subsystem: str) -> Generator[RocksReader, None, None]:
        """As `open`, and closed in the end."""
        reader = self.open(subsystem)
        try:
            yield reader
        finally:
            reader.close()

    def last_index(self, subsystem: str) -> int:
        """Of its newest record; 0 without any. Raises as `reader` does."""
        with self.reader(subsystem) as reader:
            head = journal.read_head(reader)
            return 0 if head is None else head.index

    def first_index(self, subsystem: str) -> int:
        """Of the oldest record that is still there; 0 without any. Raises as `reader` does."""
        with self.reader(subsystem) as reader:
            return journal.first_index(reader)

    def records(self, subsystem: str, *, after: int = 0) -> Iterator[tuple[Record, list[Message]]]:
        """Records behind `after` with their events, as far as the journal still reaches back.

        Raises as `reader` does, and JournalBroken.
        """
        with self.reader(subsystem) as reader:
            first = journal.first_index(reader)
            for record, _ in journal.records(reader, after=max(after, first - 1)):
                yield record, journal.events_of(reader, record)
