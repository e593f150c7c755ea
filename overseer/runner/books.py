"""What the runner keeps beside a subsystem's tables, as the journal implies it: head, timers, watermarks, outcomes.

`verify` compares it with what the store holds; a repair writes it anew.
"""

from collections.abc import Sequence

import cbor2

from messages.codec import decode, decode_value
from messages.message import Message
from messages.overseer import CheckpointTaken, CommandOutcome, IncarnationStarted, RepairNoted
from messages.subjects import MessageId, SubjectError
from overseer.runner import journal
from overseer.runner.intake import is_outside
from overseer.runner.schema import TIMERS, Head, OutcomeRow, Record, TimerRow, Watermark
from overseer.tables import Rows

__all__ = ["Books", "fits_outcome"]


class Books:
    """Folds records, in order; begins at the checkpoint `base`, else at nothing."""

    def __init__(self, base: Rows | None = None) -> None:
        head = None if base is None else journal.read_head(base)
        self.base = base
        self.incarnation = b"" if head is None else head.incarnation
        self.began = 1 if head is None else head.began
        self.past: list[bytes] = [] if head is None else list(head.past)
        self.last_ms = 0 if head is None else head.last_ms
        self.checkpoint = 0 if head is None else head.checkpoint
        self.history_incomplete = head is not None and head.history_incomplete
        # The first records of this store's incarnations.
        self.beginnings: set[int] = {self.began} if head is not None else set()
        # By stream: sequence and identity of the last message that has a record, since the stream was last repaired.
        self.taken: dict[str, tuple[int, bytes]] = {}
        # Watermarks of the node's senders: (their journal index, place), by the table's key.
        self.marks: dict[bytes, list[int]] = {}
        # The last record of each command id.
        self.commands: dict[str, Record] = {}
        self.timers: dict[str, TimerRow] = {}
        # The last record that was made by a repair: what it could not restore is not asked for.
        self.repaired = 0
        if base is not None:
            rows = [decode_value(TimerRow, data) for _, data in base.scan(TIMERS.name, b"", None)]
            self.timers = {row.key: row for row in rows}

    def add(self, record: Record, events: Sequence[Message]) -> None:
        """The next record, with its events decoded."""
        self.last_ms = record.time_ms
        for change in record.timers:
            self.timers.pop(change.key, None)
            if change.at_ms is not None:
                self.timers[change.key] = change
        for event in events:
            self._framework(record, event)
        cause = record.cause
        if not cause.stream:
            return
        self.taken[cause.stream] = (cause.sequence, cause.identity)
        if is_outside(cause.sender):
            if cause.id and record.result.status in ("accepted", "rejected"):
                self.commands[cause.id] = record
        elif cause.stream == "node" and _is_marked(record):
            try:
                told = MessageId.parse(cause.id)
            except SubjectError:
                return
            self.marks[f"{told.sender}/{told.incarnation}".encode()] = [told.sequence, told.index]

    def _framework(self, record: Record, event: Message) -> None:
        match event:
            case IncarnationStarted():
                if self.incarnation and self.incarnation != event.incarnation:
                    self.past.append(self.incarnation)
                if event.previous is not None:
                    self.past = list(dict.fromkeys([*self.past, event.previous]))
                self.incarnation, self.began = event.incarnation, record.index
                self.beginnings.add(record.index)
            case CheckpointTaken():
                self.checkpoint = event.index
            case RepairNoted():
                self.taken.clear()
                if not event.expected.stream:
                    self.history_incomplete = True
                self.repaired = record.index
            case _:
                pass

    def differences(self, head: Head) -> list[str]:
        """Where `head` is not what the journal implies."""
        wrong = [
            f"the head's {what} is {found}, the journal says {wanted}"
            for what, found, wanted in (
                ("incarnation", head.incarnation.hex(), self.incarnation.hex()),
                ("first record of its incarnation", head.began, self.began),
                ("past incarnations", [each.hex() for each in head.past], [each.hex() for each in self.past]),
                ("time", head.last_ms, self.last_ms),
                ("checkpoint", head.checkpoint, self.checkpoint),
                ("mark of incomplete history", head.history_incomplete, self.history_incomplete),
            )
            if found != wanted
        ]
        for stream, (sequence, seen) in self.taken.items():
            position = head.positions.get(stream)
            if position is None or position.sequence < sequence:
                wrong.append(f"the head's position in {stream} is {position and position.sequence}, the journal has taken {sequence}")
            elif position.sequence == sequence and position.identity != seen:
                wrong.append(f"the head's position in {stream} names another message at {sequence} than the journal")
        return wrong

    def wrong_marks(self, stored: Sequence[tuple[bytes, bytes]]) -> list[str]:
        """Which watermarks are not what the journal implies. Of the network's senders, and of announcements, it tells nothing."""
        wrong: list[str] = []
        found = dict(stored)
        for key, mark in self.marks.items():
            if found.pop(key, None) != cbor2.dumps(mark):
                wrong.append(f"the watermark {key.decode()} is not {mark[0]}.{mark[1]}, as the journal says")
        for key, data in found.items():
            before = None if self.base is None else self.base.get("watermarks", key)
            if before is not None and before != data:
                wrong.append(f"the watermark {key!r} changed without a record")
            elif not _is_mark(data):
                wrong.append(f"the watermark {key!r} cannot be read")
        return wrong


def _is_marked(record: Record) -> bool:
    """Whether its message was taken: dead letters are not, but for those that were understood and whose handling failed."""
    return record.result.status in ("accepted", "rejected") or (record.result.status, record.result.code) == ("parked", "handler_failed")


def _is_mark(data: bytes) -> bool:
    try:
        decode_value(Watermark, data)
    except Exception:
        return False
    return True


def fits_outcome(record: Record, row: OutcomeRow) -> bool:
    """Whether a kept outcome is that of the command's record, as far as the record tells: the reply is not in the journal."""
    try:
        outcome = decode(CommandOutcome.spec, row.outcome)
    except ValueError:
        return False
    assert isinstance(outcome, CommandOutcome)
    return (
        row.at_ms == record.time_ms
        and outcome.sequence == record.cause.sequence
        and outcome.status.value == record.result.status
        and (outcome.code or "") == record.result.code
        and (outcome.detail or b"") == record.result.detail
    )
