"""The subsystem itself: which function answers which message, and what each event tells the world."""

from collections.abc import Iterable

from messages.chain_api import BlockImported, GroupJudged, GroupVerdict
from messages.codec import decode
from messages.consensus_blocks import (
    BlockNamed,
    BlocksForgotten,
    BlockSignature,
    BlockSigned,
    NextBlock,
    NotNext,
    PartialHeld,
    PartialSaid,
    SignBlock,
)
from messages.consensus_journal import (
    AnswerTaken,
    AttemptFailed,
    AttemptOpened,
    AttemptsForgotten,
    BlockSeen,
    ChainEntered,
    ChainForgotten,
    ClosingHeard,
    ComplaintTaken,
    ConfirmTaken,
    DealerConvicted,
    DealTaken,
    GovernanceHeard,
    GroupAccepted,
    GroupCompleted,
    GroupRefused,
    HeadMoved,
    KeyFormed,
    MessageHeld,
    MessagesReleased,
    ShareChecked,
    ShareHeld,
    Spoken,
    StallDue,
    ValidatorsSeen,
)
from messages.consensus_manager import (
    Attempts,
    BlockPartial,
    Complaint,
    Confirm,
    Deal,
    Epoch,
    EpochUnknown,
    Equivocation,
    Group,
    GroupsOnDisk,
    GroupTransaction,
    Justify,
    NotTaken,
    OfAttempt,
    Opened,
    PhaseClosed,
    Stalled,
    UnknownGroup,
)
from messages.message import CATALOG, Kind, Message, Rejection
from messages.signals import BestChain, BlockFinalized, GovernanceMode, SessionChange
from overseer.subsystem import CancelTimer, Check, Context, Decision, Declaration, SetTimer
from overseer.tables import Tables, View
from subsystems.consensus_manager import answers, evolution, following
from subsystems.consensus_manager.config import ConsensusConfig, Vault
from subsystems.consensus_manager.draft import Draft, terms_of_row
from subsystems.consensus_manager.electing import act, hear, say_stalled
from subsystems.consensus_manager.forgetting import on_finalized
from subsystems.consensus_manager.restoring import Plan
from subsystems.consensus_manager.signing import hear_partial, name_block
from subsystems.consensus_manager.tables import ATTEMPTS, TABLES
from subsystems.consensus_manager.transcript import checks_of

__all__ = ["ConsensusManager"]

_STALL = "stall"

DECLARATION = Declaration(
    name="consensus_manager",
    description="Elects consensus groups by DKGs, judges group transactions, and derives who serves",
    consumes=(
        BlockImported,
        BestChain,
        BlockFinalized,
        SessionChange,
        GovernanceMode,
        Opened,
        Deal,
        Complaint,
        Justify,
        Equivocation,
        PhaseClosed,
        Stalled,
        Confirm,
        BlockPartial,
        SignBlock,
    ),
    sends=(
        GroupJudged,
        Opened,
        Deal,
        Complaint,
        Justify,
        Equivocation,
        PhaseClosed,
        Stalled,
        Confirm,
        GroupTransaction,
        BlockPartial,
        BlockSigned,
    ),
    answers=(Epoch, Group, GroupsOnDisk, Attempts, NextBlock, BlockSignature),
    requests=(SignBlock,),
    events=(
        AnswerTaken,
        AttemptFailed,
        AttemptOpened,
        AttemptsForgotten,
        BlockNamed,
        BlockSeen,
        BlocksForgotten,
        ChainEntered,
        ChainForgotten,
        ClosingHeard,
        ComplaintTaken,
        ConfirmTaken,
        DealTaken,
        DealerConvicted,
        GovernanceHeard,
        GroupAccepted,
        GroupCompleted,
        GroupRefused,
        HeadMoved,
        KeyFormed,
        MessageHeld,
        MessagesReleased,
        PartialHeld,
        PartialSaid,
        ShareChecked,
        ShareHeld,
        Spoken,
        ValidatorsSeen,
    ),
    timers=(StallDue,),
    rejections=(EpochUnknown, NotNext, NotTaken, UnknownGroup),
    tables=TABLES,
    hears_itself=True,
    # 2: a best chain that goes back to genesis is noticed. 3: of a node's held messages the oldest gives room; lossy attempts.
    evolve_version=3,
)


class ConsensusManager:
    """Elections of consensus groups (docs/consensus.md). `vault` holds the node's secrets, outside of everything recorded."""

    def __init__(self, config: ConsensusConfig, vault: Vault) -> None:
        self.config = config
        self.vault = vault

    @property
    def declaration(self) -> Declaration:
        return DECLARATION

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        draft = Draft(view, self.config, self.vault, context)
        match message:
            case OfAttempt():
                refused = hear(draft, message)
                if refused is not None:
                    return refused
                act(draft, message)
                return Decision(events=draft.events)
            case StallDue():
                return self._stalled(draft, message)
            case SignBlock():
                return name_block(draft, message) or Decision(events=draft.events)
            case BlockPartial():
                hear_partial(draft, message)
                return Decision(events=draft.events)
            case BlockImported():
                following.on_block(draft, message)
                return Decision(events=draft.events)
            case BlockFinalized():
                on_finalized(draft, message)
                return Decision(events=draft.events)
            case SessionChange():
                following.on_session(draft, message)
            case GovernanceMode():
                following.on_governance(draft, message)
            case BestChain():
                following.on_best_chain(draft, message)
                if not message.last:
                    return Decision(events=draft.events)
            case _:
                return Decision()
        return self._watching(draft, act(draft))

    def _watching(self, draft: Draft, planned: Plan) -> Decision:
        """The chain moved: from now on it is counted how long it does not."""
        at_ms = draft.context.now_ms + self.config.parameters.stall_ms
        timer = SetTimer(key=_STALL, at_ms=at_ms, message=StallDue(at_ms=at_ms)) if planned.watch else CancelTimer(key=_STALL)
        return Decision(events=draft.events, timers=[timer])

    def _stalled(self, draft: Draft, message: StallDue) -> Decision:
        """The timer fired. Much too late means that this node was away, not that no block came: then it waits once more (R1)."""
        planned = act(draft)
        if draft.context.now_ms < message.at_ms + self.config.parameters.stall_ms:
            say_stalled(draft, planned)
        return self._watching(draft, planned)

    def evolve(self, tables: Tables, event: Message) -> None:
        evolution.evolve(tables, event)

    def react(self, event: Message) -> Iterable[Message]:
        """What this node says to the others, and its verdicts to the chain."""
        match event:
            case Spoken():
                spec = CATALOG.find(Kind.NETWORK, DECLARATION.name, event.name)
                return () if spec is None else (decode(spec, event.body),)
            case PartialSaid():
                return (BlockPartial(epoch=event.epoch, block=event.block, sender=event.sender, partial=event.partial),)
            case BlockSigned():
                return (event,)
            case GroupAccepted():
                return (GroupJudged(block=event.block, transaction=event.transaction, verdict=GroupVerdict.ACCEPTED),)
            case GroupRefused():
                refused = GroupVerdict.REFUSED
                return (GroupJudged(block=event.block, transaction=event.transaction, verdict=refused, error=event.error),)
            case _:
                return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        return answers.answer(Draft(view, self.config, self.vault, context), query)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        """The signatures of messages of attempts that are known."""
        if not isinstance(message, OfAttempt):
            return ()
        row = view.get(ATTEMPTS, (message.session,))
        return () if row is None else tuple(checks_of(terms_of_row(message.session, row, self.config), message))
