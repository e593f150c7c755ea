"""Journals written by hand: records with the causes that a test wants, in memory, as the runner writes them."""

from collections.abc import Sequence

from messages.codec import encode, encode_value
from messages.message import Message
from messages.subjects import MessageId
from overseer.history.causes import History, NodeHistory
from overseer.history.explaining.trail import Teller
from overseer.memory.rows import MemoryRows
from overseer.runner import journal
from overseer.runner.schema import HEAD, JOURNAL, SYSTEM_TABLES, WATERMARKS, Cause, Head, Result, TimerRow, Watermark
from overseer.tables import Overlay

__all__ = ["Book", "history_of", "teller_of"]


class Book:
    """One subsystem's journal. Messages are numbered over all books of a test, as in one stream."""

    _sequence = 0

    def __init__(self, subsystem: str, *, incarnation: bytes = b"\x01" * 16) -> None:
        self.subsystem = subsystem
        self.rows = MemoryRows([table.name for table in SYSTEM_TABLES])
        self.head = Head(incarnation=incarnation)
        self.at_ms = 1_000

    def command(self, *events: Message, id: str = "c1", sender: str = "req_votes_db", input: str = "votes_db.cmd.register_vote") -> int:
        """What came of a command from outside."""
        return self._add(events, Cause("node", self._next(), sender, id, b"", id, ""), input)

    def heard(self, book: "Book", said: int, *events: Message, stream: str = "node", node: str = "", incarnation: bytes = b"") -> int:
        """What came of a message that a record of a book said; of another `node` over the network."""
        message = MessageId(book.subsystem, (incarnation or book.head.incarnation).hex(), said, 0)
        if node:
            overlay = Overlay(self.rows)
            key = f"{node}:{message.sender}/{message.incarnation}".encode()
            overlay.put(WATERMARKS.name, key, encode_value(Watermark(said, 0)))
            self.rows.apply(overlay)
        return self._add(events, Cause(stream, self._next(), book.subsystem, message.text(), b"", "c1", ""), "a.evt.b")

    def sets(self, key: str, *events: Message) -> int:
        """A command's record that sets a timer."""
        timer = TimerRow(key, 1, "chain_api.timer.continue_work", b"")
        return self._add(events, Cause("node", self._next(), "op_alice", "", b"", "c1", ""), "a.cmd.b", [timer])

    def fires(self, key: str, *events: Message) -> int:
        fired = TimerRow(key, None, "chain_api.timer.continue_work", b"")
        return self._add(events, Cause("", 0, self.subsystem, f"timer:{key}", b"", "", ""), "a.timer.b", [fired], Result("timer"))

    def forget(self, before: int) -> None:
        """The records before that one went behind a checkpoint."""
        overlay = Overlay(self.rows)
        overlay.delete_range(JOURNAL.name, b"", JOURNAL.pack((before,)))
        self.rows.apply(overlay)

    def restored(self, incarnation: bytes) -> None:
        """From here on the store is of another incarnation."""
        self.head.past = [self.head.incarnation, *self.head.past]
        self.head.incarnation, self.head.began = incarnation, self.head.index + 1

    def position(self, index: int) -> int:
        """Where in the stream the message was that this record took."""
        record = self.rows.get(JOURNAL.name, JOURNAL.pack((index,)))
        assert record is not None
        return JOURNAL.load(record).cause.sequence

    def _next(self) -> int:
        Book._sequence += 1
        return Book._sequence

    def _add(
        self, events: Sequence[Message], cause: Cause, input: str, timers: Sequence[TimerRow] = (), result: Result | None = None
    ) -> int:
        overlay = Overlay(self.rows)
        rows = [journal.pack_event(overlay, self.head.index + 1, event, 4_096) for event in events]
        assert all(encode(event) for event in events)
        self.at_ms += 1
        index = journal.append(
            overlay,
            self.head,
            time_ms=self.at_ms,
            cause=cause,
            input_key=input,
            result=result or Result("accepted"),
            events=rows,
            timers=list(timers),
        )
        overlay.put(HEAD.name, journal.HEAD_KEY, encode_value(self.head))
        self.rows.apply(overlay)
        return index


def history_of(**nodes: Sequence[Book]) -> History:
    """The journals of these nodes; the first is asked about."""
    made: list[NodeHistory] = []
    for name, books in nodes.items():
        tables = {book.subsystem: book.rows.tables() for book in books}
        made.append(NodeHistory(name, {book.subsystem: book.rows for book in books}, tables))
    return History(made)


def teller_of(*books: Book) -> Teller:
    return Teller(history_of(n1=books))
