"""The recorded topology and who is alive: this site renews its lease, learns of changes, and records who has gone and who is back.

A site gives no sign of life while it cannot write what it would be given to write, and records itself as away when it is known
to lack something. Who is recorded as away is back when its lease has run on for long enough since: so `back_after_ms` is no shorter than a
lease, lest one be taken for a sign of life that is older.

Leases are for liveness alone (point 6): who is recorded as away writes nothing from then on, but what keeps it from doing harm is the log.
"""

from collections.abc import Callable
from contextlib import suppress

import anyio
import msgspec

from messages.election_pairs import SiteRow, TopologyRecord
from overseer.limits import SiteLimits
from overseer.ports.bus import BusError, OutcomeUnknown, WrongLastSequence
from overseer.ports.clock import Clock
from overseer.ports.sites import TopologyBoard
from overseer.sites.surroundings import Observer
from subsystems.elections.runtime.placement import changed

__all__ = ["Watch", "WrongTopology", "recorded"]


class WrongTopology(Exception):
    """The recorded sites are not those of the configuration, nor some of them: nothing may be started."""


async def recorded(board: TopologyBoard, wanted: TopologyRecord) -> TopologyRecord:
    """The recorded topology, with all of the sites that are `wanted`: what lacks is added (point 8). Raises WrongTopology, BusError.

    What is added is away at first: it has nothing yet. It fetches its copies as a follower, and is back, and writes, when it has them.
    """
    while True:
        found = await board.topology()
        after = wanted
        if found.record is not None:
            have, want = _places(found.record), _places(wanted)
            if not have <= want:
                names = ", ".join(sorted(row.name for row in found.record.sites))
                raise WrongTopology(f"this node's elections are on {len(have)} sites ({names}): set elections.sites to {len(have)}")
            if have == want:
                return found.record
            known = {row.name for row in found.record.sites}
            lacking = (msgspec.structs.replace(row, away=True) for row in wanted.sites if row.name not in known)
            after = changed(found.record, [*found.record.sites, *lacking])
        with suppress(WrongLastSequence, OutcomeUnknown):
            # Another site may be first, and what became of it without an answer is seen by the next look.
            await board.record(after, revision=found.revision)


def _places(topology: TopologyRecord) -> set[tuple[str, str, str]]:
    return {(row.name, row.data_centre, row.zone) for row in topology.sites}


class Watch:
    """Looks at the board, for ever. `learnt` is told of each newer topology, in order."""

    def __init__(
        self,
        site: str,
        record: TopologyRecord,
        board: TopologyBoard,
        clock: Clock,
        limits: SiteLimits,
        observer: Observer,
        learnt: Callable[[TopologyRecord], None],
        healthy: Callable[[], bool] = lambda: True,
        lacking: Callable[[], bool] = lambda: False,
    ) -> None:
        """`healthy`: whether this site can do its work; while it cannot, it lets its lease run out, and another one writes.

        `lacking`: it is known that it cannot; then it does not wait for that, if another one is there.
        """
        self.record = record
        self._site = site
        self._board = board
        self._clock = clock
        self._limits = limits
        self._observer = observer
        self._learnt = learnt
        self._healthy = healthy
        self._lacking = lacking
        # Since when each site is seen as alive, or not; and since when we have been looking without a gap.
        self._since: dict[str, tuple[bool, int]] = {}
        self._looking_ms = 0
        self._looked_ms = 0
        self._wake = anyio.Event()
        self._learnt_one = anyio.Event()

    def hurry(self, version: int) -> None:
        """Somebody knows this version."""
        if version > self.record.version:
            self._wake.set()

    def look_now(self) -> None:
        """This site can do its work, or cannot any more."""
        self._wake.set()

    async def at_version(self, version: int, wait_ms: int) -> bool:
        """Whether the topology was at `version` in time."""
        until_ms = self._clock.now_ms() + wait_ms
        while self.record.version < version and self._clock.now_ms() < until_ms:
            self.hurry(version)
            await self._clock.wait(self._learnt_one, min(until_ms, self._clock.now_ms() + self._limits.look_ms))
        return self.record.version >= version

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wake = anyio.Event()
            try:
                # First what became of this site while it was stopped or cut off: it may have to catch up before it says that it lives.
                await self._look()
                if self._healthy():
                    await self._board.renew(self._site)
            except BusError:
                # Nothing was seen: whoever seems to be away may just be as cut off as we were.
                self._since.clear()
            await self._clock.wait(self._wake, self._clock.now_ms() + self._limits.look_ms)

    async def _look(self) -> None:
        found = await self._board.topology()
        if found.record is not None and found.record.version > self.record.version:
            self._take(found.record)
        alive = await self._board.alive()
        now_ms = self._clock.now_ms()
        if now_ms - self._looked_ms > 3 * self._limits.look_ms:
            # We were away ourselves (stopped, or cut off).
            self._since.clear()
            self._looking_ms = now_ms
        self._looked_ms = now_ms
        for row in self.record.sites:
            there = row.name in alive
            if self._since.get(row.name, (not there, 0))[0] != there:
                self._since[row.name] = (there, now_ms)
        await self._mark(found.revision, now_ms, alive)

    def _take(self, record: TopologyRecord) -> None:
        before = {row.name: row.away for row in self.record.sites}
        self.record = record
        for row in record.sites:
            if row.name not in before:
                self._observer.report("site_added", f"{row.name}, by topology {record.version}")
            elif row.away != before[row.name]:
                # A lease that still runs was for the time before.
                self._since.pop(row.name, None)
                self._observer.report("site_away" if row.away else "site_back", f"{row.name}, by topology {record.version}")
        self._learnt(record)
        self._learnt_one.set()
        self._learnt_one = anyio.Event()

    async def _mark(self, revision: int, now_ms: int, alive: frozenset[str]) -> None:
        """Record who was gone, or back, for long enough. Whoever is first does it; the others then see it done."""
        watched = now_ms - self._looking_ms >= self._limits.watched_ms
        others = any(row.name in alive and not row.away for row in self.record.sites if row.name != self._site)
        aside = others and self._lacking()
        rows: list[SiteRow] = []
        for row in self.record.sites:
            away = self._away(row.name, row.away, now_ms) if watched else row.away
            rows.append(msgspec.structs.replace(row, away=away or (aside and row.name == self._site)))
        if rows == list(self.record.sites) or all(row.away for row in rows):
            return
        after = changed(self.record, rows)
        try:
            await self._board.record(after, revision=revision)
        except WrongLastSequence:
            return
        self._take(after)

    def _away(self, name: str, away: bool, now_ms: int) -> bool:
        there, since_ms = self._since[name]
        if there == (not away):
            return away
        debounce_ms = self._limits.back_after_ms if there else self._limits.away_after_ms
        return away if now_ms - since_ms < debounce_ms else not there
