"""The site's one reader of the log: entries go to the elections that this site holds, in order, as they come."""

from collections import Counter
from collections.abc import Callable

import anyio

from overseer.ports.sites import Logged, LoggedPage
from overseer.sites.hosting import Hosting
from overseer.sites.surroundings import Surroundings
from overseer.sites.tables import KNOWN, PLACES, Place, log_place
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import load_entry
from subsystems.elections.runtime.rows import COPIES

__all__ = ["LogReader"]


class LogReader:
    """Its place is kept with the rows, never ahead of them: what it has read is applied, or the election reads for itself."""

    def __init__(self, around: Surroundings, hosting: Hosting, *, moved: Callable[[], None], skipped: Callable[[], None]) -> None:
        """`moved` is called whenever it got on; `skipped` when it begins to leave entries out: their elections catch up by themselves."""
        self._around = around
        self._hosting = hosting
        self._moved = moved
        self._skipped = skipped
        # It is so far behind that each election catches up for itself, by a snapshot where that is shorter.
        self.skipping = False
        # How many entries of each election were left out.
        self.left_out: Counter[str] = Counter()
        place = around.ledger.view.get(PLACES, log_place)
        self.place = place or Place("", 0)
        # When it was last at the log's end, and near to it.
        self.caught_up_ms = 0
        self.near_ms = 0
        self.handled = 0

    async def run(self) -> None:
        """For ever."""
        async for page in self._around.log.follow(after=self.place.sequence, stream=self.place.stream):
            if page.stream != self.place.stream:
                await self._replaced(page.stream)
            await self._take(page)
            if not page.remaining:
                self.skipping = False
                self.caught_up_ms = self._around.clock.now_ms()
            if page.remaining <= self._around.limits.fill_entries_near and not self.skipping:
                self.near_ms = self._around.clock.now_ms()
            self._moved()

    async def _take(self, page: LoggedPage) -> None:
        if not page.entries:
            return
        if page.entries[0].sequence <= self.place.sequence:
            lost = f"the elections' log goes on at {page.entries[0].sequence}, it held {self.place.sequence}"
            self._around.observer.report("log_shortened", f"{lost}: stop the node, `overseer repair nats`")
        if not self.skipping and len(page.entries) + page.remaining > self._around.runtime.catch_up_entries_max:
            self.skipping = True
            self._skipped()
        waiting: list[anyio.Event] = []
        change = self._around.ledger.change()
        for logged in page.entries:
            change.put(KNOWN, (logged.election,), logged.sequence)
            if self.skipping:
                self.left_out[logged.election] += 1
            else:
                waiting += await self._deliver(page.stream, logged)
        for done in waiting:
            await done.wait()
        self.place = Place(page.stream, page.entries[-1].sequence)
        change.put(PLACES, log_place, self.place)
        self._around.ledger.put(change)
        self.handled += len(page.entries)

    async def _deliver(self, stream: str, logged: Logged) -> list[anyio.Event]:
        """To the election, if this site holds it, or is about to let it go."""
        key, around = logged.election, self._around
        hosted = self._hosting.there(key)
        if hosted is None:
            if around.site not in around.topology.placement(key).sites:
                return []
            hosted = await self._hosting.brought(key)
        copy = hosted.member.follower.copy
        if copy.stream == stream and copy.log_sequence >= logged.sequence:
            # The writer's own, as a rule: applied when the log took it.
            return []
        if hosted.installing:
            # It reads on by itself from where the new copy ends; the others are not to wait for it.
            return []
        done = anyio.Event()
        hosted.give(steps.LogDelivered(stream, logged.sequence, copy.held(logged.body) or load_entry(logged.body)), done)
        return [done]

    async def _replaced(self, stream: str) -> None:
        """The log is another one: all that this site holds must know, and what it writes must be written anew."""
        around, before = self._around, self.place
        self.place = Place(stream, 0)
        change = around.ledger.change()
        change.put(PLACES, log_place, self.place)
        for place, _ in around.ledger.view.scan(KNOWN):
            # Nothing of it is in this log yet.
            change.put(KNOWN, place, 0)
        around.ledger.put(change)
        if before.stream:
            around.observer.report("log_replaced", f"the elections' log is {stream}, it was {before.stream}")
            for (key,), _ in list(around.ledger.view.scan(COPIES)):
                hosted = await self._hosting.brought(key)
                hosted.give(steps.LogReplaced(stream))
                hosted.give(steps.Start())
