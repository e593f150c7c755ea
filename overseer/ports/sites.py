"""What a site of replicated elections needs beside its store: the elections' log, the recorded topology, and the other sites.

The log orders and fences (docs/elections.md): one subject per election, appended to by compare-and-set on that subject's last
sequence *and* on the stream's id, both checked by whoever orders the log at once with the append.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

from messages.election_pairs import PairMessage, TopologyRecord
from overseer.ports.bus import Handler, Response

__all__ = ["Answer", "ElectionLog", "Hear", "Logged", "LoggedPage", "SiteMail", "StreamReplaced", "TopologyBoard", "VersionedTopology"]

# Takes a message of another site: at once, never raising.
Hear = Callable[[PairMessage], None]
# Answers a question of another site.
Answer = Callable[[PairMessage], Awaitable[Response]]


class Logged(msgspec.Struct, frozen=True):
    """An entry of the log as it is stored there. `sequence` is the log's, over all elections."""

    sequence: int
    election: str
    body: bytes


class LoggedPage(msgspec.Struct, frozen=True):
    """Entries in order. `remaining`: about how many come behind them. `stream`: the id of the stream they were read from."""

    stream: str
    entries: tuple[Logged, ...]
    remaining: int


class StreamReplaced(Exception):
    """The log is another stream than the one that was named: nothing was stored. `stream` is the id it has now."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"the log is another stream now: {stream}")
        self.stream = stream


class ElectionLog(Protocol):
    """The log of one kind's elections at one node. All methods raise BusUnavailable when there is no server."""

    async def append(self, election: str, body: bytes, *, stream: str, expected: int) -> int:
        """Append an entry if the election's last one is at `expected` (0: it has none); its sequence.

        Raises WrongLastSequence, StreamReplaced (nothing stored), OutcomeUnknown (read `last`), StreamFull, MessageTooLarge.
        """
        ...

    async def last(self, election: str) -> tuple[str, Logged | None]:
        """The stream's id, and the election's last entry, as whoever orders the log has it: never an older one."""
        ...

    async def read(self, election: str, *, after: int, entries: int) -> LoggedPage:
        """The election's entries behind the log sequence `after`: at most so many."""
        ...

    def follow(self, *, after: int, stream: str) -> AsyncIterator[LoggedPage]:
        """All elections' entries behind `after` in order, as they come, for as long as it is iterated.

        From the beginning if the log is not `stream`. A page without entries and with `remaining` 0 says, at least every second,
        that the reader was at the log's end. A page with another `stream` than the one before begins at the log's beginning.
        Survives lost connections and servers: it never leaves an entry out and never repeats one within one stream.
        """
        ...


class VersionedTopology(msgspec.Struct, frozen=True):
    """The recorded topology; `revision` is what the next change must name (0: nothing is recorded)."""

    record: TopologyRecord | None
    revision: int


class TopologyBoard(Protocol):
    """Where the topology is recorded, and who is alive (leases are for liveness alone, point 6)."""

    async def topology(self) -> VersionedTopology: ...

    async def record(self, topology: TopologyRecord, *, revision: int) -> int:
        """Replace it by compare-and-set; the new revision. Raises WrongLastSequence when somebody else did meanwhile."""
        ...

    async def renew(self, site: str) -> None:
        """This site lives: its lease runs from now (`lease_ms` of the configuration)."""
        ...

    async def alive(self) -> frozenset[str]:
        """The sites whose lease runs."""
        ...


class SiteMail(Protocol):
    """One site's mail with the others: the process pairs' messages, forwarded commands, snapshot pages."""

    async def send(self, to: str, message: PairMessage) -> None:
        """Fire and forget: it may get lost, come twice, late or out of order. Never raises for the other being away."""
        ...

    async def ask(self, to: str, message: PairMessage, timeout_ms: int) -> Response:
        """What that site's `answer` says. Raises BusUnavailable when nothing came: whether it had an effect is unknown."""
        ...

    async def serve(self, hear: Hear, answer: Answer, handle: Handler) -> None:
        """Take the mail of other sites (`hear` what was sent, `answer` what was asked) and of people (`handle`), bounded, until closed.

        A message of another site comes only if that very site sent it: `message.site` has been checked. Returns once subscribed.
        """
        ...

    async def close(self) -> None:
        """Take no more, answer what is in hand. Idempotent."""
        ...
