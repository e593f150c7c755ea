"""`chain_api` as a subsystem: its declaration, and the way from each message to what decides on it."""

from collections.abc import Iterable

from messages.chain_api import (
    BadBlock,
    Blacklist,
    ConflictingFinality,
    Descendants,
    FinalizeBlock,
    GovernanceModeRefusal,
    GroupJudged,
    ImportBlock,
    LiftRevert,
    NotFinalized,
    Resume,
    ResumeRefused,
    Revert,
    SubmitTransaction,
    TooManyPending,
    UnknownBlock,
    UnknownSession,
)
from messages.chain_events import ContinueWork
from messages.message import Message, Rejection
from overseer.subsystem import Check, Context, Decision, Declaration
from overseer.tables import Tables, View
from subsystems.chain_api import best, blacklist, descendants, evolution, finality, imports, leaves, pool, reaction
from subsystems.chain_api.answers import ANSWERS, answer
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.tables import TABLES

__all__ = ["ChainApi"]

_DECLARATION = Declaration(
    name="chain_api",
    description="The block tree, finality, the blacklist and governance mode, sessions, and the transaction pool.",
    consumes=(
        ImportBlock,
        FinalizeBlock,
        Revert,
        LiftRevert,
        Blacklist,
        SubmitTransaction,
        Descendants,
        GroupJudged,
        Resume,
    ),
    sends=reaction.SENDS,
    answers=ANSWERS,
    requests=(ImportBlock, FinalizeBlock, Resume),
    restricted={
        Revert: ("dispute_conclusion",),
        LiftRevert: ("dispute_conclusion",),
        Blacklist: ("dispute_conclusion",),
        Descendants: ("dispute_conclusion",),
        SubmitTransaction: ("votes_db",),
        GroupJudged: ("consensus_manager",),
    },
    events=evolution.EVENTS,
    timers=(ContinueWork,),
    rejections=(
        BadBlock,
        ConflictingFinality,
        GovernanceModeRefusal,
        NotFinalized,
        ResumeRefused,
        TooManyPending,
        UnknownBlock,
        UnknownSession,
    ),
    tables=TABLES,
    evolve_version=1,
)


class ChainApi:
    """The subsystem. `config` names the chain, who governs it, and the bounds of one step."""

    def __init__(self, config: ChainConfig) -> None:
        self.config = config

    @property
    def declaration(self) -> Declaration:
        return _DECLARATION

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        draft = Draft(view, self.config, context)
        match message:
            case ImportBlock():
                return imports.import_block(draft, message)
            case FinalizeBlock():
                return finality.finalize(draft, message)
            case Revert():
                return blacklist.revert(draft, message)
            case LiftRevert():
                return blacklist.lift_revert(draft, message)
            case Blacklist():
                return blacklist.blacklist(draft, message)
            case SubmitTransaction():
                return pool.submit(draft, message)
            case Descendants():
                return descendants.seek(draft, message)
            case GroupJudged():
                return pool.group_judged(draft, message)
            case Resume():
                return finality.resume(draft, message)
            case ContinueWork():
                return _continue(draft)
            case _:
                raise TypeError(f"{message.spec.key} is not consumed here")

    def evolve(self, tables: Tables, event: Message) -> None:
        evolution.evolve(tables, event)

    def react(self, event: Message) -> Iterable[Message]:
        return reaction.react(event)

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        return answer(Chain(view, self.config), query)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        check = finality.resume_check(self.config, message) if isinstance(message, Resume) else None
        return () if check is None else (check,)


def _continue(draft: Draft) -> Decision:
    """One bounded step of everything that is left to do."""
    imports.adopt(draft)
    blacklist.mark(draft)
    leaves.sweep(draft)
    best.consider(draft, leaves.revive(draft))
    descendants.tell(draft)
    best.search(draft)
    best.announce(draft)
    return draft.decision()
