"""A queue of gateway elections with a ballot that is voted on: made of commands and blocks, but for the weights, which are put as rows."""

from collections.abc import Iterable
from pathlib import Path
from random import Random

from messages.gateways import Bond, DeclareGateway, OpenQueue, RedistributeStake, SubmitRequest
from messages.message import Message, Rejection
from messages.polkadot import Scheme
from messages.signals import BestChain, BlockRef
from overseer.bench.site import NODE
from overseer.feeds.keyring import derive
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.rocks.store import RocksStore
from overseer.subsystem import Context
from overseer.tables import Overlay, Tables
from overseer.verification import verify_check
from subsystems.elections.gateways.rounds import close_height, cut_height
from subsystems.elections.gateways.rows import STAKES, WEIGHTS, Snapshot
from subsystems.elections.rows import key_hash
from subsystems.elections.subsystem import Elections

__all__ = ["BALLOT", "QUEUE", "QueueOfBench"]

QUEUE = "ingestion"
# The number of the one ballot, of round 0.
BALLOT = 1
_AT_MS = 1_750_000_000_000
# No vote is refused for want of stake.
_STAKE = 10**9
# So that most requests have ties, which the close has to break.
_WEIGHT_MAX = 1_000
_PER_COMMIT = 20_000


class QueueOfBench:
    """Requests, gateways, and one vote for each pair of them: vote number n is for request n modulo `items`, so votes are spread evenly."""

    def __init__(self, items: int, gateways: int) -> None:
        self.items = items
        self.gateways = gateways
        self.elections = Elections()
        self._rules = self.elections.config.gateways.rules()
        self._requests = [derive("bench", "request", number) for number in range(items)]
        self._accounts = [derive("bench", "gateway", number) for number in range(gateways)]

    @property
    def close(self) -> BestChain:
        """The block that closes the ballot, and those before it."""
        return _grown(cut_height(self._rules, 0) + 1, close_height(self._rules, 0))

    def vote(self, number: int, amount: int = 1) -> RedistributeStake:
        arrival, gateway = self._pair(number)
        return RedistributeStake(
            election=QUEUE, round=0, gateway=self._accounts[gateway - 1], item=self._requests[arrival - 1], amount=amount
        )

    def weight_row(self, number: int, amount: int = 1) -> tuple[bytes, bytes]:
        """As it is stored."""
        arrival, gateway = self._pair(number)
        return WEIGHTS.pack((key_hash(QUEUE), BALLOT, arrival, gateway)), amount.to_bytes(8, "big")

    def _pair(self, number: int) -> tuple[int, int]:
        """(arrival, gateway), both numbered from 1. Raises ValueError where there are not so many pairs."""
        turn, item = divmod(number, self.items)
        if turn >= self.gateways:
            raise ValueError(f"vote {number}: {self.items} requests and {self.gateways} gateways have fewer pairs")
        return item + 1, (item + turn) % self.gateways + 1

    async def write(self, folder: Path, weights: int) -> None:
        """A new store, at the block of the cut, where votes 0 to `weights` - 1 were given. Raises RuntimeError, StoreError."""
        store = open_store(NodeFolder(folder), NODE, self.elections.declaration)
        try:
            await self._decide(store, [OpenQueue(election=QUEUE)])
            await self._decide(store, (message for account in self._accounts for message in _gateway(account)))
            await self._decide(store, (self._request(request) for request in self._requests))
            await self._decide(store, [_grown(1, cut_height(self._rules, 0))])
            await self._give(store, weights)
        finally:
            store.close()

    def _request(self, request: bytes) -> SubmitRequest:
        return SubmitRequest(election=QUEUE, request=request, content=request, size=1_000, account=request, balance=10)

    async def _decide(self, store: RocksStore, messages: Iterable[Message]) -> None:
        """Messages as the rules take them; without journal."""
        tables = Tables(writes := Overlay(store))
        for message in messages:
            context = Context(now_ms=_AT_MS, sender="op_bench", verify=verify_check)
            decision = self.elections.decide(tables, message, context)
            if isinstance(decision, Rejection):
                raise RuntimeError(f"{message.spec.key} was rejected with {decision.code}")
            for event in decision.events:
                self.elections.evolve(tables, event)
        await store.commit(writes)

    async def _give(self, store: RocksStore, weights: int) -> None:
        chance, used = Random(1), [0] * self.gateways
        for first in range(0, weights, _PER_COMMIT):
            writes = Overlay(store)
            for number in range(first, min(first + _PER_COMMIT, weights)):
                amount = chance.randint(1, _WEIGHT_MAX)
                used[self._pair(number)[1] - 1] += amount
                writes.put(WEIGHTS.name, *self.weight_row(number, amount))
            await store.commit(writes)
        tables = Tables(writes := Overlay(store))
        for gateway, amount in enumerate(used, 1):
            tables.put(STAKES, (key_hash(QUEUE), BALLOT, gateway), Snapshot(_STAKE, amount))
        await store.commit(writes)


def _gateway(account: bytes) -> tuple[Message, Message]:
    return (
        Bond(election=QUEUE, gateway=account, amount=_STAKE),
        DeclareGateway(election=QUEUE, gateway=account, scheme=Scheme.ED25519),
    )


def _grown(first: int, last: int) -> BestChain:
    return BestChain(reverted=[], applied=[BlockRef(derive("bench", "block", number), number) for number in range(first, last + 1)])
