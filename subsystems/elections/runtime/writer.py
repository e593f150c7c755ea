"""The writer of one election: one batch at a time, stored by two followers, then appended by compare-and-set (points 5, 6 and 8).

    ready -> deciding -> replicating -> appending -> ready
                              |             |
                              |             +-> the log shows another entry in that place: fenced, steps down
                              +-> too few copies in time: the batch is given up; refuses until two followers answer,
                                  then begins an epoch of its own making

A batch that was given up may still be prepared somewhere. It stays out of the log because nobody appends it: the next thing this
writer appends is the barrier (or the end) of a new epoch, which takes its number; and whoever recovers begins with a barrier too.
So a command that was refused with `too_few_copies` was not recorded, and asking again with the same id has one effect (B14, B15).
The one exception is a log that is lost before that barrier: then what is prepared is believed (see recovery), with the ids of its
commands.

Once an append has gone out it is never given up: it is repeated, with the same expectation, until the log shows the entry or another one.
"""

import enum
from collections.abc import Iterable

import msgspec

from messages.election_pairs import (
    BatchLogged,
    EpochEnded,
    EpochStarted,
    IdReused,
    LogEntry,
    NotOwnedYet,
    NotOwnedYetReason,
    PositionAsked,
    Record,
    Replicate,
    TooFewCopies,
    WriterBusy,
)
from messages.message import Rejection
from subsystems.elections.runtime.entry import EntryPlace, behind, dump_entry
from subsystems.elections.runtime.follower import Follower
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.placement import Placement
from subsystems.elections.runtime.steps import (
    Answer,
    Append,
    Command,
    Decide,
    Decided,
    Effect,
    LogRead,
    Released,
    Send,
    SetAlarm,
    Settled,
)

__all__ = ["Phase", "Waiting", "Writer"]


class Phase(enum.Enum):
    """What the writer is at."""

    READY = "ready"
    DECIDING = "deciding"
    REPLICATING = "replicating"
    APPENDING = "appending"
    # Terminal.
    CLOSED = "closed"


class Waiting(msgspec.Struct):
    """A command, and all who wait for its outcome."""

    command: Command
    origins: list[str]


class _Flight(msgspec.Struct):
    """The entry that is under way. `expected`: the log's sequence that it comes behind."""

    entry: LogEntry
    data: bytes
    expected: int
    deadline_ms: int
    retry_ms: int
    waiting: list[tuple[Waiting, Record]]
    acknowledged: set[str]
    stored: bool = False


