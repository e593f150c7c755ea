"""What is asked of queues of gateways while their chain grows, forks and loses blocks: the plan of one simulation.

The chain and its disputes are those of `disputes_plan`, with forks besides. Whoever asks goes by the heights of the main chain, so
that most things are asked at the right time, and some too early, too late, or about a round that was revoked meanwhile.
"""

from functools import lru_cache
from random import Random
from typing import NamedTuple

from blake3 import blake3

from messages.elections import OfElection
from messages.gateways import Bond, DeclareGateway, OpenQueue, RedistributeStake, SubmitExecutionProof, SubmitRequest, Unbond
from messages.polkadot import Scheme
from overseer.feeds.gateway import make_proof
from overseer.simulation.disputes_plan import Plan
from overseer.simulation.disputes_votes import KEYS

__all__ = ["LongPlan", "plan_queues"]

_QUEUES = ("ingestion", "ejection")
# Places in the family of keys, all Ed25519: some are validators at first, some later, one never is.
_GATEWAYS = (1, 3, 5, 7, 9, 31)
_SIZE = 100


class LongPlan(Plan):
    """A chain on which several rounds have their time."""

    heights = (12, 20)


class QueuePlan(NamedTuple):
    """A queue's rules, in blocks: as `QueueRules`."""

    name: str
    collect: int
    vote: int
    window: int
    origin: int

    def cut(self, round: int) -> int:
        return self.origin + (round + 1) * (self.collect + 1)

    def close(self, round: int) -> int:
        return self.cut(round) + self.vote + 1


def digest(*parts: object) -> bytes:
    return blake3(repr(parts).encode()).digest()


def account(gateway: int) -> bytes:
    return KEYS[gateway].public


@lru_cache(maxsize=65_536)
def _proof(queue: str, round: int, request: bytes, content: bytes, gateway: int, size: int, signer: int) -> SubmitExecutionProof:
    return make_proof(KEYS[signer], queue, round=round, request=request, content=content, size=size, executor=account(gateway))


def plan_queues(plan: Plan, random: Random) -> None:
    """Say to every node, in the plan, what is asked of one queue or two; and let the chain fork more often."""
    for place in range(random.choice((0, 1, 1, 2))):
        height = random.randint(1, plan.height)
        plan.branch(height + random.uniform(0.3, 1.2), height - 1, random.randint(1, 3), (), f"fork {place}")
    for name in _QUEUES[: random.choice((1, 1, 2))]:
        _Traffic(plan, random, name).plan()


