"""The reckoning of a gateway queue: what was acknowledged against what is answered, and the journal against a model of the rules.

`shown` looks from outside: each command that was accepted is an event under its number, once; stakes and requests are conserved.
`course_problems` reads the journal of a node that has ended: each accepted command is there once, and each decision, step and answer is
what `overseer.simulation.queue_model` makes of the rules, which was written apart from the subsystem.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from messages.codec import decode
from messages.elections import ElectionFact, OfElection
from messages.gateway_queries import (
    ActiveRequests,
    AssignedRequestPage,
    AssignedRequests,
    GatewayPage,
    ListGateways,
    PendingRequests,
    RequestPage,
)
from messages.gateways import (
    Bond,
    RequestExecuted,
    RoundClosed,
    RoundOutcome,
    RoundResults,
    RoundRevoked,
    SubmitRequest,
)
from messages.message import CATALOG, Kind, Message
from overseer.node.catalogue import build_subsystem
from overseer.node.folder import NodeFolder
from overseer.ports.bus import StoredMessage
from overseer.ports.store import StoreReader
from overseer.rocks.reader import RocksReader
from overseer.runner.journal import event_of, records
from overseer.runner.schema import Record
from overseer.simulation.checks_course import Archive, CourseChecker, Input
from overseer.simulation.checks_queues import RECORDED, QueuesAtRest, differing
from overseer.simulation.scenario import Network, Violation
from overseer.subsystem import Context
from overseer.tables import View
from tests.crash.polls_reckoning import Reckoned, events_by_number
from tests.crash.queues import Query, Queue
from tests.node.nodes import Place, Stored

__all__ = ["QueueFound", "course_problems", "facts_told", "judged", "shown"]

T = TypeVar("T")


class QueueFound(Reckoned):
    """What of a queue is as it was acknowledged, and what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.commands = 0
        self.closed = 0
        self.revoked = 0
        self.executed = 0
        # What the world must have been told: names and numbers of events.
        self.facts: set[tuple[str, int]] = set()


async def shown(query: Query, queue: Queue) -> QueueFound:
    """The queue as this query shows it, while nobody asks anything of it. What nobody heard the outcome of may be there, once."""
    found = QueueFound()
    events = {number: event for number, (_, event) in (await events_by_number(query, queue.key)).items()}
    kinds = Counter(map(type, events.values()))
    found.closed, found.revoked, found.executed = kinds[RoundClosed], kinds[RoundRevoked], kinds[RequestExecuted]
    found.facts = {(event.spec.name, number) for number, event in events.items() if isinstance(event, ElectionFact)}
    accepted = {each.sequence: each for each in queue.accepted}
    found.doubled += [f"{queue.key}: two commands are event {n}" for n, times in _numbers(queue).items() if times > 1]
    for sequence, each in sorted(accepted.items()):
        event = events.get(sequence)
        if event is not None and _records(event, each.command):
            found.commands += 1
        else:
            found.lost.append(f"{queue.key}: event {sequence} is {event}, acknowledged was {each}"[:400])
    effective, unheard = [each.command for each in queue.accepted], queue.unheard
    for number, event in events.items():
        if not isinstance(event, tuple(RECORDED.values())) or number in accepted:
            continue
        said = next((command for command in unheard if _records(event, command)), None)
        if said is None:
            found.doubled.append(f"{queue.key}: event {number} is {type(event).__name__}, which nobody was told")
        else:
            unheard.remove(said)
            effective.append(said)
    if sorted(events) != list(range(1, len(events) + 1)):
        found.wrong.append(f"{queue.key}: events are missing between 1 and {max(events)}")
    found.wrong += await _stakes(query, queue.key, effective)
    found.wrong += await _requests(query, queue.key, effective, events.values())
    return found


def _numbers(queue: Queue) -> Counter[int]:
    return Counter(each.sequence for each in queue.accepted)


def _records(event: Message, command: OfElection) -> bool:
    """Whether the event is the command's: of its kind, and alike in all that both say."""
    return type(event) is RECORDED[type(command)] and not differing(command, event)


async def _stakes(query: Query, key: str, commands: Sequence[OfElection]) -> list[str]:
    """Nothing of a stake comes from nowhere, or goes there."""
    page = await query(ListGateways(election=key))
    assert isinstance(page, GatewayPage)
    due: Counter[bytes] = Counter()
    for command in commands:
        if isinstance(command, Bond):
            due[command.gateway] += command.amount
    found = Counter({row.gateway: row.bonded + row.unbonded for row in page.gateways})
    wrong = [f"{key}: {account.hex()[:8]} has {found[account]}, {n} was bonded" for account, n in _unequal(due, found)]
    return wrong + [
        f"{key}: stake is not conserved: {row}" for row in page.gateways if row.free + row.redistributed + row.held != row.bonded
    ]


async def _requests(query: Query, key: str, commands: Sequence[OfElection], events: Iterable[Message]) -> list[str]:
    """Each that was submitted is in one place: open, in the ballot, assigned, executed or expired."""
    places: Counter[bytes] = Counter(await _queued(query, PendingRequests(election=key)))
    places.update(await _queued(query, ActiveRequests(election=key)))
    page = await query(AssignedRequests(election=key))
    assert isinstance(page, AssignedRequestPage)
    assert not page.more, "more are assigned than one page shows"
    places.update(row.request for row in page.requests)
    for event in events:
        if isinstance(event, RequestExecuted):
            places[event.request] += 1
        elif isinstance(event, RoundResults):
            places.update(row.request for row in event.results if row.outcome is RoundOutcome.EXPIRED)
    due = Counter(command.request for command in commands if isinstance(command, SubmitRequest))
    return [f"{key}: request {each.hex()[:8]} is in {places[each]} places, not {n}" for each, n in _unequal(due, places)]


