"""What every subsystem promises, whatever it is: checkers that know no subsystem, written independently of the runner.

Each keeps its own account of what happened, from what an observer sees: the streams, the journals as they became durable, and
what callers were told. What a fault took for good (a stream's tail, a store) is taken from the accounts too; what is promised
then is said at each checker.
"""

from collections.abc import Mapping, Sequence

import msgspec

from messages.message import Message
from messages.overseer import IncarnationStarted
from messages.subjects import HEADER_COMMAND_ID, HEADER_ID
from overseer.graph import filters, net_filters
from overseer.ports.bus import StoredMessage
from overseer.ports.envelope import matches
from overseer.runner.schema import Cause, Record
from overseer.simulation.promises_replay import Replay, told_by
from overseer.simulation.scenario import Answer, AtRest, Cast, Checker, Violation, Watcher

__all__ = ["promises"]

Place = tuple[str, str]


def promises(casts: Mapping[str, Cast]) -> Sequence[Checker]:
    """One of each."""
    return [
        Acknowledged(casts),
        OnceOnly(),
        InOrder(casts),
        Told(),
        Replay(casts),
        Liveness(),
    ]


class _Outcome(msgspec.Struct, frozen=True):
    """What somebody was told of a command: the record that says so was durable before."""

    code: str
    reply: bytes | None
    owner: str


class _Entry(msgspec.Struct, frozen=True):
    """A journal record, as far as a caller's outcome is concerned."""

    index: int
    code: str
    owner: str


class Acknowledged(Watcher):
    """Nothing acknowledged is lost, and nobody is told what is not durable.

    Who is told the outcome of a command is told what a durable record says of it, and everybody the same. At rest it is in a
    journal still. A store that was set back may have lost the record; its command is then handled again if the stream still
    has it, and may end in another way. An answer that was on its way then still says what the lost record said.
    """

    name = "acknowledged"

    def __init__(self, casts: Mapping[str, Cast]) -> None:
        self._owners = {
            command.spec.key: name for cast in casts.values() for name, make in cast.items() for command in make().declaration.requests
        }
        self._told: dict[tuple[str, str], _Outcome] = {}
        # What the journals say now, by node and command id.
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._journals: dict[Place, list[tuple[int, str]]] = {}
        # What they said before they were set back: its answer may be on the way still, one for each.
        self._taken_back: dict[tuple[str, str], str] = {}

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if record.result.status not in ("accepted", "rejected", "parked") or not record.cause.id:
            return
        key = (node, record.cause.id)
        code = record.result.code or record.result.status
        if record.result.code == "id_reused" and key in self._entries:
            return
        self._entries[key] = _Entry(record.index, code, subsystem)
        self._journals.setdefault((node, subsystem), []).append((record.index, record.cause.id))

    def answered(self, answer: Answer) -> None:
        message = answer.submission.message
        if not answer.code or not answer.command_id or message is None or message.spec.key not in self._owners:
            return
        if answer.code in ("invalid_request", "id_reused"):
            return
        key = (answer.submission.node, answer.command_id)
        entry = self._entries.get(key)
        if entry is None or entry.code != answer.code:
            if self._taken_back.pop(key, None) == answer.code:
                return
            found = "nothing" if entry is None else f"{entry.code} (record {entry.index})"
            raise Violation(self.name, f"somebody was told {answer.code} of {answer.command_id}, but what is durable says {found}")
        before = self._told.get(key)
        if before is not None and (before.code, before.reply) != (answer.code, answer.reply):
            raise Violation(self.name, f"{answer.command_id}: told {before.code} first, then {answer.code} (or another reply)")
        self._told[key] = _Outcome(answer.code, answer.reply, entry.owner)

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        kept: list[tuple[int, str]] = []
        for at, command_id in self._journals.get((node, subsystem), []):
            if at <= index:
                kept.append((at, command_id))
                continue
            # Nothing is promised of it any more; what is told of it from now on counts again.
            undone = self._entries.pop((node, command_id), None)
            if undone is not None:
                self._taken_back[node, command_id] = undone.code
            self._told.pop((node, command_id), None)
        self._journals[node, subsystem] = kept

    def at_rest(self, rest: AtRest) -> None:
        for (node, command_id), told in self._told.items():
            entry = self._entries.get((node, command_id))
            if entry is None or entry.code != told.code:
                raise Violation(self.name, f"{node}: {told.code} was told of {command_id}; at rest no journal says so")