class _Traffic:
    """What is asked of one queue."""

    def __init__(self, plan: Plan, random: Random, name: str) -> None:
        self._plan = plan
        self._random = random
        collect = random.randint(1, 3)
        vote = random.randint(1, collect)
        self._queue = QueuePlan(name, collect, vote, random.randint(1, vote + 1), random.choice((0, 0, 0, 1, 2)))
        self._gateways = random.sample(_GATEWAYS, random.randint(2, 5))
        # (when, name, hash)
        self._requests: list[tuple[float, bytes]] = []
        self._said = 0

    def plan(self) -> None:
        random, queue = self._random, self._queue
        opening = OpenQueue(
            election=queue.name,
            collect_blocks=queue.collect,
            vote_blocks=queue.vote,
            window_blocks=queue.window,
            origin=queue.origin,
            stake_min=50,
            claim_blocks=random.randint(1, 4),
            carries_max=random.randint(0, 2),
            winners_max=random.choice((1, 1, 2)),
        )
        self._say(0.0, opening)
        if random.random() < 0.3:
            self._say(0.1, OpenQueue(election=f"{queue.name} wrong", collect_blocks=2, vote_blocks=3))
        self._plan_gateways()
        self._plan_requests()
        round = 0
        while queue.cut(round) <= self._plan.height:
            self._plan_round(round)
            round += 1

    def _say(self, tick: float, command: OfElection) -> None:
        self._said += 1
        self._plan.say(tick, command, f"{command.election}-{self._said}-{command.spec.name}", sender="op_gateway")

    def _plan_gateways(self) -> None:
        random, name, end = self._random, self._queue.name, self._plan.height
        for gateway in self._gateways:
            at = random.choice((0.2, 0.2, 1.2, random.uniform(0, end)))
            self._say(at, DeclareGateway(election=name, gateway=account(gateway), scheme=Scheme.ED25519))
            self._say(at + 0.1, Bond(election=name, gateway=account(gateway), amount=random.choice((100, 200, 200, 200, 49))))
        for _ in range(random.randint(2, 6)):
            gateway, at = account(random.choice(self._gateways)), random.uniform(0.5, end)
            kind = random.choice(("unbond", "unbond", "bond", "pause"))
            match kind:
                case "unbond":
                    self._say(at, Unbond(election=name, gateway=gateway, amount=random.choice((10, 60, 1_000))))
                case "bond":
                    self._say(at, Bond(election=name, gateway=gateway, amount=random.randint(1, 60)))
                case _:
                    self._say(at, DeclareGateway(election=name, gateway=gateway, scheme=Scheme.ED25519, paused=True))
                    self._say(at + 2, DeclareGateway(election=name, gateway=gateway, scheme=Scheme.ED25519))

    def _plan_requests(self) -> None:
        random, name = self._random, self._queue.name
        for place in range(random.randint(3, 12)):
            at = random.uniform(0.2, self._plan.height)
            request = digest("request", name, place)
            self._requests.append((at, request))
            command = SubmitRequest(
                election=name,
                request=request,
                content=digest("content", request),
                size=_SIZE,
                account=digest("owner", place),
                balance=random.randint(0, 50),
            )
            self._say(at, command)
            if random.random() < 0.15:
                self._say(at + random.uniform(0, 3), command)

    def _plan_round(self, round: int) -> None:
        """Votes in the window, before and behind it; proofs by the greatest weights and by others."""
        random, queue = self._random, self._queue
        cut, close = queue.cut(round), queue.close(round)
        known = [request for at, request in self._requests if at < cut + 0.8]
        weights: dict[bytes, dict[int, int]] = {}
        for request in known:
            if random.random() < 0.25:
                continue
            for gateway in random.sample(self._gateways, random.randint(1, len(self._gateways))):
                amount = random.choice((0, 10, 10, 20, 20, 40))
                weights.setdefault(request, {})[gateway] = amount
                at = cut + random.uniform(0.05, queue.window + 0.15)
                if random.random() < 0.2:
                    earlier = RedistributeStake(election=queue.name, round=round, gateway=account(gateway), item=request, amount=30)
                    self._say(cut + random.uniform(0, at - cut), earlier)
                self._say(at, RedistributeStake(election=queue.name, round=round, gateway=account(gateway), item=request, amount=amount))
        if random.random() < 0.5:
            leaving = account(random.choice(self._gateways))
            self._say(cut + random.uniform(0.1, queue.window), Unbond(election=queue.name, gateway=leaving, amount=random.choice((20, 90))))
        for request, cast in weights.items():
            self._plan_proofs(round, request, cast, close)

    def _plan_proofs(self, round: int, request: bytes, cast: dict[int, int], close: int) -> None:
        random = self._random
        order = sorted(cast, key=lambda gateway: -cast[gateway])
        if random.random() < 0.3:
            # Nobody proves in time; an alternate may.
            order = order[1:]
        at = close + random.uniform(0.2, 1.0)
        for gateway in [*order[:3], random.choice(self._gateways)]:
            if random.random() < 0.8:
                forged = random.random() < 0.15
                signer = random.choice(_GATEWAYS) if forged else gateway
                content = digest("another") if random.random() < 0.05 else digest("content", request)
                size = _SIZE + 1 if random.random() < 0.05 else _SIZE
                self._say(at, _proof(self._queue.name, round, request, content, gateway, size, signer))
            at += random.choice((0.1, 1.0, 2.0))
