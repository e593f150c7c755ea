"""A story: scripted messages in order, the barriers between them, and what must be true at the end.

A story is data. Whoever plays it (demo, tests, benchmark, crash harness) sends each `Send` when the one before it has its
outcome, and at each `Await` asks until the answer holds. `Story.questions` are asked once, at the end.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from messages.dispute_conclusion import ConclusionState
from messages.message import Message
from messages.polkadot import Validator
from messages.signals import GovernanceState
from messages.votes_db import DisputeStatus, Outcome
from overseer.feeds.keyring import Key

__all__ = ["ACCEPTED", "Await", "DisputeKey", "Expected", "Identity", "Scene", "Send", "Step", "Story"]

ACCEPTED = "accepted"

# (session, candidate hash)
DisputeKey = tuple[int, bytes]
# (session, candidate hash, validator, verdict is valid): what is rewarded or slashed at most once.
Identity = tuple[int, bytes, int, bool]


class Scene(NamedTuple):
    """A new part of the story begins: for whoever watches."""

    text: str


class Send(NamedTuple):
    """Send a command and wait for its outcome, which is `outcome`: `accepted` or a rejection's code.

    Any other outcome that is retriable means that the receiver has not heard yet what it needs: send again.
    For a bundle, `votes` are the outcomes of its votes in order, and `status` is that of the dispute after it.
    """

    message: Message
    outcome: str = ACCEPTED
    votes: tuple[Outcome, ...] | None = None
    status: DisputeStatus | None = None


class Await(NamedTuple):
    """Go on when `holds` is true of the answer to `query` (a reply or a typed rejection)."""

    what: str
    query: Message
    holds: Callable[[Message], bool]


Step = Scene | Send | Await


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the story comes to, computed by a model of its own and not by the subsystems' code."""

    # Imported blocks, genesis not counted.
    blocks: int
    best: bytes
    finalized: bytes
    finalized_number: int
    sessions: Mapping[int, list[Validator]]
    # (valid, invalid) voters of each candidate voted on.
    votes: Mapping[DisputeKey, tuple[frozenset[int], frozenset[int]]]
    votes_stored: int
    outcomes: Counter[Outcome]
    statuses: Mapping[DisputeKey, DisputeStatus]
    disputes: frozenset[DisputeKey]
    # Every conclusion on the way, with its verdict.
    resolutions: frozenset[tuple[DisputeKey, bool]]
    concluded_for: frozenset[DisputeKey]
    concluded_against: frozenset[DisputeKey]
    challenged: frozenset[DisputeKey]
    double_voters: frozenset[tuple[int, bytes, int]]
    conclusions: Mapping[DisputeKey, ConclusionState]
    # At the end, and at any time.
    blacklisted: frozenset[bytes]
    ever_blacklisted: frozenset[bytes]
    rewards: frozenset[Identity]
    slashes: frozenset[Identity]
    # By transaction id: all; those that wait in the pool at the end.
    transactions: frozenset[bytes]
    pending: frozenset[bytes]
    governance: GovernanceState
    governance_entries: int
    frozen_at: int | None
    refusals: Counter[str]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in order, what they come to, and the questions by which that is seen from outside."""

    # Hash and number 0 of the block that the first imported one builds on: `chain_api` must be configured with it.
    genesis: bytes
    # Whose public key `chain_api` must know as the governance authority.
    authority: Key
    steps: list[Step]
    expected: Expected
    questions: list[Await]

    @property
    def messages(self) -> list[Message]:
        """Only what is sent, in order."""
        return [step.message for step in self.steps if isinstance(step, Send)]