class OnceOnly(Watcher):
    """No input has two effects: in one journal no message, command id or place in the stream is taken twice.

    A sequence that a stream lost is given again; then the same place is another message. What was taken before the loss may be
    committed only after it: so a place is told by the message there as well. A message taken twice is the same one both times.
    """

    name = "once only"

    def __init__(self) -> None:
        # What each journal has taken, and at which record.
        self._taken: dict[Place, dict[str, int]] = {}
        self._streams: dict[str, int] = {}

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        self._streams[node] = self._streams.get(node, 0) + 1

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        taken = self._taken.get((node, subsystem), {})
        self._taken[node, subsystem] = {what: at for what, at in taken.items() if at <= index}

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        cause = record.cause
        if not cause.stream:
            return
        stream = "net" if cause.stream == "net" else node
        whats = [f"{cause.stream} {self._streams.get(stream, 0)} {cause.sequence} {cause.identity.hex()}"]
        if cause.id and record.result.status != "parked":
            whats.append(f"{cause.sender if ' ' not in cause.id else ''} {cause.id} {record.input if stream == 'net' else ''}")
        taken = self._taken.setdefault((node, subsystem), {})
        for what in whats:
            if what in taken:
                raise Violation(self.name, f"{node} {subsystem}: record {record.index} takes {what.strip()!r}, as record {taken[what]} did")
            taken[what] = record.index


class _Reading(msgspec.Struct):
    """How far a journal has got in a stream, and everything it has seen there."""

    sequence: int = 0
    # Ids of messages and commands that have had their effect.
    seen: dict[str, int] = {}
    # (record, sequence before it): to go back by.
    steps: list[tuple[int, int]] = []
    # Not yet certain where it goes on: after a loss, or with a new store.
    unsure: bool = True


class InOrder(Watcher):
    """Every subsystem takes the stream in its order and leaves nothing out: so nothing overtakes a signal its sender had seen.

    Between two inputs recorded from a stream there is none for this subsystem that had no effect before. Acknowledged, and
    therefore trimmed, is only what is durably taken. After a stream lost messages, the order between what different senders
    restore is not promised (docs/adr/0005); from then on only the order of the sequences is watched there.
    """

    name = "in order"

    def __init__(self, casts: Mapping[str, Cast]) -> None:
        self._filters = {
            (node, name): {"node": filters(make().declaration, node), "net": net_filters(make().declaration)}
            for node, cast in casts.items()
            for name, make in cast.items()
        }
        self._streams: dict[str, dict[int, StoredMessage]] = {}
        self._ends: dict[str, int] = {}
        self._readings: dict[tuple[str, str, str], _Reading] = {}

    def _reading(self, node: str, subsystem: str, line: str) -> _Reading:
        return self._readings.setdefault((node, subsystem, line), _Reading(seen={}, steps=[]))

    def stored(self, node: str, message: StoredMessage) -> None:
        self._streams.setdefault(node, {})[message.sequence] = message
        self._ends[node] = message.sequence

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        stream = self._streams.setdefault(node, {})
        for sequence in [sequence for sequence in stream if replaced or sequence > last_sequence]:
            del stream[sequence]
        self._ends[node] = 0 if replaced else last_sequence
        for (of, _, line), reading in self._readings.items():
            if node == ("net" if line == "net" else of):
                reading.unsure = True
                reading.sequence = min(reading.sequence, last_sequence)

    def _is_there(self, stream: str, cause: Cause) -> bool:
        message = self._streams.get(stream, {}).get(cause.sequence)
        return message is not None and cause.id in (message.headers.get(HEADER_ID, ""), message.headers.get(HEADER_COMMAND_ID, ""))

    def trimmed(self, node: str, sequences: Sequence[int]) -> None:
        stream = self._streams.get(node, {})
        for sequence in sequences:
            message = stream.pop(sequence, None)
            if message is not None:
                self._nobody_needs(node, message)

    def _nobody_needs(self, node: str, message: StoredMessage) -> None:
        for (of, subsystem), by_line in self._filters.items():
            line = "net" if node == "net" else "node"
            if line == "node" and of != node:
                continue
            reading = self._reading(of, subsystem, line)
            needed = not reading.unsure and message.sequence > reading.sequence and _is_for(by_line[line], message)
            if needed and not self._had_effect(reading, of, message):
                raise Violation(self.name, f"{node}: {message.sequence} was trimmed, but {subsystem} of {of} has not taken it")

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        for line in ("node", "net"):
            reading = self._reading(node, subsystem, line)
            reading.steps = [(at, sequence) for at, sequence in reading.steps if at <= index]
            reading.seen = {what: at for what, at in reading.seen.items() if at <= index}
            reading.sequence = reading.steps[-1][1] if reading.steps else 0
            reading.unsure = True

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        cause = record.cause
        if not cause.stream:
            return
        reading = self._reading(node, subsystem, cause.stream)
        if cause.sequence <= reading.sequence and not reading.unsure:
            raise Violation(
                self.name, f"{node} {subsystem}: record {record.index} is of {cause.stream} {cause.sequence}, after {reading.sequence}"
            )
        if not reading.unsure:
            self._left_out(node, subsystem, cause.stream, reading, cause.sequence)
        reading.steps.append((record.index, cause.sequence))
        if cause.id and record.result.status != "parked":
            reading.seen[cause.id] = record.index
        if reading.unsure and not self._is_there("net" if cause.stream == "net" else node, cause):
            # Taken before the stream lost it, and committed only now: it says nothing of the stream as it is.
            return
        reading.unsure = False
        reading.sequence = cause.sequence

    def _left_out(self, node: str, subsystem: str, line: str, reading: _Reading, until: int) -> None:
        stream = self._streams.get("net" if line == "net" else node, {})
        patterns = self._filters[node, subsystem][line]
        for sequence in range(reading.sequence + 1, until):
            message = stream.get(sequence)
            if message is not None and _is_for(patterns, message) and not self._had_effect(reading, node, message):
                raise Violation(self.name, f"{node} {subsystem}: went from {line} {reading.sequence} to {until}, leaving out {sequence}")

    def _had_effect(self, reading: _Reading, node: str, message: StoredMessage) -> bool:
        """Whether it is one that leaves no record: said before, of the runner itself, or our own echo."""
        tokens = message.subject.split(".")
        if tokens[-1] in ("incarnation_started", "conclude") or (tokens[1] == "net" and tokens[2] == node):
            return True
        message_id = message.headers.get(HEADER_ID) or message.headers.get(HEADER_COMMAND_ID, "")
        return message_id in reading.seen

    def at_rest(self, rest: AtRest) -> None:
        for (node, subsystem, line), reading in self._readings.items():
            if not reading.unsure:
                self._left_out(node, subsystem, line, reading, self._ends.get("net" if line == "net" else node, 0) + 1)


