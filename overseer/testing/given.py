"""Given / when / then for the pure core: one subsystem without bus, store or process, in microseconds.

votes = Given(VotesDb())
votes.when(SessionChange(index=5, validators=[...]))
then = votes.when(RegisterVote(...), now_ms=1_000)
assert then.sent == [...]
assert votes.ask(QueryVotes(...)).pro == [0, 1]
"""

from collections.abc import Sequence

import msgspec

from messages.codec import decode, encode
from messages.message import Kind, Message, Rejection
from overseer.memory.rows import MemoryRows
from overseer.subsystem import CancelTimer, Check, Context, Decision, SetTimer, Subsystem, Verify
from overseer.tables import Overlay, Tables, View
from overseer.verification import verify_check

__all__ = ["Given", "Then"]


class Then(msgspec.Struct, frozen=True, kw_only=True):
    """What followed from one message."""

    events: list[Message] = []
    sent: list[Message] = []
    reply: Message | None = None
    rejection: Rejection | None = None

    def sent_of(self, kind: type[Message]) -> list[Message]:
        """The messages of one type among those sent."""
        return [m for m in self.sent if isinstance(m, kind)]


class Given:
    """A subsystem with its tables; every message and event passes the codec, as on the wire."""

    def __init__(self, subsystem: Subsystem, *, verify: Verify = verify_check) -> None:
        self.subsystem = subsystem
        self.now_ms = 1_000_000
        # The node that a network message is from.
        self.node = ""
        # What the next message may draw from.
        self.entropy = bytes(32)
        self.history: list[Message] = []
        self.timers: dict[str, SetTimer] = {}
        self.position = 0
        self._verify = verify
        self.rows = MemoryRows([table.name for table in subsystem.declaration.tables])

    @property
    def view(self) -> View:
        return View(self.rows)

    def _context(self, sender: str) -> Context:
        return Context(now_ms=self.now_ms, sender=sender, node=self.node, position=self.position, entropy=self.entropy, verify=self._verify)

    def when(self, message: Message, *, sender: str = "op_test", now_ms: int | None = None) -> Then:
        """Handle one message (or an own timer). Nothing changes when it is rejected."""
        if now_ms is not None:
            self.now_ms = max(self.now_ms, now_ms)
        own_timer = message.spec.kind is Kind.TIMER
        if not own_timer:
            assert type(message) in self.subsystem.declaration.consumes, f"{message.spec.key} is not declared as consumed"
            self.position += 1
        message = decode(message.spec, encode(message))
        asked: set[Check] = set(self.subsystem.checks(self.view, message))
        assert all(isinstance(check, Check) for check in asked)
        decision = self.subsystem.decide(self.view, message, self._context(self.subsystem.declaration.name if own_timer else sender))
        if isinstance(decision, Rejection):
            assert type(decision) in self.subsystem.declaration.rejections, f"{decision.spec.key} is not declared"
            return Then(rejection=decision)
        return self._apply(decision)

    def _apply(self, decision: Decision) -> Then:
        declared = self.subsystem.declaration
        overlay = Overlay(self.rows)
        sent: list[Message] = []
        for event in decision.events:
            assert type(event) in declared.events or event.spec.kind is Kind.FACT, f"{event.spec.key} is not declared as an event"
            self.subsystem.evolve(Tables(overlay), decode(event.spec, encode(event)))
            sent.extend(self.subsystem.react(event))
        for message in sent:
            assert type(message) in declared.sends, f"{message.spec.key} is not declared as sent"
            encode(message)
        for timer in decision.timers:
            if isinstance(timer, CancelTimer):
                self.timers.pop(timer.key, None)
            else:
                assert type(timer.message) in declared.timers
                self.timers[timer.key] = timer
        self.rows.apply(overlay)
        self.history.extend(decision.events)
        return Then(events=list(decision.events), sent=sent, reply=decision.reply)

    def fire_one(self) -> Then | None:
        """Fire the earliest timer that is due, if any."""
        due = sorted((t for t in self.timers.values() if t.at_ms <= self.now_ms), key=lambda t: (t.at_ms, t.key))
        if not due:
            return None
        del self.timers[due[0].key]
        return self.when(due[0].message)

    def settle(self, *, now_ms: int | None = None, limit: int = 10_000) -> Then:
        """Fire due timers until none is due; all that followed, together."""
        if now_ms is not None:
            self.now_ms = max(self.now_ms, now_ms)
        events: list[Message] = []
        sent: list[Message] = []
        for _ in range(limit):
            then = self.fire_one()
            if then is None:
                return Then(events=events, sent=sent)
            events += then.events
            sent += then.sent
        raise AssertionError(f"timers still due after {limit} firings")

    def ask(self, query: Message) -> Message | Rejection:
        assert type(query) in self.subsystem.declaration.answers
        return self.subsystem.answer(self.view, query, self._context("op_test"))

    def replayed(self) -> "Given":
        """A second one whose tables are rebuilt from the events alone."""
        other = Given(self.subsystem, verify=self._verify)
        other.now_ms = self.now_ms
        replay(self.subsystem, self.history, other.rows)
        return other


def replay(subsystem: Subsystem, events: Sequence[Message], rows: MemoryRows) -> None:
    """Apply `events` to `rows`."""
    for event in events:
        overlay = Overlay(rows)
        subsystem.evolve(Tables(overlay), event)
        rows.apply(overlay)
