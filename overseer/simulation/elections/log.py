"""The elections' log, as whoever orders it has it: one stream, a last sequence for each election, compare-and-set on it."""

from messages.election_pairs import LogEntry

__all__ = ["EntryId", "SimulatedLog"]

# (election, epoch, number): in one epoch there is one entry of each number.
EntryId = tuple[str, int, int]


class SimulatedLog:
    """`taken_ms`: when each entry was taken, by this stream or one that is lost by now."""

    def __init__(self) -> None:
        self.stream = "log-0"
        self.entries: list[tuple[int, LogEntry]] = []
        self.losses = 0
        self.taken_ms: dict[EntryId, int] = {}
        # Every entry that was taken by the log or stored by a copy.
        self._known: dict[EntryId, LogEntry] = {}
        self._of: dict[str, list[tuple[int, LogEntry]]] = {}
        self._next = 1

    @property
    def end(self) -> int:
        """The sequence of the last entry; 0 where there is none."""
        return self.entries[-1][0] if self.entries else 0

    def of(self, election: str) -> list[tuple[int, LogEntry]]:
        return self._of.get(election, [])

    def append(self, entry: LogEntry, *, stream: str, expected: int, now_ms: int) -> int | None:
        """Its sequence; None if the log is another one, or the election's last entry is not at `expected`."""
        own = self._of.setdefault(entry.election, [])
        if (stream, expected) != (self.stream, own[-1][0] if own else 0):
            return None
        sequence, self._next = self._next, self._next + 1
        self.entries.append((sequence, entry))
        own.append((sequence, entry))
        self._known[_id(entry)] = entry
        self.taken_ms[_id(entry)] = now_ms
        return sequence

    def lose(self) -> None:
        """The stream is gone; a new one begins, with sequences of its own."""
        self.losses += 1
        self.entries, self._of = [], {}
        self.stream = f"log-{self.losses}"
        self._next = 1_000_000 * self.losses + 1

    def prepared(self, entry: LogEntry) -> None:
        """A copy has stored it: should the log get lost, it may be adopted."""
        self._known.setdefault(_id(entry), entry)

    def history(self, election: str) -> list[tuple[int, LogEntry]]:
        """The election's entries from the first on, with the time of each: those of lost logs too, where this one goes on from them."""
        out: list[tuple[int, LogEntry]] = []
        own = self.of(election)
        entry = own[-1][1] if own else None
        at_ms = 0
        while entry is not None:
            # One that no log ever took is there since the log went on from it.
            at_ms = self.taken_ms.get(_id(entry), at_ms)
            out.append((at_ms, entry))
            entry = self._known.get((election, entry.previous, entry.number - 1)) if entry.number > 1 else None
        return out[::-1]


def _id(entry: LogEntry) -> EntryId:
    return entry.election, entry.epoch, entry.number
