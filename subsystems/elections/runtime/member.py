"""One election at one site: its copy, and the writer or the recovery when this site is its writer.

The only machine that the shell drives: `handle(input, now_ms)` returns effects. Every site that holds the election has one; the writer's
is started by its first command (B12), and may be forgotten while it is idle.
"""

from typing import assert_never

from messages.election_pairs import (
    Fenced,
    Freshness,
    KeyStopped,
    NotAppliedYet,
    NotOwnedYet,
    NotOwnedYetReason,
    PairMessage,
    PositionAsked,
    PositionTold,
    Replicate,
    Replicated,
    Superseded,
    WriterBusy,
)
from subsystems.elections.runtime.entry import load_entry
from subsystems.elections.runtime.follower import Follower
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.placement import Placement
from subsystems.elections.runtime.recovery import Recovery, Stage
from subsystems.elections.runtime.steps import (
    BLANK,
    Alarm,
    Answer,
    Appended,
    AppendUnsettled,
    Apply,
    CatchUpTopology,
    Command,
    Copy,
    CopyVerified,
    Decided,
    Effect,
    FailStop,
    Fill,
    Input,
    Install,
    LogDelivered,
    LogLast,
    LogRead,
    LogReplaced,
    Placed,
    Received,
    Released,
    Send,
    Serving,
    SnapshotFailed,
    SnapshotFetched,
    Start,
    Stored,
    Submit,
    Told,
)
from subsystems.elections.runtime.writer import Writer

__all__ = ["Member"]


