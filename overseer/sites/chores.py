"""What the chain makes due for elections: whoever writes one does it, through the log, as a command like another.

Looked at when a signal came, and when this site begins to write an election. What is due follows from the rows alone, so nothing is lost
with a site: the next one finds it.
"""

from messages.election_pairs import Record
from messages.elections import ChainDue
from overseer.sites.deciding import due_command
from overseer.sites.hosting import Hosting
from overseer.sites.surroundings import Surroundings
from subsystems.elections.chain import followers

__all__ = ["Chores"]


class Chores:
    """One step of an election at a time, each behind the other."""

    def __init__(self, around: Surroundings, hosting: Hosting) -> None:
        self._around = around
        self._hosting = hosting
        self._busy: set[str] = set()

    def heard(self) -> None:
        """More is known of the chain."""
        for key in list(followers(self._around.ledger.view)):
            self.look(key)

    def look(self, key: str) -> None:
        """Whether something is due for this election, if it is written here."""
        if key not in self._busy and self._due(key) is not None:
            self._busy.add(key)
            self._around.tasks.start_soon(self._work, key)

    def _due(self, key: str) -> ChainDue | None:
        around = self._around
        if around.topology.placement(key).writer != around.site:
            return None
        return around.elections.due(around.ledger.view, key)

    async def _work(self, key: str) -> None:
        """Step by step, until nothing is due here any more."""
        clock, limits = self._around.clock, self._around.limits
        done: ChainDue | None = None
        pauses = self._around.pauses()
        try:
            # What was done and seems to be due again was decided by another view of the chain: the next signal tells.
            while (due := self._due(key)) is not None and due != done:
                outcome = await self._hosting.submit(key, due_command(due), clock.now_ms() + limits.command_ms)
                if isinstance(outcome, Record):
                    done = due
                    pauses.reset()
                    continue
                # Nobody can write just now.
                await self._around.sleep(pauses.next_ms())
        finally:
            self._busy.discard(key)
