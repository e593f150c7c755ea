"""How recorded events change the tables: one function for each, chosen by type."""

from collections.abc import Callable, Mapping
from typing import Any

from messages.chain_api import BlocksReverted, OrphanDropped, RevertLifted, SessionStarted
from messages.chain_events import (
    BestChainMoved,
    BlacklistRecorded,
    BlockRecorded,
    BlocksMarked,
    ChainStarted,
    DescendantsSought,
    DescendantsTold,
    FinalityMoved,
    GovernanceExited,
    GroupRecorded,
    LeavesMoved,
    LeavesRevived,
    OrphanHeld,
    TransactionsSubmitted,
)
from messages.message import Message
from overseer.tables import Tables
from subsystems.chain_api import evolve_blacklist, evolve_pool, evolve_tree

__all__ = ["EVENTS", "evolve"]

_EVOLUTIONS: Mapping[type[Message], Callable[[Tables, Any], None]] = {
    ChainStarted: evolve_tree.chain_started,
    BlockRecorded: evolve_tree.block_recorded,
    SessionStarted: evolve_tree.session_started,
    OrphanHeld: evolve_tree.orphan_held,
    OrphanDropped: evolve_tree.orphan_dropped,
    LeavesMoved: evolve_tree.leaves_moved,
    LeavesRevived: evolve_tree.leaves_revived,
    DescendantsSought: evolve_tree.descendants_sought,
    DescendantsTold: evolve_tree.descendants_told,
    FinalityMoved: evolve_blacklist.finality_moved,
    BlocksReverted: evolve_blacklist.blocks_reverted,
    RevertLifted: evolve_blacklist.revert_lifted,
    BlacklistRecorded: evolve_blacklist.blacklist_recorded,
    BlocksMarked: evolve_blacklist.blocks_marked,
    GovernanceExited: evolve_blacklist.governance_exited,
    BestChainMoved: evolve_pool.best_chain_moved,
    TransactionsSubmitted: evolve_pool.transactions_submitted,
    GroupRecorded: evolve_pool.group_recorded,
}

EVENTS = tuple(_EVOLUTIONS)


def evolve(tables: Tables, event: Message) -> None:
    """Apply one recorded event."""
    _EVOLUTIONS[type(event)](tables, event)
