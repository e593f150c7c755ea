"""How the tables of blocks, leaves, sessions and waiting blocks change."""

from msgspec.structs import replace

from messages.chain_api import OrphanDropped, SessionStarted
from messages.chain_events import (
    BlockRecorded,
    ChainStarted,
    DescendantsSought,
    DescendantsTold,
    LeavesMoved,
    LeavesRevived,
    OrphanHeld,
)
from overseer.tables import Tables
from subsystems.chain_api.tables import (
    ACTIVE,
    ASKED,
    BLOCK_TRANSACTIONS,
    BLOCKS,
    CONVICTED,
    DORMANT,
    INCLUDED_IN,
    KIDS,
    LEVELS,
    MARKS,
    ORPHAN_AGES,
    ORPHANS,
    ORPHANS_OF,
    PRESENT,
    READY,
    ROOT_OF,
    SESSION_STARTS,
    SESSIONS,
    STATE,
    Block,
    ChainState,
    Orphan,
    block_key,
    key_of,
    keys_in,
    pack_block,
)
from subsystems.chain_api.tree import find_block

__all__ = [
    "add_kid",
    "block_recorded",
    "chain_started",
    "descendants_sought",
    "descendants_told",
    "leaves_moved",
    "leaves_revived",
    "orphan_dropped",
    "orphan_held",
    "put_state",
    "session_started",
    "state_of",
    "take_kid",
]


def state_of(tables: Tables) -> ChainState:
    state = tables.get(STATE, (0,))
    assert state is not None, "every journal begins with chain_started"
    return state


def put_state(tables: Tables, state: ChainState) -> None:
    tables.put(STATE, (0,), state)


def _kids(tables: Tables, block: bytes) -> int:
    return int.from_bytes(tables.get_packed(KIDS, block) or b"", "big")


def add_kid(tables: Tables, parent: bytes) -> None:
    """`parent` (a block key) has one more child that is no convicted root: it is not a leaf."""
    kids = _kids(tables, parent[4:]) + 1
    tables.put_packed(KIDS, parent[4:], kids.to_bytes(4, "big"))
    if kids == 1:
        number, block = int.from_bytes(parent[:4], "big"), parent[4:]
        tables.delete(ACTIVE, (number, block))
        tables.delete(DORMANT, (number, block))


def take_kid(tables: Tables, parent: bytes) -> None:
    """One less; without any it is a leaf again, dormant until told (genesis never is one)."""
    kids = _kids(tables, parent[4:]) - 1
    if kids:
        tables.put_packed(KIDS, parent[4:], kids.to_bytes(4, "big"))
        return
    tables.delete(KIDS, (parent[4:],))
    if int.from_bytes(parent[:4], "big"):
        tables.put_packed(DORMANT, parent, PRESENT)


def chain_started(tables: Tables, event: ChainStarted) -> None:
    genesis = block_key(0, event.genesis)
    tables.put_packed(
        BLOCKS, event.genesis, pack_block(Block(0, bytes(32), 0, event.genesis, 0, int(event.validators is not None), 0, 0, 0))
    )
    tables.put_packed(LEVELS, genesis, bytes(32))
    if event.validators is not None:
        tables.put(SESSION_STARTS, (0, event.genesis), event.validators)
        tables.put_packed(SESSIONS, (0).to_bytes(4, "big"), event.genesis)
    put_state(tables, ChainState(genesis=event.genesis, best=genesis, told=genesis, finalized=genesis))


