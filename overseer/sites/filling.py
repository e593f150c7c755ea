"""Whether a site has what it should have, and so may write: the one place that says so.

A site that starts, that was recorded as away, or that had to leave entries of the log out, is not *filled* until it was near to the log's
end and has every election that is placed here up to there. Until then it gives no sign of life and steps aside: the others, which
have the elections, write them. One that is filled and follows the log stays so. When a new topology gives it elections that it does not
have, it fetches them and goes on, unless it is to write one of them.
"""

from collections.abc import Callable

import anyio
import anyio.lowlevel
import msgspec

from overseer.sites.hosted import untold
from overseer.sites.hosting import Hosting
from overseer.sites.reading import LogReader
from overseer.sites.surroundings import Surroundings
from overseer.sites.tables import KNOWN
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.rows import COPIES

__all__ = ["Filling"]


class _Owed(msgspec.Struct):
    """An election whose copy here is behind the log's sequence `until`. `asked_ms`: when it was last told to catch up."""

    until: int
    since_ms: int
    asked_ms: int


class Filling:
    """`told` is called whenever the site has become filled."""

    def __init__(self, around: Surroundings, hosting: Hosting, reader: LogReader, told: Callable[[], None]) -> None:
        self._around = around
        self._hosting = hosting
        self._reader = reader
        self._told = told
        self._filled = False
        # Since when it is not filled, and so since when the reader must have been near to the log's end.
        self._since_ms = around.clock.now_ms()
        # It was: what is known of the log by now is what has to be here.
        self._level = False
        # All elections were looked at since, and none was behind.
        self._looked = False
        self._owed: dict[str, _Owed] = {}
        # Elections that did not get on for too long, with how far they were to come.
        self._given_up: dict[str, int] = {}
        self._wanted = anyio.Event()

    @property
    def filled(self) -> bool:
        return self._filled

    @property
    def lacking(self) -> bool:
        """It is known to have less than it should, and not just for a moment: others are to write meanwhile."""
        behind = bool(self._owed) or self._reader.skipping
        return not self._filled and behind and self._around.clock.now_ms() - self._since_ms >= self._around.limits.aside_after_ms

    @property
    def owing(self) -> int:
        """Elections whose copies here are known to be behind."""
        return len(self._owed)

    @property
    def trouble(self) -> str:
        """What it lacks, as operators read it; "" when it lacks nothing."""
        if self._filled:
            return ""
        return f"catching up with {len(self._owed)} elections" if self._owed else "catching up with the elections' log"

    def again(self) -> None:
        """What is here may be old: it left entries out, or it was away."""
        if self._filled or self._level:
            self._since_ms = self._around.clock.now_ms()
        self._filled = self._level = False
        self._given_up.clear()
        self.look()

    def look(self) -> None:
        """Elections may have been placed here."""
        self._looked = False
        self._wanted.set()

    def moved(self) -> None:
        """The reader of the log got on."""
        if not (self._level or self._reader.skipping) and self._reader.near_ms >= max(self._since_ms, 1):
            self._level = True
            self.look()

    async def run(self) -> None:
        """For ever."""
        while True:
            if not self._wanted.is_set():
                await self._wait()
            if self._wanted.is_set():
                self._wanted = anyio.Event()
                await self._look_at_all()
            self._settle()

    async def _wait(self) -> None:
        """For something to look at; not for long while something is owed."""
        if not self._owed:
            await self._wanted.wait()
            return
        clock = self._around.clock
        await clock.wait(self._wanted, clock.now_ms() + self._around.limits.fill_look_ms)

    async def _look_at_all(self) -> None:
        """Copies that are not here, or behind, are to catch up; what is written here and has left something to tell is started."""
        around, owed = self._around, dict[str, _Owed]()
        self._looked = True
        for (key,), last in list(around.ledger.view.scan(KNOWN)):
            placement = around.topology.placement(key)
            if around.site not in placement.sites:
                continue
            if self._behind(key, last):
                now_ms = around.clock.now_ms()
                before = self._owed.get(key)
                # Of a log that was lost, or of one that has nothing of it: nobody knows how far it is to come.
                if last and self._given_up.get(key) != last:
                    owed[key] = _Owed(last, before.since_ms if before is not None else now_ms, now_ms)
                    self._owed.setdefault(key, owed[key])
                hosted = await self._hosting.brought(key)
                hosted.behind += self._reader.left_out.pop(key, 0)
                hosted.give(steps.Fill())
            elif placement.writer == around.site and untold(around, key):
                hosted = self._hosting.find(key)
                if hosted is not None:
                    hosted.give(steps.Start())
            await anyio.lowlevel.checkpoint()
        self._owed = owed

    def _behind(self, key: str, last: int) -> bool:
        row = self._around.ledger.view.get(COPIES, (key,))
        if row is None or not row.stream:
            return True
        return bool(last) and (row.stream != self._reader.place.stream or row.log_sequence < last)

    def _settle(self) -> None:
        around = self._around
        had = bool(self._owed)
        for key, owed in list(self._owed.items()):
            if around.site not in around.topology.placement(key).sites or not self._behind(key, owed.until):
                del self._owed[key]
            else:
                self._press(key, owed)
        if self._filled:
            if any(around.topology.placement(key).writer == around.site for key in self._owed):
                self._filled, self._since_ms = False, around.clock.now_ms()
        elif not self._owed and had:
            # Others may have become behind meanwhile.
            self.look()
        elif not self._owed and self._level and self._looked:
            self._filled = True
            self._told()

    def _press(self, key: str, owed: _Owed) -> None:
        """Once more, where it does not get on; in the end the site goes on without it."""
        around, now_ms = self._around, self._around.clock.now_ms()
        hosted = self._hosting.there(key)
        moved_ms = hosted.moved_ms if hosted is not None else 0
        if now_ms - max(owed.since_ms, moved_ms) >= around.limits.fill_patience_ms:
            around.observer.report("copy_behind", f"{key}: nobody brings the copy at {around.site} up to date")
            self._given_up[key] = owed.until
            del self._owed[key]
        elif now_ms - max(owed.asked_ms, moved_ms) >= around.limits.fill_again_ms and (hosted := self._hosting.find(key)) is not None:
            owed.asked_ms = now_ms
            hosted.give(steps.Fill())
