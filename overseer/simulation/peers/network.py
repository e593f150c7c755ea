"""Runs a network of peers in virtual time and tells what came of it. The same plan gives the same report."""

import functools
import heapq
from collections import Counter
from random import Random

import msgspec
from blake3 import blake3

from messages.peers import PeerAnswer, PeerElectionEnd, PeerElectionEnded, PeerEvent, PeerMoved, PeerQuery, PeerReferral
from overseer.simulation.peers.attackers import Attack, fabricated
from overseer.simulation.peers.universe import Holding, Universe
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.local import Effect, Ports, Send
from subsystems.elections.peers.measures import Measures, percentile
from subsystems.elections.peers.participant import Heard, Identified, Input, Participant, Tick, new_state
from subsystems.elections.peers.roster import PeerState
from subsystems.elections.peers.traffic import Authentic, Seal, Traffic

__all__ = ["NetworkPlan", "NetworkReport", "PeerNetwork", "simulated"]

_ELECTION_TRAFFIC = (PeerQuery, PeerAnswer, PeerReferral)
_HOUR_MS = 3_600_000
# Between two messages of the same link this may differ; so messages overtake each other.
_JITTER_PERCENT = 50


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Peers count attackers; `contacts`: how many others each knows at the beginning (0: all)."""

    seed: int
    peers: int = 30
    density_percent: int = 95
    reach_percent: int = 100
    attackers_percent: int = 0
    attack: Attack = Attack.FORGED
    contacts: int = 0
    hop_ms: int = 100
    loss_percent: int = 0
    minutes: int = 10
    tokens: int = 65_536
    # A partition: so many percent of the tokens are known to one half of the peers alone, and so long no message crosses.
    torn_percent: int = 0
    cut_minutes: int = 0
    config: PeersConfig = PeersConfig()


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """What honest peers' elections came to. Shares in percent with two decimals; messages and responses are means."""

    elections: int
    success_percent: float
    split_percent: float
    elected_attackers_percent: float
    # Queries, forwards, answers and referrals, for each election; and those of introductions, for each peer and hour.
    messages_per_election: float
    introductions_per_peer_hour: float
    # Distinct responders that counted, for each election.
    responders: float
    p50_ms: int
    p95_ms: int
    p99_ms: int
    # Mean of the peers' lists at the end, and the moves into or out of them in the last half, of the list's length, for each hour.
    connected: float
    listed: float
    churn_percent_hour: float
    refusals: dict[str, int]


@functools.lru_cache(maxsize=4)
def _universe(seed: int, count: int, torn_percent: int) -> Universe:
    """It never changes, and takes longer to make than a small run."""
    return Universe(seed, count, torn_percent)


