"""The best chain: the longest without blacklisted or reverted blocks that holds the finalized block; ties by hash, the greater wins.

The best block changes at once; the pages of `best_chain` that lead there follow, a bounded number of blocks in each step.
A better block than one that was lost is looked for among the active leaves from the top, a bounded number in each step;
until it is found the best is the nearest ancestor that is viable.
"""

from collections.abc import Iterable

from messages.chain_api import SessionStarted
from messages.chain_events import BestChainMoved, TransactionMove
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.evolve_pool import identities_in
from subsystems.chain_api.tables import (
    ACTIVE,
    BLOCK_TRANSACTIONS,
    INCLUSIONS,
    SEARCH_ALL,
    SESSION_STARTS,
    SESSIONS,
    block_key,
    hash_of,
    number_of,
    ref_of,
)
from subsystems.chain_api.tree import ancestor, fork_point, is_ancestor, path_down, read_block

__all__ = ["announce", "consider", "consider_child", "reconsider", "search", "search_all"]

# Transactions that one page returns or includes: bounds the event.
_TRANSACTIONS_PER_PAGE = 2_000


def is_viable(chain: Chain, key: bytes) -> bool:
    """Whether a block may be the best."""
    return is_ancestor(chain.tables, chain.state.finalized, key) and chain.lowest_reverted(key) is None and chain.convicted_by(key) is None


def viable_ancestor(chain: Chain, key: bytes) -> bytes:
    """The nearest ancestor, or the block itself, with nothing blacklisted or reverted on its way to genesis."""
    cuts = [cut for cut in (chain.top_root(key), chain.lowest_reverted(key)) if cut is not None]
    return chain.parent(min(cuts)) if cuts else key


def consider(draft: Draft, candidates: Iterable[bytes]) -> None:
    """Make the best of the candidates best, if better than what is.

    Nothing is made best in governance mode (C11): the finalized block is blacklisted then, so no block that holds it is viable.
    """
    for key in candidates:
        if key > draft.best and is_viable(draft, key):
            draft.best = key


def consider_child(draft: Draft, key: bytes, parent: bytes) -> None:
    """As consider, for a block just imported that is not blacklisted: on the best chain without a look at anything else."""
    if parent == draft.best and parent >= draft.state.finalized:
        draft.best = key
    else:
        consider(draft, (key,))


def search_all(draft: Draft) -> None:
    """A better block may be anywhere."""
    if not draft.state.governance:
        draft.search = SEARCH_ALL


def reconsider(draft: Draft) -> None:
    """After blocks were blacklisted or reverted, finality moved or governance mode began or ended: is the best still viable?"""
    state = draft.state
    if state.governance:
        frozen = ancestor(draft.tables, hash_of(state.finalized), state.frozen_at)
        assert frozen is not None
        draft.best, draft.search = viable_ancestor(draft, block_key(state.frozen_at, frozen)), None
        return
    floor = viable_ancestor(draft, state.finalized)
    if floor != state.finalized:
        draft.best, draft.search = floor, None
    elif not is_viable(draft, draft.best):
        near = viable_ancestor(draft, draft.best)
        draft.best = near if is_ancestor(draft.tables, state.finalized, near) else floor
        draft.search = SEARCH_ALL


def search(draft: Draft) -> None:
    """Look for a better block, from the highest leaf down to the best so far; some in each step."""
    cursor = draft.search
    if cursor is None:
        return
    if cursor == SEARCH_ALL:
        # Best without being a leaf: what reverted blocks were built on.
        consider(draft, [draft.state.finalized, *(draft.parent(root) for root in draft.reverted())])
    rows = draft.tables.scan_packed(ACTIVE, end=(number_of(cursor), hash_of(cursor)), reverse=True)
    for tested, (key, _) in enumerate(rows):
        if key <= draft.best:
            break
        if tested == draft.config.search_step:
            return
        if is_viable(draft, key):
            draft.best = key
            break
        draft.search = key
    draft.search = None


