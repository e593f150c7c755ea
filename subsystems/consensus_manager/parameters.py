"""The parameters of a chain's elections. They are the same at all its nodes; what a block says is judged by them."""

from msgspec import Struct

from subsystems.consensus_manager.terms import faulty_most, is_group_size

__all__ = ["Parameters"]

# Dealing, complaining and justifying end one block apart; confirming and being included take two more.
ELECTION_TIMEOUT_MIN = 5


class Parameters(Struct, frozen=True, kw_only=True):
    """Blocks where nothing else is said. Raises ValueError for what cannot work."""

    # I: how long a group serves at least.
    interval: int = 30
    # RI: an attempt that is not done by then gets a younger one beside it.
    election_timeout: int = 5
    # K: attempts that live at once; each is acceptable for K times the timeout. 1: an attempt ends with its timeout.
    attempts_alive: int = 3
    # N = 3f + 1.
    group_size: int = 4
    # Members whose confirmation is needed, from N - f to N; None: all.
    min_confirmations: int | None = None
    # No new block for so long, a start included: the validators say that the chain stalls.
    stall_ms: int = 10_000

    def __post_init__(self) -> None:
        if not is_group_size(self.group_size):
            raise ValueError(f"a group has 3f + 1 members, not {self.group_size}")
        if self.election_timeout < ELECTION_TIMEOUT_MIN:
            raise ValueError(f"the election timeout is {self.election_timeout} blocks, at least {ELECTION_TIMEOUT_MIN} are needed")
        if self.interval < 1 or self.attempts_alive < 1:
            raise ValueError("the interval and the number of attempts alive are at least 1")
        if not self.group_size - faulty_most(self.group_size) <= self.confirmations <= self.group_size:
            raise ValueError(f"{self.confirmations} confirmations of {self.group_size} members prove too little, or cannot be had")

    @property
    def confirmations(self) -> int:
        return self.group_size if self.min_confirmations is None else self.min_confirmations
