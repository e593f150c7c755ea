"""How large a development chain is, and which parts it has."""

import msgspec

from messages.chain_api import ResumeMode

__all__ = ["Shape"]

# votes_db prunes older sessions by default, and with them what the story asks for at the end.
_SESSIONS_MAX = 6


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large the story is and which parts it has. Small numbers make it fast; ValueError tells what cannot be."""

    validators: int = 100
    sessions: int = 3
    session_blocks: int = 12
    # How many validators leave, and others join, with each session: the rest change their index.
    churn: int = 5
    # Every n-th validator has an Ed25519 key (0: none).
    ed25519_every: int = 4
    candidates_per_block: int = 2
    inclusion_delay: int = 2
    finality_lag: int = 3
    disputes_for: int = 2
    disputes_against: int = 2
    # Descendants of an invalid block on its longest branch.
    subtree_depth: int = 12
    # Votes of one bundle; 0: an eighth of the validators.
    bundle_votes: int = 0
    # Transactions that one block executes at most.
    block_transactions: int = 12
    # How governance mode ends; None: no final block is found bad.
    resume: ResumeMode | None = ResumeMode.PARDON
    blocks_after: int = 6

    def __post_init__(self) -> None:
        if self.validators < 4:
            raise ValueError("a dispute that is decided against liars needs 4 validators at least")
        if self.sessions > _SESSIONS_MAX:
            raise ValueError(f"at most {_SESSIONS_MAX} sessions: older disputes are pruned")
        if min(self.sessions, self.inclusion_delay, self.finality_lag, self.subtree_depth, self.candidates_per_block) < 1:
            raise ValueError("sessions, inclusion_delay, finality_lag, subtree_depth and candidates_per_block are 1 at least")
        if self.session_blocks <= self.inclusion_delay:
            raise ValueError("a session is longer than the inclusion delay: votes name the session of backing and inclusion")

    @property
    def faulty_max(self) -> int:
        return (self.validators - 1) // 3

    @property
    def votes_per_bundle(self) -> int:
        return self.bundle_votes or max(1, self.validators // 8)
