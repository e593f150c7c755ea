"""Decoded -> verified -> decided -> recorded: the heart of the runner, without I/O but reads of the store.

An `Engine` turns a batch of inputs into one `Batch`: a single write set (journal, tables, timers, outgoing bytes,
outcomes, positions, watermarks) to be committed atomically, and what is to be told once that is done. Its memory (`head`,
`timers`) runs ahead of the store by that one batch; when a commit fails the process stops and starts over from the store.
"""

from collections.abc import Iterable

import cbor2
import msgspec
from blake3 import blake3

from messages.codec import CodecError, decode, decode_value, encode, encode_value
from messages.message import CATALOG, Kind, Message, Rejection
from messages.overseer import CommandOutcome, IncarnationStarted, OutcomeStatus, Parked, Position
from messages.subjects import HEADER_CALLER, HEADER_CORRELATION, HEADER_TRACEPARENT
from messages.tracing import trace_of
from overseer.limits import Limits
from overseer.ports.bus import Delivery, Outgoing
from overseer.ports.entropy import Entropy
from overseer.runner import journal
from overseer.runner.errors import BadDeclaration, EvolveFailed
from overseer.runner.intake import FRAMEWORK, Intake, Refusal, identity
from overseer.runner.schema import (
    HEAD,
    OUTBOX_NET,
    OUTBOX_NODE,
    OUTCOMES,
    OUTCOMES_BY_TIME,
    WATERMARKS,
    Cause,
    EventRow,
    Head,
    OutboxRow,
    OutcomeRow,
    Result,
    TimerRow,
)
from overseer.runner.timers import Timers
from overseer.runner.wire import Sender, correlation_of, reactions
from overseer.subsystem import Context, Decision, Subsystem, Verify
from overseer.tables import Overlay, Remembered, Rows, Tables, View

__all__ = ["Batch", "Engine", "Mark", "Retry", "Told", "outgoing"]

# (journal index, place in the record): where an outgoing message came from, and the published mark.
Mark = tuple[int, int]

# Expired command outcomes are dropped with the batches that come anyway: more of them than a batch of that size can add, or
# under load they would pile up for ever.
_EXPIRED_PER_MESSAGE = 2

# Reasons of dead letters that no honest peer gives.
_ALARMING = frozenset({"id_reused", "unannounced_incarnation", "wrong_incarnation", "wrong_sender", "forbidden_sender"})


class Retry(Exception):
    """`decide` or `react` raised, or made what no message may hold: nothing of this input was kept.

    The batch before it goes on; it is tried once more, alone.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


class Told(msgspec.Struct, frozen=True):
    """A command's outcome for whoever waits for it."""

    command_id: str
    sequence: int
    outcome: bytes


class Batch:
    """What one commit writes and what follows it."""

    def __init__(self, rows: Rows) -> None:
        self.writes = Overlay(Remembered(rows))
        self.node: list[tuple[Mark, Outgoing]] = []
        self.net: list[tuple[Mark, Outgoing]] = []
        self.told: list[Told] = []
        self.last: dict[str, Delivery] = {}
        self.handled = 0
        self.duplicates = 0
        # Every input that was decided, in order; with the status and the code of its result.
        self.decided: list[tuple[Cause, str, str]] = []
        # Dead letters that point to an attack or a broken peer, as texts.
        self.alarms: list[str] = []


