"""How the tables of finality, reverts, the blacklist and governance mode change."""

from blake3 import blake3
from msgspec.structs import replace

from messages.chain_api import BlocksReverted, ResumeMode, RevertLifted
from messages.chain_events import (
    BLOCK_KEY_BYTES,
    BlacklistRecorded,
    BlocksMarked,
    FinalityMoved,
    GovernanceEntry,
    GovernanceExited,
    MarkedRun,
)
from messages.polkadot import DisputeRef
from overseer.tables import Tables
from subsystems.chain_api.evolve_tree import add_kid, put_state, state_of, take_kid
from subsystems.chain_api.tables import (
    BLOCKS,
    CASCADES,
    CAUSES,
    CONVICTED,
    FINAL_ROOTS,
    MARKS,
    PENDING,
    PRESENT,
    REVERTED,
    ROOT_OF,
    Cascade,
    ChainState,
    ConvictedRoot,
    block_key,
    hashes_in,
    key_of,
    keys_in,
    unpack_block,
)

__all__ = ["blacklist_recorded", "blocks_marked", "blocks_reverted", "digest_of", "finality_moved", "governance_exited", "revert_lifted"]


def _under_governance(state: ChainState, entry: GovernanceEntry | None) -> ChainState:
    if entry is None:
        return state
    return replace(state, governance=True, entry=entry.entry, frozen_at=entry.frozen_at, search=None)


def _parent_key(tables: Tables, number: int, block: bytes) -> bytes:
    data = tables.get_packed(BLOCKS, block)
    assert data is not None
    return block_key(number - 1, unpack_block(data).parent)


def finality_moved(tables: Tables, event: FinalityMoved) -> None:
    state = state_of(tables)
    for root in event.bad:
        tables.put_packed(FINAL_ROOTS, key_of(root), PRESENT)
    state = replace(state, finalized=key_of(event.block), sweeping=event.sweep)
    put_state(tables, _under_governance(state, event.governance))


def blocks_reverted(tables: Tables, event: BlocksReverted) -> None:
    for block in event.blocks:
        data = tables.get_packed(BLOCKS, block)
        assert data is not None
        tables.put(REVERTED, (block, event.cause.session, event.cause.candidate), unpack_block(data).number.to_bytes(4, "big"))
    state = state_of(tables)
    put_state(tables, replace(state, reverted=state.reverted + len(event.blocks)))


def revert_lifted(tables: Tables, event: RevertLifted) -> None:
    for block in event.blocks:
        tables.delete(REVERTED, (block, event.cause.session, event.cause.candidate))
    state = state_of(tables)
    put_state(tables, replace(state, reverted=state.reverted - len(event.blocks)))


def blacklist_recorded(tables: Tables, event: BlacklistRecorded) -> None:
    state = state_of(tables)
    newest = state.conviction - 1
    for conviction in event.convictions:
        place = (conviction.number, conviction.hash)
        why = (conviction.hash, event.cause.session, event.cause.candidate)
        tables.put(CAUSES, why, PRESENT)
        if tables.has(REVERTED, why):
            # Judged: the early revert has served, and must not outlast a pardon.
            tables.delete(REVERTED, why)
            state = replace(state, reverted=state.reverted - 1)
        if not conviction.fresh:
            continue
        newest = max(newest, conviction.id)
        tables.put(CONVICTED, place, ConvictedRoot(conviction.id, event.cause, 0))
        tables.put(ROOT_OF, (conviction.id,), CONVICTED.pack(place))
        tables.put(PENDING, (event.cascade, conviction.id), b"")
        take_kid(tables, _parent_key(tables, *place))
    tables.put(CASCADES, (event.cascade,), Cascade(event.cascade_id, event.cause, [c.hash for c in event.convictions]))
    for ref in event.final:
        tables.put_packed(FINAL_ROOTS, key_of(ref), PRESENT)
    state = replace(state, conviction=newest + 1, cascade=event.cascade + 1, cascades=state.cascades + 1)
    put_state(tables, _under_governance(state, event.governance))


