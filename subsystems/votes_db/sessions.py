"""What the chain tells: sessions, candidates backed and included, cascades."""

from messages.chain_api import BlockImported
from messages.message import Message
from messages.signals import BlocksBlacklisted, SessionChange
from messages.votes_db_journal import CandidatesKnown, CascadeTold, ImportHeld, PruneStep, SessionOpened
from overseer.subsystem import Context, Decision, SetTimer
from overseer.tables import View
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.pruning import next_session
from subsystems.votes_db.tables import BACKED, HELD, INCLUDED, KNOWN, SESSIONS, dispute_row, pack_validators, window

__all__ = ["IMPORT_HELD_TIMER", "PRUNE_TIMER", "on_block_imported", "on_blocks_blacklisted", "on_session_change"]

PRUNE_TIMER = "prune"
IMPORT_HELD_TIMER = "import_held"


def on_session_change(view: View, message: SessionChange, context: Context, config: VotesDbConfig) -> Decision:
    """A session begins: its validators are known, and what has left the window goes, step by step (D18, D19)."""
    kept = window(view)
    current = message.index if kept is None else max(message.index, kept.current)
    oldest = max(0, current - config.window + 1)
    if kept is not None:
        oldest = max(oldest, kept.oldest)
    if message.index < oldest or view.has(SESSIONS, (message.index,)):
        return Decision()
    opened = SessionOpened(session=message.index, validators=pack_validators(message.validators), current=current, oldest=oldest)
    timers: list[SetTimer] = []
    if next_session(view, oldest) is not None:
        timers.append(SetTimer(key=PRUNE_TIMER, at_ms=context.now_ms, message=PruneStep()))
    if next(view.scan_packed(HELD, (message.index,)), None) is not None:
        timers.append(SetTimer(key=IMPORT_HELD_TIMER, at_ms=context.now_ms, message=ImportHeld()))
    return Decision(events=[opened], timers=timers)


def on_block_imported(view: View, message: BlockImported) -> list[Message]:
    """Candidates that were not known to be backed, or included, in that session."""
    kept = window(view)
    if kept is not None and message.session < kept.oldest:
        return []
    included = [c for c in message.included if _strength(view, message.session, c) < INCLUDED]
    backed = [c for c in message.backed if _strength(view, message.session, c) < BACKED]
    if not backed and not included:
        return []
    return [CandidatesKnown(session=message.session, number=message.number, backed=backed, included=included)]


def _strength(view: View, session: int, candidate: bytes) -> int:
    data = view.get(KNOWN, (session, candidate))
    return data[0] if data else 0


def on_blocks_blacklisted(view: View, message: BlocksBlacklisted) -> list[Message]:
    """Noted at the dispute that is the cause, once. Its candidate stays known to the chain: votes on it are no spam."""
    row = dispute_row(view, (message.cause.session, message.cause.candidate))
    if row is None or row.cascade:
        return []
    return [CascadeTold(session=message.cause.session, candidate=message.cause.candidate)]
