"""What the writer's machine asks of the world: what follows from these commands? The kinds' rules answer, as they do with one site."""

from collections.abc import Callable, Sequence

import msgspec
from blake3 import blake3

from messages.codec import encode, encode_value
from messages.election_pairs import LoggedEvent, LoggedTimer, Record
from messages.elections import ChainDue, ElectionEvent, OfElection, Recorded
from messages.message import Kind, Message, Rejection
from overseer.ports.clock import Clock
from overseer.ports.entropy import Entropy
from overseer.subsystem import Check, Context, Decision, SetTimer
from overseer.tables import Overlay, Rows, Tables
from overseer.verification import verify_check
from subsystems.elections.rows import ELECTIONS, pack_event
from subsystems.elections.runtime.rows import settled
from subsystems.elections.runtime.steps import Command, Verdict
from subsystems.elections.subsystem import Elections

__all__ = ["HANDLER_FAILED", "Asked", "Decider", "command_of", "due_command", "timer_command"]

# The code of a record whose command could not be decided because the rules raised: it is recorded, so that it fails once.
HANDLER_FAILED = "handler_failed"


class Asked(msgspec.Struct, frozen=True):
    """A command and who sent it. `timer`: the key of the timer that it comes of, or ""."""

    message: OfElection
    sender: str
    caller: str
    timer: str = ""


def command_of(id: str, asked: Asked) -> Command:
    """As the machines take it; its digest is that of type, version and body."""
    spec = asked.message.spec
    return Command(id, blake3(encode_value([spec.key, spec.version, encode(asked.message)])).digest(), asked)


def timer_command(key: str, at_ms: int, message: OfElection) -> Command:
    """A timer that is due, as a command. Nobody else can use its id: those of callers do not begin with a space."""
    return command_of(f" timer {key} {at_ms}", Asked(message, message.spec.owner, "", key))


def due_command(message: ChainDue) -> Command:
    """What the chain makes due, as a command. Its id follows from its content: whoever writes finds that it was done, or does it."""
    content = blake3(encode(message)).hexdigest()[:32]
    return command_of(f" due {content}", Asked(message, message.spec.owner, ""))


class Decider:
    """Decides over rows, changes none."""

    def __init__(
        self,
        elections: Elections,
        clock: Clock,
        entropy: Entropy,
        *,
        bytes_max: int,
        verify: Callable[[Check], bool] = verify_check,
    ) -> None:
        self._elections = elections
        self._clock = clock
        self._entropy = entropy
        self._bytes_max = bytes_max
        self._verify = verify

    def decide(self, rows: Rows, key: str, commands: Sequence[Command], *, copies: int) -> tuple[Verdict, ...]:
        """A verdict for each of the first commands: as many as fill a message, one at least. `copies`: told in the replies."""
        scratch = Overlay(rows)
        verdicts: list[Verdict] = []
        size = 0
        for command in commands:
            known = settled(Tables(scratch), key, command.id, command.digest)
            if known is not None:
                verdicts.append(known)
                continue
            record, changed = self._record(scratch, key, command, copies)
            size += len(encode_value(record))
            if verdicts and size > self._bytes_max:
                break
            scratch.merge(changed)
            verdicts.append(record)
        return tuple(verdicts)

    def _record(self, rows: Rows, key: str, command: Command, copies: int) -> tuple[Record, Overlay]:
        """The outcome of one command, and what its events change."""
        asked = command.message
        assert isinstance(asked, Asked)
        changed = Overlay(rows)
        tables = Tables(changed)
        row = tables.get(ELECTIONS, (key,))
        now_ms = max(self._clock.now_ms(), row.last_ms if row is not None else 0)
        # A timer that was due is gone, whatever came of it.
        timers = [LoggedTimer(asked.timer, None)] if asked.timer else []
        events: list[LoggedEvent] = []
        try:
            outcome = self._elections.decide_one(tables, asked.message, self._context(asked, now_ms))
            if isinstance(outcome, Decision):
                for event in outcome.events:
                    assert isinstance(event, ElectionEvent)
                    logged = LoggedEvent(event.spec.key, event.spec.version, encode(event))
                    self._elections.evolve_stored(tables, event, pack_event(logged.message, logged.version, logged.body))
                    events.append(logged)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:200].encode()
            return Record(command.id, command.digest, asked.sender, now_ms, HANDLER_FAILED, text, [], timers), Overlay(rows)
        if isinstance(outcome, Rejection):
            return Record(command.id, command.digest, asked.sender, now_ms, outcome.code, encode(outcome), [], timers), changed
        timers += [_logged(change.key, change if isinstance(change, SetTimer) else None) for change in outcome.timers]
        return Record(command.id, command.digest, asked.sender, now_ms, "", _reply(outcome.reply, copies), events, timers), changed

    def _context(self, asked: Asked, now_ms: int) -> Context:
        return Context(now_ms=now_ms, sender=asked.sender, caller=asked.caller, entropy=self._entropy.draw(32), verify=self._verify)


def _reply(reply: Message | None, copies: int) -> bytes:
    """On how many sites it is durable is known to the runtime, not to the rules."""
    if isinstance(reply, Recorded):
        reply = msgspec.structs.replace(reply, copies=copies)
    return b"" if reply is None else encode(reply)


def _logged(key: str, timer: SetTimer | None) -> LoggedTimer:
    if timer is None:
        return LoggedTimer(key, None)
    assert timer.message.spec.kind is Kind.TIMER
    return LoggedTimer(key, timer.at_ms, timer.message.spec.key, timer.message.spec.version, encode(timer.message))
