"""What an operator can choose."""

from typing import Annotated

import msgspec

from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.peers.config import PeersConfig

__all__ = ["RETENTION_MS", "ElectionsConfig"]

Positive = Annotated[int, msgspec.Meta(ge=1)]

_DAY_MS = 24 * 3_600_000
# No election is purged earlier than this after it was created (point 10 of the runtime).
RETENTION_MS = 21 * _DAY_MS


class ElectionsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Choices of the operator and bounds, each with its reason."""

    # Sites that hold the elections: 1 (this node alone), 5 (five data centres of one zone) or 8 (four of two). Five copies of each.
    sites: Positive = 1
    # A site that gave no sign of life for this long is recorded as away, and another one writes its elections.
    lease_ms: Annotated[int, msgspec.Meta(ge=500)] = 1_500
    # Results are kept this long after an election came to its end; 21 days after its creation at least, in any case.
    results_retention_ms: Annotated[int, msgspec.Meta(ge=0)] = 7 * _DAY_MS
    # Whether elections are archived by themselves when their retention is over.
    archive_when_due: bool = False
    # Whether a ballot election may be validated while ballots are without a verdict.
    validate_unreviewed: bool = False
    # Rows of one page of an answer.
    page_rows_max: Positive = 1_000
    # Bytes of events in one page of a history: far below a message's size.
    page_bytes_max: Positive = 384 * 1024
    # Heights of the best chain of which the block is remembered: as far back as a round can be revoked (16 384: a day of 6 s blocks).
    chain_blocks_kept: Positive = 16_384
    # Steps of elections that one signal of the chain makes at once (a large one takes some ten ms); the rest follows by timers.
    chain_steps_max: Positive = 4
    # What a queue of gateway elections is opened with, and its bounds.
    gateways: GatewaysConfig = GatewaysConfig()
    # This node's part in peer elections.
    peers: PeersConfig = PeersConfig()
