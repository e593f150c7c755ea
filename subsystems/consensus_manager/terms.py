"""The terms of one attempt: all that is the same for everybody before the first message."""

from collections.abc import Sequence

from msgspec import Struct

from messages.consensus_manager import Approval, Attempt, Member, Phase
from messages.consensus_signing import next_seed, session_id

__all__ = ["Terms", "faulty_most", "is_group_size", "phase_height", "terms_of"]

# How many blocks after the attempt's first one each phase ends; an attempt's time (at least 5) leaves two for confirming and inclusion.
_ENDS = {Phase.DEAL: 1, Phase.COMPLAIN: 2, Phase.JUSTIFY: 3}


def faulty_most(count: int) -> int:
    """f: how many of so many may be faulty."""
    return (count - 1) // 3


def is_group_size(count: int) -> bool:
    """Groups have 3f + 1 members, f at least 1."""
    return count >= 4 and count % 3 == 1


class Terms(Struct, frozen=True, kw_only=True):
    """`validators` are the signing keys of the session's validators, by index; `stalls` shows that the round before was given up."""

    session: bytes
    chain: bytes
    epoch: int
    attempt: Attempt
    # Of H + D.
    block: bytes
    members: tuple[Member, ...]
    validators: tuple[bytes, ...]
    min_confirmations: int
    stalls: tuple[Approval, ...] = ()

    @property
    def seed(self) -> bytes:
        return next_seed(self.block, self.attempt.round)

    @property
    def size(self) -> int:
        """N."""
        return len(self.members)

    @property
    def faulty_most(self) -> int:
        """f of the members."""
        return faulty_most(self.size)

    @property
    def degree(self) -> int:
        """Of the polynomials: N - f sign together, no fewer."""
        return self.size - self.faulty_most - 1

    @property
    def stalled_needed(self) -> int:
        """2f + 1 of the validators."""
        return 2 * faulty_most(len(self.validators)) + 1

    def place_of(self, signing: bytes) -> int | None:
        """Where among the members the holder of this key is."""
        return next((place for place, member in enumerate(self.members) if member.identity.signing == signing), None)


def terms_of(
    *,
    chain: bytes,
    epoch: int,
    attempt: Attempt,
    block: bytes,
    members: Sequence[Member],
    validators: Sequence[bytes],
    min_confirmations: int | None = None,
    stalls: Sequence[Approval] = (),
) -> Terms:
    """`block` is the hash of block H + D, `epoch` the one that the group is to serve; without `min_confirmations` all must confirm.

    Raises ValueError: the group's size is not 3f + 1, or the confirmations are not from N - f to N.
    """
    size = len(members)
    needed = size if min_confirmations is None else min_confirmations
    if not is_group_size(size):
        raise ValueError(f"a group has 3f + 1 members, not {size}")
    if not size - faulty_most(size) <= needed <= size:
        raise ValueError(f"{needed} confirmations of {size} members: at least {size - faulty_most(size)} are needed")
    seed = next_seed(block, attempt.round)
    return Terms(
        session=session_id(chain=chain, epoch=epoch, attempt=attempt, seed=seed, members=members),
        chain=chain,
        epoch=epoch,
        attempt=attempt,
        block=block,
        members=tuple(members),
        validators=tuple(validators),
        min_confirmations=needed,
        stalls=tuple(stalls),
    )


def phase_height(attempt: Attempt, phase: Phase) -> int | None:
    """The height at which a member's head tells it that the phase is over; confirming is ended by other attempts."""
    blocks = _ENDS.get(phase)
    return None if blocks is None else attempt.due + attempt.delay + blocks
