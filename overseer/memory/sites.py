"""What a site of replicated elections needs, in memory: the log, the topology and the leases of one node, shared by its sites.

    server = MemoryLogServer(clock, stream="log-1")
    log, board = server.log("a"), server.board("a")

The same calls in the same order have the same effect: time comes from the clock port and nothing is drawn at random. Each
comparison and what it allows are one step.
"""

import enum
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import msgspec

from messages.election_pairs import TopologyRecord
from overseer.ports.bus import BusUnavailable, MessageTooLarge, OutcomeUnknown, StreamFull, WrongLastSequence
from overseer.ports.clock import Clock
from overseer.ports.envelope import BODY_BYTES_MAX
from overseer.ports.sites import Logged, LoggedPage, StreamReplaced, VersionedTopology

__all__ = ["LogFault", "MemoryElectionLog", "MemoryLogServer", "MemoryTopologyBoard", "SiteFaults"]

# As often the reader is told that it is at the end.
_IDLE_MS = 700


class LogFault(enum.Enum):
    """What becomes of an append whose answer is lost. All raise OutcomeUnknown."""

    # The server stored it.
    STORED = "stored"
    # It never arrives.
    LOST = "lost"
    # It is on its way: it arrives, and is compared and stored then, when `MemoryLogServer.release` says so.
    LATE = "late"


class SiteFaults:
    """The faults of one site. All off when made."""

    def __init__(self) -> None:
        # Everything raises BusUnavailable. Set it by `MemoryLogServer.cut` and `heal`.
        self.unavailable = False
        # One for each of the next appends; None lets one through.
        self.appends: deque[LogFault | None] = deque()


class _Append(msgspec.Struct, frozen=True):
    """An append on its way."""

    site: str
    election: str
    body: bytes
    stream: str
    expected: int


class MemoryLogServer:
    """The log, topology and leases of one node. What it holds may be looked at; it is changed by its sites alone."""

    def __init__(
        self,
        clock: Clock,
        *,
        stream: str = "log-1",
        lease_ms: int = 3_000,
        body_bytes_max: int = BODY_BYTES_MAX,
        entries_max: int | None = None,
    ) -> None:
        """`stream` is the log's id; beyond `entries_max` it is full. A lease runs `lease_ms`."""
        self.clock = clock
        self.stream = stream
        self.lease_ms = lease_ms
        self.body_bytes_max = body_bytes_max
        self.entries_max = entries_max
        # Of the log: the entry of sequence n is at n - 1.
        self.entries: list[Logged] = []
        self.recorded = VersionedTopology(None, 0)
        # When each lease ends.
        self.leases: dict[str, int] = {}
        self._by_election: dict[str, list[int]] = {}
        self._late: list[_Append] = []
        self._faults: dict[str, SiteFaults] = {}
        self._up = True
        self._changed = anyio.Event()

    def log(self, site: str, *, page_entries: int = 256) -> "MemoryElectionLog":
        """The log as `site` reaches it."""
        return MemoryElectionLog(self, site, page_entries=page_entries)

    def board(self, site: str) -> "MemoryTopologyBoard":
        """Topology and leases as `site` reaches them."""
        return MemoryTopologyBoard(self, site)

    # --- what a simulation does to it ------------------------------------------------------------------------------------

    def faults(self, site: str) -> SiteFaults:
        """What goes wrong between `site` and this server."""
        return self._faults.setdefault(site, SiteFaults())

    def cut(self, site: str) -> None:
        """Part a site from the server, until `heal`."""
        self.faults(site).unavailable = True
        self.wake()

    def heal(self, site: str) -> None:
        self.faults(site).unavailable = False
        self.wake()

    def stop(self) -> None:
        """The server is gone, until `start`; what it holds stays."""
        self._up = False
        self.wake()

    def start(self) -> None:
        self._up = True
        self.wake()

    def replace(self, stream: str) -> None:
        """Somebody deleted the log and made it anew: another id, and empty. Topology and leases stay."""
        self.stream = stream
        self.entries.clear()
        self._by_election.clear()
        self.wake()

    def release(self, site: str | None = None) -> int:
        """What was held back (of one site) arrives now, in order; how much of it was stored."""
        arriving = [append for append in self._late if site in (None, append.site)]
        self._late = [append for append in self._late if append not in arriving]
        before = len(self.entries)
        for append in arriving:
            try:
                self.store(append.election, append.body, stream=append.stream, expected=append.expected)
            except (StreamReplaced, WrongLastSequence, StreamFull):
                # Nobody waits for the answer any more.
                continue
        return len(self.entries) - before

    # --- what its sites do to it -----------------------------------------------------------------------------------------

    def reachable(self, site: str) -> bool:
        return self._up and not self.faults(site).unavailable

    async def reach(self, site: str) -> None:
        """One step of the network: others run meanwhile. Raises BusUnavailable."""
        await anyio.lowlevel.checkpoint()
        if not self.reachable(site):
            raise BusUnavailable("no server for the elections' log")

    def arrive(self, site: str, election: str, body: bytes, *, stream: str, expected: int) -> int:
        """What the server does with an append that was sent, whether or not who sent it still lives."""
        faults = self.faults(site)
        fault = faults.appends.popleft() if faults.appends else None
        if fault is LogFault.LOST:
            raise OutcomeUnknown("no answer: the entry never arrived")
        if fault is LogFault.LATE:
            self._late.append(_Append(site, election, body, stream, expected))
            raise OutcomeUnknown("no answer: the entry is still on its way")
        sequence = self.store(election, body, stream=stream, expected=expected)
        if fault is LogFault.STORED:
            raise OutcomeUnknown("no answer: it was lost on the way back")
        return sequence

    def store(self, election: str, body: bytes, *, stream: str, expected: int) -> int:
        """Raises StreamReplaced, WrongLastSequence, StreamFull."""
        if stream != self.stream:
            raise StreamReplaced(self.stream)
        last = self.last(election)
        if (last.sequence if last is not None else 0) != expected:
            raise WrongLastSequence(f"{election}: the last entry is not at {expected}")
        if self.entries_max is not None and len(self.entries) >= self.entries_max:
            raise StreamFull(f"{self.entries_max} entries are the limit")
        sequence = len(self.entries) + 1
        self.entries.append(Logged(sequence, election, body))
        self._by_election.setdefault(election, []).append(sequence)
        self.wake()
        return sequence

    def last(self, election: str) -> Logged | None:
        sequences = self._by_election.get(election)
        return self.entries[sequences[-1] - 1] if sequences else None

    def behind(self, election: str, after: int) -> list[Logged]:
        """The election's entries behind a sequence."""
        sequences = self._by_election.get(election, [])
        return [self.entries[sequence - 1] for sequence in sequences[bisect_right(sequences, after) :]]

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for_change(self, until_ms: int) -> None:
        """Until something changes or the clock is there."""
        await self.clock.wait(self._changed, until_ms)