class Engine:
    """One subsystem's decisions over one store. Not concurrent: one batch at a time."""

    def __init__(self, subsystem: Subsystem, rows: Rows, node: str, head: Head, *, limits: Limits, entropy: Entropy) -> None:
        self.subsystem = subsystem
        self.name = subsystem.declaration.name
        self.rows = rows
        self.head = head
        self.limits = limits
        self.timers = Timers.load(rows)
        self.sender = Sender(node, self.name, head.incarnation)
        self._entropy = entropy
        self._own_timers = frozenset(subsystem.declaration.timers)
        self._events = frozenset(subsystem.declaration.events)
        self._sends = frozenset(subsystem.declaration.sends)
        self._rejections = frozenset(subsystem.declaration.rejections)

    # -------------------------------------------------------------------------------------------- inputs

    def begin(self) -> Batch:
        return Batch(self.rows)

    def handle(self, batch: Batch, stream: str, stream_id: str, intake: Intake, verify: Verify, *, last_try: bool) -> None:
        """One delivery of the line `stream` into the batch. Raises Retry when it failed (unless `last_try`: then it is parked)."""
        delivery = intake.delivery
        stored = delivery.message
        position = self.head.positions.get(stream)
        if position is not None and position.stream == stream_id and stored.sequence <= position.sequence:
            batch.duplicates += 1
            return
        seen = identity(stored)
        now_ms = max(self.head.last_ms, stored.time_ms)
        overlay = Overlay(batch.writes)
        if intake.refusal is not None:
            self._park(batch, overlay, intake, stream, seen, now_ms, intake.refusal)
        elif intake.message is not None:
            fresh = self._once(batch, overlay, intake)
            if isinstance(fresh, Refusal):
                self._park(batch, overlay, intake, stream, seen, now_ms, fresh)
            elif not fresh:
                batch.duplicates += 1
            elif type(intake.message) not in FRAMEWORK:
                try:
                    self._decide_message(batch, overlay, intake, stream, seen, now_ms, verify)
                except Retry as retry:
                    if not last_try:
                        raise
                    # Of the attempt nothing stays but that the message was seen.
                    overlay = Overlay(batch.writes)
                    self._once(batch, overlay, intake)
                    failure = Refusal("handler_failed", f"{intake.message.spec.key}: {retry.error!r}"[:500])
                    self._park(batch, overlay, intake, stream, seen, now_ms, failure)
        batch.writes.merge(overlay)
        batch.last[stream] = delivery
        self.head.positions[stream] = Position(stream=stream_id, sequence=stored.sequence, identity=seen)

    def fire(self, batch: Batch, timer: TimerRow, now_ms: int, verify: Verify, *, last_try: bool) -> None:
        """A due timer as an input of its own. Raises Retry when it failed (unless `last_try`: then it is parked)."""
        spec = CATALOG.by_key(timer.message)
        if spec is None:
            raise BadDeclaration(self.name, f"a timer of the unknown type {timer.message} is set; a newer release wrote it")
        overlay = Overlay(batch.writes)
        now_ms = max(self.head.last_ms, now_ms)
        cause = self._own_cause(f"timer:{timer.key}")
        fired = TimerRow(timer.key, None, timer.message, b"")
        context = self._context(now_ms, self.name, "", 0, verify)
        try:
            decision = self._decide(overlay, decode(spec, timer.body), context)
            if isinstance(decision, Rejection):
                raise BadDeclaration(self.name, f"the timer {timer.message} was rejected with {decision.code}; a timer cannot be")
            result = Result("timer")
            self._record(batch, overlay, cause, spec.key, result, now_ms, decision, [fired])
        except Retry as retry:
            if not last_try:
                raise
            overlay = Overlay(batch.writes)
            result = Result("parked", "handler_failed")
            self._record(batch, overlay, cause, spec.key, result, now_ms, Decision(events=[_parked_timer(timer, retry)]), [fired])
        batch.decided.append((cause, result.status, result.code))
        batch.writes.merge(overlay)

    def note(self, batch: Batch, event: Message, now_ms: int) -> None:
        """Record an event of the runner itself (incarnation, checkpoint, repair)."""
        overlay = Overlay(batch.writes)
        cause = self._own_cause(event.spec.name)
        self._record(batch, overlay, cause, "", Result("system"), max(self.head.last_ms, now_ms), Decision(events=[event]), [])
        batch.writes.merge(overlay)

    def finish(self, batch: Batch) -> None:
        """Complete the write set: head row, expired outcomes."""
        self._expire(batch.writes)
        batch.writes.put(HEAD.name, journal.HEAD_KEY, encode_value(self.head))

    # -------------------------------------------------------------------------------------------- once only

    def _once(self, batch: Batch, overlay: Overlay, intake: Intake) -> Refusal | bool:
        """Whether this message is new. Of a command seen before the first outcome is told again.

        Subsystems go by watermark; their incarnations must be announced before their first message.
        """
        if intake.id is None:
            return self._once_by_command_id(batch, overlay, intake)
        assert intake.address is not None
        message_id, from_network = intake.id, intake.address.kind is Kind.NETWORK
        place = f"{intake.address.node}:" if from_network else ""
        key = f"{place}{message_id.sender}/{message_id.incarnation}".encode()
        data = overlay.get(WATERMARKS.name, key)
        if type(intake.message) is IncarnationStarted:
            announced = intake.message.incarnation.hex()
            if announced != message_id.incarnation:
                return Refusal("wrong_incarnation", f"announces {announced} under {message_id.incarnation}")
        elif data is None and not from_network and not self.head.history_incomplete:
            return Refusal("unannounced_incarnation", f"{message_id.sender} never announced incarnation {message_id.incarnation}")
        # Once per message, hence as a plain list: the same bytes as a Watermark.
        mark = [message_id.sequence, message_id.index]
        if data is not None and mark <= cbor2.loads(data):
            return False
        overlay.put(WATERMARKS.name, key, cbor2.dumps(mark))
        return True

    def _once_by_command_id(self, batch: Batch, overlay: Overlay, intake: Intake) -> Refusal | bool:
        data = overlay.get(OUTCOMES.name, intake.command_id.encode()) if intake.command_id else None
        if data is None:
            return True
        row = decode_value(OutcomeRow, data)
        if row.hash != _command_hash(intake):
            return Refusal("id_reused", f"command id {intake.command_id!r} was used before with another body")
        batch.told.append(Told(intake.command_id, intake.delivery.message.sequence, row.outcome))
        return False

    def _expire(self, overlay: Overlay) -> None:
        horizon = self.head.last_ms - self.limits.command_outcomes_kept_ms
        if horizon <= 0:
            return
        for count, (key, _) in enumerate(overlay.scan(OUTCOMES_BY_TIME.name, b"", OUTCOMES_BY_TIME.pack((horizon,)))):
            if count >= _EXPIRED_PER_MESSAGE * self.limits.batch_messages_max:
                break
            overlay.put(OUTCOMES_BY_TIME.name, key, None)
            overlay.put(OUTCOMES.name, key[8:], None)

    # -------------------------------------------------------------------------------------------- decisions

    def _own_cause(self, what: str) -> Cause:
        correlation = f"{self.name}:{what}:{self.head.index + 1}"
        return Cause("", 0, self.name, what, b"", correlation, trace_of(None, correlation))

    def _context(self, now_ms: int, sender: str, caller: str, position: int, verify: Verify) -> Context:
        return Context(now_ms=now_ms, sender=sender, caller=caller, position=position, entropy=self._entropy.draw(32), verify=verify)

    def _decide(self, overlay: Overlay, message: Message, context: Context) -> Decision | Rejection:
        try:
            return self.subsystem.decide(View(overlay), message, context)
        except Exception as error:
            raise Retry(error) from error

    def _cause(self, intake: Intake, stream: str, seen: bytes) -> Cause:
        stored = intake.delivery.message
        correlation = correlation_of(stored.headers.get(HEADER_CORRELATION, "")) or correlation_of(intake.command_id)
        correlation = correlation or f"{stream}:{stored.sequence}"
        return Cause(
            stream,
            stored.sequence,
            intake.address.sender if intake.address is not None else "",
            intake.id.text() if intake.id is not None else intake.command_id,
            seen,
            correlation,
            trace_of(stored.headers.get(HEADER_TRACEPARENT), correlation),
        )

    def _decide_message(
        self, batch: Batch, overlay: Overlay, intake: Intake, stream: str, seen: bytes, now_ms: int, verify: Verify
    ) -> None:
        message = intake.message
        assert message is not None
        assert intake.address is not None
        stored = intake.delivery.message
        key = message.spec.key
        cause = self._cause(intake, stream, seen)
        context = self._context(now_ms, intake.address.sender, stored.headers.get(HEADER_CALLER, ""), stored.sequence, verify)
        if intake.address.kind is Kind.NETWORK:
            context = msgspec.structs.replace(context, node=intake.address.node)
        decision = self._decide(overlay, message, context)
        if isinstance(decision, Rejection):
            if type(decision) not in self._rejections:
                raise BadDeclaration(self.name, f"{decision.spec.key} is not a declared rejection")
            detail = _body(decision)
            outcome = CommandOutcome(
                status=OutcomeStatus.REJECTED, sequence=stored.sequence, code=decision.code, detail=detail, retriable=decision.retriable
            )
            result = Result("rejected", decision.code, detail)
            journal.append(overlay, self.head, time_ms=now_ms, cause=cause, input_key=key, result=result, events=[], timers=[])
        else:
            # Without a command id nobody can ask for the outcome.
            reply = _body(decision.reply) if decision.reply is not None and intake.command_id else None
            outcome = CommandOutcome(status=OutcomeStatus.ACCEPTED, sequence=stored.sequence, reply=reply)
            result = Result("accepted")
            self._record(batch, overlay, cause, key, result, now_ms, decision, [])
        batch.handled += 1
        batch.decided.append((cause, result.status, result.code))
        self._remember(batch, overlay, intake, now_ms, outcome)

    def _remember(self, batch: Batch, overlay: Overlay, intake: Intake, now_ms: int, outcome: CommandOutcome) -> None:
        if not intake.command_id:
            return
        data = encode(outcome)
        key = intake.command_id.encode()
        # The same bytes as an OutcomeRow.
        overlay.put(OUTCOMES.name, key, cbor2.dumps([now_ms, _command_hash(intake), data]))
        overlay.put(OUTCOMES_BY_TIME.name, now_ms.to_bytes(8, "big") + key, b"")
        batch.told.append(Told(intake.command_id, outcome.sequence, data))

    def _park(self, batch: Batch, overlay: Overlay, intake: Intake, stream: str, seen: bytes, now_ms: int, refusal: Refusal) -> None:
        """A dead letter: recorded and told; the original stays in the stream."""
        stored = intake.delivery.message
        parked = Parked(
            stream=stream,
            sequence=stored.sequence,
            subject=stored.subject[:500],
            reason=refusal.reason,
            detail=refusal.detail[:500],
            body_hash=blake3(stored.body).digest(),
            body_bytes=len(stored.body),
            head=stored.body[: self.limits.parked_head_bytes_max],
        )
        cause = self._cause(intake, stream, seen)
        self._record(batch, overlay, cause, "", Result("parked", refusal.reason), now_ms, Decision(events=[parked]), [])
        batch.handled += 1
        batch.decided.append((cause, "parked", refusal.reason))
        if refusal.reason in _ALARMING:
            batch.alarms.append(f"alarm: {stream} {stored.sequence} on {stored.subject[:200]}: {refusal}"[:500])
        if intake.command_id:
            detail = refusal.detail[:500].encode()
            outcome = CommandOutcome(status=OutcomeStatus.PARKED, sequence=stored.sequence, code=refusal.reason, detail=detail)
            batch.told.append(Told(intake.command_id, stored.sequence, encode(outcome)))

    # -------------------------------------------------------------------------------------------- recorded

    def _record(
        self,
        batch: Batch,
        overlay: Overlay,
        cause: Cause,
        input_key: str,
        result: Result,
        now_ms: int,
        decision: Decision,
        fired: list[TimerRow],
    ) -> None:
        """Apply a decision: events into tables, journal and outbox, timers set. One record.

        Raises Retry before anything but `overlay` was touched.
        """
        tables = Tables(overlay)
        rows: list[EventRow] = []
        told: list[Message] = []
        index = self.head.index + 1
        for event in decision.events:
            if event.spec.owner != "overseer":
                if type(event) not in self._events and event.spec.kind is not Kind.FACT:
                    raise BadDeclaration(self.name, f"{event.spec.key} is not a declared event")
                try:
                    self.subsystem.evolve(tables, event)
                except Exception as error:
                    raise EvolveFailed(self.name, event.spec.key, error) from error
            try:
                rows.append(journal.pack_event(overlay, index, event, self.limits.blob_bytes_min))
                told.extend(reactions(self.subsystem, event))
            except Exception as error:
                raise Retry(error) from error
        rendered = self._rendered(cause, index, told) if told else []
        timers = fired + [self.timers.change(overlay, change, self._own_timers) for change in decision.timers]
        for row in fired:
            self.timers.drop(overlay, row.key, unless=timers[len(fired) :])
        journal.append(overlay, self.head, time_ms=now_ms, cause=cause, input_key=input_key, result=result, events=rows, timers=timers)
        for mark, to_net, row in rendered:
            table = OUTBOX_NET if to_net else OUTBOX_NODE
            overlay.put(table.name, table.pack(mark), encode_value(row))
            (batch.net if to_net else batch.node).append((mark, outgoing(row)))

    def _rendered(self, cause: Cause, index: int, told: Iterable[Message]) -> list[tuple[Mark, bool, OutboxRow]]:
        try:
            return list(self.sender.render_all(cause, index, self._checked(told)))
        except CodecError as error:
            raise Retry(error) from error

    def _checked(self, told: Iterable[Message]) -> Iterable[Message]:
        for message in told:
            if type(message) not in self._sends and message.spec.owner != "overseer":
                raise BadDeclaration(self.name, f"reacts with {message.spec.key}, which it does not declare as sent")
            yield message


def _body(message: Message) -> bytes:
    """The body of a reply or refusal. Raises Retry when it is too large for a message."""
    try:
        return encode(message)
    except CodecError as error:
        raise Retry(error) from error


def outgoing(row: OutboxRow) -> Outgoing:
    """A stored row as the bus takes it."""
    return Outgoing(row.subject, row.headers, row.body)


def _parked_timer(timer: TimerRow, retry: Retry) -> Parked:
    return Parked(
        stream="",
        sequence=0,
        subject=f"timer {timer.key}"[:500],
        reason="handler_failed",
        detail=f"{timer.message}: {retry}"[:500],
        body_hash=blake3(timer.body).digest(),
        body_bytes=len(timer.body),
        head=timer.body,
    )


def _command_hash(intake: Intake) -> bytes:
    """What a retry of a command must have in common with the first: the message and its body."""
    stored = intake.delivery.message
    return blake3(f"{intake.message.spec.key if intake.message is not None else ''}\n".encode() + stored.body).digest()
