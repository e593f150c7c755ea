"""The subsystem itself: which function answers which message, for elections of every kind."""

from collections import deque
from collections.abc import Iterable, Sequence

from messages.elections import (
    Archived,
    ArchiveDue,
    ArchiveElection,
    ChainDue,
    ChainSeen,
    ElectionArchived,
    ElectionEvent,
    GovernanceHeld,
    GovernanceSeen,
    OfElection,
    Recorded,
    SessionSeen,
    UnknownElection,
)
from messages.message import Kind as MessageKind
from messages.message import Message, Rejection
from messages.signals import GovernanceMode, GovernanceState, SessionChange
from overseer.subsystem import Check, Context, Decision, Declaration, SetTimer
from overseer.tables import Tables, View
from subsystems.elections import answers, chain, evolution
from subsystems.elections.ballots.kind import Ballots
from subsystems.elections.composition import composed
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.gateways.kind import Gateways
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
        self.kinds = tuple(kinds) if kinds is not None else (Ballots(self.config), Gateways(self.config.gateways))
        self._third_party = tuple(projections)
        self._declaration = composed([kind.declaration for kind in self.kinds], self._third_party)
        self._named = {kind.declaration.name: kind for kind in self.kinds}
        self._takes: dict[type[Message], list[Kind]] = {}
        self._recording: dict[type[Message], Kind] = {}
        for kind in self.kinds:
            declared = kind.declaration
            self._recording.update(dict.fromkeys(declared.events, kind))
            for message in (*declared.consumes, *declared.timers, *declared.answers):
                self._takes.setdefault(message, []).append(kind)

    @property
    def declaration(self) -> Declaration:
        return self._declaration

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        """Everything, with one site. Rejects for every kind with UnknownElection, Archived, Retained, GovernanceHeld; else with the kind's
        own.
        """
        if not isinstance(message, OfElection):
            if message.spec.kind is MessageKind.COMMAND:
                (kind,) = self._takes[type(message)]
                return kind.decide(view, message, context, sequence=0)
            return self._hear(view, message, context)
        decision = self.decide_one(view, message, context)
        if not isinstance(message, ChainDue) or isinstance(decision, Rejection):
            return decision
        after = self._after(view.scratch(), decision.events)
        timers = [*decision.timers, *self._due_timers(after, [message.election] if decision.events else [], context)]
        return Decision(events=decision.events, timers=timers)

    def decide_one(self, view: View, message: OfElection, context: Context) -> Decision | Rejection:
        """A command, or a timer, that concerns one election; rejects as `decide`. What the chain makes due next is left to the caller."""
        match message:
            case ArchiveElection():
                event = archive(view, message.election, context.now_ms, self.config)
                return event if isinstance(event, Rejection) else Decision(events=[event], reply=_recorded(event.election, event.sequence))
            case ArchiveDue():
                event = archive(view, message.election, context.now_ms, self.config)
                return Decision() if isinstance(event, Rejection) else Decision(events=[event])
            case ChainDue():
                kind = self._following(view, message.election)
                return Decision() if kind is None else self._by_kind(view, kind, message, context)
            case _:
                (kind,) = self._takes[type(message)]
                return self._by_kind(view, kind, message, context)

    def heard(self, view: View, message: Message, context: Context) -> list[Message]:
        """What a signal changes of what is known of the world, as events: the rows of no election."""
        if isinstance(message, GovernanceMode):
            return [GovernanceSeen(entered=message.state is GovernanceState.ENTERED)]
        return list(chain.seen(view, message, context, blocks_kept=self.config.chain_blocks_kept))

    def due(self, view: View, key: str) -> ChainDue | None:
        """What the chain makes due for an election, if anything; it is decided as a command of that election."""
        kind = self._following(view, key)
        if kind is None or not kind.due(view, key):
            return None
        row, known = view.get(ELECTIONS, (key,)), chain.Chain(view)
        assert row is not None
        best = known.best
        return ChainDue(election=key, sequence=row.sequence, height=known.height, block=best.hash if best is not None else bytes(32))

    def _following(self, view: View, key: str) -> Kind | None:
        """The kind of an election that is there, if the chain matters to it."""
        row = view.get(ELECTIONS, (key,))
        kind = None if row is None or row.archived else self._named[row.kind]
        return kind if kind is not None and kind.declaration.follows_chain else None

    def _by_kind(self, view: View, kind: Kind, message: OfElection, context: Context) -> Decision | Rejection:
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

    def _hear(self, view: View, message: Message, context: Context) -> Decision:
        """A signal or fact: for what is known of the world, for every kind that takes it, and for whom something is due by it."""
        taken = [kind.decide(view, message, context, sequence=0) for kind in self._takes.get(type(message), ())]
        decisions = [decision for decision in taken if isinstance(decision, Decision)]
        heard = self.heard(view, message, context)
        events = [*heard, *(event for d in decisions for event in d.events)]
        timers = [timer for d in decisions for timer in d.timers]
        if heard and not isinstance(message, SessionChange):
            after = self._after(view.scratch(), events)
            steps, more = self._steps(after, list(chain.followers(after)), context)
            events += steps
            timers += more
        return Decision(events=events, timers=timers)

    def _steps(self, after: Tables, keys: Sequence[str], context: Context) -> tuple[list[Message], list[SetTimer]]:
        """Steps that are due, before anything else is decided: one of each election at least; what is left goes on by timers."""
        events: list[Message] = []
        waiting = deque(keys)
        for _ in range(max(len(keys), self.config.chain_steps_max)):
            if not waiting:
                break
            key = waiting.popleft()
            message = self.due(after, key)
            decision = self.decide_one(after, message, context) if message is not None else Decision()
            if isinstance(decision, Decision) and decision.events:
                self._after(after, decision.events)
                events += decision.events
                waiting.append(key)
        return events, self._due_timers(after, waiting, context)

    def _due_timers(self, after: View, keys: Iterable[str], context: Context) -> list[SetTimer]:
        due = [self.due(after, key) for key in keys]
        return [SetTimer(key=f"due {message.election}", at_ms=context.now_ms, message=message) for message in due if message is not None]

    def _after(self, tables: Tables, events: Iterable[Message]) -> Tables:
        """The rows as these events make them."""
        for event in events:
            self.evolve(tables, event)
        return tables

    def evolve(self, tables: Tables, event: Message) -> None:
        match event:
            case GovernanceSeen(entered=True):
                tables.put(GOVERNANCE, (0,), b"\1")
            case GovernanceSeen():
                tables.delete(GOVERNANCE, (0,))
            case ChainSeen() | SessionSeen():
                chain.apply(tables, event)
            case ElectionArchived():
                evolution.archived(tables, self._named[event.kind].declaration, event)
            case ElectionEvent():
                evolution.apply(tables, self._recording[type(event)], event, dump_event(event), self._third_party)
            case _ if type(event) in self._recording:
                self._recording[type(event)].evolve(tables, event)
            case _:
                raise TypeError(f"{event.spec.key} is not an event of {self._declaration.name}")

    def evolve_stored(self, tables: Tables, event: ElectionEvent, data: bytes) -> None:
        """As `evolve`, where the event is there as it is kept (`rows.dump_event`)."""
        if isinstance(event, ElectionArchived):
            self.evolve(tables, event)
        else:
            evolution.apply(tables, self._recording[type(event)], event, data, self._third_party)

    def react(self, event: Message) -> Iterable[Message]:
        match event:
            case ElectionArchived():
                return [event]
            case _:
                kind = self._recording.get(type(event))
                return () if kind is None else kind.react(event)

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


def _recorded(key: str, sequence: int) -> Recorded:
    """One site: what is committed is durable there, and nowhere else."""
    return Recorded(election=key, sequence=sequence, copies=1)