def digest_of(before: bytes, runs: list[MarkedRun]) -> bytes:
    """The digest of a cascade's hashes up to this page: BLAKE3 of the digest before and the page's hashes."""
    hasher = blake3(before)
    for run in runs:
        hasher.update(b"".join(hashes_in(run.keys)))
    return hasher.digest()


def blocks_marked(tables: Tables, event: BlocksMarked) -> None:
    marked = 0
    for run in event.runs:
        mark = run.conviction.to_bytes(4, "big")
        tables.put_all_packed(MARKS, keys_in(run.keys), mark)
        root = tables.get_packed(ROOT_OF, mark)
        assert root is not None
        place = CONVICTED.unpack(root)
        convicted = tables.get(CONVICTED, place)
        assert convicted is not None
        tables.put(CONVICTED, place, replace(convicted, count=convicted.count + len(run.keys) // BLOCK_KEY_BYTES))
        marked += len(run.keys) // BLOCK_KEY_BYTES
    for cursor in event.cursors:
        if cursor.done:
            tables.delete(PENDING, (event.cascade, cursor.conviction))
        else:
            tables.put(PENDING, (event.cascade, cursor.conviction), cursor.last + bytes([cursor.hit]))
    state = state_of(tables)
    if event.last:
        tables.delete(CASCADES, (event.cascade,))
        state = replace(state, cascades=state.cascades - 1)
    else:
        cascade = tables.get(CASCADES, (event.cascade,))
        assert cascade is not None
        page = cascade.page if event.page is None else event.page + 1
        tables.put(CASCADES, (event.cascade,), replace(cascade, page=page, count=event.count, digest=event.digest))
    put_state(tables, replace(state, blacklisted=state.blacklisted + marked))


def governance_exited(tables: Tables, event: GovernanceExited) -> None:
    state = state_of(tables)
    if event.mode is ResumeMode.PARDON:
        state = _pardon(tables, state, event)
    for number, root in [key for key, _ in tables.scan(FINAL_ROOTS)]:
        tables.delete(FINAL_ROOTS, (number, root))
    finalized = key_of(event.finalized)
    put_state(tables, replace(state, governance=False, finalized=finalized, revive=finalized))


def _lift_early_reverts(tables: Tables, state: ChainState, root: bytes) -> ChainState:
    """The disputes that convicted a pardoned root had it reverted before (D25): that is pardoned with it (C13)."""
    causes = [key for key, _ in tables.scan(CAUSES, (root,))]
    lifted = [cause for cause in causes if tables.has(REVERTED, cause)]
    for cause in lifted:
        tables.delete(REVERTED, cause)
    return replace(state, reverted=state.reverted - len(lifted))


def _pardon(tables: Tables, state: ChainState, event: GovernanceExited) -> ChainState:
    """Remove the roots: all marks by them are void from here on. What others convict too is marked anew."""
    voided: set[int] = set()
    rescan = set(event.rescan)
    for root in event.pardoned:
        place = (root.number, root.hash)
        convicted = tables.get(CONVICTED, place)
        assert convicted is not None
        voided.add(convicted.id)
        state = replace(state, blacklisted=state.blacklisted - convicted.count)
        tables.delete(CONVICTED, place)
        tables.delete(ROOT_OF, (convicted.id,))
        state = _lift_early_reverts(tables, state, root.hash)
        tables.delete_range(CAUSES, (root.hash,))
        add_kid(tables, _parent_key(tables, *place))
    for cascade, conviction in [key for key, _ in tables.scan(PENDING)]:
        if conviction in voided:
            tables.delete(PENDING, (cascade, conviction))
        elif conviction in rescan:
            tables.put(PENDING, (cascade, conviction), b"")
            rescan.discard(conviction)
    if rescan:
        # Told before, so silently.
        for conviction in sorted(rescan):
            tables.put(PENDING, (state.cascade, conviction), b"")
        tables.put(CASCADES, (state.cascade,), Cascade(bytes(32), DisputeRef(session=0, candidate=bytes(32)), [], silent=True))
        state = replace(state, cascade=state.cascade + 1, cascades=state.cascades + 1)
    return state