class MemoryElectionLog:
    """Implements `overseer.ports.sites.ElectionLog`; made by `MemoryLogServer.log`."""

    def __init__(self, server: MemoryLogServer, site: str, *, page_entries: int) -> None:
        self._server = server
        self._site = site
        self._page_entries = page_entries

    async def append(self, election: str, body: bytes, *, stream: str, expected: int) -> int:
        if len(body) > self._server.body_bytes_max:
            raise MessageTooLarge(election, "the body", len(body), self._server.body_bytes_max)
        await self._server.reach(self._site)
        return self._server.arrive(self._site, election, body, stream=stream, expected=expected)

    async def last(self, election: str) -> tuple[str, Logged | None]:
        await self._server.reach(self._site)
        return self._server.stream, self._server.last(election)

    async def read(self, election: str, *, after: int, entries: int) -> LoggedPage:
        """See `ElectionLog.read`. `remaining` is 1 where there are more."""
        await self._server.reach(self._site)
        found = self._server.behind(election, after)
        return LoggedPage(self._server.stream, tuple(found[:entries]), remaining=int(len(found) > entries))

    async def follow(self, *, after: int, stream: str) -> AsyncGenerator[LoggedPage, None]:
        """See `ElectionLog.follow`."""
        server = self._server
        told_ms = server.clock.now_ms()
        while True:
            await anyio.lowlevel.checkpoint()
            now_ms = server.clock.now_ms()
            # The clock may be stepped back.
            told_ms = min(told_ms, now_ms)
            if not server.reachable(self._site):
                await server.wait_for_change(now_ms + _IDLE_MS)
                continue
            if server.stream != stream:
                stream, after = server.stream, 0
            found = server.entries[after : after + self._page_entries]
            if found:
                after = found[-1].sequence
                told_ms = now_ms
                yield LoggedPage(stream, tuple(found), remaining=len(server.entries) - after)
            elif now_ms >= told_ms + _IDLE_MS:
                told_ms = now_ms
                yield LoggedPage(stream, (), 0)
            else:
                await server.wait_for_change(told_ms + _IDLE_MS)


class MemoryTopologyBoard:
    """Implements `overseer.ports.sites.TopologyBoard`; made by `MemoryLogServer.board`."""

    def __init__(self, server: MemoryLogServer, site: str) -> None:
        self._server = server
        self._site = site

    async def topology(self) -> VersionedTopology:
        await self._server.reach(self._site)
        return self._server.recorded

    async def record(self, topology: TopologyRecord, *, revision: int) -> int:
        await self._server.reach(self._site)
        if revision != self._server.recorded.revision:
            raise WrongLastSequence(f"the topology is at revision {self._server.recorded.revision}, not {revision}")
        self._server.recorded = VersionedTopology(topology, revision + 1)
        return revision + 1

    async def renew(self, site: str) -> None:
        await self._server.reach(self._site)
        self._server.leases[site] = self._server.clock.now_ms() + self._server.lease_ms

    async def alive(self) -> frozenset[str]:
        await self._server.reach(self._site)
        now_ms = self._server.clock.now_ms()
        return frozenset(site for site, ends_ms in self._server.leases.items() if ends_ms > now_ms)