async def _queued(query: Query, asked: PendingRequests | ActiveRequests) -> list[bytes]:
    requests: list[bytes] = []
    after: int | None = 0
    while after is not None:
        page = await query(type(asked)(election=asked.election, after=after))
        assert isinstance(page, RequestPage)
        requests += [row.request for row in page.requests]
        after = page.next
    return requests


# ------------------------------------------------------------------------------------------------ the journal beside the model


class _OfOne(QueuesAtRest):
    """Leaves the node's other elections alone."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def take(self, given: Input) -> None:
        message = given.message
        if not isinstance(message, OfElection) or message.election == self._key:
            super().take(given)


class _Ended:
    """A node that has ended, as its store answers (an AtRest)."""

    def __init__(self, node: str, answer: Callable[[Message], Message]) -> None:
        self.network = Network(seed=0, nodes=(node,), hours=0)
        self.outstanding: Sequence[str] = ()
        self._answer = answer

    def store(self, node: str, subsystem: str) -> StoreReader:
        raise LookupError("the model asks for answers, not for rows")

    def stream(self, node: str) -> Sequence[StoredMessage]:
        raise LookupError("the model asks for answers, not for messages")

    def ask(self, node: str, query: Message) -> Message:
        return self._answer(query)


def course_problems(place: Place, queue: Queue, messages: Sequence[Stored], best: bytes) -> list[str]:
    """The whole journal of the elections of a node that has ended. `messages`: all of the node's stream, `best`: its chain's best block."""
    loaded = place.loaded()
    rules = build_subsystem("elections", loaded)
    context = Context(now_ms=0, sender="op_test", verify=lambda _: False)
    reader = RocksReader.open_read_only(NodeFolder(loaded.config.data_dir).store("elections"))
    try:
        course = [(record, [event_of(reader, row, record.index) for row in record.events]) for record, _ in records(reader)]
        return judged(course, queue, messages, best, lambda query: rules.answer(View(reader), query, context))
    finally:
        reader.close()


def judged(
    course: Sequence[tuple[Record, Sequence[Message]]],
    queue: Queue,
    messages: Sequence[Stored],
    best: bytes,
    answer: Callable[[Message], Message],
) -> list[str]:
    """A journal's records with their events, beside the model and what was acknowledged. `answer`: by the rows at its end."""
    archive, node = Archive(), "node"
    checker = CourseChecker("queue", "elections", archive, lambda: _OfOne(queue.key))
    for each in messages:
        archive.stored(node, StoredMessage(each.sequence, 0, each.subject, each.headers, each.body))
    try:
        for record, events in course:
            checker.recorded(node, "elections", record, events)
        checker.at_rest(_Ended(node, answer))
    except Violation as violation:
        return [str(violation)]
    inputs, known = checker.inputs(node), checker.models[node].known
    wrong = [] if known.blocks.get(known.height) == best else [f"{queue.key}: the elections take another block than the best one for it"]
    return [*wrong, *_not_once(queue, inputs), *_not_told(queue, inputs, messages)]


def _not_once(queue: Queue, inputs: Sequence[Input]) -> list[str]:
    """Every command that was accepted is in the journal once, as it was sent, and no other is."""
    found: Counter[tuple[str, OfElection]] = Counter()
    for given in inputs:
        if isinstance(given.message, OfElection) and given.message.election == queue.key and given.code == "accepted":
            # Behind the point is the how-many-th attempt it was.
            found[given.record.cause.id.partition(".")[0], given.message] += 1
    due = Counter((each.command_id, each.command) for each in queue.accepted)
    return [f"{id} is in the journal {found[id, c]} times, acknowledged {n}: {c}" for (id, c), n in _unequal(due, found)]


def _not_told(queue: Queue, inputs: Sequence[Input], messages: Sequence[Stored]) -> list[str]:
    """Every fact of the journal is in the stream once, and no other is."""
    facts = (event for given in inputs for event in given.events if isinstance(event, ElectionFact) and event.election == queue.key)
    due, found = Counter((fact.spec.name, fact.sequence) for fact in facts), facts_told(queue.key, messages)
    return [f"{queue.key}: {what} was told {found[what]} times, not {n}" for what, n in _unequal(due, found)]


def facts_told(key: str, messages: Sequence[Stored]) -> Counter[tuple[str, int]]:
    """The facts of a queue in the node's stream: name and number of the event."""
    found: Counter[tuple[str, int]] = Counter()
    for message in messages:
        _, _, sender, what = message.subject.split(".", 3)
        spec = CATALOG.by_key(f"elections.{what}") if sender == "elections" else None
        fact = decode(spec, message.body) if spec is not None and spec.kind is Kind.FACT else None
        if isinstance(fact, ElectionFact) and fact.election == key:
            found[fact.spec.name, fact.sequence] += 1
    return found


def _unequal(due: Counter[T], found: Counter[T]) -> list[tuple[T, int]]:
    """What is there too often or too seldom, and how often it is due."""
    return [(each, due[each]) for each in due | found if due[each] != found[each]]
