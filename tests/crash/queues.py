"""A gateway queue at work in processes that are being killed, and what was acknowledged of it.

The shortest rounds there are: cut every second block, voted on for two, closed with the next cut. So whoever makes the chain grow makes
the queue go round; a block that is blacklisted takes rounds back. Gateways vote on what is in the ballot, prove most of what they won, and
leave the rest to run out of time; requests that nobody votes on are carried, and expire.

What is asked may be too late for its block, and be refused: that is counted. What was accepted must have had its effect once.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple

import anyio
from blake3 import blake3

from messages.elections import OfElection
from messages.gateway_queries import ActiveRequests, AssignedRequestPage, AssignedRequests, GetQueue, QueueReport, RequestPage
from messages.gateways import Bond, DeclareGateway, OpenQueue, RedistributeStake, SubmitRequest, Unbond
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.polkadot import Scheme
from overseer.feeds.gateway import gateway_key, make_proof
from overseer.node.client import Refused
from tests.node.asking import recorded_of

__all__ = ["Accepted", "Ask", "Query", "Queue"]

GATEWAYS = ("Ada", "Grace", "Mary")
BOND = 1_000
SIZE = 100
# While so many requests wait, nobody submits more.
WAITING_MAX = 200
# Of a ballot's requests that nobody has to vote on: so some are carried, and expire.
LEFT_OUT_EVERY = 5
# Of the requests that a gateway won, it does not prove every so many: the next one has to.
FORGOTTEN_EVERY = 4

# Asked until its outcome is known, under this id. Raises Refused where the outcome is a refusal.
Ask = Callable[[OfElection, str], Awaitable[CommandOutcome]]
# Asked until it is answered.
Query = Callable[[Message], Awaitable[Message]]

# Refusals of what comes at the wrong time, or of what somebody else has done meanwhile.
FITTING = frozenset(
    {"wrong_phase", "unknown_item", "not_eligible", "not_authorized", "already_executed", "insufficient_stake", "bad_proof"}
)


class Accepted(NamedTuple):
    """A command that was accepted, its id, and the number of its event."""

    command: OfElection
    command_id: str
    sequence: int


def digest(*parts: object) -> bytes:
    return blake3(repr(parts).encode()).digest()


class Queue:
    """One queue, its gateways and those who submit requests to it. `run` may be cut off and begun again: it goes on where it was."""

    def __init__(self, key: str, rng: Random, *, pause_s: float = 0.1) -> None:
        self.key = key
        self.accepted: list[Accepted] = []
        self.refused: Counter[str] = Counter()
        self._rng = rng
        self._pause_s = pause_s
        self._ended = False
        self._said = 0
        self._submitted = 0
        # Of which the outcome is not known yet: asked again when `run` begins again.
        self._waiting: dict[str, OfElection] = {}
        self._keys = {name: gateway_key(f"{key} {name}") for name in GATEWAYS}
        self._opening = self._to_open()
        # (gateway, round, request) -> what it gave; (gateway, request, round) that it will not prove, or has proven.
        self._given: dict[tuple[str, int, bytes], int] = {}
        self._proven: set[tuple[str, int, bytes]] = set()

    @property
    def unheard(self) -> list[OfElection]:
        """Said, and nobody knows yet with what outcome."""
        return list(self._waiting.values())

    def end(self) -> None:
        """Begin nothing more."""
        self._ended = True

    async def run(self, ask: Ask, query: Query) -> None:
        """Returns, after `end`, when the outcome of everything that was said is known."""
        for command_id, command in list(self._waiting.items()):
            await self._ask(ask, command, command_id)
        while self._opening:
            await self._say(ask, self._opening.pop(0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._submit, ask, query)
            for name in GATEWAYS:
                tasks.start_soon(self._serve, name, ask, query)

    def _to_open(self) -> list[OfElection]:
        opened = OpenQueue(election=self.key, collect_blocks=1, vote_blocks=1, claim_blocks=3, carries_max=2)
        bonds = [Bond(election=self.key, gateway=key.public, amount=BOND) for key in self._keys.values()]
        return [opened, *bonds, *(DeclareGateway(election=self.key, gateway=k.public, scheme=Scheme.ED25519) for k in self._keys.values())]

    async def _pause(self) -> None:
        await anyio.sleep(self._rng.uniform(0, 2 * self._pause_s))

    async def _say(self, ask: Ask, command: OfElection) -> None:
        self._said += 1
        await self._ask(ask, command, f"{self.key} {self._said}")

    async def _ask(self, ask: Ask, command: OfElection, command_id: str) -> None:
        self._waiting[command_id] = command
        try:
            recorded = recorded_of(await ask(command, command_id))
        except Refused as refused:
            if refused.code not in FITTING:
                raise
            self.refused[refused.code] += 1
        else:
            self.accepted.append(Accepted(command, command_id, recorded.sequence))
        del self._waiting[command_id]

    async def _submit(self, ask: Ask, query: Query) -> None:
        while not self._ended:
            await self._pause()
            report = await query(GetQueue(election=self.key))
            assert isinstance(report, QueueReport)
            if report.waiting >= WAITING_MAX:
                continue
            number, self._submitted = self._submitted, self._submitted + 1
            request, content = digest(self.key, number), digest(self.key, number, "content")
            submitted = SubmitRequest(
                election=self.key, request=request, content=content, size=SIZE, account=digest("owner"), balance=number + 1
            )
            await self._say(ask, submitted)

    async def _serve(self, name: str, ask: Ask, query: Query) -> None:
        """A gateway: votes, proves, and moves some of its stake now and then."""
        turns = 0
        while not self._ended:
            await self._pause()
            await self._vote(name, ask, query)
            await self._prove(name, ask, query)
            turns += 1
            if turns % 4 == 0:
                amount, account = self._rng.randint(1, 20), self._keys[name].public
                kind = Bond if turns % 8 else Unbond
                await self._say(ask, kind(election=self.key, gateway=account, amount=amount))

    async def _vote(self, name: str, ask: Ask, query: Query) -> None:
        """On a request of the ballot that it has given nothing in this round, or another weight than before: each is an event."""
        page = await query(ActiveRequests(election=self.key, limit=50))
        assert isinstance(page, RequestPage)
        voted = [row.request for row in page.requests if row.request[0] % LEFT_OUT_EVERY]
        if page.round is None or not voted:
            return
        request = self._rng.choice(voted)
        before = self._given.get((name, page.round, request), 0)
        amount = self._given[name, page.round, request] = before + self._rng.randint(1, 20)
        vote = RedistributeStake(election=self.key, round=page.round, gateway=self._keys[name].public, item=request, amount=amount)
        await self._say(ask, vote)

    async def _prove(self, name: str, ask: Ask, query: Query) -> None:
        page = await query(AssignedRequests(election=self.key, limit=100))
        assert isinstance(page, AssignedRequestPage)
        key = self._keys[name]
        for row in page.requests:
            place = (name, row.round, row.request)
            if all(holder.gateway != key.public for holder in row.holders) or place in self._proven:
                continue
            self._proven.add(place)
            if digest(*place)[0] % FORGOTTEN_EVERY:
                await self._say(ask, make_proof(key, self.key, round=row.round, request=row.request, content=row.content, size=row.size))
