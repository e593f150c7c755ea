"""From a journal record to the one that caused it, and to those that it caused: over subsystems, timers and nodes.

A message of a subsystem names the record that it comes from (`Overseer-Id`), so its cause is one look away. What operators and feeds
say ends a trail; so does what a checkpoint took, and a node whose folder was not given. Each end says why.
"""

import enum
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from messages.message import Message
from messages.subjects import MessageId
from overseer.history.stored import StoredNode
from overseer.history.trails import Found, Journal, Place, Step
from overseer.node.folder import NodeFolder, NotRunning
from overseer.runner.intake import is_outside
from overseer.runner.schema import JOURNAL, Record
from overseer.tables import Rows

__all__ = ["Ending", "History", "NoHistory", "NodeHistory", "Origin", "opened"]

_NET = "net"


class Ending(enum.StrEnum):
    """Why a trail ends."""

    # Somebody outside said it: a person, a feed, the overseer.
    OUTSIDE = "outside"
    # The subsystem's runner noted it by itself.
    OWN = "own"
    # The record is not there: it went behind a checkpoint, or with the store it was in.
    GONE = "gone"
    # Another node said it, whose folder was not given.
    ELSEWHERE = "elsewhere"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record's input came from: another record, or else the `ending` of the trail. `node`: who said it, when another node did."""

    step: Step | None = None
    ending: Ending | None = None
    why: str = ""
    node: str = ""


class NodeHistory:
    """One node's journals by subsystem, and all its stores (a site of elections has no journal)."""

    def __init__(self, name: str, stores: Mapping[str, Rows], tables: Mapping[str, Sequence[str]]) -> None:
        self.name = name
        self.stores = stores
        self.tables = tables
        self.journals = {
            subsystem: Journal(name, subsystem, rows) for subsystem, rows in stores.items() if JOURNAL.name in tables[subsystem]
        }

    def find(self, subsystem: str, kinds: Sequence[type[Message]], *needles: bytes) -> Iterator[Found]:
        """Events of one subsystem in whose bytes all needles are, in order; none where it has no journal here."""
        journal = self.journals.get(subsystem)
        return iter(()) if journal is None else journal.find(kinds, *needles)

    def shortened(self, *subsystems: str) -> list[str]:
        """Of which of these journals the beginning is not there any more, in a sentence each."""
        return [self.cut_short(name) for name in subsystems if name in self.journals and self.journals[name].first > 1]

    def cut_short(self, subsystem: str) -> str:
        """From where on a journal is there, when what was before went behind a checkpoint; else ""."""
        journal = self.journals.get(subsystem)
        if journal is None:
            return f"{self.name} has no journal of {subsystem}"
        return journal.begins if journal.first > 1 else ""