class Member:
    """`copy` is what was kept, or nothing. `writer` and `recovery`: at most one of them is there."""

    def __init__(
        self, key: str, site: str, placement: Placement, topology: int, copy: Copy = BLANK, limits: RuntimeLimits | None = None
    ) -> None:
        self.key = key
        self.site = site
        self.placement = placement
        self.topology = topology
        self.limits = limits or RuntimeLimits()
        self.follower = Follower(key, site, copy, self.limits)
        self.writer: Writer | None = None
        self.recovery: Recovery | None = None
        # Commands that came before the writer was ready, with the time: (command, origin, since).
        self._early: list[tuple[Command, str, int]] = []
        # Writers of a newer topology that wait for this one to let go.
        self._successors: dict[str, PositionAsked] = {}
        self._placed(placement, topology)

    @property
    def idle(self) -> bool:
        """Nothing would be lost if this were forgotten: all it knows is stored (passivation, point 10)."""
        return self.recovery is None and not self._successors and (self.writer is None or self.writer.idle)

    def freshness(self, *, caught_up_ms: int, now_ms: int, stale_after_ms: int) -> Freshness:
        """Of what is read here now. `caught_up_ms`: when this site's reader of the log was last at its end (point 9)."""
        applied, age_ms = self.follower.copy.applied.sequence, max(0, now_ms - caught_up_ms)
        committed = max(applied, self.follower.committed)
        degraded = self.writer is not None and self.writer.degraded
        stale = bool(self.follower.stopped) or self.follower.behind or degraded or committed > applied or age_ms > stale_after_ms
        return Freshness(applied, committed, age_ms, stale)

    def readable(self, required: int) -> NotAppliedYet | None:
        """The refusal of a reader who requires event `required`, if it is not here yet."""
        applied = self.follower.copy.applied.sequence
        return None if applied >= required else NotAppliedYet(election=self.key, applied=applied, required=required)

    # -------------------------------------------------------------------------------------------- one input

    def handle(self, given: Input, now_ms: int) -> list[Effect]:
        """What follows from one input."""
        if self.follower.stopped:
            return [self._stopped(given.origin, given.command.id)] if isinstance(given, Submit) else []
        return self._followed(self._handle(given, now_ms), now_ms)

    def _handle(self, given: Input, now_ms: int) -> list[Effect]:
        follower, writer, recovery = self.follower, self.writer, self.recovery
        match given:
            case Submit():
                return self._submit(given.command, given.origin, now_ms)
            case Received():
                return self._received(given.message, now_ms)
            case LogDelivered():
                return [*self._if_replaced(given.stream), *follower.delivered(given.stream, given.log_sequence, given.entry)]
            case LogRead():
                return [*self._read(given, now_ms), *follower.read(given)]
            case LogLast():
                return self._last(given, now_ms)
            case LogReplaced():
                follower.replaced(given.stream)
                return self._if_replaced(given.stream)
            case Decided():
                return writer.decided(given, now_ms) if writer else []
            case Stored():
                return writer.stored(given.epoch, given.number) if writer else []
            case Appended():
                role = recovery or writer
                return role.appended(given.entry, given.log_sequence) if role else []
            case AppendUnsettled():
                role = recovery or writer
                return role.unsettled(given.entry) if role else []
            case SnapshotFetched():
                return recovery.fetched(given, now_ms) if recovery else follower.fetched(given)
            case SnapshotFailed():
                return recovery.not_fetched(given.site, now_ms) if recovery else follower.not_fetched()
            case CopyVerified():
                return follower.verified(given)
            case Placed():
                return self._moved(given, now_ms)
            case Fill():
                return follower.fill()
            case Start():
                ours = self.placement.writer == self.site and writer is None and recovery is None
                return self._recover(now_ms) if ours else []
            case Told():
                if writer is not None:
                    writer.told = max(writer.told, given.sequence)
                return []
            case Alarm():
                return [*self._too_late(now_ms), *(recovery.alarm(now_ms) if recovery else writer.alarm(now_ms) if writer else [])]
            case _:
                assert_never(given)

    def _followed(self, effects: list[Effect], now_ms: int) -> list[Effect]:
        """What the copy has applied concerns the writer; a recovery may be done; what failed stops all."""
        out: list[Effect] = []
        for effect in effects:
            out.append(effect)
            if isinstance(effect, Apply) and self.writer is not None:
                out += self._followed(self.writer.applied(effect.entry, now_ms), now_ms)
            elif isinstance(effect, Install) and self.writer is not None:
                # The copy went past what this writer appended, or was excluded: there is another writer, or this one knows nothing.
                out += self._followed(self.writer.step_down("fenced"), now_ms)
            elif isinstance(effect, Released):
                out += self._let_go()
            elif isinstance(effect, FailStop):
                out += self._give_all_up()
        if self.recovery is not None:
            self.recovery.caught_up()
            if self.recovery.stage is Stage.DONE:
                out += self._followed(self._serve(now_ms), now_ms)
        return out

    # -------------------------------------------------------------------------------------------- commands

    def _submit(self, command: Command, origin: str, now_ms: int) -> list[Effect]:
        if self.placement.writer != self.site:
            return [self._not_owned(origin, command.id, NotOwnedYetReason.MOVED)]
        if self.writer is not None:
            return self.writer.submit(command, origin, now_ms)
        if len(self._early) >= self.limits.queue_max:
            return [Answer(origin, command.id, WriterBusy(election=self.key, waiting=len(self._early)))]
        self._early.append((command, origin, now_ms))
        return self._recover(now_ms) if self.recovery is None else []

    def _recover(self, now_ms: int) -> list[Effect]:
        """A start always passes through recovery (point 2)."""
        self.recovery = Recovery(self.follower, self.placement, self.topology, self.limits, now_ms=now_ms)
        return self.recovery.start(now_ms)

    def _serve(self, now_ms: int) -> list[Effect]:
        assert self.recovery is not None
        epoch, self.recovery = self.recovery.epoch, None
        if self.follower.copy.applied.epoch > epoch:
            # Another one came behind the barrier before it could be used.
            return [*self._refuse_early(NotOwnedYetReason.MOVED), Released("fenced")]
        self.writer = Writer(self.follower, self.placement, self.topology, self.limits)
        self.follower.writing = True
        early, self._early = self._early, []
        effects: list[Effect] = [Serving(epoch, self.writer.told)]
        for command, origin, _ in early:
            effects += self.writer.submit(command, origin, now_ms)
        return effects

    def _too_late(self, now_ms: int) -> list[Effect]:
        """Commands that waited too long for a recovery."""
        limit_ms = now_ms - self.limits.command_wait_ms
        late = [each for each in self._early if each[2] <= limit_ms]
        self._early = [each for each in self._early if each[2] > limit_ms]
        return [self._not_owned(origin, command.id, NotOwnedYetReason.RECOVERING) for command, origin, _ in late]

    # -------------------------------------------------------------------------------------------- other members

    def _received(self, message: PairMessage, now_ms: int) -> list[Effect]:
        behind: list[Effect] = [CatchUpTopology(message.topology)] if message.topology > self.topology else []
        return [*behind, *self._answered(message, now_ms)]

    def _answered(self, message: PairMessage, now_ms: int) -> list[Effect]:
        match message:
            case Replicate():
                return self._replicate(message)
            case Replicated():
                return self.writer.replicated(message.site, message.epoch, message.number) if self.writer else []
            case Fenced():
                # Nobody is believed about this but the log.
                return [self.follower.read_on()] if self.writer and message.epoch > self.writer.epoch else []
            case PositionAsked():
                return self._asked(message)
            case PositionTold():
                if self.recovery is not None:
                    return self.recovery.told(message, now_ms)
                return self.writer.reached(message.site, now_ms) if self.writer else []
            case Superseded():
                # The topology is read again (above), and the election found to be elsewhere.
                return []
            case _:
                # A Gap: the follower fetches what it lacks and then acknowledges what it has kept.
                return []

    def _replicate(self, message: Replicate) -> list[Effect]:
        """While this site writes it stores nothing for another writer: the log decides which of both there is."""
        if self.writer is None:
            return self.follower.replicate(message)
        if load_entry(message.entry).epoch > self.writer.epoch:
            return [self.follower.read_on()]
        return [Send(message.site, Fenced(election=self.key, site=self.site, topology=self.topology, epoch=self.writer.epoch))]

    def _asked(self, asked: PositionAsked) -> list[Effect]:
        if asked.topology < self.topology:
            return [Send(asked.site, Superseded(election=self.key, site=self.site, topology=self.topology))]
        if self.writer is not None and asked.topology > self.topology:
            # It is to write from now on: it hears when this one has let go, so that nothing is cut off.
            self._successors[asked.site] = asked
            return []
        return [self._position(asked)]

    def _position(self, asked: PositionAsked) -> Send:
        copy = self.follower.copy
        told = PositionTold(
            election=self.key,
            site=self.site,
            topology=self.topology,
            stream=copy.stream,
            applied=copy.applied,
            log_sequence=copy.log_sequence,
            last=copy.last,
            lost_in=asked.lost_in,
        )
        return Send(asked.site, told)

    # -------------------------------------------------------------------------------------------- the log

    def _read(self, page: LogRead, now_ms: int) -> list[Effect]:
        if self.recovery is not None:
            return self.recovery.read(page, now_ms)
        if self.writer is None:
            return []
        return self._if_replaced(page.stream) or self.writer.read(page, now_ms)

    def _if_replaced(self, stream: str) -> list[Effect]:
        """Another log than the one that the writer here appends to: what is under way in it is unknown."""
        return self.writer.step_down("log_replaced") if self.writer is not None and stream != self.follower.copy.stream else []

    def _last(self, answer: LogLast, now_ms: int) -> list[Effect]:
        if self.recovery is None:
            return []
        entry = answer.entry
        if entry is not None and entry.topology > self.topology:
            # Somebody wrote by a newer topology than the one that makes this site the writer.
            self.recovery = None
            return [CatchUpTopology(entry.topology), *self._refuse_early(NotOwnedYetReason.MOVED), Released("superseded")]
        return self.recovery.last(answer, now_ms)

    # -------------------------------------------------------------------------------------------- placement

    def _placed(self, placement: Placement, topology: int) -> None:
        self.placement, self.topology = placement, topology
        self.follower.topology = topology
        others = [site for site in (placement.writer, *placement.sites) if site != self.site]
        self.follower.source = others[0] if others else ""

    def _moved(self, given: Placed, now_ms: int) -> list[Effect]:
        """The recorded topology changed (point 8)."""
        if given.topology <= self.topology:
            return []
        self._placed(given.placement, given.topology)
        if self.writer is not None:
            if self.placement.writer != self.site:
                return self.writer.leave(self.placement.writer, self.topology, now_ms)
            self.writer.placement, self.writer.topology = self.placement, self.topology
            return []
        if self.recovery is None:
            return []
        if self.placement.writer == self.site:
            return self._recover(now_ms)
        self.recovery = None
        return [*self._refuse_early(NotOwnedYetReason.MOVED), Released("moved")]

    def _let_go(self) -> list[Effect]:
        """Nobody writes here any more; whoever takes over hears how far this copy is."""
        self.writer, self.follower.writing = None, False
        successors, self._successors = self._successors, {}
        return [self._position(asked) for asked in successors.values()]

    # -------------------------------------------------------------------------------------------- refusals

    def _give_all_up(self) -> list[Effect]:
        """Fail-stop: whoever waits hears it."""
        waiting = [(origin, command.id) for command, origin, _ in self._early]
        if self.writer is not None:
            waiting += [(origin, each.command.id) for each in self.writer.waiting() for origin in each.origins]
        self._early, self.writer, self.recovery, self._successors = [], None, None, {}
        self.follower.writing = False
        return [self._stopped(origin, command_id) for origin, command_id in waiting]

    def _stopped(self, origin: str, command_id: str) -> Answer:
        return Answer(origin, command_id, KeyStopped(election=self.key, reason=self.follower.stopped))

    def _refuse_early(self, reason: NotOwnedYetReason) -> list[Effect]:
        early, self._early = self._early, []
        return [self._not_owned(origin, command.id, reason) for command, origin, _ in early]

    def _not_owned(self, origin: str, command_id: str, reason: NotOwnedYetReason) -> Answer:
        return Answer(origin, command_id, NotOwnedYet(election=self.key, reason=reason))
