"""The copy of one election at one site: what is prepared, what is applied, and how it catches up (points 5, 7 and 9).

The writer's own site keeps its copy in the same way. Rows change by the log alone, so nothing uncommitted is ever read (B14); a prepared
entry is what the pair promised before the log got it, and goes as soon as the log shows something else in its place.
"""

from messages.election_pairs import Fenced, Gap, Head, LogEntry, LogRestarted, PairMessage, Replicate, Replicated
from subsystems.elections.runtime.entry import connects, contradicts, head_after, load_entry, place_before
from subsystems.elections.runtime.limits import RuntimeLimits
from subsystems.elections.runtime.steps import (
    BLANK,
    Apply,
    Copy,
    CopyVerified,
    Effect,
    FailStop,
    FetchSnapshot,
    Install,
    LogRead,
    Prepared,
    ReadLog,
    Report,
    Send,
    SnapshotFetched,
    Store,
    VerifyCopy,
)

__all__ = ["Follower"]


class Follower:
    """`source`: the site to fetch a snapshot from; `topology`: the version known here. Both are set by the owner of this."""

    def __init__(self, key: str, site: str, copy: Copy = BLANK, limits: RuntimeLimits | None = None) -> None:
        self.key = key
        self.site = site
        self.copy: Copy = copy
        self._catch_up_entries_max = (limits or RuntimeLimits()).catch_up_entries_max
        self.topology = 0
        self.source = ""
        # Whether the writer is at this site: what it makes is then told to the world from here.
        self.writing = False
        # The last event that is known to be committed, here or elsewhere.
        self.committed = copy.applied.sequence
        # Why it takes nothing any more.
        self.stopped = ""
        # A batch that came before what it connects to.
        self._waiting: Replicate | None = None
        # The log has more than the copy, as far as is known here, or it is another log: what is read here may be old.
        self.behind = False
        # The last entry that the log's reader brought: (stream, the log's sequence).
        self._brought = ("", 0)
        # No snapshot could be had when the copy was far behind: the log is read, however long it is.
        self._by_log_alone = False
        # Somebody contradicts the copy in this way; it is being verified.
        self.doubt = ""

    # -------------------------------------------------------------------------------------------- from the writer

    def replicate(self, message: Replicate) -> list[Effect]:
        """Store a batch, or say why not. No acknowledgement over a gap: what is missing is fetched from the log first."""
        if self.stopped or self.doubt:
            return []
        self.committed = max(self.committed, message.committed.sequence)
        entry = load_entry(message.entry)
        if entry.epoch < self.copy.epoch:
            return [self._say(message.site, Fenced(election=self.key, site=self.site, topology=self.topology, epoch=self.copy.epoch))]
        acknowledged = self._say(
            message.site, Replicated(election=self.key, site=self.site, topology=self.topology, epoch=entry.epoch, number=entry.number)
        )
        # In one epoch there is one entry of each number.
        held = any((p.entry.epoch, p.entry.number) == (entry.epoch, entry.number) for p in self.copy.prepared)
        if held or (entry.epoch == self.copy.applied.epoch and entry.number <= self.copy.applied.number):
            return [acknowledged]
        before = self._prepared_up_to(place_before(entry))
        if before is None:
            self._waiting = message
            gap = Gap(election=self.key, site=self.site, topology=self.topology, number=entry.number, head=self.copy.last)
            return [self._say(message.site, gap), self.read_on()]
        self._waiting = None
        self.copy = _with(self.copy, prepared=(*before, Prepared(entry, head_after(entry))))
        return [Store(entry), acknowledged]

    def prepare(self, entry: LogEntry) -> list[Effect]:
        """The writer's own copy of a batch that it just made: it connects to what is applied."""
        self.copy = _with(self.copy, prepared=(Prepared(entry, head_after(entry)),))
        return [Store(entry)]

    def _prepared_up_to(self, head: Head) -> tuple[Prepared, ...] | None:
        """The prepared entries up to `head`; None if the copy does not go through there."""
        if head == self.copy.applied:
            return ()
        for count, prepared in enumerate(self.copy.prepared, 1):
            if prepared.head == head:
                return self.copy.prepared[:count]
        return None

    # -------------------------------------------------------------------------------------------- from the log

    def fill(self) -> list[Effect]:
        """Catch up without being asked: until that is done, nobody knows how far this copy is behind."""
        self.behind = True
        return [self.read_on()]

    def replaced(self, stream: str) -> None:
        """The log is this one now: what of the lost one did not reach this copy, another one's will tell."""
        self._brought = (stream, 0)
        self._look()

    def delivered(self, stream: str, log_sequence: int, entry: LogEntry) -> list[Effect]:
        """By the log's reader, which leaves nothing out from some entry on."""
        self._brought = (stream, log_sequence)
        effects = self.logged(stream, log_sequence, entry)
        self._look()
        return effects

    def _look(self) -> None:
        """Whether the copy is where the log's reader is."""
        stream, log_sequence = self._brought
        copy = self.copy
        self.behind = bool(stream) and (copy.log_sequence < log_sequence if copy.stream in ("", stream) else True)

    def logged(self, stream: str, log_sequence: int, entry: LogEntry) -> list[Effect]:
        """One entry of the log, delivered or read: applied if it is the next one; if it is not, the log is read from here."""
        if self.stopped or self.doubt:
            return []
        self.committed = max(self.committed, entry.sequence)
        if stream != self.copy.stream and self.copy.stream:
            return self._of_another_log(stream, log_sequence, entry)
        if log_sequence <= self.copy.log_sequence:
            return []
        if contradicts(self.copy.applied, entry):
            return self._contradicted(entry)
        if not connects(self.copy.applied, entry):
            return [self.read_on()]
        return [self._apply(stream, log_sequence, entry), *self._retried()]

    def read(self, page: LogRead) -> list[Effect]:
        """A page of the log. Where the log does not go back far enough, or far too far, a snapshot is fetched."""
        if page.stream != self._brought[0]:
            self._brought = (page.stream, 0)
        effects: list[Effect] = []
        behind = page.after == self.copy.log_sequence and page.stream == self.copy.stream
        if page.entries and (behind or not self.copy.stream):
            cut_off = place_before(page.entries[0][1]).number > self.copy.applied.number
            far = page.remaining > self._catch_up_entries_max and not self._by_log_alone
            if self.source and (cut_off or far):
                return [FetchSnapshot(self.source)]
            if cut_off:
                return []
        for log_sequence, entry in page.entries:
            effects += self.logged(page.stream, log_sequence, entry)
            if any(isinstance(effect, ReadLog | VerifyCopy | FetchSnapshot) for effect in effects):
                return effects
        if page.entries and page.remaining:
            return [*effects, self.read_on()]
        self._look()
        return effects

    def read_on(self) -> ReadLog:
        return ReadLog(self.copy.stream, self.copy.log_sequence)

    def _apply(self, stream: str, log_sequence: int, entry: LogEntry) -> Apply:
        head = head_after(entry)
        # What is prepared behind the entry stays if it was made behind this very entry; all else is void now.
        kept = tuple(p for p in self.copy.prepared if p.entry.number > entry.number)
        if kept and not connects(head, kept[0].entry):
            kept = ()
        self.copy = Copy(stream, head, log_sequence, kept, max(self.copy.told, entry.told))
        self.committed = max(self.committed, head.sequence)
        return Apply(entry, stream, log_sequence, tuple(p.entry.number for p in kept), self.writing and entry.site == self.site)

    def _retried(self) -> list[Effect]:
        """The batch that waited, if it connects now."""
        waiting = self._waiting
        if waiting is None or self._prepared_up_to(place_before(load_entry(waiting.entry))) is None:
            return []
        self._waiting = None
        return self.replicate(waiting)

    def _of_another_log(self, stream: str, log_sequence: int, entry: LogEntry) -> list[Effect]:
        """The log was lost and begins anew (the spec's last paragraph on the runtime). It begins with whose copy it goes on from."""
        if not isinstance(entry, LogRestarted):
            return [ReadLog(self.copy.stream, 0)]
        start = place_before(entry)
        adopted = self._prepared_up_to(start)
        if adopted is None:
            if contradicts(self.copy.applied, entry):
                return self._contradicted(entry)
            return [FetchSnapshot(entry.site)]
        # They were in the lost log, or no writer will ever know; from now on they are in this one's history.
        effects: list[Effect] = [self._apply(self.copy.stream, self.copy.log_sequence, p.entry) for p in adopted]
        return [*effects, self._apply(stream, log_sequence, entry), *self._retried()]

    # -------------------------------------------------------------------------------------------- damage, snapshots

    def _contradicted(self, entry: LogEntry) -> list[Effect]:
        at, mine = place_before(entry), self.copy.applied
        return self.suspect(f"the log has {_text(at)}, the copy at {self.site} has {_text(mine)}")

    def suspect(self, doubt: str) -> list[Effect]:
        """This copy and another disagree about what is committed: is it damaged? It takes nothing until that is known."""
        self.doubt = doubt
        return [VerifyCopy()]

    def verified(self, answer: CopyVerified) -> list[Effect]:
        """A damaged copy is excluded, and made anew; two sound ones that differ stop the election for good (point 7)."""
        doubt, self.doubt = self.doubt, ""
        if not doubt:
            return []
        if answer.sound:
            return self.stop(f"one committed sequence has two hashes: {doubt}")
        self.copy, self._waiting = BLANK, None
        report = Report("copy_excluded", f"{self.key}: the hash chain of the copy at {self.site} does not hold; {doubt}")
        return [report, Install("", BLANK), self.read_on()]

    def stop(self, reason: str) -> list[Effect]:
        self.stopped = reason
        return [FailStop(reason)]

    def fetched(self, snapshot: SnapshotFetched, *, whole: bool = False) -> list[Effect]:
        """A copy of another site: taken if it is sound and ahead of this one. `whole`: with what is prepared there (the log is lost)."""
        copy = snapshot.copy
        if self.stopped or self.doubt or not snapshot.sound:
            return []
        ahead = copy.last > self.copy.last if whole or copy.stream != self.copy.stream else copy.applied.number > self.copy.applied.number
        if not ahead:
            return []
        # What this site promised to keep is kept.
        for mine in self.copy.prepared:
            if connects(copy.last, mine.entry):
                copy = _with(copy, prepared=(*copy.prepared, mine))
        self.copy, self._by_log_alone = copy, False
        self.committed = max(self.committed, copy.applied.sequence)
        return [Install(snapshot.site, copy), self.read_on()]

    def not_fetched(self) -> list[Effect]:
        """There is no snapshot to be had: the log is read instead, if it goes back far enough."""
        self._by_log_alone = True
        return [self.read_on()]

    def _say(self, to: str, message: PairMessage) -> Send:
        return Send(to, message)


def _with(copy: Copy, *, prepared: tuple[Prepared, ...]) -> Copy:
    return Copy(copy.stream, copy.applied, copy.log_sequence, prepared, copy.told)


def _text(head: Head) -> str:
    return f"event {head.sequence} of epoch {head.epoch} with hash {head.digest.hex()[:16]}"
