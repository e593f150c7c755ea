"""Who is a member: drawn by weight from the session's validators, from nothing but accepted blocks (E04, E05).

Draws are by integers alone, so that every node on every machine draws the same. A validator's *penalties* are the elections on the chain
since it last was a qualified dealer in which it was a member and dealt nothing, or wrongly. They weigh it down; and the more attempts at
one election failed, the more of those with most penalties are passed over: the replacement grows.
"""

from collections.abc import Mapping, Sequence

from blake3 import blake3
from msgspec import Struct

from messages.consensus_manager import Identity, Member
from subsystems.consensus_manager.terms import faulty_most

__all__ = ["PENALTIES_MAX", "Candidate", "Penalties", "penalties_after", "select"]

# By the validator's signing key: indices change with the session. None of 0.
Penalties = Mapping[bytes, int]

# More make no difference: one turn at taking part clears them all.
PENALTIES_MAX = 16
# Weights are divided by 1 + penalties: so finely that the lightest still counts.
_GRAIN = 1 << 16

_DRAW = "overseer consensus v1 selection"


class Candidate(Struct, frozen=True, kw_only=True):
    """A validator of the session. Those of weight 0 are never drawn."""

    index: int
    identity: Identity
    weight: int = 1


def select(
    candidates: Sequence[Candidate], *, seed: bytes, size: int, failed: int = 0, penalties: Penalties | None = None
) -> list[Member] | None:
    """The ordered members of an attempt; `failed`: how many attempts at this election were before it. None: too few candidates."""
    held = penalties or {}
    pool = _without_the_worst([c for c in candidates if c.weight > 0], held, keep=size, most=failed * faulty_most(size))
    if len(pool) < size:
        return None
    left = sorted(pool, key=lambda candidate: candidate.index)
    weights = [max(1, c.weight * _GRAIN // (1 + min(held.get(c.identity.signing, 0), PENALTIES_MAX))) for c in left]
    members: list[Member] = []
    for draw in range(size):
        at = _drawn(seed, draw, weights)
        members.append(Member(left[at].index, left[at].identity))
        del left[at], weights[at]
    return members


def _without_the_worst(candidates: list[Candidate], penalties: Penalties, *, keep: int, most: int) -> list[Candidate]:
    """Those left when up to `most` of those with penalties are passed over, as long as `keep` remain."""
    worst = sorted((c for c in candidates if penalties.get(c.identity.signing)), key=lambda c: (-penalties[c.identity.signing], c.index))
    out = {c.index for c in worst[: max(0, min(most, len(candidates) - keep))]}
    return [c for c in candidates if c.index not in out]


def _drawn(seed: bytes, draw: int, weights: Sequence[int]) -> int:
    """A place, by weight. The remainder of a number of 256 bits is as good as uniform."""
    number = int.from_bytes(blake3(seed + draw.to_bytes(4, "little"), derive_key_context=_DRAW).digest(), "little") % sum(weights)
    for at, weight in enumerate(weights):
        if number < weight:
            return at
        number -= weight
    raise AssertionError("the remainder is below the sum")


def penalties_after(penalties: Penalties, *, qualified: Sequence[bytes], failed: Sequence[bytes]) -> dict[bytes, int]:
    """The penalties after a group was accepted: cleared for its qualified dealers, one more for who was a member and did not deal."""
    after = dict(penalties)
    for signing in {*failed} - {*qualified}:
        after[signing] = min(after.get(signing, 0) + 1, PENALTIES_MAX)
    for signing in qualified:
        after.pop(signing, None)
    return after
