"""A bounded stream of signed disputes and blocks into a node that is being killed, and what it acknowledged of them.

Each dispute is of four validators: a bundle in which both sides vote, then two single votes that decide it. The candidates of
those that are decided against are in blocks beside the main chain, so that each conviction blacklists exactly one block. Elections are
held beside all that (`polls`), and a gateway queue goes round with the chain's blocks (`queues`).
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

import anyio

from messages.chain_api import FinalizeBlock, ImportBlock, PendingTransactions, TransactionPool
from messages.codec import decode
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.polkadot import Side, Transaction, TransactionKind, VoteKind
from messages.scale import candidate_hash
from messages.transaction import transaction_id
from messages.votes_db import Outcome, RegisterVote, VotesRegistered
from overseer.feeds.author import genesis_of
from overseer.feeds.make import make_block, make_bundle, make_receipt, make_validators
from overseer.node.client import Client
from overseer.ports.bus import BusError
from tests.crash.polls import Polls
from tests.crash.queues import Queue
from tests.node.nodes import answered, told

SESSION = 1
VALIDATORS = 4
# Disputes to a height of the chain; the last of them is decided against its candidate.
PER_BLOCK = 5
# Transactions that a block executes at most.
EXECUTED_MAX = 40
# The chain's finality stays so many blocks behind.
UNFINALIZED = 5
# Every so many single votes, one is put into the stream without waiting for its outcome: acknowledged by the bus alone.
INJECTED_EVERY = 7


class Dispute(NamedTuple):
    """One dispute: its votes in the order in which they are sent, and how it ends."""

    number: int
    candidate: bytes
    valid: bool
    bundles: tuple[RegisterVote, ...]

    def votes(self) -> list[tuple[int, VoteKind, bytes]]:
        """(validator, kind, signature), by validator."""
        return sorted((v.validator, v.kind, v.signature) for bundle in self.bundles for v in bundle.explicit_votes)

    def transactions(self) -> list[bytes]:
        """The identities of what it must come to: the winning side rewarded, the other slashed."""
        verdict = Side.VALID if self.valid else Side.INVALID
        won = VoteKind.EXPLICIT_VALID if self.valid else VoteKind.EXPLICIT_INVALID
        return [
            transaction_id(
                Transaction(
                    kind=TransactionKind.REWARD if kind is won else TransactionKind.SLASH,
                    session=SESSION,
                    candidate=self.candidate,
                    validator=validator,
                    verdict=verdict,
                    vote=kind,
                    signature=signature,
                )
            )
            for validator, kind, signature in self.votes()
        ]


class Scenery:
    """One seed's validators, disputes and blocks. The same seed gives the same disputes."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.genesis = genesis_of(seed)
        self._keys = make_validators(seed, VALIDATORS, ed25519_every=2)

    def opening(self) -> ImportBlock:
        return make_block(self.genesis, 1, session=SESSION, epoch_start=1, session_start=self._keys.validators)

    def dispute(self, number: int) -> Dispute:
        receipt = make_receipt(f"{self.seed}/{number}", para_id=1000, relay_parent=self.genesis)
        valid = number % PER_BLOCK != PER_BLOCK - 1
        winning = VoteKind.EXPLICIT_VALID if valid else VoteKind.EXPLICIT_INVALID
        both = [(0, VoteKind.EXPLICIT_VALID), (1, VoteKind.EXPLICIT_INVALID)]
        parts = [both, [(2, winning)], [(3, winning)]]
        bundles = tuple(make_bundle(self._keys, receipt, part, session=SESSION, block_number=1) for part in parts)
        return Dispute(number, candidate_hash(receipt), valid, bundles)

    def candidates(self, height: int) -> tuple[list[bytes], bytes]:
        """Of the disputes that belong to a height: those that end well, and the one that does not."""
        *well, badly = (self.dispute(PER_BLOCK * height + i).candidate for i in range(PER_BLOCK))
        return well, badly


