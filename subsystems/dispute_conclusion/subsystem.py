"""The subsystem itself: which function answers which message, and what each event tells the world."""

from collections.abc import Iterable

from messages.chain_api import Blacklist, BlockImported, Descendants, LiftRevert, Revert
from messages.dispute_conclusion import (
    BlacklistRequested,
    Challenged,
    ChallengeLifted,
    ChallengeLiftRecorded,
    ConclusionConcluded,
    ConclusionOpened,
    DescendantsAnswer,
    DescendantsAsked,
    DescendantsSeen,
    Detection,
    DetectionRecorded,
    GetConclusion,
    ListConclusions,
    Resolution,
    RevertAsked,
    UnknownConclusion,
)
from messages.message import Message, Rejection
from messages.polkadot import DisputeRef
from messages.signals import BlocksBlacklisted, SessionChange
from overseer.subsystem import Check, Context, Decision, Declaration
from overseer.tables import Tables, View
from subsystems.dispute_conclusion import answers, decisions, evolution
from subsystems.dispute_conclusion.declaration import DECLARATION, Config
from subsystems.dispute_conclusion.tables import CONCLUSIONS

__all__ = ["DisputeConclusion"]


class DisputeConclusion:
    """A recorded, resumable process per dispute (docs/disputes.md, D20 to D25).

    detection -> challenged: early revert of the including blocks -> resolution: for, the revert is lifted; against, the
    descendants of every including block are asked for, then all of them are blacklisted, and so is every block that
    includes the candidate later. Nobody waits for an answer: each step is an event, and the next message takes it on.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    @property
    def declaration(self) -> Declaration:
        return DECLARATION

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        """What follows from `message`; never a rejection, as all commands come from subsystems and are recorded."""
        config = self.config
        match message:
            case Detection():
                events = decisions.on_detection(view, message, context)
            case Challenged():
                events = decisions.on_challenged(view, message, context, config)
            case ChallengeLifted():
                events = decisions.on_challenge_lifted(view, message, context, config)
            case Resolution():
                events = decisions.on_resolution(view, message, context, config)
            case DescendantsAnswer():
                events = decisions.on_descendants_answer(view, message, context, config)
            case BlockImported():
                events = decisions.on_import(view, message, context, config)
            case BlocksBlacklisted():
                events = decisions.on_blacklisted(view, message, context)
            case SessionChange():
                events = decisions.on_session_change(view, message, config)
            case _:
                events = []
        return Decision(events=events)

    def evolve(self, tables: Tables, event: Message) -> None:
        evolution.apply(tables, event)

    def react(self, event: Message) -> Iterable[Message]:
        """The commands to the chain, and the facts."""
        match event:
            case DetectionRecorded():
                return (ConclusionOpened(session=event.session, candidate=event.candidate, contradicting=event.contradicting),)
            case RevertAsked():
                return (Revert(blocks=event.blocks, cause=DisputeRef(session=event.session, candidate=event.candidate)),)
            case ChallengeLiftRecorded():
                cause = DisputeRef(session=event.session, candidate=event.candidate)
                return (LiftRevert(blocks=event.blocks, cause=cause),) if event.blocks else ()
            case DescendantsAsked():
                return tuple(Descendants(block=block) for block in event.blocks)
            case BlacklistRequested():
                cause = DisputeRef(session=event.session, candidate=event.candidate)
                return (Blacklist(roots=event.roots, cause=cause), event)
            case DescendantsSeen() | ConclusionConcluded():
                return (event,)
            case _:
                return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        match query:
            case GetConclusion():
                key = (query.session, query.candidate)
                row = view.get(CONCLUSIONS, key)
                if row is None:
                    return UnknownConclusion(session=query.session, candidate=query.candidate)
                return answers.full(view, key, row, self.config)
            case ListConclusions():
                return answers.page(view, query, self.config)
            case _:
                raise TypeError(f"{query.spec.key} is not a query of {DECLARATION.name}")

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        """None: what comes from subsystems carries no signature that is checked here."""
        return ()
