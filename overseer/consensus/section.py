"""What an operator can choose of the consensus groups. All nodes of a chain have the same."""

from typing import Annotated

import msgspec

from subsystems.consensus_manager.parameters import Parameters

__all__ = ["ConsensusSection"]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class ConsensusSection(msgspec.Struct, frozen=True, kw_only=True):
    """As `subsystems.consensus_manager.parameters.Parameters`. Raises ValueError for what does not fit together."""

    # Blocks that a group serves at least, from the one that accepted it.
    interval: Positive = 30
    # Blocks after which an attempt that is not done gets a younger one beside it; at least 5.
    election_timeout: Positive = 5
    # Attempts that live at once; each may be accepted for so many timeouts.
    attempts_alive: Positive = 3
    # Members of a group: 4, 7, 10, ...
    group_size: Positive = 4
    # Members whose confirmation a group needs, from N - f to N; 0: all of them.
    min_confirmations: Annotated[int, msgspec.Meta(ge=0)] = 0
    # No new block for so long (milliseconds), a start included: the validators say that the chain stalls.
    stall_ms: Positive = 10_000

    def __post_init__(self) -> None:
        _ = self.parameters

    @property
    def parameters(self) -> Parameters:
        return Parameters(
            interval=self.interval,
            election_timeout=self.election_timeout,
            attempts_alive=self.attempts_alive,
            group_size=self.group_size,
            min_confirmations=self.min_confirmations or None,
            stall_ms=self.stall_ms,
        )