class Writer:
    """`follower` is this site's own copy. `degraded`: too few followers answered; nothing is written until they do."""

    def __init__(self, follower: Follower, placement: Placement, topology: int, limits: RuntimeLimits) -> None:
        self.placement = placement
        self.topology = topology
        self.phase = Phase.READY
        self.degraded = False
        self.told = follower.copy.told
        self._follower = follower
        self._limits = limits
        self._queue: dict[str, Waiting] = {}
        self._deciding: list[Waiting] = []
        self._flight: _Flight | None = None
        # Where the election goes, and by which version of the topology.
        self._leaving: tuple[str, int] | None = None
        self._reached: set[str] = set()
        self._probe_ms = 0

    @property
    def epoch(self) -> int:
        """Of what this writer makes. Its barrier is applied, so it is that of the copy."""
        return self._follower.copy.applied.epoch

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way: it may be forgotten, and recovers with the next command (point 10)."""
        return self.phase is Phase.READY and not self._queue and not self.degraded and self._leaving is None

    # -------------------------------------------------------------------------------------------- commands

    def submit(self, command: Command, origin: str, now_ms: int) -> list[Effect]:
        known = self._known(command.id)
        if known is not None:
            if known.command.digest != command.digest:
                return [Answer(origin, command.id, IdReused(election=self._follower.key, id=command.id))]
            known.origins.append(origin)
            return []
        if self._leaving is not None:
            return [Answer(origin, command.id, self._moved())]
        if len(self._queue) >= self._limits.queue_max:
            return [Answer(origin, command.id, WriterBusy(election=self._follower.key, waiting=len(self._queue)))]
        self._queue[command.id] = Waiting(command, [origin])
        return self._next(now_ms)

    def waiting(self) -> list[Waiting]:
        """All commands that have no outcome yet."""
        flying = [waiting for waiting, _ in self._flight.waiting] if self._flight is not None else []
        return [*flying, *self._deciding, *self._queue.values()]

    def _known(self, command_id: str) -> Waiting | None:
        if command_id in self._queue:
            return self._queue[command_id]
        return next((waiting for waiting in self.waiting() if waiting.command.id == command_id), None)

    def _next(self, now_ms: int) -> list[Effect]:
        """Go on with what waits, if nothing is under way."""
        if self.phase is not Phase.READY:
            return []
        if self._leaving is not None:
            return self._end(now_ms)
        if self.degraded and len(self._reached) >= self.placement.acknowledgements:
            return self._resume(now_ms)
        if not self._queue:
            return []
        first = list(self._queue)[: self._limits.batch_commands_max]
        self._deciding = [self._queue.pop(command_id) for command_id in first]
        self.phase = Phase.DECIDING
        return [Decide(tuple(waiting.command for waiting in self._deciding))]

    def decided(self, answer: Decided, now_ms: int) -> list[Effect]:
        """Outcomes that were recorded earlier are answered now; a batch is made of the rest, refusals among them.

        A refusal rests on what was decided before it in the same batch: it is told when the batch is in the log, never earlier.
        """
        if self.phase is not Phase.DECIDING:
            return []
        self.phase = Phase.READY
        deciding, self._deciding = self._deciding, []
        effects: list[Effect] = []
        batch: list[tuple[Waiting, Record]] = []
        for waiting, verdict in zip(deciding, answer.verdicts, strict=False):
            if isinstance(verdict, Settled):
                effects += _answers(waiting, verdict.outcome)
            else:
                batch.append((waiting, verdict))
        rest = {waiting.command.id: waiting for waiting in deciding[len(answer.verdicts) :]}
        self._queue = rest | self._queue
        refusal = self._moved() if self._leaving is not None else self._too_few(len(self._reached)) if self.degraded else None
        if refusal is not None:
            effects += _refused(batch, refusal)
        elif batch:
            return [*effects, *self._replicate(batch, now_ms)]
        return [*effects, *self._next(now_ms)]

    # -------------------------------------------------------------------------------------------- replication

    def _replicate(self, batch: list[tuple[Waiting, Record]], now_ms: int) -> list[Effect]:
        entry = BatchLogged(**self._place(self.epoch), copies=1 + self.placement.acknowledgements, records=[record for _, record in batch])
        self._begin(entry, Phase.REPLICATING, batch, now_ms)
        return [*self._send(self.placement.followers), *self._follower.prepare(entry), self._alarm()]

    def _begin(self, entry: LogEntry, phase: Phase, batch: list[tuple[Waiting, Record]], now_ms: int) -> None:
        copy, limits = self._follower.copy, self._limits
        self.phase = phase
        self._flight = _Flight(
            entry, dump_entry(entry), copy.log_sequence, now_ms + limits.replicate_ms, now_ms + limits.retry_ms, batch, set()
        )

    def _send(self, sites: Iterable[str]) -> list[Effect]:
        assert self._flight is not None
        key, site = self._follower.key, self._follower.site
        message = Replicate(election=key, site=site, topology=self.topology, entry=self._flight.data, committed=self._follower.copy.applied)
        return [Send(to, message) for to in sites]

    def stored(self, epoch: int, number: int) -> list[Effect]:
        """Its own copy of the batch is durable here."""
        if not self._flies(epoch, number):
            return []
        assert self._flight is not None
        self._flight.stored = True
        return self._append_if_enough()

    def replicated(self, site: str, epoch: int, number: int) -> list[Effect]:
        """A follower has stored the batch (B13: two of the four suffice)."""
        if not self._flies(epoch, number) or site not in self.placement.followers:
            return []
        assert self._flight is not None
        self._flight.acknowledged.add(site)
        return self._append_if_enough()

    def _append_if_enough(self) -> list[Effect]:
        flight = self._flight
        assert flight is not None
        enough = flight.stored and len(flight.acknowledged.intersection(self.placement.followers)) >= self.placement.acknowledgements
        if self.phase is not Phase.REPLICATING or not enough:
            return []
        self.phase = Phase.APPENDING
        return [Append(flight.entry, self._follower.copy.stream, flight.expected)]

    def _give_up(self, now_ms: int) -> list[Effect]:
        """Too few copies in time (B14). Nothing was appended, and nothing will be: see the top of this module."""
        flight = self._flight
        assert flight is not None
        refusal = self._too_few(len(flight.acknowledged))
        effects = _refused(flight.waiting, refusal)
        self._flight, self.phase, self.degraded = None, Phase.READY, True
        self._reached = set()
        # Those that wait behind are decided once more, for the sake of ids that are known, and else refused.
        return [*effects, *self._probe(now_ms), *self._next(now_ms)]

    def _probe(self, now_ms: int) -> list[Effect]:
        """Ask who is there. An own barrier may begin only when it can be followed by a batch."""
        self._probe_ms = now_ms + self._limits.probe_ms
        asked = PositionAsked(election=self._follower.key, site=self._follower.site, topology=self.topology)
        return [*(Send(site, asked) for site in self.placement.followers), SetAlarm(self._probe_ms)]

    def reached(self, site: str, now_ms: int) -> list[Effect]:
        """A follower answered a probe: with two, writing goes on, in a new epoch."""
        if not self.degraded or site not in self.placement.followers:
            return []
        self._reached.add(site)
        return self._next(now_ms)

    def _resume(self, now_ms: int) -> list[Effect]:
        """Its own barrier takes the number of the batch that was given up."""
        self._begin(EpochStarted(**self._place(self._follower.copy.epoch + 1)), Phase.APPENDING, [], now_ms)
        assert self._flight is not None
        return [Append(self._flight.entry, self._follower.copy.stream, self._flight.expected), self._alarm()]

    # -------------------------------------------------------------------------------------------- the log

    def applied(self, entry: LogEntry, now_ms: int) -> list[Effect]:
        """The copy applied this entry of the log. The one under way: it is committed. Another: there is another writer (B21)."""
        flight = self._flight
        if flight is None or entry != flight.entry:
            return self.step_down("fenced")
        self._flight, self.phase = None, Phase.READY
        if isinstance(entry, EpochEnded):
            return self.step_down("moved")
        if isinstance(entry, EpochStarted):
            self.degraded, self._reached = False, set()
        effects = [answer for waiting, record in flight.waiting for answer in _answers(waiting, record)]
        return [*effects, *self._next(now_ms)]

    def appended(self, entry: LogEntry, log_sequence: int) -> list[Effect]:
        """The log took it: the copy applies it, and `applied` follows."""
        if self._flight is None or entry != self._flight.entry:
            return []
        return self._follower.logged(self._follower.copy.stream, log_sequence, entry)

    def unsettled(self, entry: LogEntry) -> list[Effect]:
        """10071, or no answer: whether the entry is in the log is read there; it is repeated until the log shows it or another one."""
        return [self._follower.read_on()] if self._flight is not None and entry == self._flight.entry else []

    def read(self, page: LogRead, now_ms: int) -> list[Effect]:
        """The log holds nothing behind what the entry expects: it is still on its way, or got lost. Once more, after a while."""
        flight = self._flight
        nothing_new = not page.entries and page.stream == self._follower.copy.stream
        if flight is None or self.phase is not Phase.APPENDING or not nothing_new or page.after != flight.expected:
            return []
        flight.deadline_ms = flight.retry_ms = now_ms + self._limits.retry_ms
        return [Append(flight.entry, self._follower.copy.stream, flight.expected), self._alarm()]

    # -------------------------------------------------------------------------------------------- leaving

    def leave(self, to: str, topology: int, now_ms: int) -> list[Effect]:
        """The topology gives the election to another site: finish what is under way, record it, let go (point 8)."""
        self._leaving = (to, topology)
        waiting = list(self._queue.values())
        self._queue = {}
        return [answer for each in waiting for answer in _answers(each, self._moved())] + self._next(now_ms)

    def _end(self, now_ms: int) -> list[Effect]:
        assert self._leaving is not None
        to, topology = self._leaving
        # The number of a batch that was given up is taken in another epoch only: it may be prepared somewhere.
        epoch = self._follower.copy.epoch + 1 if self.degraded else self.epoch
        self._begin(EpochEnded(**self._place(epoch), to=to, by_topology=topology), Phase.APPENDING, [], now_ms)
        assert self._flight is not None
        return [Append(self._flight.entry, self._follower.copy.stream, self._flight.expected), self._alarm()]

    def step_down(self, reason: str) -> list[Effect]:
        """No writer any more. Fenced, or in good order: what is under way is not in the log. In a lost log it may have been."""
        why = NotOwnedYetReason.UNSETTLED if reason == "log_replaced" else NotOwnedYetReason.MOVED
        flying = len(self._flight.waiting) if self._flight is not None else 0
        reasons = [why] * flying + [NotOwnedYetReason.MOVED] * (len(self._deciding) + len(self._queue))
        effects = [a for w, reason in zip(self.waiting(), reasons, strict=True) for a in _answers(w, self._not_owned(reason))]
        self.phase, self._flight, self._deciding, self._queue = Phase.CLOSED, None, [], {}
        return [*effects, Released(reason)]

    # -------------------------------------------------------------------------------------------- time

    def alarm(self, now_ms: int) -> list[Effect]:
        flight, follower = self._flight, self._follower
        if flight is None:
            return self._probe(now_ms) if self.degraded and now_ms >= self._probe_ms else []
        if self.phase is Phase.REPLICATING and now_ms >= flight.deadline_ms:
            return self._give_up(now_ms)
        if now_ms < flight.retry_ms:
            return [self._alarm()]
        flight.retry_ms = now_ms + self._limits.retry_ms
        if self.phase is Phase.APPENDING:
            return [follower.read_on(), self._alarm()]
        missing = [site for site in self.placement.followers if site not in flight.acknowledged]
        return [*self._send(missing), self._alarm()]

    def _alarm(self) -> SetAlarm:
        assert self._flight is not None
        at_ms = self._flight.retry_ms
        return SetAlarm(min(at_ms, self._flight.deadline_ms) if self.phase is Phase.REPLICATING else at_ms)

    # -------------------------------------------------------------------------------------------- parts

    def _place(self, epoch: int) -> EntryPlace:
        """Behind everything that is applied: all that the log has."""
        follower = self._follower
        return behind(follower.copy.applied, election=follower.key, epoch=epoch, site=follower.site, topology=self.topology, told=self.told)

    def _flies(self, epoch: int, number: int) -> bool:
        return self._flight is not None and (self._flight.entry.epoch, self._flight.entry.number) == (epoch, number)

    def _too_few(self, followers: int) -> TooFewCopies:
        return TooFewCopies(election=self._follower.key, copies=1 + followers, needed=1 + self.placement.acknowledgements)

    def _moved(self) -> NotOwnedYet:
        return self._not_owned(NotOwnedYetReason.MOVED)

    def _not_owned(self, reason: NotOwnedYetReason) -> NotOwnedYet:
        return NotOwnedYet(election=self._follower.key, reason=reason)


def _answers(waiting: Waiting, outcome: Record | Rejection) -> list[Effect]:
    return [Answer(origin, waiting.command.id, outcome) for origin in waiting.origins]


def _refused(batch: list[tuple[Waiting, Record]], refusal: Rejection) -> list[Effect]:
    return [answer for waiting, _ in batch for answer in _answers(waiting, refusal)]