class History:
    """The journals of one node or several. What looking into them raises: JournalBroken, StoreError."""

    def __init__(self, nodes: Sequence[NodeHistory]) -> None:
        self.nodes = {node.name: node for node in nodes}
        # The one that is asked about.
        self.node = nodes[0]
        # What was found once: trails share their ends.
        self._origins: dict[Place, Origin] = {}

    def step(self, place: Place) -> Step | None:
        """That record, if it is there."""
        node = self.nodes.get(place.node)
        journal = None if node is None else node.journals.get(place.subsystem)
        return None if journal is None else journal.step(place.index)

    # -------------------------------------------------------------------------------------------- backwards

    def origin(self, place: Place, record: Record) -> Origin:
        """What led to the record at that place."""
        if place not in self._origins:
            self._origins[place] = self._origin(place, record)
        return self._origins[place]

    def _origin(self, place: Place, record: Record) -> Origin:
        cause, journal = record.cause, self.nodes[place.node].journals[place.subsystem]
        if not cause.stream:
            if record.result.status == "system":
                return Origin(ending=Ending.OWN, why=f"noted by the runner of {place.subsystem}")
            return self._timer(journal, cause.id.removeprefix("timer:"), place)
        if not cause.sender or is_outside(cause.sender):
            return Origin(ending=Ending.OUTSIDE)
        said = MessageId.parse(cause.id)
        if cause.stream == _NET:
            return self._net_origin(journal, said)
        return self._said_by(self.nodes[place.node], said)

    def _timer(self, journal: Journal, timer: str, place: Place) -> Origin:
        index = journal.set_by(timer, place.index)
        step = journal.step(index) if index else None
        gone = f"the record that set the timer {timer} went behind a checkpoint: {journal.subsystem} begins with record {journal.first}"
        return Origin(step=step) if step is not None else Origin(ending=Ending.GONE, why=gone)

    def _net_origin(self, journal: Journal, said: MessageId) -> Origin:
        name = journal.node_of(said.sender, said.incarnation) or self._owner(said)
        node = self.nodes.get(name)
        if node is None:
            other = f"node {name}" if name else f"a node of incarnation {said.incarnation[:8]}"
            why = f"{other} said it as {said.sender}:{said.sequence}: give its folder too, to go on there"
            return Origin(ending=Ending.ELSEWHERE, why=why, node=name)
        return msgspec.structs.replace(self._said_by(node, said), node=name)

    def _owner(self, said: MessageId) -> str:
        """The given node whose store is of that incarnation: the receiver has no word of it behind a repair."""
        owners = (n.name for n in self.nodes.values() if said.sender in n.journals and not n.journals[said.sender].lacks(said))
        return next(owners, "")

    @staticmethod
    def _said_by(node: NodeHistory, said: MessageId) -> Origin:
        journal = node.journals.get(said.sender)
        if journal is None:
            return Origin(ending=Ending.GONE, why=f"{node.name} has no journal of {said.sender}")
        why = journal.lacks(said)
        step = None if why else journal.step(said.sequence)
        return Origin(step=step) if step is not None else Origin(ending=Ending.GONE, why=why or f"record {said.sequence} is not there")

    # -------------------------------------------------------------------------------------------- forwards

    def followed(self, place: Place) -> Iterator[Step]:
        """Records that came of this one at once: by its messages, in all subsystems and nodes, and by its timers."""
        own = self.nodes[place.node].journals[place.subsystem]
        step = own.step(place.index)
        if step is None:
            return
        for node in self.nodes.values():
            for journal in node.journals.values():
                for incarnation in own.incarnations_of(place.index):
                    yield from _steps(journal, journal.followers(place.subsystem, incarnation, place.index))
        yield from _steps(own, own.fired(step.record))

    def took(self, stream: str, sequence: int) -> list[Step]:
        """Records of the node asked about that took the message at that place of a stream."""
        found = [step for journal in self.node.journals.values() for step in _steps(journal, journal.took(stream, sequence))]
        return sorted(found, key=lambda step: step.place)


def _steps(journal: Journal, indices: Sequence[int]) -> Iterator[Step]:
    return (step for index in indices if (step := journal.step(index)) is not None)


# ------------------------------------------------------------------------------------------------ opening


@contextmanager
def opened(folders: Sequence[Path]) -> Generator[History, None, None]:
    """The journals in these nodes' folders, each as of now; a testnet's folder stands for all its nodes.

    The first folder is that of the node asked about. Raises StoreError; a folder without stores is left out.
    """
    with ExitStack() as stack:
        found: list[NodeHistory] = []
        for folder in (each for given in folders for each in _nodes_of(given)):
            stored = StoredNode(folder)
            readers = {name: stack.enter_context(stored.reader(name)) for name in stored.subsystems()}
            if readers:
                tables = {name: reader.tables() for name, reader in readers.items()}
                found.append(NodeHistory(_name_of(folder, {node.name for node in found}), readers, tables))
        if not found:
            raise NoHistory(folders)
        yield History(found)


class NoHistory(Exception):
    """There is no store in any of the folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        super().__init__(f"there are no stores in {', '.join(map(str, folders))}")


def _nodes_of(folder: Path) -> list[Path]:
    """A node's own folder, or those within a testnet's."""
    if (folder / "stores").is_dir():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/stores")) or [folder]


def _name_of(folder: Path, taken: set[str]) -> str:
    """As in the last run on it. Two of one name (a copy, say) are told apart by their folders."""
    try:
        name = NodeFolder(folder).last_run().node
    except (NotRunning, OSError):
        name = folder.absolute().name
    return name if name not in taken else str(folder)
