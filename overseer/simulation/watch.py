"""Tells the checkers what an observer from outside could see, and keeps the first promise that was broken."""

import traceback
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable
from zlib import crc32

import anyio

from messages.codec import decode_value
from overseer.memory.store import MemoryDisk
from overseer.ports.bus import StoredMessage
from overseer.runner import journal
from overseer.runner.schema import JOURNAL, Record
from overseer.simulation.scenario import Answer, AtRest, Checker, Submission, Violation
from overseer.simulation.trace import Trace
from overseer.tables import WriteSet

C = TypeVar("C")

__all__ = ["InnerChecker", "Watch"]


@runtime_checkable
class InnerChecker(Protocol):
    """What a checker may hear besides, when it has these methods."""

    def acknowledged(self, node: str, subsystem: str, line: str, sequence: int) -> None:
        """A subsystem is about to acknowledge everything up to there ("node" or "net")."""
        ...

    def trimmed(self, node: str, sequences: Sequence[int]) -> None:
        """The overseer trimmed these messages from the node's stream ("net": the network's)."""
        ...


class Watch:
    """`violation` is the first one; then `broken` is set and nobody is told anything more."""

    def __init__(self, checkers: Sequence[Checker], trace: Trace) -> None:
        self.violation: Violation | None = None
        # Journal records that became durable.
        self.records = 0
        self.broken = anyio.Event()
        self._checkers = checkers
        self._inner = [checker for checker in checkers if isinstance(checker, InnerChecker)]
        self._trace = trace

    def submitted(self, submission: Submission) -> None:
        self._trace.note(f"{submission.node} client", f"submits {_named(submission)}")
        self._tell(lambda checker: checker.submitted(submission))

    def answered(self, answer: Answer) -> None:
        self._trace.note(f"{answer.submission.node} client", f"told {answer.code!r} of {answer.command_id or _named(answer.submission)}")
        self._tell(lambda checker: checker.answered(answer))

    def stored(self, node: str, message: StoredMessage) -> None:
        body = f"{len(message.body)} bytes {crc32(message.body):08x}"
        self._trace.note(f"{node} stream", f"{message.sequence}: {message.subject} {message.headers.get('Overseer-Id', '')} {body}")
        self._tell(lambda checker: checker.stored(node, message))

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        self._trace.note(f"{node} stream", f"replaced, was at {last_sequence}" if replaced else f"lost what was behind {last_sequence}")
        self._tell(lambda checker: checker.lost(node, last_sequence, replaced=replaced))

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        self._trace.note(f"{node} {subsystem}", f"store set back to record {index}")
        self._tell(lambda checker: checker.set_back(node, subsystem, index))

    def acknowledged(self, node: str, subsystem: str, line: str, sequence: int) -> None:
        self._trace.note(f"{node} {subsystem}", f"acknowledges {line} {sequence}")
        self._tell_all(self._inner, lambda checker: checker.acknowledged(node, subsystem, line, sequence))

    def trimmed(self, node: str, sequences: Sequence[int]) -> None:
        self._trace.note(f"{node} stream", f"trimmed {len(sequences)}, up to {max(sequences)}")
        self._tell_all(self._inner, lambda checker: checker.trimmed(node, sequences))

    def durable(self, node: str, subsystem: str, disk: MemoryDisk) -> Callable[[WriteSet], None]:
        """What that disk calls for everything that became durable on it."""

        def see(writes: WriteSet) -> None:
            rows = writes.rows.get(JOURNAL.name, {})
            for key in sorted(rows):
                data = rows[key]
                if data is not None:
                    self._recorded(node, subsystem, disk, data)

        return see

    def _recorded(self, node: str, subsystem: str, disk: MemoryDisk, data: bytes) -> None:
        self.records += 1
        record = decode_value(Record, data)
        events = journal.events_of(disk.rows, record)
        cause = f"{record.cause.stream} {record.cause.sequence}" if record.cause.stream else record.cause.id
        told = ", ".join([event.spec.name for event in events] or [record.result.code])
        self._trace.note(f"{node} {subsystem}", f"record {record.index} of {cause}: {record.input} {record.result.status}: {told}")
        self._tell(lambda checker: checker.recorded(node, subsystem, record, events))

    def at_rest(self, rest: AtRest) -> None:
        self._trace.note("the network", f"at rest, outstanding: {'; '.join(rest.outstanding) or 'nothing'}")
        self._tell(lambda checker: checker.at_rest(rest))

    def violated(self, violation: Violation) -> None:
        """A promise is broken that the machinery itself watches."""
        if self.violation is None:
            self._trace.note("VIOLATION", str(violation))
            self.violation = violation
            self.broken.set()

    def _tell(self, tell: Callable[[Checker], None]) -> None:
        self._tell_all(self._checkers, tell)

    def _tell_all(self, checkers: Sequence[C], tell: Callable[[C], None]) -> None:
        for checker in checkers:
            if self.violation is not None:
                return
            try:
                tell(checker)
            except Violation as violation:
                self.violated(violation)
            except Exception:
                name = str(getattr(checker, "name", type(checker).__name__))
                self.violated(Violation(name, f"the checker itself failed:\n{traceback.format_exc()}"))


def _named(submission: Submission) -> str:
    what = submission.message.spec.key if submission.message is not None else submission.subject
    return f"{what} {submission.command_id}".strip()
