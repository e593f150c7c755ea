"""All elections of a site: those that something comes for are in memory, the others on the disk (points 2 and 10 of the runtime)."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

from messages.election_pairs import PairMessage, Record, WriterBusy
from messages.message import Rejection
from overseer.limits import SiteLimits
from overseer.ports.clock import Clock
from overseer.sites.hosted import Hosted
from subsystems.elections.runtime import steps

__all__ = ["Hosting", "Outcomes"]


class Outcomes:
    """Who waits for outcomes, by origin: what the machines hand back with an answer."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Record | Rejection | None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def tell(self, origin: str, outcome: Record | Rejection | None) -> None:
        """The first one counts."""
        told = self._waiting.get(origin)
        if told is not None and not told.done():
            told.set_result(outcome)

    def give_up(self) -> None:
        """None of those that are waited for will come."""
        for origin in list(self._waiting):
            self.tell(origin, None)

    async def awaited(self, submit: Callable[[str], None], wait_ms: int) -> Record | Rejection | None:
        """Submit under a fresh origin; the outcome, or None when it did not come in time."""
        self._count += 1
        loop, origin = asyncio.get_running_loop(), str(self._count)
        told = self._waiting[origin] = loop.create_future()
        late = loop.call_later(wait_ms / 1000, self.tell, origin, None)
        try:
            submit(origin)
            return await told
        finally:
            late.cancel()
            del self._waiting[origin]


class Hosting:
    """The elections by key, the one used last at the end. `make` makes one from the rows."""

    def __init__(self, make: Callable[[str], Hosted], outcomes: Outcomes, clock: Clock, limits: SiteLimits) -> None:
        self._make = make
        self._outcomes = outcomes
        self._clock = clock
        self._limits = limits
        self._active: OrderedDict[str, Hosted] = OrderedDict()
        self.lost_messages = 0

    def __len__(self) -> int:
        return len(self._active)

    def active(self) -> Iterable[Hosted]:
        """Those in memory, as of now."""
        return [hosted for hosted in self._active.values() if not hosted.gone]

    def there(self, key: str) -> Hosted | None:
        """The election, if it is in memory."""
        found = self._active.get(key)
        return None if found is None or found.gone else found

    def find(self, key: str) -> Hosted | None:
        """The election, brought to memory if it is not there; None when there is no room."""
        found = self.there(key)
        if found is None:
            self._active.pop(key, None)
            if len(self._active) >= self._limits.elections_active_max and not self._make_room():
                return None
            found = self._active[key] = self._make(key)
        self._active.move_to_end(key)
        return found

    async def brought(self, key: str) -> Hosted:
        """As `find`, waiting for room."""
        while (found := self.find(key)) is None:
            await self._clock.sleep_until(self._clock.now_ms() + self._limits.retry_ms)
        return found

    def _make_room(self) -> bool:
        """Drop the idle one that was used longest ago."""
        for key, hosted in self._active.items():
            if hosted.gone or hosted.idle:
                hosted.drop()
                del self._active[key]
                return True
        return False

    def passivate(self) -> None:
        """Drop what nothing came for since long."""
        before_ms = self._clock.now_ms() - self._limits.passivate_after_ms
        for key, hosted in list(self._active.items()):
            if hosted.gone or (hosted.used_ms < before_ms and hosted.idle):
                hosted.drop()
                del self._active[key]

    def drop_all(self) -> None:
        """The end: what they hold beside memory is let go, and nobody waits for them."""
        for hosted in self._active.values():
            hosted.drop()
        self._active.clear()
        self._outcomes.give_up()

    async def tidy(self) -> None:
        """Passivate, for ever."""
        while True:
            await self._clock.sleep_until(self._clock.now_ms() + self._limits.tidy_ms)
            self.passivate()

    # -------------------------------------------------------------------------------------------- inputs

    def hear(self, message: PairMessage) -> None:
        """A message of another site; lost when there is no room for it."""
        hosted = self.find(message.election)
        if hosted is None or hosted.full:
            self.lost_messages += 1
            return
        hosted.give(steps.Received(message))

    async def submit(self, key: str, command: steps.Command, until_ms: int) -> Record | Rejection | None:
        """The outcome of a command whose writer is here; None when it did not come in time."""
        hosted = self.find(key)
        if hosted is None or hosted.full:
            return WriterBusy(election=key, waiting=self._limits.inbox_max)
        wait_ms = max(0, until_ms - self._clock.now_ms())
        return await self._outcomes.awaited(lambda origin: hosted.give(steps.Submit(command, origin)), wait_ms)