def block_recorded(tables: Tables, event: BlockRecorded) -> None:
    block = event.block
    key = block_key(block.number, block.hash)
    starts = block.session_start is not None
    tables.put_packed(
        BLOCKS,
        block.hash,
        pack_block(
            Block(
                block.number,
                block.parent,
                event.skip.number,
                event.skip.hash,
                block.session,
                int(starts),
                block.epoch,
                block.epoch_start,
                block.round,
            )
        ),
    )
    tables.put_packed(LEVELS, key, block.parent)
    add_kid(tables, block_key(block.number - 1, block.parent))
    tables.put_packed(DORMANT, key, PRESENT)
    for candidate in block.included:
        tables.put_packed(INCLUDED_IN, candidate + block.hash, PRESENT)
    if block.session_start is not None:
        tables.put(SESSION_STARTS, (block.session, block.hash), block.session_start)
    if block.transactions:
        tables.put_packed(BLOCK_TRANSACTIONS, key, b"".join(dict.fromkeys(block.transactions)))
    state = state_of(tables)
    if event.convicted_by is not None:
        mark_one(tables, key, event.convicted_by)
        put_state(tables, replace(state, blacklisted=state.blacklisted + 1))
    if state.orphans:
        _remove_orphan(tables, block.hash)
        for (_, child), _ in list(tables.scan(ORPHANS_OF, (block.hash,))):
            tables.put_packed(READY, block_key(block.number + 1, child), PRESENT)


def mark_one(tables: Tables, key: bytes, conviction: int) -> None:
    """The block is on the blacklist by this conviction."""
    mark = conviction.to_bytes(4, "big")
    tables.put_packed(MARKS, key, mark)
    root = tables.get_packed(ROOT_OF, mark)
    assert root is not None
    place = CONVICTED.unpack(root)
    convicted = tables.get(CONVICTED, place)
    assert convicted is not None
    tables.put(CONVICTED, place, replace(convicted, count=convicted.count + 1))


def session_started(tables: Tables, event: SessionStarted) -> None:
    tables.put_packed(SESSIONS, event.index.to_bytes(4, "big"), event.block)


def orphan_held(tables: Tables, event: OrphanHeld) -> None:
    block = event.block
    tables.put(ORPHANS, (block.hash,), Orphan(event.age, block))
    tables.put_packed(ORPHAN_AGES, event.age.to_bytes(8, "big"), block.hash)
    tables.put_packed(ORPHANS_OF, block.parent + block.hash, PRESENT)
    state = state_of(tables)
    put_state(tables, replace(state, orphans=state.orphans + 1, orphan_age=event.age + 1))


def orphan_dropped(tables: Tables, event: OrphanDropped) -> None:
    _remove_orphan(tables, event.hash)


def _remove_orphan(tables: Tables, block: bytes) -> None:
    orphan = tables.get(ORPHANS, (block,))
    if orphan is None:
        return
    tables.delete(ORPHANS, (block,))
    tables.delete(ORPHAN_AGES, (orphan.age,))
    tables.delete(ORPHANS_OF, (orphan.block.parent, block))
    parent = find_block(tables, orphan.block.parent)
    if parent is not None:
        tables.delete(READY, (parent.number + 1, block))
    state = state_of(tables)
    put_state(tables, replace(state, orphans=state.orphans - 1))


def leaves_moved(tables: Tables, event: LeavesMoved) -> None:
    # The covered ones went when their child came.
    put_off = keys_in(event.put_off)
    tables.delete_all_packed(ACTIVE, put_off)
    tables.put_all_packed(DORMANT, put_off, PRESENT)
    _activate(tables, event.activated)
    if event.swept:
        put_state(tables, replace(state_of(tables), sweeping=False))


def leaves_revived(tables: Tables, event: LeavesRevived) -> None:
    _activate(tables, event.activated)
    put_state(tables, replace(state_of(tables), revive=None if event.cursor is None else key_of(event.cursor)))


def _activate(tables: Tables, activated: bytes) -> None:
    keys = keys_in(activated)
    tables.delete_all_packed(DORMANT, keys)
    tables.put_all_packed(ACTIVE, keys, PRESENT)


def descendants_sought(tables: Tables, event: DescendantsSought) -> None:
    tables.put_packed(ASKED, event.block, b"")
    state = state_of(tables)
    put_state(tables, replace(state, asked=state.asked + 1))


def descendants_told(tables: Tables, event: DescendantsTold) -> None:
    if not event.last:
        tables.put_packed(ASKED, event.block, (event.page + 1).to_bytes(4, "big") + key_of(event.last_seen))
    elif tables.has(ASKED, (event.block,)):
        tables.delete(ASKED, (event.block,))
        state = state_of(tables)
        put_state(tables, replace(state, asked=state.asked - 1))
