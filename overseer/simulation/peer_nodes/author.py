"""Who looks, from outside, whether nodes elect each other again once faults have ceased."""

import anyio

from messages.peer_queries import Peers, PeersReport
from overseer.simulation.clock import START_MS
from overseer.simulation.peer_nodes.cast import Play
from overseer.simulation.scenario import Outside, Violation
from subsystems.elections.peers.config import PeerMode

__all__ = ["Onlooker"]

_LOOK_S = 3.0
# Many elections' worth.
_PROCEEDS_S = 900.0
_LATE_MS = 10_000
# A node whose clock was ahead lives in the future, where its time stands still until it has come: it is not waited for.
_AHEAD_MS = 60_000


class Onlooker:
    """Every honest node that elects must do so again, have somebody honest connected, and leave no election over its time."""

    def __init__(self, outside: Outside, play: Play) -> None:
        self._outside, self._play = outside, play
        self._ceased = anyio.Event()
        # How many elections of each node had elected somebody when it was first seen after faults had ceased.
        self._first: dict[str, int] = {}
        self._left = dict.fromkeys(play.honest, "has not been looked at") if len(play.honest) > 2 else {}
        self._honest = {play.ids[node] for node in play.honest}
        keeping = {play.ids[node] for node in play.honest if play.modes[node] not in (PeerMode.OFF, PeerMode.OBSERVE)}
        self._in_vain = {*play.ids.values()} - keeping

    @property
    def outstanding(self) -> str:
        return "; ".join(f"{node} {why}" for node, why in self._left.items())

    def cease(self) -> None:
        self._ceased.set()

    async def run(self) -> None:
        await self._ceased.wait()
        until_s = self._outside.now_s() + _PROCEEDS_S
        while self._left:
            for node in list(self._left):
                why = await self._look(node)
                self._left[node] = why
                if not why:
                    del self._left[node]
            if self._outside.now_s() >= until_s and self._left:
                self._outside.violated(Violation("peers again", self.outstanding))
            await anyio.sleep(_LOOK_S)

    async def _look(self, node: str) -> str:
        """What is still to come of this node, or ""."""
        report = await self._outside.query(node, Peers())
        if not isinstance(report, PeersReport):
            return "does not answer"
        now_ms = START_MS + int(self._outside.now_s() * 1000)
        late = [each.token for each in report.running if each.started_ms + self._play.rules.timeout_ms + _LATE_MS < now_ms]
        if late:
            return f"still runs elections about {late}"
        if report.mode == PeerMode.OFF or report.held or report.next_ms > now_ms + _AHEAD_MS:
            return ""
        if report.measures.elected <= self._first.setdefault(node, report.measures.elected):
            return "elects nobody"
        if report.mode == PeerMode.OBSERVE:
            return ""
        return "" if self._is_joined(report) else "has nobody connected"

    def _is_joined(self, report: PeersReport) -> bool:
        """Somebody honest is connected; or there is no place, for liars and those who are elected and keep no list themselves."""
        listed = {peer.id for peer in report.peers}
        connected = {peer.id for peer in report.peers if peer.state == "connected"}
        return bool(self._honest & connected) or (len(listed) >= report.list_max and listed <= self._in_vain)
