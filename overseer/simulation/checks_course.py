"""What the checkers of a domain stand on: every message ever stored, and the course of each subsystem as its journal tells it.

A *model* is a checker's own idea of one subsystem: it takes the journal's inputs one after the other and says what must have
followed. `CourseChecker` feeds it, and feeds a new one from the start when a fault took a part of the journal.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar, cast

import msgspec

from messages.codec import decode
from messages.message import Kind, Message
from messages.subjects import CONTENT_JSON, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE, HEADER_ID, parse
from messages.text import from_json
from overseer.ports.bus import StoredMessage
from overseer.runner.intake import identity
from overseer.runner.schema import Record
from overseer.simulation.scenario import AtRest, Violation, Watcher

__all__ = ["Archive", "CourseChecker", "Input", "Model", "ask", "differ", "must", "shown", "timer_of"]

Reply = TypeVar("Reply", bound=Message)


class Archive(Watcher):
    """Every message that any stream ever took, by its identity: whatever a journal names as a cause must be in it."""

    name = "archive"

    def __init__(self) -> None:
        self._messages: dict[bytes, StoredMessage] = {}
        self._decoded: dict[bytes, Message | None] = {}

    def stored(self, node: str, message: StoredMessage) -> None:
        self._messages.setdefault(identity(message), message)

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if record.cause.stream and record.cause.identity not in self._messages:
            raise Violation(self.name, f"{node} {subsystem} record {record.index} handled a message that no stream ever held")

    def original(self, seen: bytes) -> StoredMessage | None:
        return self._messages.get(seen)

    def as_stored(self, stored: StoredMessage) -> Message | None:
        """As `message`, of a message at hand."""
        return self.message(identity(stored))

    def message(self, seen: bytes) -> Message | None:
        """The message of that identity as its body says; None when it is none."""
        if seen not in self._decoded:
            stored = self._messages.get(seen)
            self._decoded[seen] = None if stored is None else _decoded(stored)
        return self._decoded[seen]


def _decoded(stored: StoredMessage) -> Message | None:
    try:
        spec = parse(stored.subject).spec()
        if spec is None:
            return None
        if stored.headers.get(HEADER_CONTENT_TYPE) == CONTENT_JSON:
            return from_json(spec, stored.body)
        return decode(spec, stored.body)
    except ValueError:
        return None


class Input(msgspec.Struct, frozen=True):
    """One journal record as a model takes it. `message` is what was handled: None for a dead letter or a step of the runner."""

    record: Record
    message: Message | None
    events: Sequence[Message]

    @property
    def now_ms(self) -> int:
        return self.record.time_ms

    @property
    def code(self) -> str:
        """accepted | timer | system, or the code of a refusal or dead letter."""
        return self.record.result.code or self.record.result.status


class Model(Protocol):
    """One subsystem of one node by its definition."""

    def take(self, given: Input) -> None:
        """The next input with what is claimed to have followed. Raises Violation."""
        ...

    def at_rest(self, rest: AtRest, node: str) -> None:
        """What the store and the answers must be now. Raises Violation."""
        ...


M = TypeVar("M", bound=Model)


class CourseChecker(Watcher, Generic[M]):
    """Runs a model beside one subsystem of every node."""

    def __init__(self, name: str, subsystem: str, archive: Archive, make: Callable[[], M]) -> None:
        self.name = name
        self._subsystem = subsystem
        self._archive = archive
        self._make = make
        self._inputs: dict[str, list[Input]] = {}
        self._models: dict[str, M] = {}
        # By node: the timers that are set; what its journal has named as a cause, by identity and by id. By stream: its messages.
        self._timers: dict[str, dict[str, int]] = {}
        self._handled_causes: dict[str, set[bytes | str]] = {}
        self._streams: dict[str, dict[int, list[StoredMessage]]] = {}

    @property
    def models(self) -> Mapping[str, M]:
        """By node, those that have recorded anything."""
        return self._models

    def inputs(self, node: str) -> Sequence[Input]:
        return self._inputs.get(node, ())

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if subsystem != self._subsystem:
            return
        inputs = self._inputs.setdefault(node, [])
        self.expect(not inputs or record.index == inputs[-1].record.index + 1, f"{node}: record {record.index} follows on {len(inputs)}")
        self.expect(
            not inputs or record.time_ms >= inputs[-1].now_ms, f"{node}: the time of record {record.index} is before that of the last"
        )
        self._handled_causes.setdefault(node, set()).update((record.cause.identity, record.cause.id))
        given = Input(record, self._handled(record), events)
        self._timed(node, given)
        inputs.append(given)
        model = self._models.get(node)
        if model is None:
            model = self._models[node] = self._make()
        try:
            model.take(given)
        except Violation as violation:
            raise Violation(violation.checker, f"{node} {subsystem} record {record.index} ({record.input}): {violation}") from violation

    def _handled(self, record: Record) -> Message | None:
        if record.result.status not in ("accepted", "rejected"):
            return None
        message = self._archive.message(record.cause.identity)
        self.expect(message is not None, f"record {record.index} handled as {record.input} what cannot be read")
        return message

    def stored(self, node: str, message: StoredMessage) -> None:
        self._streams.setdefault(node, {}).setdefault(message.sequence, []).append(message)

    def acknowledged(self, node: str, subsystem: str, line: str, sequence: int) -> None:
        """What is acknowledged is in the journal, or was before under its id.

        Of a stream that lost its tail it may be the message that was there before, pulled before the loss was noticed.
        """
        messages = self._streams.get(node if line == "node" else line, {}).get(sequence)
        if subsystem != self._subsystem or messages is None:
            return
        known = any(self._is_known(node, message) for message in messages)
        self.expect(known, f"{node} {subsystem} acknowledges {line} {sequence}, which its journal does not know")

    def _is_known(self, node: str, message: StoredMessage) -> bool:
        if message.subject.endswith((".incarnation_started", ".conclude")) or message.subject.startswith(f"overseer.net.{node}."):
            # The runner's own, and what was told by ourselves.
            return True
        names = {identity(message), message.headers.get(HEADER_ID, ""), message.headers.get(HEADER_COMMAND_ID, "")} - {""}
        return bool(names & self._handled_causes.get(node, set()))

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        if subsystem != self._subsystem or node not in self._inputs:
            return
        self._adopt(node, [given for given in self._inputs[node] if given.record.index <= index])

    def _adopt(self, node: str, inputs: list[Input]) -> None:
        """This is its course from now on."""
        self._inputs[node] = inputs
        self._timers[node] = {}
        for given in inputs:
            self._timed(node, given)
        model = self._models[node] = self._make()
        for given in inputs:
            model.take(given)

    def at_rest(self, rest: AtRest) -> None:
        for node, model in sorted(self._models.items()):
            self._all_fired(node)
            try:
                model.at_rest(rest, node)
            except Violation as violation:
                raise Violation(violation.checker, f"{node} at rest: {violation}") from violation

    def _timed(self, node: str, given: Input) -> None:
        """A timer fires when it is set and due, and is then set no more unless it is set anew."""
        timers, record = self._timers.setdefault(node, {}), given.record
        if record.result.status == "timer":
            at_ms = timers.get(record.cause.id.removeprefix("timer:"))
            self.expect(
                at_ms is not None and at_ms <= record.time_ms, f"{node} {self._subsystem}: {record.cause.id} fired, but was set for {at_ms}"
            )
        for timer in record.timers:
            timers.pop(timer.key, None)
            if timer.at_ms is not None:
                timers[timer.key] = timer.at_ms

    def _all_fired(self, node: str) -> None:
        """Every timer that was due has fired."""
        inputs, timers = self._inputs[node], self._timers.get(node, {})
        late = [key for key, at_ms in timers.items() if inputs and at_ms <= inputs[-1].now_ms]
        self.expect(not late, f"{node} {self._subsystem}: the timers {late} were due and never fired")


def timer_of(given: Input) -> str:
    """The name of the timer that fired, or ""."""
    owner, _, rest = given.record.input.partition(".")
    kind, _, name = rest.partition(".")
    return name if owner and kind == Kind.TIMER.value and given.record.result.status == "timer" else ""


def ask(name: str, rest: AtRest, node: str, query: Message, kind: type[Reply]) -> Reply:
    """The reply of that kind; anything else is a violation."""
    answer = rest.ask(node, query)
    if not isinstance(answer, kind):
        raise Violation(name, f"{node}: {query.spec.key} was answered with {answer}")
    return answer


def must(name: str, holds: bool, what: str) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(name, what)


def differ(name: str, what: str, expected: Sequence[object], found: Sequence[object]) -> None:
    """Raise Violation unless both hold the same, in whatever order."""
    missing, extra = Counter(expected), Counter(found)
    missing.subtract(extra)
    if any(missing.values()):
        lacking = [thing for thing, count in missing.items() if count > 0]
        surplus = [thing for thing, count in missing.items() if count < 0]
        raise Violation(name, f"{what}: missing {shown(lacking)}, without a reason {shown(surplus)}")


def shown(things: Sequence[object]) -> str:
    """For evidence: byte strings shortened."""
    return "[" + ", ".join(_short(thing) for thing in things[:6]) + (", ...]" if len(things) > 6 else "]")


def _short(thing: object) -> str:
    if isinstance(thing, bytes):
        return thing.hex()[:8]
    if isinstance(thing, tuple):
        return "(" + ", ".join(_short(part) for part in cast(tuple[object, ...], thing)) + ")"
    return str(thing)
