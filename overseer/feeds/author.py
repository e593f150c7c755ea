"""The author of development chains: writes steps and tells the ledger, block by block and bundle by bundle."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from messages.chain_api import FinalizeBlock, ImportBlock, ResumeMode
from messages.message import Message
from messages.polkadot import CandidateReceipt, Vote, VoteKind
from messages.scale import candidate_hash
from messages.votes_db import Outcome, RegisterVote
from overseer.feeds import barriers
from overseer.feeds.keyring import Keyring, derive
from overseer.feeds.ledger import Ledger
from overseer.feeds.make import Ballot, make_authority, make_block, make_bundle, make_receipt, make_resume, make_vote
from overseer.feeds.shape import Shape
from overseer.feeds.story import ACCEPTED, Await, DisputeKey, Scene, Send, Step, Story

__all__ = ["Author", "Candidate", "genesis_of"]

_FIRST_SESSION = 1
_BACKING = (VoteKind.BACKING_SECONDED, VoteKind.BACKING_VALID)


class Candidate(NamedTuple):
    """A candidate that will be disputed, and the session that judges it."""

    receipt: CandidateReceipt
    hash: bytes
    session: int

    @property
    def key(self) -> DisputeKey:
        return self.session, self.hash


def genesis_of(seed: str) -> bytes:
    """The genesis hash of a seed's development chain."""
    return derive(seed, "genesis")


