"""Active leaves: blocks to build on, outside the blacklist, above finality, without a child that could be built on.

A leaf is active when its number is above the finalized one, or when it is the finalized block. Finality, or the end of
governance mode, may change this for any number of leaves at once: then some are told in each step.
"""

from collections.abc import Sequence
from itertools import islice

from messages.chain_events import LeavesMoved, LeavesRevived
from overseer.tables import View
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.tables import ACTIVE, DORMANT, hash_of, number_of, ref_of

__all__ = ["is_dormant", "is_listed", "may_be_active", "move", "must_sweep", "revive", "sweep"]

_ZERO = bytes(32)


def is_listed(view: View, key: bytes) -> bool:
    """Whether the block is told as an active leaf."""
    return view.get_packed(ACTIVE, key) is not None


def is_dormant(view: View, key: bytes) -> bool:
    """Whether the block is a leaf that is not told."""
    return view.get_packed(DORMANT, key) is not None


def may_be_active(chain: Chain, key: bytes) -> bool:
    """Of a leaf: whether it is to be built on."""
    finalized = chain.state.finalized
    return (number_of(key) > number_of(finalized) or key == finalized) and chain.convicted_by(key) is None


def move(draft: Draft, *, activated: Sequence[bytes] = (), covered: Sequence[bytes] = (), put_off: Sequence[bytes] = ()) -> None:
    """Tell what changed, if anything: leaves that are none any more are covered, others that are not active put off."""
    if activated or covered or put_off:
        draft.record(LeavesMoved(activated=b"".join(activated), covered=b"".join(covered), put_off=b"".join(put_off)))


def _put_off(chain: Chain, finalized: bytes, limit: int) -> list[bytes]:
    """Active leaves at or below the finalized height, but for the finalized block."""
    found = chain.tables.scan_packed(ACTIVE, end=(number_of(finalized) + 1, _ZERO))
    return list(islice((key for key, _ in found if key != finalized), limit))


def must_sweep(chain: Chain, finalized: bytes) -> bool:
    return bool(_put_off(chain, finalized, 1))


def sweep(draft: Draft) -> None:
    """Deactivate what finality puts off (C02-C04), some in each step."""
    if not draft.state.sweeping:
        return
    limit = draft.config.leaves_step
    found = _put_off(draft, draft.state.finalized, limit + 1)
    draft.record(LeavesMoved(activated=b"", covered=b"", put_off=b"".join(found[:limit]), swept=len(found) <= limit))


def revive(draft: Draft) -> list[bytes]:
    """After governance mode: activate the leaves that no longer are blacklisted or below finality; some in each step."""
    cursor = draft.state.revive
    if cursor is None:
        return []
    limit = draft.config.leaves_step
    rows = draft.tables.scan_packed(DORMANT, start=(number_of(cursor), hash_of(cursor)))
    found = [key for key, _ in islice(rows, limit + 1)]
    activated = [key for key in found[:limit] if may_be_active(draft, key)]
    rest = ref_of(found[limit]) if len(found) > limit else None
    draft.record(LeavesRevived(activated=b"".join(activated), cursor=rest))
    return activated
