"""The development chain without an end, for a node that runs: a block every tick, now and then a dispute.

Everything about height n follows from the seed and n alone, so a restarted node's feed goes on at any height:

    for tick in ticks("demo", EndlessShape(), first=finalized_number + 1): ...

What is sent twice does no harm: a known block is a no-op, a known vote is already present.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from messages.chain_api import FinalizeBlock, ImportBlock
from messages.message import Message
from messages.polkadot import CandidateReceipt, Side, TransactionKind
from messages.scale import candidate_hash
from overseer.feeds.author import genesis_of
from overseer.feeds.camps import Camps, camps_of, condemning, confirming
from overseer.feeds.keyring import Keyring, derive
from overseer.feeds.ledger import identify
from overseer.feeds.make import Ballot, make_block, make_bundle, make_receipt
from overseer.feeds.shape import Shape

__all__ = ["EndlessChain", "EndlessShape", "Tick", "ticks"]


class EndlessShape(Shape, frozen=True, kw_only=True):
    """As a story's shape (its number of sessions does not count)."""

    validators: int = 10
    # Heights between disputes; every third of them is decided against its candidate.
    dispute_every: int = 20
    # Blocks from a dispute to the execution of its transactions.
    execution_delay: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dispute_every <= self.inclusion_delay:
            raise ValueError("dispute_every is longer than the inclusion delay")


class Tick(NamedTuple):
    """What happens at one height, in order."""

    number: int
    messages: list[Message]


def ticks(seed: str, shape: EndlessShape | None = None, *, first: int = 1) -> Iterator[Tick]:
    """All ticks from height `first` on, for ever."""
    chain = EndlessChain(seed, shape or EndlessShape())
    return (chain.tick(number) for number in itertools.count(max(1, first)))


class EndlessChain:
    """Anything about any height of the main chain."""

    def __init__(self, seed: str, shape: EndlessShape) -> None:
        self.seed = seed
        self.shape = shape
        self._pool = Keyring.from_seed(seed, shape.validators + 4 * shape.churn, ed25519_every=shape.ed25519_every)
        self.keyring = lru_cache(maxsize=8)(self._keyring)
        self.receipt = lru_cache(maxsize=16)(self._receipt)

    def hash(self, number: int) -> bytes:
        return derive(self.seed, "block", number) if number else genesis_of(self.seed)

    def session(self, number: int) -> int:
        return 1 + (max(1, number) - 1) // self.shape.session_blocks

    def _keyring(self, session: int) -> Keyring:
        """A window that moves around all keys, session by session."""
        count = len(self._pool)
        first = self.shape.churn * session % count
        return Keyring([self._pool[(first + i) % count] for i in range(self.shape.validators)])

    # -------------------------------------------------------------------------------------------- disputes

    def disputed(self, number: int) -> bool:
        return number > self.shape.inclusion_delay and number % self.shape.dispute_every == 0

    def invalid(self, number: int) -> bool:
        """Whether the dispute at that height is decided against its candidate."""
        return number // self.shape.dispute_every % 3 == 2

    def judging(self, number: int) -> int:
        """The session whose validators vote in the dispute at that height: that of the candidate's backing."""
        return self.session(number if self.invalid(number) else number - self.shape.inclusion_delay)

    def _receipt(self, number: int) -> CandidateReceipt:
        """The candidate disputed at that height."""
        parent = number - 1 if self.invalid(number) else number - self.shape.inclusion_delay - 1
        seed = derive(self.seed, "disputed", number)
        return make_receipt(seed, para_id=2000, relay_parent=self.hash(parent), height=number)

    def camps(self, number: int) -> Camps:
        order = sorted(range(self.shape.validators), key=lambda i: derive(self.seed, "order", number, i))
        return camps_of(order, self.shape)

    def ballots(self, number: int) -> tuple[list[Ballot], list[Ballot]]:
        return (condemning if self.invalid(number) else confirming)(self.camps(number))

    def transactions(self, number: int) -> list[bytes]:
        """The ids of all that follows from the dispute at that height."""
        verdict = not self.invalid(number)
        session, candidate = self.judging(number), candidate_hash(self.receipt(number))
        return [
            identify(
                TransactionKind.REWARD if (kind.side is Side.VALID) is verdict else TransactionKind.SLASH,
                (session, candidate, validator, verdict),
            )
            for part in self.ballots(number)
            for validator, kind in part
        ]

    # -------------------------------------------------------------------------------------------- blocks

    def candidates(self, number: int) -> list[bytes]:
        """What the block backs."""
        if number < 1:
            return []
        ordinary = [derive(self.seed, "candidate", number, i) for i in range(self.shape.candidates_per_block)]
        later = number + self.shape.inclusion_delay
        return [candidate_hash(self.receipt(later)), *ordinary] if self.disputed(later) and not self.invalid(later) else ordinary

    def block(self, number: int) -> ImportBlock:
        session = self.session(number)
        began = 1 + (session - 1) * self.shape.session_blocks
        executed = number - self.shape.execution_delay
        block = make_block(
            self.hash(number - 1),
            number,
            session=session,
            epoch_start=began,
            session_start=self.keyring(session).validators if number == began else None,
            backed=self.candidates(number),
            included=self.candidates(number - self.shape.inclusion_delay),
            transactions=self.transactions(executed) if self.disputed(executed) else [],
        )
        return msgspec.structs.replace(block, hash=self.hash(number))

    def fork(self, number: int) -> list[ImportBlock]:
        """The invalid block of that height's dispute and its descendants, from the main chain's block below on."""
        candidate = candidate_hash(self.receipt(number))
        session = self.session(number)
        contents: list[tuple[Sequence[bytes], Sequence[bytes]]] = [([candidate], []), ([], [candidate])]
        contents += [([], [])] * min(3, self.shape.subtree_depth)
        parent, blocks = self.hash(number - 1), list[ImportBlock]()
        began = 1 + (session - 1) * self.shape.session_blocks
        for i, (backed, included) in enumerate(contents):
            starting = self.keyring(session).validators if number + i == began else None
            block = make_block(
                parent,
                number + i,
                session=session,
                epoch_start=began,
                session_start=starting,
                backed=backed,
                included=included,
                salt=b"fork",
            )
            blocks.append(block)
            parent = block.hash
        return blocks

    def votes(self, number: int) -> list[Message]:
        """The bundles of the dispute at that height."""
        session = self.judging(number)
        opening, rest = self.ballots(number)
        size = self.shape.votes_per_bundle
        parts = [opening, *(rest[at : at + size] for at in range(0, len(rest), size))]
        keys = self.keyring(session)
        also = [derive(self.seed, "also approved")]
        return [make_bundle(keys, self.receipt(number), part, session=session, block_number=number, approved_with=also) for part in parts]

    def tick(self, number: int) -> Tick:
        """The main chain's block of that height, what is final then, and a dispute if there is one."""
        messages: list[Message] = [self.block(number)]
        if number > self.shape.finality_lag:
            messages.append(FinalizeBlock(hash=self.hash(number - self.shape.finality_lag)))
        if self.disputed(number):
            messages += [*(self.fork(number) if self.invalid(number) else []), *self.votes(number)]
        return Tick(number, messages)
