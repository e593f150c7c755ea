"""Gateway elections as a kind of the runtime: one election for each queue."""

from collections.abc import Iterable

from messages.elections import ChainDue, ElectionEvent, ElectionFact, OfElection, WrongPhase
from messages.gateway_queries import UnknownRound
from messages.gateways import (
    AlreadyExecuted,
    BadProof,
    Bond,
    ChainBehind,
    ClaimsExpired,
    DeclareGateway,
    DuplicateRequest,
    GatewayDeclared,
    InsufficientStake,
    MalformedQueue,
    NotAuthorized,
    NotEligible,
    OpenQueue,
    QueueFull,
    QueueOpened,
    RedistributeStake,
    RequestExecuted,
    RequestsReturned,
    RequestSubmitted,
    RoundClosed,
    RoundCut,
    RoundResults,
    RoundRevoked,
    RoundsSkipped,
    StakeBonded,
    StakeRedistributed,
    SubmitExecutionProof,
    SubmitRequest,
    Unbond,
    UnbondRequested,
    UnknownItem,
)
from messages.message import Message, Rejection
from overseer.subsystem import Check, Context, Decision
from overseer.tables import Tables, View
from subsystems.elections.gateways import answers, course, decisions, evolution
from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.gateways.rows import TABLES
from subsystems.elections.kind import KindDeclaration

__all__ = ["Gateways"]

_COMMANDS = (OpenQueue, SubmitRequest, Bond, Unbond, DeclareGateway, RedistributeStake, SubmitExecutionProof)
_FACTS = (QueueOpened, RequestExecuted, RoundCut, RoundClosed, RoundResults, ClaimsExpired, RoundRevoked, RequestsReturned)

DECLARATION = KindDeclaration(
    name="gateways",
    consumes=_COMMANDS,
    requests=_COMMANDS,
    held_in_governance=(OpenQueue,),
    events=(*_FACTS, RequestSubmitted, StakeBonded, UnbondRequested, GatewayDeclared, StakeRedistributed, RoundsSkipped),
    # A queue has no end.
    terminal=(),
    sends=_FACTS,
    answers=answers.ANSWERS,
    rejections=(
        AlreadyExecuted,
        BadProof,
        ChainBehind,
        DuplicateRequest,
        InsufficientStake,
        MalformedQueue,
        NotAuthorized,
        NotEligible,
        QueueFull,
        UnknownItem,
        UnknownRound,
        WrongPhase,
    ),
    tables=TABLES,
    follows_chain=True,
)


class Gateways:
    """Requests collected, cut, voted on, closed, executed, as the blocks of the chain count (G01 to G28)."""

    def __init__(self, config: GatewaysConfig) -> None:
        self.config = config

    @property
    def declaration(self) -> KindDeclaration:
        return DECLARATION

    def decide(self, view: View, message: Message, context: Context, *, sequence: int) -> Decision | Rejection:
        assert isinstance(message, OfElection)
        if isinstance(message, ChainDue):
            step = course.pending(view, message.election)
            return Decision(
                events=course.events_of(view, message.election, step, context.now_ms, sequence, self.config) if step is not None else ()
            )
        decided = decisions.decide(view, message, context, sequence, self.config)
        return decided if isinstance(decided, Rejection) else Decision(events=[decided] if decided is not None else ())

    def due(self, view: View, key: str) -> bool:
        return course.pending(view, key) is not None

    def evolve(self, tables: Tables, event: Message) -> None:
        assert isinstance(event, ElectionEvent)
        evolution.apply(tables, event)

    def react(self, event: Message) -> Iterable[Message]:
        """The course of the rounds is told; who gave which weight is, with the results."""
        return [event] if isinstance(event, ElectionFact) else ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        return answers.answer(view, query)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        check = decisions.proof_check(view, message) if isinstance(message, SubmitExecutionProof) else None
        return () if check is None else (check,)
