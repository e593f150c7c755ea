"""How the tables of the best chain and of its transactions change."""

from msgspec.structs import replace

from messages.chain_api import GroupVerdict
from messages.chain_events import BestChainMoved, GroupRecorded, TransactionsSubmitted
from messages.transaction import transaction_id
from overseer.tables import Tables
from subsystems.chain_api.evolve_tree import put_state, state_of
from subsystems.chain_api.tables import (
    BLOCK_TRANSACTIONS,
    INCLUSIONS,
    JUDGED,
    POOL,
    PRESENT,
    TRANSACTIONS,
    Judged,
    block_key,
    key_of,
)
from subsystems.chain_api.tree import read_block

__all__ = ["best_chain_moved", "group_recorded", "identities_in", "transactions_submitted"]


def identities_in(held: bytes) -> list[bytes]:
    """The transactions of a row of BLOCK_TRANSACTIONS."""
    return [held[at : at + 32] for at in range(0, len(held), 32)]


def best_chain_moved(tables: Tables, event: BestChainMoved) -> None:
    state = state_of(tables)
    pooled = state.pooled
    for move in event.returned:
        tables.delete(INCLUSIONS, (move.id, move.block))
        if move.told and tables.has(TRANSACTIONS, (move.id,)):
            tables.put_packed(POOL, move.id, PRESENT)
            pooled += 1
    for move in event.included:
        tables.put_packed(INCLUSIONS, move.id + move.block, PRESENT)
        if tables.has(POOL, (move.id,)):
            tables.delete(POOL, (move.id,))
            pooled -= 1
    put_state(
        tables,
        replace(
            state,
            best=key_of(event.best),
            told=key_of(event.told),
            search=None if event.search is None else key_of(event.search),
            page=0 if event.last else event.page + 1,
            pooled=pooled,
        ),
    )


def transactions_submitted(tables: Tables, event: TransactionsSubmitted) -> None:
    for transaction in event.pooled:
        identity = transaction_id(transaction)
        tables.put(TRANSACTIONS, (identity,), transaction)
        tables.put_packed(POOL, identity, PRESENT)
    for transaction in event.executed:
        tables.put(TRANSACTIONS, (transaction_id(transaction),), transaction)
    state = state_of(tables)
    put_state(tables, replace(state, pooled=state.pooled + len(event.pooled)))


def group_recorded(tables: Tables, event: GroupRecorded) -> None:
    tables.put(JUDGED, (event.block, event.transaction), Judged(event.verdict, event.error))
    if event.verdict is not GroupVerdict.ACCEPTED:
        return
    block = read_block(tables, event.block)
    key = block_key(block.number, event.block)
    held = tables.get_packed(BLOCK_TRANSACTIONS, key) or b""
    if event.transaction not in identities_in(held):
        tables.put_packed(BLOCK_TRANSACTIONS, key, held + event.transaction)
    if event.included is not None:
        tables.put_packed(INCLUSIONS, event.transaction + event.block, PRESENT)
