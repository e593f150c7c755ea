"""What is forgotten once a block is final: what no block can ask for any more, in portions. So the tables stay bounded.

The chain is kept `kept_blocks` behind the final block, and as many more as a block there asks back for (`schedule.asked_back`). So
whatever leaves the final chain within those blocks, by a governance decision, finds its ancestors, its group, and its session's validators.
"""

from collections.abc import Sequence, Set

from messages.consensus_journal import AttemptsForgotten, ChainForgotten
from messages.consensus_manager import Attempt
from messages.signals import BlockFinalized, BlockRef
from subsystems.consensus_manager.draft import Branch, Draft
from subsystems.consensus_manager.handover import Acceptance, kept, outlived
from subsystems.consensus_manager.schedule import asked_back, attempts_before, begins
from subsystems.consensus_manager.tables import ACCEPTED, BLOCKS, CHAIN, PROGRESS, VALIDATORS

__all__ = ["is_forgotten", "on_finalized"]

# Blocks, and attempts, forgotten by one decision; what is left goes with the next ones.
_BLOCKS_MAX = 1_024
_ATTEMPTS_MAX = 256
# So many more blocks are kept for who reads the network's stream that late.
_LATE_BLOCKS_MAX = 1_024


def is_forgotten(draft: Draft, number: int) -> bool:
    """Whether blocks of that number were forgotten, or came before this node's chain began."""
    return number < draft.floor.number


def on_finalized(draft: Draft, message: BlockFinalized) -> None:
    """The attempts that are over, and the chain far behind."""
    chain = draft.branch(message.hash, message.number)
    accepted = [acceptance for _, acceptance in draft.tables.scan(ACCEPTED)]
    _forget_attempts(draft, chain, message.number, accepted)
    if draft.best().hash_at(message.number) == message.hash:
        _forget_chain(draft, chain, message.number, accepted)


def _is_on(chain: Branch, accepted: Sequence[Acceptance]) -> set[bytes]:
    return {group.block for group in accepted if chain.hash_at(group.number) == group.block}


def _forget_attempts(draft: Draft, chain: Branch, final: int, accepted: Sequence[Acceptance]) -> None:
    """Those at elections that are decided, and those too old to be accepted.

    But not those whose groups may still serve, and not those that another one is yet to tell of at this node.
    """
    on_chain = _is_on(chain, accepted)
    sessions = {group.session for group in kept(accepted, final=final, is_on_chain=on_chain.__contains__)}
    now = chain.serving()
    epoch_start = 0 if now is None else now.epoch_start
    oldest = final - asked_back(draft.config.parameters)
    over = {
        session: row.attempt
        for session, row in draft.attempts()
        if session not in sessions and (row.attempt.epoch_start < epoch_start or begins(row.attempt) < oldest)
    }
    needed = _told_of(draft, leaving=over.keys())
    gone = [session for session, attempt in over.items() if attempt not in needed]
    if gone:
        draft.record(AttemptsForgotten(sessions=gone[:_ATTEMPTS_MAX]))


def _told_of(draft: Draft, *, leaving: Set[bytes] = frozenset()) -> set[Attempt]:
    """The attempts that those tell of whose outcome this node has yet to read in the stream (`absent`), these included."""
    found: set[Attempt] = set()
    for session, row in draft.attempts():
        progress = draft.tables.get(PROGRESS, (session,))
        if session not in leaving and progress is not None and progress.key is None and not progress.failed:
            found |= {row.attempt, *attempts_before(row.attempt, draft.config.parameters)}
    return found


def _forget_chain(draft: Draft, chain: Branch, final: int, accepted: Sequence[Acceptance]) -> None:
    tables, config = draft.tables, draft.config
    # Blocks from here on may leave the final chain; those before `below` are not even asked for by these.
    fork = final - config.kept_blocks
    oldest = fork - asked_back(config.parameters)
    floor = draft.floor.number
    if oldest - floor < config.forget_step:
        return
    late = min((begins(attempt) for attempt in _told_of(draft)), default=oldest)
    below = min(oldest, max(late, oldest - _LATE_BLOCKS_MAX))
    if below - floor < config.forget_step:
        return
    on_chain = _is_on(chain, accepted)
    gone = outlived(accepted, below=fork, is_on_chain=on_chain.__contains__)
    needed = {group.block for group in accepted} - {group.block for group in gone}
    over = {block: number for (number,), block in tables.scan(CHAIN, end=(below,)) if block not in needed}
    sessions: list[int] = []
    if len(over) <= _BLOCKS_MAX:
        # Now those beside the chain; and with them it is known which sessions the others are of.
        rows = [(block, row) for (block,), row in tables.scan(BLOCKS)]
        over |= {block: row.number for block, row in rows if row.number < below and block not in needed}
        first = min((row.session for _, row in rows if row.number >= below), default=0)
        sessions = [session for (session,), _ in tables.scan(VALIDATORS, end=(first,))]
    portion = sorted((number, block) for block, number in over.items())[:_BLOCKS_MAX]
    draft.record(
        ChainForgotten(
            below=below if len(portion) == len(over) else portion[-1][0],
            blocks=[BlockRef(block, number) for number, block in portion],
            groups=sorted(group.block for group in gone),
            sessions=sessions[:_BLOCKS_MAX],
            rootless=any(group.block in on_chain for group in gone),
        )
    )
