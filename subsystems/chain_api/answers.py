"""Answers to queries: from committed state, each bounded."""

from collections.abc import Iterable
from itertools import islice

from messages.chain_api import (
    HASHES_PER_PAGE,
    AncestorsOf,
    Best,
    BlacklistStatus,
    DescendantsOf,
    Epoch,
    EpochStatus,
    Finalized,
    FinalizedHash,
    GetHeader,
    GovernanceReport,
    GovernanceStatus,
    Hashes,
    Header,
    IncludedIn,
    IsBlacklisted,
    Leaves,
    NotFinalized,
    PendingTransactions,
    PooledTransaction,
    Session,
    SessionValidators,
    TransactionPool,
    UnknownBlock,
    UnknownSession,
)
from messages.codec import encode_value
from messages.message import Message, Rejection
from messages.signals import GovernanceState
from subsystems.chain_api.chain import Chain
from subsystems.chain_api.descendants import below
from subsystems.chain_api.tables import (
    ACTIVE,
    CONVICTED,
    FINAL_ROOTS,
    INCLUDED_IN,
    POOL,
    SESSION_STARTS,
    SESSIONS,
    TRANSACTIONS,
    block_key,
    hash_of,
    number_of,
)
from subsystems.chain_api.tree import ancestor, path_down, read_block

__all__ = ["ANSWERS", "answer"]

ANSWERS = (
    AncestorsOf,
    Best,
    DescendantsOf,
    Epoch,
    Finalized,
    FinalizedHash,
    GetHeader,
    GovernanceStatus,
    IncludedIn,
    IsBlacklisted,
    Leaves,
    PendingTransactions,
    Session,
)

# Rows looked at for one page of descendants.
_DESCENDANT_ROWS_MAX = 200_000
# A page of transactions stays well below a message's size.
_POOL_PAGE_BYTES = 256 * 1024


def answer(chain: Chain, query: Message) -> Message | Rejection:
    match query:
        case GetHeader():
            key = chain.key(query.hash)
            return UnknownBlock(hash=query.hash) if key is None else _header(chain, key)
        case AncestorsOf():
            return _ancestors(chain, query)
        case DescendantsOf():
            return _descendants(chain, query)
        case Finalized():
            return _header(chain, chain.state.finalized)
        case FinalizedHash():
            return _finalized_at(chain, query.number)
        case Leaves():
            return _page((key[4:] for key, _ in chain.tables.scan_packed(ACTIVE)), query.after)
        case Best():
            return _header(chain, chain.state.best)
        case IncludedIn():
            return _page((key[32:] for key, _ in chain.tables.scan_packed(INCLUDED_IN, (query.candidate,))), query.after)
        case IsBlacklisted():
            return _blacklist_status(chain, query.hash)
        case Session():
            return _session(chain, query.index)
        case Epoch():
            block = read_block(chain.tables, hash_of(chain.state.best))
            return EpochStatus(epoch=block.epoch, epoch_start=block.epoch_start, round=block.round)
        case PendingTransactions():
            return _pending(chain, query)
        case GovernanceStatus():
            return _governance(chain)
        case _:
            raise TypeError(f"{query.spec.key} is not answered here")


def _header(chain: Chain, key: bytes) -> Header:
    block = read_block(chain.tables, hash_of(key))
    return Header(hash=hash_of(key), parent=block.parent, number=block.number, session=block.session)


def _page(hashes: Iterable[bytes], after: int) -> Hashes:
    page = list(islice(hashes, after, after + HASHES_PER_PAGE + 1))
    more = len(page) > HASHES_PER_PAGE
    return Hashes(hashes=page[:HASHES_PER_PAGE], next=after + HASHES_PER_PAGE if more else None)


def _ancestors(chain: Chain, query: AncestorsOf) -> Message | Rejection:
    key = chain.key(query.hash)
    if key is None:
        return UnknownBlock(hash=query.hash)
    if not number_of(key):
        return Hashes(hashes=[])
    above = path_down(chain.tables, chain.parent(key), -1, query.k)
    return Hashes(hashes=[hash_of(k) for k in above])


def _descendants(chain: Chain, query: DescendantsOf) -> Message | Rejection:
    root = chain.key(query.hash)
    last = None if query.cursor is None else chain.key(query.cursor)
    if root is None or (query.cursor is not None and last is None):
        return UnknownBlock(hash=query.hash if root is None else query.cursor or query.hash)
    descent = below(chain, root, last=last, rows_max=_DESCENDANT_ROWS_MAX)
    found = [hash_of(key) for key in descent.walk(query.after + query.limit)[query.after :]]
    return Hashes(hashes=found, next=None if descent.done else query.after + len(found))


def _finalized_at(chain: Chain, number: int) -> Message | Rejection:
    finalized = chain.state.finalized
    found = ancestor(chain.tables, hash_of(finalized), number)
    if found is None:
        return NotFinalized(number=number, finalized=number_of(finalized))
    return _header(chain, block_key(number, found))


def _blacklist_status(chain: Chain, block: bytes) -> Message | Rejection:
    key = chain.key(block)
    if key is None:
        return UnknownBlock(hash=block)
    conviction = chain.convicted_by(key)
    if conviction is None:
        return BlacklistStatus(hash=block, blacklisted=False)
    root = chain.root_of(conviction)
    convicted = chain.tables.get(CONVICTED, (number_of(root), hash_of(root)))
    assert convicted is not None
    path = path_down(chain.tables, key, number_of(root) - 1, HASHES_PER_PAGE)
    return BlacklistStatus(
        hash=block,
        blacklisted=True,
        root=hash_of(root),
        path=[hash_of(k) for k in path],
        truncated=path[-1] != root,
        cause=convicted.cause,
    )


def _session(chain: Chain, index: int) -> Message | Rejection:
    block = chain.tables.get(SESSIONS, (index,))
    if block is None:
        return UnknownSession(index=index)
    validators = chain.tables.get(SESSION_STARTS, (index, block))
    assert validators is not None
    return SessionValidators(index=index, validators=validators)


def _pending(chain: Chain, query: PendingTransactions) -> TransactionPool:
    rows = chain.tables.scan(POOL, start=None if query.after is None else (query.after,))
    page: list[PooledTransaction] = []
    size = 0
    for (identity,), _ in rows:
        if identity == query.after:
            continue
        transaction = chain.tables.get(TRANSACTIONS, (identity,))
        assert transaction is not None
        size += len(encode_value(transaction))
        if len(page) == query.limit or (page and size > _POOL_PAGE_BYTES):
            return TransactionPool(transactions=page, total=chain.state.pooled, next=page[-1].id if page else query.after)
        page.append(PooledTransaction(identity, transaction))
    return TransactionPool(transactions=page, total=chain.state.pooled)


def _governance(chain: Chain) -> GovernanceReport:
    state = chain.state
    roots = [root for (_, root), _ in islice(chain.tables.scan(FINAL_ROOTS), HASHES_PER_PAGE)]
    return GovernanceReport(
        state=GovernanceState.ENTERED if state.governance else GovernanceState.LEFT,
        entry=state.entry,
        frozen_at=state.frozen_at if state.governance else None,
        roots=roots,
        chain=state.genesis,
        authority=chain.config.governance_authority,
        blacklisted=state.blacklisted,
    )
