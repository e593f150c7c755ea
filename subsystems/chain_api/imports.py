"""Blocks from the feed: into the tree, or into the pool of those that wait for their parent."""

from messages.chain_api import BadBlock, BlockImportOutcome, ImportBlock, ImportResult, OrphanDropped, SessionStarted
from messages.chain_events import BlockRecorded, OrphanHeld
from messages.message import Rejection
from overseer.subsystem import Decision
from subsystems.chain_api import best, leaves
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.tables import ORPHAN_AGES, ORPHANS, READY, SESSIONS, Block, block_key
from subsystems.chain_api.tree import find_block, skip_of_child

__all__ = ["adopt", "import_block"]


def import_block(draft: Draft, message: ImportBlock) -> Decision | Rejection:
    """Import a block and the blocks that waited for it; known ones are no news (C01, C07, C09)."""
    known = find_block(draft.tables, message.hash)
    if known is not None:
        if (known.number, known.number and known.parent) != (message.number, message.number and message.parent):
            return BadBlock(hash=message.hash, detail="the hash is known with another parent or number")
        return draft.decision(BlockImportOutcome(result=ImportResult.KNOWN, blacklisted=_is_blacklisted(draft, message)))
    if not message.number:
        return BadBlock(hash=message.hash, detail="number 0 is the genesis block's")
    parent = find_block(draft.tables, message.parent)
    if parent is None:
        return _hold(draft, message)
    contradiction = _contradiction(message, parent)
    if contradiction is not None:
        return BadBlock(hash=message.hash, detail=contradiction)
    _record(draft, message, parent)
    adopt(draft)
    best.announce(draft)
    return draft.decision(BlockImportOutcome(result=ImportResult.IMPORTED, blacklisted=_is_blacklisted(draft, message)))


def _is_blacklisted(chain: Chain, message: ImportBlock) -> bool:
    return chain.convicted_by(block_key(message.number, message.hash)) is not None


def _contradiction(message: ImportBlock, parent: Block) -> str | None:
    if message.number != parent.number + 1:
        return f"number {message.number} on a parent of number {parent.number}"
    if message.session < parent.session:
        return f"session {message.session} on a parent of session {parent.session}"
    return None


def _hold(draft: Draft, message: ImportBlock) -> Decision | Rejection:
    """Wait for the parent; when the pool is full the oldest is given up."""
    waiting = draft.tables.get(ORPHANS, (message.hash,))
    if waiting is not None and (waiting.block.number, waiting.block.parent) != (message.number, message.parent):
        # Told that it waits, its sender would never hear that another is adopted or dropped in its place.
        return BadBlock(hash=message.hash, detail="a block of this hash waits with another parent or number")
    if waiting is None:
        if draft.state.orphans >= draft.config.orphans_max:
            _, oldest = next(draft.tables.scan(ORPHAN_AGES))
            orphan = draft.tables.get(ORPHANS, (oldest,))
            assert orphan is not None
            draft.record(OrphanDropped(hash=oldest, number=orphan.block.number))
        draft.record(OrphanHeld(block=message, age=draft.state.orphan_age))
    return draft.decision(BlockImportOutcome(result=ImportResult.ORPHANED))


def adopt(draft: Draft) -> None:
    """Import blocks whose parent is known by now, lowest first; some in each step."""
    for _ in range(draft.config.adopt_step):
        if not draft.state.orphans:
            return
        ready = next(draft.tables.scan(READY), None)
        if ready is None:
            return
        orphan = draft.tables.get(ORPHANS, (ready[0][1],))
        assert orphan is not None
        parent = find_block(draft.tables, orphan.block.parent)
        assert parent is not None
        if _contradiction(orphan.block, parent) is None:
            _record(draft, orphan.block, parent)
        else:
            draft.record(OrphanDropped(hash=orphan.block.hash, number=orphan.block.number, reason="contradicts_parent"))


def _record(draft: Draft, block: ImportBlock, parent: Block) -> None:
    """The block joins the tree: its session, the leaves, the best chain."""
    key, above = block_key(block.number, block.hash), block_key(parent.number, block.parent)
    convicted_by = draft.convicted_by(above)
    listed = leaves.is_listed(draft.tables, above)
    draft.record(BlockRecorded(block=block, skip=skip_of_child(draft.tables, block.parent, parent), convicted_by=convicted_by))
    if block.session_start is not None and convicted_by is None and _is_news(draft, block.session):
        draft.record(SessionStarted(index=block.session, block=block.hash, validators=block.session_start))
    active = convicted_by is None and leaves.may_be_active(draft, key)
    leaves.move(draft, activated=[key] if active else [], covered=[above] if listed else [])
    if convicted_by is None:
        best.consider_child(draft, key, above)


def _is_news(draft: Draft, session: int) -> bool:
    """Whether no block that may count has started this session. (Another validator set is told when its block becomes best.)"""
    told = draft.tables.get(SESSIONS, (session,))
    if told is None:
        return True
    key = draft.key(told)
    assert key is not None
    return draft.convicted_by(key) is not None
