"""The subsystem itself: which function answers which message."""

from collections.abc import Iterable

from messages.chain_api import BlockImported
from messages.message import Message, Rejection
from messages.signals import BlocksBlacklisted, SessionChange
from messages.votes_db import (
    ActiveDisputes,
    Dispute,
    QueryBySession,
    QueryByValidatorAndSessionIndex,
    QueryByValidatorId,
    QueryVotes,
    RecentDisputes,
    RegisterVote,
)
from messages.votes_db_journal import ImportHeld, PruneStep, RowsPruned
from overseer.subsystem import Check, Context, Decision, Declaration, SetTimer
from overseer.tables import Tables, View
from subsystems.votes_db import evolution, gossip, queries, reactions, sessions
from subsystems.votes_db.counting import wanted_checks
from subsystems.votes_db.declaration import DECLARATION, VotesDbConfig
from subsystems.votes_db.form import Bundle, read_bundle
from subsystems.votes_db.importing import import_bundle
from subsystems.votes_db.pruning import prune_step

__all__ = ["VotesDb"]


class VotesDb:
    """Every dispute vote of every validator for `config.window` sessions (docs/disputes.md, D01 to D19, D26 to D28).

    bundle -> form -> votes verified and counted one by one -> state of the dispute, a function of the votes -> what follows:
    detection, challenge, resolution, rewards and slashes, each once, on its transition.
    """

    def __init__(self, config: VotesDbConfig | None = None) -> None:
        self.config = config or VotesDbConfig()

    @property
    def declaration(self) -> Declaration:
        return DECLARATION

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        """Rejects whole bundles (MalformedBundle, SessionOutOfWindow, SpamRefused); single votes have their outcomes in the reply."""
        config = self.config
        match message:
            case RegisterVote():
                bundle = read_bundle(view, message)
                return bundle if isinstance(bundle, Rejection) else import_bundle(view, bundle, context, config)
            case Dispute():
                return gossip.on_dispute(view, message, context, config)
            case SessionChange():
                return sessions.on_session_change(view, message, context, config)
            case BlockImported():
                return Decision(events=sessions.on_block_imported(view, message))
            case BlocksBlacklisted():
                return Decision(events=sessions.on_blocks_blacklisted(view, message))
            case ImportHeld():
                return gossip.on_import_held(view, context, config)
            case PruneStep():
                events = prune_step(view, config.prune_rows_per_step)
                again = any(isinstance(event, RowsPruned) for event in events)
                timer = SetTimer(key=sessions.PRUNE_TIMER, at_ms=context.now_ms, message=PruneStep())
                return Decision(events=events, timers=[timer] if again else [])
            case _:
                return Decision()

    def evolve(self, tables: Tables, event: Message) -> None:
        evolution.apply(tables, event)

    def react(self, event: Message) -> Iterable[Message]:
        return reactions.react(event)

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        """`query_votes` of a candidate nobody voted on is rejected with UnknownDispute; the other answers are then empty."""
        match query:
            case QueryByValidatorAndSessionIndex():
                return queries.by_validator_and_session(view, query, self.config)
            case QueryByValidatorId():
                return queries.by_validator_id(view, query, self.config)
            case QueryBySession():
                return queries.by_session(view, query, self.config)
            case QueryVotes():
                return queries.votes_snapshot(view, query, self.config)
            case RecentDisputes() | ActiveDisputes():
                return queries.list_disputes(view, query, context.now_ms, self.config)
            case _:
                raise TypeError(f"{query.spec.key} is not a query of {DECLARATION.name}")

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        """The signatures of a bundle, of good form as far as is cheap to tell."""
        if not isinstance(message, RegisterVote | Dispute):
            return ()
        bundle = read_bundle(view, message, receipt_checked=False)
        return wanted_checks(view, bundle) if isinstance(bundle, Bundle) else ()
