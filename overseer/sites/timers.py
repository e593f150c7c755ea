"""Timers of elections: every copy keeps them, the writer's site lets them run. One that is due is a command like another."""

import heapq

from messages.codec import CodecError, decode
from messages.elections import OfElection
from messages.message import CATALOG
from overseer.sites.deciding import timer_command
from overseer.sites.hosting import Hosting
from overseer.sites.surroundings import Surroundings
from subsystems.elections.rows import key_hash
from subsystems.elections.runtime.rows import TIMERS, TimerRow

__all__ = ["Timetable"]

# How often it is looked at what is due: as exact as closing the polls has to be.
_LOOK_MS = 250


class Timetable:
    """What is due when, over all elections of the site. The rows decide: what is here is only when to look at them."""

    def __init__(self, around: Surroundings, hosting: Hosting) -> None:
        self._around = around
        self._hosting = hosting
        self._due: list[tuple[int, str, str]] = []
        # Those that were submitted and have no outcome yet.
        self._firing: set[tuple[int, str, str]] = set()
        self._load()

    def _load(self) -> None:
        found = self._around.ledger.view.scan(TIMERS)
        self._due = [(row.at_ms, row.election, name) for (_, name), row in found]
        heapq.heapify(self._due)

    def renew(self, key: str) -> None:
        """All of one election's, when its copy was put in place of another."""
        for (_, name), row in self._around.ledger.view.scan(TIMERS, prefix=(key_hash(key),)):
            self.add(key, name, row.at_ms)

    def add(self, key: str, name: str, at_ms: int) -> None:
        """It was set. Those that were taken back are left out when their time comes."""
        heapq.heappush(self._due, (at_ms, key, name))

    async def run(self) -> None:
        """For ever."""
        clock = self._around.clock
        while True:
            await clock.sleep_until(clock.now_ms() + _LOOK_MS)
            now_ms = clock.now_ms()
            again: list[tuple[int, str, str]] = []
            while self._due and self._due[0][0] <= now_ms:
                at_ms, key, name = heapq.heappop(self._due)
                row = self._around.ledger.view.get(TIMERS, (key_hash(key), name))
                if row is None or row.at_ms != at_ms:
                    continue
                # Until the row is gone: another site may have to write first, or this one to recover.
                again.append((at_ms, key, name))
                if (at_ms, key, name) not in self._firing and self._around.topology.placement(key).writer == self._around.site:
                    self._firing.add((at_ms, key, name))
                    self._around.tasks.start_soon(self._fire, name, row)
            for each in again:
                heapq.heappush(self._due, each)

    async def _fire(self, name: str, row: TimerRow) -> None:
        limits = self._around.limits
        try:
            command = timer_command(name, row.at_ms, _message(row))
        except (TypeError, CodecError) as error:
            # Of a newer release. One election's timer is not the others' trouble; it is tried again when this site starts again.
            self._around.observer.failed(row.election, error)
            return
        try:
            await self._hosting.submit(row.election, command, self._around.clock.now_ms() + limits.command_ms)
        finally:
            self._firing.discard((row.at_ms, row.election, name))


def _message(row: TimerRow) -> OfElection:
    spec = CATALOG.by_key(row.message)
    if spec is None:
        raise TypeError(f"{row.message} is of a newer release")
    message = decode(spec, row.body, version=row.version)
    assert isinstance(message, OfElection)
    return message
