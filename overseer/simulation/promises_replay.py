"""State is a function of the journal, and so is what was told: both are computed anew from what was recorded, and compared."""

from collections.abc import Iterable, Mapping, Sequence

import cbor2
import msgspec
from blake3 import blake3

from messages.codec import decode_value, encode
from messages.message import Kind, Message
from messages.overseer import IncarnationStarted, Parked
from messages.subjects import HEADER_ID, MessageId, SubjectError, build, parse
from overseer.memory.rows import MemoryRows
from overseer.ports.bus import StoredMessage
from overseer.ports.store import StoreReader
from overseer.runner.schema import HEAD, JOURNAL, Head, Record
from overseer.simulation.scenario import AtRest, Cast, Violation, Watcher
from overseer.subsystem import Subsystem
from overseer.tables import Overlay, Tables

__all__ = ["Replay", "told_by"]

Place = tuple[str, str]


class _Sent(msgspec.Struct, frozen=True):
    """A message of a subsystem in a stream."""

    sequence: int
    incarnation: str
    subject: str
    body: bytes


class Replay(Watcher):
    """At rest the tables are those that `evolve` makes of all recorded events, and the stream has what `react` makes of them.

    The journal on the disk is what was seen to become durable, chained by hash.
    """

    name = "replay"

    def __init__(self, casts: Mapping[str, Cast]) -> None:
        self._casts = {node: {name: make() for name, make in cast.items()} for node, cast in casts.items()}
        self._journals: dict[Place, list[tuple[Record, Sequence[Message]]]] = {}
        # By stream, node and sender: by (record, place).
        self._sent: dict[tuple[str, str, str], dict[tuple[int, int], list[_Sent]]] = {}

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if record.result.code == "handler_failed":
            raise Violation(self.name, f"{node} {subsystem}: the handler failed: {events}")
        entries = self._journals.setdefault((node, subsystem), [])
        if record.index != len(entries) + 1:
            raise Violation(self.name, f"{node} {subsystem}: record {record.index} came after {len(entries)}")
        entries.append((record, events))

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        del self._journals.setdefault((node, subsystem), [])[index:]

    def stored(self, node: str, message: StoredMessage) -> None:
        told = told_by(message)
        if told is None or told[1] not in self._casts.get(told[0], {}):
            return
        of, sender, message_id = told
        sent = _Sent(message.sequence, message_id.incarnation, message.subject, message.body)
        self._sent.setdefault((node, of, sender), {}).setdefault((message_id.sequence, message_id.index), []).append(sent)

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        for (stream, _, _), messages in self._sent.items():
            if stream == node:
                for mark in messages:
                    messages[mark] = [sent for sent in messages[mark] if not replaced and sent.sequence <= last_sequence]

    def at_rest(self, rest: AtRest) -> None:
        for node, cast in self._casts.items():
            for name, subsystem in cast.items():
                store = rest.store(node, name)
                journal = self._journals.get((node, name), [])
                self._check_journal(node, name, store, journal)
                self._check_tables(node, subsystem, store, journal)
                self._check_told(node, subsystem, journal)

    def _check_journal(self, node: str, name: str, store: StoreReader, journal: Sequence[tuple[Record, Sequence[Message]]]) -> None:
        where = f"{node} {name}"
        head = decode_value(Head, next(data for _, data in store.scan(HEAD.name, b"", None)))
        digest = b""
        last = 0
        for key, data in store.scan(JOURNAL.name, b"", None):
            index = int.from_bytes(key, "big")
            if last and (index != last + 1 or cbor2.loads(data)[1] != digest):
                raise Violation(self.name, f"{where}: record {index} does not follow from {last}")
            if index > len(journal) or decode_value(Record, data) != journal[index - 1][0]:
                raise Violation(self.name, f"{where}: record {index} on the disk is not what became durable")
            digest, last = blake3(data).digest(), index
        if (head.index, head.hash) != (last, digest) or last != len(journal):
            raise Violation(self.name, f"{where}: the journal ends at {last}, the head says {head.index}, {len(journal)} became durable")

    def _check_tables(
        self, node: str, subsystem: Subsystem, store: StoreReader, journal: Sequence[tuple[Record, Sequence[Message]]]
    ) -> None:
        names = [table.name for table in subsystem.declaration.tables]
        rows = MemoryRows(names)
        overlay = Overlay(rows)
        for _, events in journal:
            for event in events:
                if event.spec.owner != "overseer":
                    subsystem.evolve(Tables(overlay), event)
        for name in names:
            built, kept = dict(overlay.scan(name, b"", None)), dict(store.scan(name, b"", None))
            if built != kept:
                keys = sorted({key for key in built.keys() | kept.keys() if built.get(key) != kept.get(key)})
                shown = ", ".join(key.hex() for key in keys[:5])
                raise Violation(self.name, f"{node} {subsystem.declaration.name}: table {name} is not what the journal makes: rows {shown}")

    def _check_told(self, node: str, subsystem: Subsystem, journal: Sequence[tuple[Record, Sequence[Message]]]) -> None:
        name = subsystem.declaration.name
        for record, events in journal:
            messages = [message for event in events for message in _reactions(subsystem, event)]
            for place, message in enumerate(messages):
                stream = "net" if message.spec.kind is Kind.NETWORK else node
                sent = self._sent.get((stream, node, name), {}).get((record.index, place), [])
                subject, body = build(node, name, message.spec), encode(message)
                if not any((found.subject, found.body) == (subject, body) for found in sent):
                    raise Violation(self.name, f"{node} {name}: {message.spec.key} of record {record.index} is not in the stream: {sent}")


def told_by(message: StoredMessage) -> tuple[str, str, MessageId] | None:
    """The node and the sender of a message, and the id it carries; None when it is no message of a subsystem."""
    try:
        address = parse(message.subject)
        return address.node, address.sender, MessageId.parse(message.headers.get(HEADER_ID, ""))
    except SubjectError:
        return None


def _reactions(subsystem: Subsystem, event: Message) -> Iterable[Message]:
    """As it is told: by the subsystem, or (incarnations, dead letters) as the event itself."""
    if event.spec.owner != "overseer":
        return subsystem.react(event)
    return (event,) if isinstance(event, IncarnationStarted | Parked) else ()
