"""The settings and bounds of `chain_api`."""

import msgspec

from messages.polkadot import Validator

__all__ = ["ChainConfig"]


class ChainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain is, who governs it, and how much one step may do. Steps are bounded so that others' turn comes (30 ms)."""

    # Identifies the chain; resumes are signed for it.
    genesis: bytes
    # The validators of session 0, when no block starts it.
    genesis_validators: tuple[Validator, ...] | None = None
    # Ed25519 public key whose signature ends governance mode; None: nothing does.
    governance_authority: bytes | None = None
    # Blocks that wait for their parent; beyond it the oldest is dropped.
    orphans_max: int = 1024
    # Pending transactions; beyond it submissions are refused. A session of 1000 validators' disputes is a few thousand.
    pool_max: int = 100_000
    # Blocks marked in one step of a cascade: one event and one page (36 bytes each).
    mark_step: int = 2_000
    # Waiting blocks imported in one step, at about 0.3 ms each.
    adopt_step: int = 64
    # Leaves deactivated by finality, or looked at after governance mode, in one step.
    leaves_step: int = 500
    # Leaves tested for viability in one step of the search for the best (each a few walks of O(log n)).
    search_step: int = 200
    # Blocks in one page of `best_chain`.
    best_page: int = 2_000
    # Hashes in one page of `descendants_answer`.
    descendants_page: int = 1_000