def announce(draft: Draft) -> None:
    """Record what changed of the best, with one page of the way from what was told to it (C18, C19)."""
    state = draft.state
    told, best = state.told, draft.best
    if told == best == state.best and draft.search == state.search:
        return
    reverted, applied = _page(draft, told, best, draft.config.best_page)
    reverted, applied, returned, included = _transactions(draft, reverted, applied)
    told = applied[-1] if applied else draft.parent(reverted[-1]) if reverted else told
    for started in _sessions(draft, applied):
        draft.record(started)
    draft.record(
        BestChainMoved(
            best=ref_of(best),
            told=ref_of(told),
            search=None if draft.search is None else ref_of(draft.search),
            reverted=b"".join(reverted),
            applied=b"".join(applied),
            returned=returned,
            included=included,
            page=state.page,
            last=told == best,
        )
    )


def _page(draft: Draft, told: bytes, best: bytes, limit: int) -> tuple[list[bytes], list[bytes]]:
    """The next blocks to leave (highest first) and, once all have left, to join (lowest first)."""
    if told == best:
        return [], []
    tables = draft.tables
    if number_of(best) == number_of(told) + 1 and read_block(tables, hash_of(best)).parent == hash_of(told):
        return [], [best]
    fork = fork_point(tables, told, best)
    reverted = path_down(tables, told, number_of(fork), limit)
    room = limit - len(reverted)
    top = min(number_of(best), number_of(fork) + room)
    if top == number_of(fork):
        return reverted, []
    end = ancestor(tables, hash_of(best), top)
    assert end is not None
    applied = path_down(tables, block_key(top, end), number_of(fork), room)
    applied.reverse()
    return reverted, applied


def _transactions(
    draft: Draft, reverted: list[bytes], applied: list[bytes]
) -> tuple[list[bytes], list[bytes], list[TransactionMove], list[TransactionMove]]:
    """What the moves mean for transactions; the page is cut where they are too many for one event."""
    moves: tuple[list[TransactionMove], list[TransactionMove]] = ([], [])
    holders: dict[bytes, set[bytes]] = {}
    holding = _holding(draft, reverted, applied)
    if not holding:
        return reverted, applied, *moves
    for at, (key, joins) in enumerate([*((k, False) for k in reverted), *((k, True) for k in applied)]):
        held = holding.get(key)
        if held is None:
            continue
        if len(moves[0]) + len(moves[1]) + len(held) // 32 > _TRANSACTIONS_PER_PAGE and at:
            return reverted[:at], applied[: max(at - len(reverted), 0)], *moves
        for identity in identities_in(held):
            blocks = holders.get(identity)
            if blocks is None:
                blocks = holders[identity] = {row[1] for row, _ in draft.tables.scan(INCLUSIONS, (identity,))}
            first = not blocks
            (blocks.add if joins else blocks.discard)(hash_of(key))
            moves[joins].append(TransactionMove(identity, hash_of(key), first if joins else not blocks))
    return reverted, applied, *moves


def _holding(draft: Draft, reverted: list[bytes], applied: list[bytes]) -> dict[bytes, bytes]:
    """The blocks of a page that hold transactions, with their identities."""
    keys = [*reverted, *applied]
    if len(keys) == 1:
        held = draft.tables.get_packed(BLOCK_TRANSACTIONS, keys[0])
        return {} if held is None else {keys[0]: held}
    if not keys:
        return {}
    # Few blocks hold any: reading the range is cheaper than asking for each.
    lowest, highest = number_of(min(keys)), number_of(max(keys))
    return dict(draft.tables.scan_packed(BLOCK_TRANSACTIONS, start=(lowest, bytes(32)), end=(highest + 1, bytes(32))))


def _sessions(draft: Draft, applied: list[bytes]) -> list[SessionStarted]:
    """Sessions that began on another fork with another validator set, and so are told anew."""
    again: list[SessionStarted] = []
    for key in applied:
        block = read_block(draft.tables, hash_of(key))
        if not block.starts_session:
            continue
        told = draft.tables.get(SESSIONS, (block.session,))
        validators = draft.tables.get(SESSION_STARTS, (block.session, hash_of(key)))
        assert validators is not None
        if told != hash_of(key) and (told is None or draft.tables.get(SESSION_STARTS, (block.session, told)) != validators):
            again.append(SessionStarted(index=block.session, block=hash_of(key), validators=validators))
    return again