class _Last(msgspec.Struct):
    """A sender's messages in a stream, by (record, place), with their sequences, in the order they came."""

    marks: list[tuple[int, int, int]] = []


class Told(Watcher):
    """What is published is durable before, each once and in order, under each incarnation of its sender."""

    name = "publishing"

    def __init__(self) -> None:
        self._senders: dict[tuple[str, str, str, str], _Last] = {}
        # The incarnation and the last durable record of each journal.
        self._durable: dict[Place, tuple[str, int]] = {}

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        incarnation = self._durable.get((node, subsystem), ("", 0))[0]
        for event in events:
            if isinstance(event, IncarnationStarted):
                incarnation = event.incarnation.hex()
        self._durable[node, subsystem] = (incarnation, record.index)

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        # Which incarnation the copy is of shows in what it records next.
        self._durable[node, subsystem] = ("", index)

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        for (stream, *_), last in self._senders.items():
            if stream == node:
                last.marks = [] if replaced else [mark for mark in last.marks if mark[2] <= last_sequence]

    def stored(self, node: str, message: StoredMessage) -> None:
        told = told_by(message)
        if told is None or told[:2] not in self._durable:
            return
        of, sender, message_id = told
        incarnation, index, place = message_id.incarnation, message_id.sequence, message_id.index
        durable = self._durable[of, sender]
        if incarnation == durable[0] and index > durable[1]:
            raise Violation(self.name, f"{of} {sender}: record {index} was told of, but {durable[1]} is the last durable one")
        last = self._senders.setdefault((node, of, sender, incarnation), _Last(marks=[]))
        if last.marks and (index, place) <= last.marks[-1][:2]:
            raise Violation(self.name, f"{of} {sender}: ({index}, {place}) was told after {last.marks[-1][:2]} in {node}")
        last.marks.append((index, place, message.sequence))


class Liveness(Watcher):
    """Once faults have ceased, everything outstanding concludes."""

    name = "liveness"

    def at_rest(self, rest: AtRest) -> None:
        if rest.outstanding:
            raise Violation(self.name, "; ".join(rest.outstanding))


def _is_for(patterns: Sequence[str], message: StoredMessage) -> bool:
    return any(matches(pattern, message.subject) for pattern in patterns)