class Traffic:
    """Sends until `end` is called, then completes what it has begun. Everything is asked again until it is acknowledged."""

    def __init__(self, scenery: Scenery, rng: Random, *, lanes: int = 4, pause_s: float = 0.15, deadline_s: float = 60) -> None:
        """`deadline_s`: how long any command may take to be acknowledged, whatever is killed meanwhile."""
        self.scenery = scenery
        # Commands whose outcome was heard, by receiver; and those that the bus alone acknowledged.
        self.acknowledged: Counter[str] = Counter()
        self.disputes: list[Dispute] = []
        self.polls = Polls("poll", rng, pause_s=pause_s)
        self.queue = Queue("queue", rng, pause_s=pause_s)
        self.main: list[ImportBlock] = [scenery.opening()]
        self.beside: list[ImportBlock] = []
        # Votes that had an outcome other than being stored: had an earlier attempt taken effect twice, they would be present.
        self.strange: list[str] = []
        self._rng = rng
        self._lanes = lanes
        self._pause_s = pause_s
        self._deadline_s = deadline_s
        self._begun = 0
        self._under_way = 0
        self._ended = False

    @property
    def total(self) -> int:
        return self.acknowledged.total()

    @property
    def votes(self) -> int:
        return sum(len(dispute.votes()) for dispute in self.disputes)

    def end(self) -> None:
        """Begin nothing more."""
        self._ended = True
        self.polls.end()
        self.queue.end()

    async def run(self, client: Client) -> None:
        """Returns when everything begun is acknowledged."""
        await self._send(client, self.main[0], "opening")
        async with anyio.create_task_group() as tasks:
            for _ in range(self._lanes):
                tasks.start_soon(self._disputes, client)
            tasks.start_soon(self._blocks, client)
            tasks.start_soon(self.polls.run, [partial(self._send, client)])
            tasks.start_soon(self.queue.run, partial(self._send, client), partial(answered, client, seconds=self._deadline_s))

    async def _pause(self) -> None:
        await anyio.sleep(self._rng.uniform(0, 2 * self._pause_s))

    async def _send(self, client: Client, command: Message, command_id: str) -> CommandOutcome:
        try:
            outcome = await told(client, command, command_id, seconds=self._deadline_s)
        except TimeoutError:
            raise TimeoutError(f"{command_id} was not acknowledged within {self._deadline_s:g} s") from None
        self.acknowledged[command.spec.owner] += 1
        return outcome

    async def _disputes(self, client: Client) -> None:
        while not self._ended:
            number, self._begun = self._begun, self._begun + 1
            self._under_way += 1
            dispute = self.scenery.dispute(number)
            for part, bundle in enumerate(dispute.bundles):
                await self._pause()
                if part and (3 * number + part) % INJECTED_EVERY == 0:
                    await self._inject(client, bundle, f"vote {number}.{part}")
                else:
                    self._stored(number, await self._send(client, bundle, f"vote {number}.{part}"))
            self.disputes.append(dispute)
            self._under_way -= 1

    async def _inject(self, client: Client, bundle: RegisterVote, command_id: str) -> None:
        while True:
            try:
                await client.inject(bundle, command_id=command_id)
            except BusError:
                await anyio.sleep(0.02)
            else:
                self.acknowledged["the bus"] += 1
                return

    def _stored(self, number: int, outcome: CommandOutcome) -> None:
        assert outcome.reply is not None
        reply = decode(VotesRegistered.spec, outcome.reply)
        assert isinstance(reply, VotesRegistered)
        self.strange += [f"dispute {number}: {vote}" for vote in reply.outcomes if vote.outcome is not Outcome.STORED]

    # -------------------------------------------------------------------------------------------- the chain

    async def _blocks(self, client: Client) -> None:
        """The main chain grows with the disputes; beside each of its blocks is one with a candidate that must be convicted."""
        while not (self._ended and not self._under_way and self._height_due() <= len(self.beside)):
            if self._height_due() <= len(self.beside):
                await anyio.sleep(0.02)
                continue
            await self._grow(client)
        # One more, so that none beside it is as high.
        await self._send(client, await self._main_block(client, []), f"block {len(self.main)}")

    def _height_due(self) -> int:
        return math.ceil(self._begun / PER_BLOCK)

    async def _grow(self, client: Client) -> None:
        height = len(self.beside)
        well, badly = self.scenery.candidates(height)
        before = self.main[-1]
        beside = make_block(before.hash, before.number + 1, session=SESSION, epoch_start=1, included=[badly], salt=b"beside")
        block = await self._main_block(client, well)
        for command, name in ((beside, "beside"), (block, "block")) if height % 2 else ((block, "block"), (beside, "beside")):
            await self._pause()
            await self._send(client, command, f"{name} {height}")
        self.beside.append(beside)
        if height % UNFINALIZED == UNFINALIZED - 1:
            await self._send(client, FinalizeBlock(hash=self.main[-UNFINALIZED].hash), f"finalize {height}")

    async def _main_block(self, client: Client, included: list[bytes]) -> ImportBlock:
        pool = await answered(client, PendingTransactions(limit=EXECUTED_MAX), seconds=self._deadline_s)
        assert isinstance(pool, TransactionPool)
        before = self.main[-1]
        block = make_block(
            before.hash,
            before.number + 1,
            session=SESSION,
            epoch_start=1,
            included=included,
            transactions=sorted(row.id for row in pool.transactions),
        )
        self.main.append(block)
        return block


async def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for something that the system does by itself. Raises TimeoutError, naming it."""
    with anyio.move_on_after(seconds):
        while not condition():
            await anyio.sleep(0.01)
        return
    raise TimeoutError(f"not within {seconds:g} s: {what}")
