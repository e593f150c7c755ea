"""The subsystem itself: which function answers which message, for elections of every kind."""

from collections.abc import Iterable, Sequence

from messages.elections import (
    Archived,
    ArchiveDue,
    ArchiveElection,
    ElectionArchived,
    ElectionEvent,
    GovernanceHeld,
    GovernanceSeen,
    OfElection,
    Recorded,
    UnknownElection,
)
from messages.message import Kind as MessageKind
from messages.message import Message, Rejection
from messages.signals import GovernanceMode, GovernanceState
from overseer.subsystem import Check, Context, Decision, Declaration
from overseer.tables import Tables, View
from subsystems.elections import answers, evolution
from subsystems.elections.ballots.kind import Ballots
from subsystems.elections.composition import composed
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.kind import Kind
from subsystems.elections.projection import Projection
from subsystems.elections.retention import archive, archive_timers
from subsystems.elections.rows import ELECTIONS, GOVERNANCE, dump_event, governed

__all__ = ["Elections"]


class Elections:
    """Elections of every kind, each with a key, a numbered log of events, and projections (docs/elections.md).

    command -> its kind's rules -> events, numbered and chained -> the kind's rows and what is counted along.
    """

    def __init__(
        self, config: ElectionsConfig | None = None, *, kinds: Sequence[Kind] | None = None, projections: Sequence[Projection] = ()
    ) -> None:
        """`projections`: those of third parties, for elections of every kind. Raises Clash."""
        self.config = config or ElectionsConfig()
        self.kinds = tuple(kinds) if kinds is not None else (Ballots(self.config),)
        self._third_party = tuple(projections)
        self._declaration = composed([kind.declaration for kind in self.kinds], self._third_party)
        self._named = {kind.declaration.name: kind for kind in self.kinds}
        self._takes: dict[type[Message], list[Kind]] = {}
        for kind in self.kinds:
            declared = kind.declaration
            for message in (*declared.consumes, *declared.timers, *declared.answers):
                self._takes.setdefault(message, []).append(kind)

    @property
    def declaration(self) -> Declaration:
        return self._declaration

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        """Rejects for every kind with UnknownElection, Archived, Retained, GovernanceHeld; else with the kind's own."""
        match message:
            case ArchiveElection():
                event = archive(view, message.election, context.now_ms, self.config)
                return event if isinstance(event, Rejection) else Decision(events=[event], reply=_recorded(event.election, event.sequence))
            case ArchiveDue():
                event = archive(view, message.election, context.now_ms, self.config)
                return Decision() if isinstance(event, Rejection) else Decision(events=[event])
            case GovernanceMode():
                seen = GovernanceSeen(entered=message.state is GovernanceState.ENTERED)
                rest = self._for_all(view, message, context)
                return Decision(events=[seen, *rest.events], timers=rest.timers)
            case _:
                of_one = isinstance(message, OfElection)
                return self._for_one(view, message, context) if of_one else self._for_all(view, message, context)

    def _for_one(self, view: View, message: OfElection, context: Context) -> Decision | Rejection:
        """A command, or a timer, that concerns one election."""
        (kind,) = self._takes[type(message)]
        declared, key = kind.declaration, message.election
        row = view.get(ELECTIONS, (key,))
        if row is not None and row.kind != declared.name:
            return UnknownElection(election=key)
        if row is not None and row.archived:
            return Archived(election=key)
        if type(message) in declared.held_in_governance and governed(view):
            return GovernanceHeld()
        sequence = 1 if row is None else row.sequence + 1
        decision = kind.decide(view, message, context, sequence=sequence)
        if isinstance(decision, Rejection):
            # A timer is nobody's question.
            return Decision() if message.spec.kind is MessageKind.TIMER else decision
        events = [event for event in decision.events if isinstance(event, ElectionEvent)]
        timers = [*decision.timers, *archive_timers(row, key, events, declared.terminal, self.config)]
        return Decision(events=events, timers=timers, reply=_recorded(key, sequence - 1 + len(events)))

    def _for_all(self, view: View, message: Message, context: Context) -> Decision:
        """A signal or fact: for every kind that takes it."""
        taken = [kind.decide(view, message, context, sequence=0) for kind in self._takes.get(type(message), ())]
        decisions = [decision for decision in taken if isinstance(decision, Decision)]
        return Decision(events=[event for d in decisions for event in d.events], timers=[timer for d in decisions for timer in d.timers])

    def evolve(self, tables: Tables, event: Message) -> None:
        match event:
            case GovernanceSeen(entered=True):
                tables.put(GOVERNANCE, (0,), b"\1")
            case GovernanceSeen():
                tables.delete(GOVERNANCE, (0,))
            case ElectionArchived():
                evolution.archived(tables, self._named[event.kind].declaration, event)
            case ElectionEvent():
                evolution.apply(tables, self._kind_of(event), event, dump_event(event), self._third_party)
            case _:
                raise TypeError(f"{event.spec.key} is not an event of {self._declaration.name}")

    def evolve_stored(self, tables: Tables, event: ElectionEvent, data: bytes) -> None:
        """As `evolve`, where the event is there as it is kept (`rows.dump_event`)."""
        if isinstance(event, ElectionArchived):
            self.evolve(tables, event)
        else:
            evolution.apply(tables, self._kind_of(event), event, data, self._third_party)

    def react(self, event: Message) -> Iterable[Message]:
        match event:
            case ElectionArchived():
                return [event]
            case ElectionEvent():
                return self._kind_of(event).react(event)
            case _:
                return ()

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        """Rejects with UnknownElection, UnknownProjection, Archived, or what the kind refuses with."""
        if type(query) not in self._takes:
            return answers.answer(view, query, self.config)
        (kind,) = self._takes[type(query)]
        if isinstance(query, OfElection):
            row = view.get(ELECTIONS, (query.election,))
            if row is None or row.kind != kind.declaration.name:
                return UnknownElection(election=query.election)
            if row.archived:
                return Archived(election=query.election)
        return kind.answer(view, query, context)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return [check for kind in self._takes.get(type(message), ()) for check in kind.checks(view, message)]

    def _kind_of(self, event: ElectionEvent) -> Kind:
        return next(kind for kind in self.kinds if type(event) in kind.declaration.events)


def _recorded(key: str, sequence: int) -> Recorded:
    """One site: what is committed is durable there, and nowhere else."""
    return Recorded(election=key, sequence=sequence, copies=1)
