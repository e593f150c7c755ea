"""Finality, and the exit of governance mode."""

from messages.chain_api import (
    ConflictingFinality,
    FinalizeBlock,
    GovernanceModeRefusal,
    Resume,
    ResumeMode,
    ResumeRefused,
    UnknownBlock,
)
from messages.chain_events import FinalityMoved, GovernanceExited
from messages.governance import resume_payload
from messages.message import Rejection
from overseer.subsystem import Check, Decision
from subsystems.chain_api import best, blacklist, leaves
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.tables import CONVICTED, FINAL_ROOTS, block_key, hash_of, number_of, ref_of
from subsystems.chain_api.tree import ancestor, is_ancestor

__all__ = ["finalize", "resume", "resume_check"]


def finalize(draft: Draft, message: FinalizeBlock) -> Decision | Rejection:
    """Move finality forward along its chain (C02-C04, C10); onto a blacklisted block it begins governance mode."""
    state = draft.state
    if state.governance:
        return GovernanceModeRefusal(frozen_at=state.frozen_at)
    key = draft.key(message.hash)
    if key is None:
        return UnknownBlock(hash=message.hash)
    if is_ancestor(draft.tables, key, state.finalized):
        return draft.decision()
    if not is_ancestor(draft.tables, state.finalized, key):
        return ConflictingFinality(hash=message.hash, finalized=hash_of(state.finalized))
    between = draft.tables.scan_packed(CONVICTED, start=(number_of(state.finalized) + 1, bytes(32)), end=(number_of(key) + 1, bytes(32)))
    bad = [root for root, _ in between if is_ancestor(draft.tables, root, key)]
    draft.record(
        FinalityMoved(
            block=ref_of(key),
            sweep=leaves.must_sweep(draft, key),
            bad=[ref_of(root) for root in bad],
            governance=blacklist.governance_for(draft, bad),
        )
    )
    leaves.sweep(draft)
    best.reconsider(draft)
    best.search(draft)
    best.announce(draft)
    return draft.decision()


def resume_check(config: ChainConfig, message: Resume) -> Check | None:
    """The signature that a resume needs."""
    if config.governance_authority is None:
        return None
    payload = resume_payload(message.mode, chain=message.chain, entry=message.entry, frozen_at=message.frozen_at, roots=message.roots)
    return Check("ed25519", config.governance_authority, payload, message.signature)


def _refusal(draft: Draft, message: Resume) -> str | None:
    """Why governance mode goes on (C13, C21)."""
    state = draft.state
    check = resume_check(draft.config, message)
    if not state.governance:
        return "not_in_governance_mode"
    if check is None:
        return "no_authority"
    if message.chain != state.genesis:
        return "wrong_chain"
    if message.entry != state.entry:
        return "wrong_entry"
    if message.frozen_at != state.frozen_at:
        return "wrong_frozen_at"
    if not draft.context.verify(check):
        return "bad_signature"
    if message.mode is ResumeMode.PARDON:
        named = set(message.roots)
        if any(root not in named for (_, root), _ in draft.tables.scan(FINAL_ROOTS)):
            return "roots_missing"
    return None


def resume(draft: Draft, message: Resume) -> Decision | Rejection:
    """End governance mode: pardon roots, or abandon finality above `frozen_at`; the best chain and leaves follow."""
    reason = _refusal(draft, message)
    if reason is not None:
        return ResumeRefused(reason=reason)
    state = draft.state
    author = draft.config.governance_authority
    assert author is not None
    pardoned: list[bytes] = []
    finalized = state.finalized
    if message.mode is ResumeMode.PARDON:
        pardoned = _convicted(draft, message.roots)
    else:
        frozen = ancestor(draft.tables, hash_of(finalized), state.frozen_at)
        assert frozen is not None
        finalized = block_key(state.frozen_at, frozen)
    covered = sorted({draft.parent(root) for root in pardoned})
    covered = [key for key in covered if leaves.is_listed(draft.tables, key)]
    draft.record(
        GovernanceExited(
            entry=state.entry,
            frozen_at=state.frozen_at,
            mode=message.mode,
            author=author,
            pardoned=[ref_of(root) for root in pardoned],
            finalized=ref_of(finalized),
            rescan=_overlapping(draft, pardoned),
        )
    )
    leaves.move(draft, covered=covered)
    best.reconsider(draft)
    best.search_all(draft)
    leaves.revive(draft)
    best.search(draft)
    best.announce(draft)
    return draft.decision()


def _convicted(chain: Chain, roots: list[bytes]) -> list[bytes]:
    """Block keys of those that are convicted."""
    keys = {key for key in map(chain.key, roots) if key is not None}
    return sorted(key for key in keys if chain.tables.get_packed(CONVICTED, key) is not None)


def _overlapping(draft: Draft, pardoned: list[bytes]) -> list[int]:
    """The other convictions whose cascades share blocks with those: one root is an ancestor of the other."""
    gone = set(pardoned)
    return [
        convicted.id
        for (number, root), convicted in (draft.tables.scan(CONVICTED) if pardoned else ())
        if block_key(number, root) not in gone
        and any(
            is_ancestor(draft.tables, key, block_key(number, root)) or is_ancestor(draft.tables, block_key(number, root), key)
            for key in pardoned
        )
    ]
