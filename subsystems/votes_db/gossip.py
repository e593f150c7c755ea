"""Disputes told by other nodes.

The node's stream and the network's are two: word of a dispute may arrive before its session has started here. Since it is
told only once, it is then held (bounded, unverified) and imported when the session starts.
"""

from itertools import islice

from messages.message import Message, Rejection
from messages.votes_db import Dispute, SessionOutOfWindow
from messages.votes_db_journal import GossipHeld, GossipReleased, ImportHeld
from overseer.subsystem import Context, Decision, SetTimer
from overseer.tables import View
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.form import read_bundle
from subsystems.votes_db.importing import import_bundle
from subsystems.votes_db.sessions import IMPORT_HELD_TIMER
from subsystems.votes_db.tables import HELD, SESSIONS, window

__all__ = ["on_dispute", "on_import_held"]


def on_dispute(view: View, message: Dispute, context: Context, config: VotesDbConfig) -> Decision | Rejection:
    """Imported as a `register_vote` would be; held when its session is still to come."""
    bundle = read_bundle(view, message)
    if isinstance(bundle, SessionOutOfWindow):
        return _held(view, message, config) if bundle.retriable else bundle
    if isinstance(bundle, Rejection):
        return bundle
    return import_bundle(view, bundle, context, config)


def _held(view: View, message: Dispute, config: VotesDbConfig) -> Decision | Rejection:
    kept = window(view)
    key = (message.session_index, message.candidate_hash)
    # Sessions come one by one: what is told of a far one is no news of a dispute.
    far = kept is not None and not kept.current < message.session_index <= kept.current + config.window
    if far or view.has(HELD, key) or sum(1 for _ in islice(view.scan_packed(HELD), config.held_max)) >= config.held_max:
        oldest, current = (kept.oldest, kept.current) if kept is not None else (None, None)
        return SessionOutOfWindow(session=message.session_index, reason="unknown", oldest=oldest, current=current)
    return Decision(events=[GossipHeld(dispute=message)])


def on_import_held(view: View, context: Context, config: VotesDbConfig) -> Decision:
    """Import the first held dispute whose session has started, and come again for the next."""
    keys = (HELD.unpack(packed) for packed, _ in view.scan_packed(HELD))
    key = next((key for key in keys if view.has(SESSIONS, key[:1])), None)
    ready = view.get(HELD, key) if key is not None else None
    if ready is None:
        return Decision()
    bundle = read_bundle(view, ready)
    result = bundle if isinstance(bundle, Rejection) else import_bundle(view, bundle, context, config)
    events: list[Message] = []
    refused: str | None = None
    if isinstance(result, Rejection):
        refused = result.code
    else:
        events.extend(result.events)
    events.append(GossipReleased(session=ready.session_index, candidate=ready.candidate_hash, refused=refused))
    return Decision(events=events, timers=[SetTimer(key=IMPORT_HELD_TIMER, at_ms=context.now_ms, message=ImportHeld())])
