"""Nodes with the real subsystem, which say to each other what they say; one clock, and nothing is lost."""

import heapq
from collections.abc import Iterable
from itertools import count
from random import Random

from nacl.signing import SigningKey

from messages.message import Kind, Message
from messages.peer_queries import HoldTokens, Peers, PeersReport
from messages.peers import TokenMapping
from overseer.testing.given import Given, Then
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.kind import PeerElections
from subsystems.elections.peers.traffic import peer_id
from subsystems.elections.subsystem import Elections

HOP_MS = 100
PAGE = 4_000


class Key:
    """A node's key, of a seed."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)

    @property
    def public(self) -> bytes:
        return bytes(self._key.verify_key)

    def sign(self, payload: bytes) -> bytes:
        return self._key.sign(payload).signature


class Peered:
    """By name: a subsystem with its tables for each node."""

    def __init__(self, names: Iterable[str], config: PeersConfig | None = None, *, seed: int = 1) -> None:
        self.random = Random(seed)
        self.now_ms = 1_000_000
        self.config = config or PeersConfig()
        self.keys = {name: Key(self.random.randbytes(32)) for name in names}
        self.ids = {name: peer_id(key.public) for name, key in self.keys.items()}
        self.nodes = {name: Given(self.subsystem(name)) for name in self.keys}
        self.said: list[tuple[str, Message]] = []
        # Whom nothing reaches now.
        self.cut: set[str] = set()
        self._order = count()
        self._underway: list[tuple[int, int, str, str, Message]] = []

    def subsystem(self, name: str, config: PeersConfig | None = None) -> Elections:
        """As a process makes it that starts."""
        return Elections(ElectionsConfig(), kinds=[PeerElections(config or self.config, self.keys[name], self.ids)])

    def restart(self, name: str, config: PeersConfig | None = None) -> None:
        self.nodes[name].subsystem = self.subsystem(name, config)

    def give(self, name: str, message: Message, *, by: str = "") -> Then:
        """It is handled, and what it says goes out. `by`: the node that it is from."""
        node = self.nodes[name]
        node.entropy, node.node = self.random.randbytes(32), by
        then = node.when(message, now_ms=self.now_ms)
        self._send(name, then)
        return then

    def hold(self, tokens: Iterable[TokenMapping], *names: str) -> None:
        held = list(tokens)
        for name in names or self.nodes:
            for at in range(0, len(held), PAGE):
                self.give(name, HoldTokens(tokens=held[at : at + PAGE]))

    def run(self, ms: int) -> None:
        """Time passes: what is under way arrives, and timers fire."""
        end = self.now_ms + ms
        while True:
            due = [(timer.at_ms, name) for name, node in self.nodes.items() for timer in node.timers.values()]
            at, name = min(due, default=(end + 1, ""))
            if self._underway and self._underway[0][0] <= at:
                at, _, to, by, message = heapq.heappop(self._underway)
                if at > end:
                    heapq.heappush(self._underway, (at, next(self._order), to, by, message))
                    break
                self.now_ms = max(self.now_ms, at)
                if not self.cut & {to, by}:
                    self.give(to, message, by=by)
            elif at > end:
                break
            else:
                self.now_ms = max(self.now_ms, at)
                node = self.nodes[name]
                node.now_ms, node.entropy = self.now_ms, self.random.randbytes(32)
                then = node.fire_one()
                assert then is not None
                self._send(name, then)
        self.now_ms = end

    def report(self, name: str) -> PeersReport:
        report = self.nodes[name].ask(Peers())
        assert isinstance(report, PeersReport)
        return report

    def _send(self, name: str, then: Then) -> None:
        for message in then.sent:
            if message.spec.kind is Kind.NETWORK:
                self.said.append((name, message))
                for other in self.nodes:
                    if other != name:
                        heapq.heappush(self._underway, (self.now_ms + HOP_MS, next(self._order), other, name, message))


def a_universe(size: int, *, seed: int = 7) -> list[TokenMapping]:
    """Tokens anywhere on the ring, each of some block."""
    random = Random(seed)
    return [TokenMapping(random.getrandbits(64), random.getrandbits(64)) for _ in range(size)]