class PeerNetwork:
    """Participants, their links, and one clock."""

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self.now_ms = 1
        self._random = Random(f"{plan.seed} network")
        self.ids = [self._random.getrandbits(64) | 1 for _ in range(plan.peers)]
        # Attackers are anywhere on the ring.
        self.attackers = set(self.ids[: plan.peers * plan.attackers_percent // 100])
        self._secrets = {peer: self._random.randbytes(32) for peer in self.ids}
        self._camp = {peer: n % 2 for n, peer in enumerate(self.ids)}
        self.universe = _universe(plan.seed, plan.tokens, plan.torn_percent)
        self._shared = self._random.getrandbits(64)
        self.facts: dict[int, list[PeerEvent]] = {peer: [] for peer in self.ids}
        self.sent: Counter[str] = Counter()
        self.nodes = {peer: self._node(peer) for peer in self.ids}
        # (when, in which order, for whom, from whom, what); a tick is from nobody.
        self._queue: list[tuple[int, int, int, int, Traffic | None]] = []
        self._order = 0
        self._due: dict[int, int] = {}
        for peer in self.ids:
            others = [other for other in self.ids if other != peer]
            known = self._random.sample(others, min(plan.contacts, len(others))) if plan.contacts else others
            self.step(peer, Identified(tuple(known)))

    def _node(self, peer: int) -> Participant:
        plan = self.plan
        salt = self._shared if peer in self.attackers and plan.attack is Attack.SHARED else self._random.getrandbits(64)
        tokens = Holding(
            self.universe,
            salt=salt,
            density_percent=plan.density_percent,
            peer=peer,
            reach_percent=plan.reach_percent,
            camp=self._camp[peer] if plan.torn_percent else None,
        )
        ports = Ports(tokens=tokens, seal=self._seal(peer), authentic=self._authentic())
        return Participant(new_state(peer, plan.config), ports, plan.config)

    def _seal(self, peer: int) -> Seal:
        return lambda message: blake3(message, key=self._secrets[peer]).digest(length=16)

    def _authentic(self) -> Authentic:
        """A keyed hash in place of a signature: nobody here looks into another's keys, and it is fifty times as fast."""

        def authentic(peer: int, message: bytes, seal: bytes) -> bool:
            key = self._secrets.get(peer)
            return key is not None and blake3(message, key=key).digest(length=16) == seal

        return authentic

    # ------------------------------------------------------------------------------------------------ running

    def step(self, peer: int, input: Input) -> list[Effect]:
        """Give a peer an input now, and carry what it sends."""
        node = self.nodes[peer]
        effects = node.step(input, now_ms=self.now_ms, entropy=self._random.randbytes(16))
        for effect in effects:
            if isinstance(effect, Send):
                self._carry(peer, effect.to, effect.message)
            else:
                self.facts[peer].append(effect)
        # Attackers only answer: what they elect is no matter.
        if peer not in self.attackers and self._due.get(peer) != (due := node.due_ms()):
            self._due[peer] = due
            self._push(due, peer, 0, None)
        return effects

    def run(self, until_ms: int) -> None:
        """Everything that happens up to then."""
        while self._queue and self._queue[0][0] <= until_ms:
            at, _, peer, sender, message = heapq.heappop(self._queue)
            self.now_ms = at
            if message is None:
                if self._due.get(peer) == at:
                    del self._due[peer]
                    self.step(peer, Tick())
            elif peer in self.attackers and self.plan.attack is Attack.FORGED:
                self._forge(peer, message)
            else:
                self.step(peer, Heard(sender, message))
        self.now_ms = max(self.now_ms, until_ms)

    def _forge(self, peer: int, message: Traffic) -> None:
        """It holds nothing, and answers every query with what all forgers fabricate alike."""
        if isinstance(message, PeerQuery):
            block = self.universe.block_of(message.token)
            forged = fabricated(message, peer, block, self._seal(peer), spacing=(1 << 64) // self.plan.tokens)
            self._carry(peer, message.requester, forged)

    def _carry(self, sender: int, to: int, message: Traffic) -> None:
        if not isinstance(message, _ELECTION_TRAFFIC):
            self.sent["introduction"] += 1
        elif message.requester not in self.attackers:
            self.sent["election"] += 1
        if to not in self.nodes or self._is_cut(sender, to) or self._random.randrange(100) < self.plan.loss_percent:
            return
        spread = self.plan.hop_ms * _JITTER_PERCENT // 100
        self._push(self.now_ms + self._random.randint(self.plan.hop_ms - spread, self.plan.hop_ms + spread), to, sender, message)

    def _is_cut(self, sender: int, to: int) -> bool:
        return self.now_ms < self.plan.cut_minutes * 60_000 and self._camp[sender] != self._camp[to]

    def _push(self, at: int, peer: int, sender: int, message: Traffic | None) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, peer, sender, message))

    # ------------------------------------------------------------------------------------------------ telling

    @property
    def honest(self) -> list[int]:
        return [peer for peer in self.ids if peer not in self.attackers]

    def report(self) -> NetworkReport:
        """What came of it so far."""
        measures = [self.nodes[peer].measures for peer in self.honest]
        ended = [fact for peer in self.honest for fact in self.facts[peer] if isinstance(fact, PeerElectionEnded)]
        elected = [fact for fact in ended if fact.end is PeerElectionEnd.ELECTED]
        times = [fact.took_ms for fact in elected]
        lists = [self.nodes[peer].peer_list for peer in self.honest]
        half = self.now_ms // 2
        moves = sum(_is_churn(fact, half) for peer in self.honest for fact in self.facts[peer])
        hours = self.now_ms / _HOUR_MS
        return NetworkReport(
            elections=len(ended),
            success_percent=_percent(len(elected), len(ended)),
            split_percent=_percent(sum(fact.split for fact in ended), len(ended)),
            elected_attackers_percent=_percent(sum(fact.winner in self.attackers for fact in elected), len(elected)),
            messages_per_election=_mean(self.sent["election"], _sum(measures)),
            introductions_per_peer_hour=round(self.sent["introduction"] / len(self.ids) / hours, 2),
            responders=_mean(sum(fact.responses for fact in ended), len(ended)),
            p50_ms=percentile(times, 50),
            p95_ms=percentile(times, 95),
            p99_ms=percentile(times, 99),
            connected=_mean(sum(p.state is PeerState.CONNECTED for each in lists for p in each), len(lists)),
            listed=_mean(sum(map(len, lists)), len(lists)),
            churn_percent_hour=_percent(moves * 2, max(1, sum(map(len, lists))), hours),
            refusals=dict(sorted(sum((Counter(each.refusals) for each in measures), Counter[str]()).items())),
        )


def simulated(plan: NetworkPlan) -> NetworkReport:
    """Run a whole plan."""
    network = PeerNetwork(plan)
    network.run(plan.minutes * 60_000)
    return network.report()


def _is_churn(fact: PeerEvent, after_ms: int) -> bool:
    """Whether a peer lost its place: who came for it is the same change."""
    return isinstance(fact, PeerMoved) and fact.at_ms >= after_ms and fact.after == PeerState.IDENTIFIED


def _sum(measures: list[Measures]) -> int:
    return sum(each.started for each in measures)


def _mean(total: int, count: int) -> float:
    return round(total / count, 2) if count else 0.0


def _percent(part: int, whole: int, hours: float = 1.0) -> float:
    return round(100 * part / whole / hours, 2) if whole else 0.0
