"""What an operator can choose of gateway elections."""

from typing import Annotated

import msgspec

from messages.gateways import QueueRules
from subsystems.elections.gateways.rounds import fault

__all__ = ["GatewaysConfig"]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class GatewaysConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue is opened with unless the command says otherwise, and the bounds, each with its reason."""

    # Blocks after the first one of a round in which requests are collected (L).
    collect_blocks: Positive = 10
    # Blocks after the cut until the last one before the close (M); at most collect_blocks.
    vote_blocks: Positive = 7
    # Blocks from the cut on in which votes are taken (N); vote_blocks + 1 where nothing is said.
    window_blocks: Positive | None = None
    # The block at which counting starts.
    origin: Count = 0
    # The least stake with which a gateway may vote.
    stake_min: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] = 50
    # How often a request that nobody votes for is carried to the next round before it expires (K).
    carries_max: Count = 5
    # Blocks that a winner has to prove the execution before the next alternate takes its place.
    claim_blocks: Positive = 20
    # Winners of one request.
    winners_max: Annotated[int, msgspec.Meta(ge=1, le=255)] = 1
    # Ballots whose votes and results are kept as rows.
    rounds_kept: Positive = 1_000
    # Queues: each takes a step with each block.
    queues_max: Positive = 16
    # Gateways of a queue: the stakes of all are in the event that cuts a ballot, and a request's ranking in one of its results.
    gateways_max: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 1_000
    # Requests of a queue that wait to be elected.
    requests_max: Positive = 100_000
    # Requests settled, returned or passed on in one step, and votes ranked in it: some ten milliseconds, and an event that fits a message
    # (18 432 values: 3 of each vote, 8 of each request).
    requests_per_step: Annotated[int, msgspec.Meta(ge=1, le=500)] = 500
    # Votes ranked in one such step.
    standings_per_step: Annotated[int, msgspec.Meta(ge=1, le=4_000)] = 4_000

    def __post_init__(self) -> None:
        """Raises ValueError for rules that cannot be kept (G09)."""
        wrong = fault(self.rules())
        if wrong:
            raise ValueError(wrong)

    def rules(self) -> QueueRules:
        """Those of a queue that is opened without saying anything else."""
        return QueueRules(
            collect_blocks=self.collect_blocks,
            vote_blocks=self.vote_blocks,
            window_blocks=self.vote_blocks + 1 if self.window_blocks is None else self.window_blocks,
            origin=self.origin,
            stake_min=self.stake_min,
            carries_max=self.carries_max,
            claim_blocks=self.claim_blocks,
            winners_max=self.winners_max,
            rounds_kept=self.rounds_kept,
        )
