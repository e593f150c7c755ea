"""The rules of disputes: thresholds, the state as a function of the votes, which vote replaces which."""

from messages.votes_db import DisputeStatus

__all__ = ["CONCLUDED", "byzantine_threshold", "inactive", "is_potential_spam", "replaces", "status_of", "supermajority"]

CONCLUDED = frozenset({DisputeStatus.CONCLUDED_FOR, DisputeStatus.CONCLUDED_AGAINST})
_BACKING = frozenset(b"SB")


def byzantine_threshold(validators: int) -> int:
    """f: the most validators that may be faulty."""
    return (validators - 1) // 3 if validators else 0


def supermajority(validators: int) -> int:
    """n - f: so many votes on one side conclude a dispute."""
    return validators - byzantine_threshold(validators)


def status_of(*, valid: int, invalid: int, voters: int, validators: int) -> DisputeStatus:
    """The state of a dispute from its counts (D01 to D04, D08, D09).

    `voters` are distinct, both sides united. Against is looked at first: it overrides for and is never overridden, as votes
    only ever come in addition.
    """
    if not valid or not invalid:
        return DisputeStatus.NONE
    needed = supermajority(validators)
    if invalid >= needed:
        return DisputeStatus.CONCLUDED_AGAINST
    if valid >= needed:
        return DisputeStatus.CONCLUDED_FOR
    return DisputeStatus.CONFIRMED if voters > byzantine_threshold(validators) else DisputeStatus.ACTIVE


def is_potential_spam(status: DisputeStatus, known: bool) -> bool:
    """Disputed, not confirmed, and the chain has neither backed nor included the candidate (D16)."""
    return status is DisputeStatus.ACTIVE and not known


def inactive(status: DisputeStatus, concluded_at_ms: int | None, now_ms: int, inactive_after_ms: int) -> bool:
    """Concluded more than that long ago (D10, strict)."""
    return status in CONCLUDED and concluded_at_ms is not None and concluded_at_ms + inactive_after_ms < now_ms


def replaces(new: int, present: int) -> bool:
    """Whether a vote of letter `new` takes the slot of one of letter `present` on the same side: backing is the stronger kind."""
    return new in _BACKING and present not in _BACKING
