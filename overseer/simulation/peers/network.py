"""Runs a network of peers in virtual time and tells what came of it. The same plan gives the same report."""

import functools
import heapq
from collections import Counter
from random import Random

from blake3 import blake3

from messages.peers import PeerAnswer, PeerEvent, PeerQuery, PeerReferral
from overseer.simulation.peers.attackers import TAKES_PART, Attack, fabricated, misreferred
from overseer.simulation.peers.coming import Change, Coming, churned
from overseer.simulation.peers.plan import NetworkPlan, NetworkReport
from overseer.simulation.peers.report import reported
from overseer.simulation.peers.universe import Holding, Universe
from subsystems.elections.peers.local import Effect, Ports, Send
from subsystems.elections.peers.participant import Heard, Identified, Input, Participant, Tick, new_state
from subsystems.elections.peers.ring import RING
from subsystems.elections.peers.traffic import Authentic, Seal, Traffic

__all__ = ["PeerNetwork", "simulated"]

_ELECTION_TRAFFIC = (PeerQuery, PeerAnswer, PeerReferral)
_MINUTE_MS = 60_000
# Between two messages of the same link this may differ; so messages overtake each other.
_JITTER_PERCENT = 50
# An eclipse's attackers are so much nearer to their victim than honest peers are to each other.
_NEARER = 1 << 10


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
        ids = [self._random.getrandbits(64) | 1 for _ in range(plan.peers)]
        count = plan.peers * plan.attackers_percent // 100
        self.victims = ids[count : count + plan.victims]
        # Attackers are anywhere on the ring, or about their victims.
        placed = [_beside(self.victims, n, plan.peers) for n in range(count)] if self.victims else ids[:count]
        self.ids = [*placed, *ids[count:]]
        self.attackers = set(placed)
        self._secrets = {peer: self._random.randbytes(32) for peer in self.ids}
        self._camp = {peer: n % 2 for n, peer in enumerate(self.ids)}
        self.universe = _universe(plan.seed, plan.tokens, plan.torn_percent)
        self._shared = self._random.getrandbits(64)
        self.facts: dict[int, list[PeerEvent]] = {peer: [] for peer in self.ids}
        # By kind, and the minute in which it was sent.
        self.sent: Counter[tuple[str, int]] = Counter()
        self.holdings: dict[int, Holding] = {}
        self.nodes = {peer: self._node(peer, n) for n, peer in enumerate(self.ids)}
        self.gone: set[int] = set()
        # (when, in which order, for whom, from whom, what); a tick is from nobody.
        self._queue: list[tuple[int, int, int, int, Traffic | Change | None]] = []
        self._order = 0
        self._due: dict[int, int] = {}
        for peer in self.ids:
            self._introduce(peer)
        self._plan_changes()

    def _introduce(self, peer: int) -> None:
        """It begins, and knows some of the others."""
        contacts = self.plan.contacts
        others = [other for other in self.ids if other != peer and other not in self.gone]
        known = self._random.sample(others, min(contacts, len(others))) if contacts else others
        attackers = sorted(self.attackers) if peer in self.victims else []
        self.step(peer, Identified((*known, *attackers)))

    def _node(self, peer: int, number: int) -> Participant:
        plan = self.plan
        salt = self._shared if peer in self.attackers and plan.attack is Attack.SHARED else self._random.getrandbits(64)
        self.holdings[peer] = tokens = Holding(
            self.universe,
            salt=salt,
            density_percent=plan.density_percent,
            peer=peer,
            reach_percent=plan.reach_percent,
            camp=self._camp[peer] if plan.torn_percent else None,
            owner=None if plan.shared_genesis else number,
            owners=plan.peers,
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

    # ------------------------------------------------------------------------------------------------ what changes

    def _plan_changes(self) -> None:
        plan = self.plan
        if plan.churn_percent_hour:
            changes = churned(
                Random(f"{plan.seed} churn"),
                first=len(self.attackers),
                peers=plan.peers,
                percent_hour=plan.churn_percent_hour,
                away_ms=plan.away_minutes * _MINUTE_MS,
                until_ms=plan.minutes * _MINUTE_MS,
            )
            for change in changes:
                self._push(change.at_ms, 0, 0, change)

    def _change(self, change: Change) -> None:
        match change.what:
            case Coming.LEAVES:
                self.gone.add(self.ids[change.number])
            case Coming.RETURNS:
                peer = self.ids[change.number]
                self.gone.discard(peer)
                self._due.pop(peer, None)
                self.step(peer, Tick())
            case Coming.ARRIVES:
                peer = self._random.getrandbits(64) | 1
                assert change.number == len(self.ids), "newcomers arrive in the order of their numbers"
                self.ids.append(peer)
                self._secrets[peer] = self._random.randbytes(32)
                self._camp[peer] = change.number % 2
                self.facts[peer] = []
                self.nodes[peer] = self._node(peer, change.number)
                self._introduce(peer)

    def _fill(self) -> None:
        """Without a shared genesis: how much the peers have of each other's tokens by now."""
        plan = self.plan
        if plan.shared_genesis or not plan.fill_minutes:
            return
        percent = min(100, 100 * self.now_ms // (plan.fill_minutes * _MINUTE_MS))
        for holding in self.holdings.values():
            holding.fill(percent)

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
            if at // _MINUTE_MS > self.now_ms // _MINUTE_MS:
                self.now_ms = at
                self._fill()
            self.now_ms = at
            if isinstance(message, Change):
                self._change(message)
            elif peer in self.gone:
                continue
            elif message is None:
                if self._due.get(peer) == at:
                    del self._due[peer]
                    self.step(peer, Tick())
            elif peer in self.attackers and self.plan.attack not in TAKES_PART:
                self._attack(peer, message)
            else:
                self.step(peer, Heard(sender, message))
        self.now_ms = max(self.now_ms, until_ms)

    def _attack(self, peer: int, message: Traffic) -> None:
        """It holds nothing, and answers every query with what all forgers fabricate alike, or leads astray who asks."""
        if not isinstance(message, PeerQuery):
            return None
        if self.plan.attack is Attack.FORGED:
            block = self.universe.block_of(message.token)
            forged = fabricated(message, peer, block, self._seal(peer), spacing=RING // self.plan.tokens)
            return self._carry(peer, message.requester, forged)
        fellows = sorted(self.attackers) if self.plan.attack is Attack.REFERRING else ()
        referral = misreferred(message, peer, fellows, self._seal(peer))
        if referral is not None:
            self._carry(peer, message.requester, referral)
        return None

    def _carry(self, sender: int, to: int, message: Traffic) -> None:
        minute = self.now_ms // _MINUTE_MS
        if not isinstance(message, _ELECTION_TRAFFIC):
            self.sent["introduction", minute] += 1
        elif message.requester not in self.attackers:
            self.sent["election", minute] += 1
        if to not in self.nodes or self._is_cut(sender, to) or self._random.randrange(100) < self.plan.loss_percent:
            return
        spread = self.plan.hop_ms * _JITTER_PERCENT // 100
        self._push(self.now_ms + self._random.randint(self.plan.hop_ms - spread, self.plan.hop_ms + spread), to, sender, message)

    def _is_cut(self, sender: int, to: int) -> bool:
        return self.now_ms < self.plan.cut_minutes * _MINUTE_MS and self._camp[sender] != self._camp[to]

    def _push(self, at: int, peer: int, sender: int, message: Traffic | Change | None) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, peer, sender, message))

    # ------------------------------------------------------------------------------------------------ telling

    @property
    def honest(self) -> list[int]:
        return [peer for peer in self.ids if peer not in self.attackers]

    def report(self, since_minutes: int = 0) -> NetworkReport:
        """What came of it since then."""
        since_ms = since_minutes * _MINUTE_MS
        sent: Counter[str] = Counter()
        for (kind, minute), count in self.sent.items():
            sent[kind] += count if minute >= since_minutes else 0
        return reported(
            facts=[fact for peer in self.honest for fact in self.facts[peer] if fact.at_ms >= since_ms],
            nodes=[self.nodes[peer] for peer in self.honest if peer not in self.gone],
            peers=len(self.ids),
            attackers=self.attackers,
            victims=[self.nodes[peer] for peer in self.victims],
            gone=self.gone,
            sent=sent,
            since_ms=since_ms,
            now_ms=self.now_ms,
        )


def simulated(plan: NetworkPlan, since_minutes: int = 0) -> NetworkReport:
    """Run a whole plan; what came of it since a minute."""
    network = PeerNetwork(plan)
    network.run(plan.minutes * _MINUTE_MS)
    return network.report(since_minutes)


def _beside(victims: list[int], number: int, peers: int) -> int:
    """The place of an eclipse's attacker: in turns on both sides of its victim."""
    victim, place = victims[number % len(victims)], number // len(victims)
    away = (place // 2 + 1) * (RING // (peers * _NEARER))
    return (victim + (away if place % 2 else -away)) % RING | 1