class Author:
    """One seed's chain as it is being written."""

    def __init__(self, seed: str, shape: Shape | None = None) -> None:
        self.seed = seed
        self.shape = shape or Shape()
        self.genesis = genesis_of(seed)
        self.authority = make_authority(seed)
        self.ledger = Ledger(self.genesis)
        self.steps: list[Step] = []
        # The end of the main chain, and the session and its first block's number there.
        self.tip = self.genesis
        self.session = _FIRST_SESSION - 1
        self.session_began = 0
        self._everyone = Keyring.from_seed(
            seed, self.shape.validators + self.shape.churn * self.shape.sessions, ed25519_every=self.shape.ed25519_every
        )
        self._salt = 0
        # Candidates of the main chain: backed at that number (disputed ones by name, others by hash alone).
        self._backed: dict[int, list[bytes]] = {}

    # -------------------------------------------------------------------------------------------- parts

    def keyring(self, session: int) -> Keyring:
        """The session's validators: a window of all keys that moves on with each session."""
        first = self.shape.churn * (session - _FIRST_SESSION)
        return Keyring(self._everyone.keys[first : first + self.shape.validators])

    def order(self, label: str) -> list[int]:
        """All validator indices in an order that the seed and `label` determine."""
        return sorted(range(self.shape.validators), key=lambda i: derive(self.seed, "order", label, i))

    def scene(self, text: str) -> None:
        self.steps.append(Scene(text))

    def wait(self, barrier: Await) -> None:
        self.steps.append(barrier)

    @property
    def height(self) -> int:
        return self.ledger.number(self.tip)

    # -------------------------------------------------------------------------------------------- blocks

    def put(self, block: ImportBlock) -> bytes:
        self.ledger.import_block(block)
        self.steps.append(Send(block))
        return block.hash

    def candidate(self, label: str, parent: bytes, number: int) -> Candidate:
        """A candidate to be backed in the block `number` on `parent`."""
        receipt = make_receipt(derive(self.seed, label), para_id=2000, relay_parent=parent, height=number)
        return Candidate(receipt, candidate_hash(receipt), self.session)

    def _ordinary(self, number: int) -> list[bytes]:
        return [derive(self.seed, "candidate", self._salt, number, i) for i in range(self.shape.candidates_per_block)]

    def grow(self, *disputed: Candidate, finalize: bool = True) -> bytes:
        """The next block of the main chain: backs, includes, executes waiting transactions, starts a session when it is time."""
        number = self.height + 1
        starting = None
        due = self.session < self.shape.sessions and number - self.session_began >= self.shape.session_blocks
        if due or self.session < _FIRST_SESSION:
            self.session, self.session_began = self.session + 1, number
            starting = self.keyring(self.session).validators
        backed = [*(c.hash for c in disputed), *self._ordinary(number)][: max(len(disputed), self.shape.candidates_per_block)]
        self._backed[number] = backed
        block = make_block(
            self.tip,
            number,
            session=self.session,
            epoch_start=self.session_began,
            session_start=starting,
            backed=backed,
            included=[c for c in self._backed.get(number - self.shape.inclusion_delay, []) if c not in self.ledger.convicted],
            transactions=sorted(self.ledger.unexecuted(self.tip))[: self.shape.block_transactions],
            salt=self._salt.to_bytes(4, "little"),
        )
        self.tip = self.put(block)
        if starting is not None:
            self.wait(barriers.session_known(self.session))
        if finalize and number > self.shape.finality_lag:
            self.finalize(self.ledger.path(self.tip)[self.shape.finality_lag])
        return self.tip

    def finalize(self, block: bytes) -> None:
        if self.ledger.number(block) > self.ledger.number(self.ledger.finalized):
            self.ledger.finalize(block)
            self.steps.append(Send(FinalizeBlock(hash=block)))

    def room(self, blocks: int) -> None:
        """Grow until the session has at least `blocks` more blocks before the next one starts."""
        while self.session < _FIRST_SESSION or (
            self.session < self.shape.sessions and self.session_began + self.shape.session_blocks - 1 - self.height < blocks
        ):
            self.grow()

    def fork(self, parent: bytes, *, backed: Sequence[bytes] = (), included: Sequence[bytes] = (), label: str = "") -> bytes:
        """A block beside the main chain, in the session of its parent."""
        block = make_block(
            parent,
            self.ledger.number(parent) + 1,
            session=self.session,
            epoch_start=self.session_began,
            backed=backed,
            included=included,
            salt=label.encode() or b"fork",
        )
        return self.put(block)

    def include(self, label: str, *, finalize: bool = True) -> Candidate:
        """A candidate backed by the next main block and included `inclusion_delay` blocks later."""
        self.room(self.shape.inclusion_delay + 1)
        candidate = self.candidate(label, self.tip, self.height + 1)
        self.grow(candidate, finalize=finalize)
        for _ in range(self.shape.inclusion_delay):
            self.grow(finalize=finalize)
        return candidate

    # -------------------------------------------------------------------------------------------- votes

    def bundle(self, candidate: Candidate, ballots: Iterable[Ballot]) -> RegisterVote:
        return make_bundle(
            self.keyring(candidate.session),
            candidate.receipt,
            ballots,
            session=candidate.session,
            block_number=self.height,
            approved_with=[derive(self.seed, "also approved")],
        )

    def cast(self, candidate: Candidate, ballots: Sequence[Ballot]) -> None:
        """One bundle of good votes, if any, told to the ledger as `votes_db` reads it: attestations by index, then the rest."""
        if not ballots:
            return
        message = self.bundle(candidate, ballots)
        backing = sorted(b for b in ballots if b[1] in _BACKING)
        ordered = backing + [b for b in ballots if b not in backing]
        outcomes = tuple(self.ledger.vote(candidate.key, index, kind.side) for index, kind in ordered)
        self.steps.append(Send(message, ACCEPTED, outcomes, self.ledger.recount(candidate.key)))

    def cast_all(self, candidate: Candidate, first: Sequence[Ballot], rest: Sequence[Ballot]) -> None:
        """The bundle that opens the dispute, then the others' votes in bundles."""
        self.cast(candidate, first)
        size = self.shape.votes_per_bundle
        for at in range(0, len(rest), size):
            self.cast(candidate, rest[at : at + size])

    def decided(self, candidate: Candidate) -> None:
        """Wait for all that follows from the dispute: its conclusion, the blacklist, the transactions in the pool."""
        self.wait(barriers.concluded(candidate.key, self.ledger.expected().conclusions[candidate.key]))
        self.wait(barriers.pooled(len(self.ledger.pending)))

    def approval_of(self, candidate: Candidate, validator: int, candidates: Sequence[bytes]) -> Vote:
        """A well signed approval of several candidates, whichever they are."""
        return make_vote(
            self.keyring(candidate.session)[validator],
            validator,
            VoteKind.APPROVAL_MULTIPLE,
            candidate=candidate.hash,
            session=candidate.session,
            candidates=candidates,
        )

    def cast_with_defects(self, message: RegisterVote, defects: Sequence[Outcome]) -> None:
        """A bundle of explicit votes, the first of which have these defects."""
        key = (message.session_index, message.candidate_hash)
        outcomes = tuple(
            self.ledger.vote(key, vote.validator, vote.kind.side, defect=defects[i] if i < len(defects) else None)
            for i, vote in enumerate(message.explicit_votes)
        )
        self.steps.append(Send(message, ACCEPTED, outcomes, self.ledger.recount(key)))

    def refused(self, message: Message, code: str) -> None:
        """What the receiver must refuse, by that code; nothing follows from it."""
        self.ledger.refuse(code)
        self.steps.append(Send(message, code))

    # -------------------------------------------------------------------------------------------- the end

    def resume(self, mode: ResumeMode, roots: list[bytes]) -> Send:
        frozen_at = self.ledger.frozen_at
        assert frozen_at is not None
        message = make_resume(self.authority, mode, chain=self.genesis, entry=self.ledger.entries, frozen_at=frozen_at, roots=roots)
        step = Send(message)
        self.steps.append(step)
        self.ledger.resume(mode, roots)
        if mode is ResumeMode.ABANDON:
            self.tip = self.ledger.finalized
            self._salt += 1
        return step

    def finished(self) -> Story:
        """The story as it is now."""
        expected = self.ledger.expected()
        return Story(
            genesis=self.genesis,
            authority=self.authority,
            steps=self.steps,
            expected=expected,
            questions=barriers.questions(expected, self.ledger.blocks.values()),
        )
