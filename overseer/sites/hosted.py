"""One election at this site: its machine, and what the machine wants done, in order and before its next input.

`Store`, `Apply` and `Install` are done when the next effect begins (an `Apply` need not be durable: the log has it). What has to be
waited for (the log, a snapshot, the chain) is done beside, and comes back as an input.
"""

from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from messages.codec import decode
from messages.election_pairs import BatchLogged, LogEntry, SnapshotAsked
from messages.elections import ElectionArchived, ElectionEvent
from messages.message import CATALOG
from overseer.ports.bus import BusError, BusUnavailable, WrongLastSequence
from overseer.ports.sites import Logged, StreamReplaced
from overseer.ports.store import StoreError
from overseer.sites.copying import clear, discard_torn, install, verified
from overseer.sites.fetching import Fetched, fetch
from overseer.sites.surroundings import Surroundings
from overseer.tables import View
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash, load_event
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.entry import dump_entry, load_entry, stored_events
from subsystems.elections.runtime.member import Member
from subsystems.elections.runtime.rows import COPIES, CopyRow, apply_place, load_copy, store_prepared

__all__ = ["Hosted", "untold"]

# What a copy is asked for by: one at a time, whoever of the machine's parts wants it.
_SNAPSHOT = "snapshot"
# Inputs that are handled before others have their turn: some ten milliseconds.
_BREATH = 16


class Hosted:
    """Made from the rows; may be dropped when it is `idle`. `give` takes an input at any time, from within a task of the site."""

    def __init__(self, key: str, around: Surroundings) -> None:
        self.key = key
        self._around = around
        topology = around.topology
        discard_torn(around.ledger, around.elections, key)
        self.member = Member(
            key, around.site, topology.placement(key), topology.version, load_copy(around.ledger.view, key), around.runtime
        )
        self.used_ms = around.clock.now_ms()
        # When its copy last got on: an entry was applied, a page of another copy came.
        self.moved_ms = self.used_ms
        # Its rows are being replaced: they are no copy of anything, and nothing is handled meanwhile.
        self.installing = False
        # At least so many entries of its log are not applied here, as far as the site's reader knows.
        self.behind = 0
        self._inbox: deque[tuple[steps.Input, anyio.Event | None]] = deque()
        self._working = False
        # Tasks whose answer comes back as an input, by what they ask.
        self._asking: set[object] = set()
        self._gone = False
        # Until the machine has said what becomes of it.
        self._fetched: Fetched | None = None
        # What follows from events up to here was told; it counts while the writer here serves.
        self._told = 0
        self._serving = False
        self._telling = False

    # -------------------------------------------------------------------------------------------- inputs

    @property
    def idle(self) -> bool:
        """Everything that is known of it is in the rows."""
        follower = self.member.follower
        unfinished = self._working or self._inbox or self._asking or self._telling or follower.stopped or follower.doubt
        return self.member.idle and not unfinished

    @property
    def gone(self) -> bool:
        """It was dropped, or failed: the next input needs another one."""
        return self._gone

    @property
    def full(self) -> bool:
        """So much waits that what may be lost is to be dropped."""
        return len(self._inbox) >= self._around.limits.inbox_max

    def give(self, given: steps.Input, done: anyio.Event | None = None) -> None:
        """`done` is set when everything that follows from it was performed (or will never be)."""
        if self._gone:
            if done is not None:
                done.set()
            return
        self.used_ms = self._around.clock.now_ms()
        self._inbox.append((given, done))
        if not self._working:
            self._working = True
            self._around.tasks.start_soon(self._work)

    def drop(self) -> None:
        """Forget it: late answers go nowhere."""
        self._gone = True
        self._close_fetched()
        while self._inbox:
            _, done = self._inbox.popleft()
            if done is not None:
                done.set()

    async def _work(self) -> None:
        try:
            handled = 0
            while self._inbox:
                given, done = self._inbox.popleft()
                try:
                    await self._handle(given)
                finally:
                    if done is not None:
                        done.set()
                handled += 1
                if not handled % _BREATH:
                    # Entries of the log come by hundreds where this site catches up, and applying them waits for nothing.
                    await anyio.lowlevel.checkpoint()
        except StoreError:
            raise
        except Exception as error:
            # One election's defect is not the others'.
            self.drop()
            self._around.observer.failed(self.key, error)
        finally:
            self._working = False

    async def _handle(self, given: steps.Input) -> None:
        around, member = self._around, self.member
        if around.topology.version > member.topology and not isinstance(given, steps.Placed):
            # Before anything is decided by the older one.
            await self._handle(steps.Placed(around.topology.placement(self.key), around.topology.version))
        settled = isinstance(given, steps.SnapshotFetched | steps.SnapshotFailed)
        if settled:
            # The next one may be asked for.
            self._asking.discard(_SNAPSHOT)
        effects = member.handle(given, around.clock.now_ms())
        if settled and not any(isinstance(effect, steps.Install) for effect in effects):
            self._close_fetched()
        for effect in effects:
            await self._perform(effect)

    # -------------------------------------------------------------------------------------------- effects

    async def _perform(self, effect: steps.Effect) -> None:
        around = self._around
        match effect:
            case steps.Send():
                await around.mail.send(effect.to, effect.message)
            case steps.Store():
                change = around.ledger.change()
                store_prepared(change, effect.entry)
                around.ledger.put(change)
                await around.ledger.durable()
                if self.member.writer is not None:
                    self.give(steps.Stored(effect.entry.epoch, effect.entry.number))
            case steps.Apply():
                self._apply(effect)
            case steps.Install():
                await self._install(effect)
            case steps.Decide():
                copies = 1 + self.member.placement.acknowledgements
                self.give(steps.Decided(around.decider.decide(around.ledger, self.key, effect.commands, copies=copies)))
            case steps.Answer():
                around.answer(effect.origin, effect.outcome)
            case steps.SetAlarm():
                around.alarms.at(effect.at_ms, lambda: self.give(steps.Alarm()))
            case steps.CatchUpTopology():
                around.catch_up(effect.version)
            case steps.Serving():
                around.observer.serving(self.key, effect.epoch)
                self._told, self._serving = effect.told, True
                self._tell()
                around.serving(self.key)
            case steps.Released():
                self._serving = False
                around.observer.released(self.key, effect.reason)
            case steps.Report():
                around.observer.report(effect.what, effect.detail)
            case steps.FailStop():
                self._serving = False
                around.observer.stopped(self.key, effect.reason)
            case steps.Append() | steps.ReadLog() | steps.ReadLast() | steps.FetchSnapshot() | steps.VerifyCopy():
                self._ask(effect)

    async def _install(self, effect: steps.Install) -> None:
        """Nothing else is handled before it is done; it takes as long as the copy is."""
        around = self._around
        fetched, self._fetched = self._fetched, None
        if not effect.site:
            clear(around.ledger, around.elections, self.key)
            await around.ledger.durable()
            return
        assert fetched is not None
        self.installing = True
        try:
            await install(around.ledger, around.elections, self.key, effect.copy, fetched.pages(), around.limits)
        finally:
            self.installing = False
            fetched.close()
        around.installed(self.key)
        self.behind = 0
        self._moved()

    def _apply(self, effect: steps.Apply) -> None:
        around, entry = self._around, effect.entry
        self.behind = max(0, self.behind - 1)
        self._moved()
        change = around.ledger.change()
        events = _events(entry) if isinstance(entry, BatchLogged) else []
        for event, data in zip(events, stored_events(entry) if isinstance(entry, BatchLogged) else [], strict=True):
            around.elections.evolve_stored(change, event, data)
        apply_place(change, effect)
        around.ledger.put(change)
        for record in entry.records if isinstance(entry, BatchLogged) else ():
            for timer in record.timers:
                if timer.at_ms is not None:
                    around.timer_set(self.key, timer.key, timer.at_ms)
        if not effect.own or not self._serving:
            return
        if self._told == entry.sequence and not self._telling and not any(list(around.elections.react(event)) for event in events):
            # Nothing follows: told already.
            self._told = entry.sequence + len(events)
            self.give(steps.Told(self._told))
        else:
            self._tell()

    # -------------------------------------------------------------------------------------------- what takes its time

    def _ask(self, effect: steps.Append | steps.ReadLog | steps.ReadLast | steps.FetchSnapshot | steps.VerifyCopy) -> None:
        """Beside, once at a time for each question: an answer that is on its way answers the second as well."""
        # An append is repeated only when the one before was answered.
        what: object = effect
        if isinstance(effect, steps.Append):
            what = ("append", effect.entry.epoch, effect.entry.number)
        elif isinstance(effect, steps.FetchSnapshot):
            # One from another site, where that is asked for meanwhile, may do as well; if it does not, it is asked for again.
            what = _SNAPSHOT
        if what in self._asking:
            return
        self._asking.add(what)
        work: dict[type[object], Callable[[], Awaitable[steps.Input | None]]] = {
            steps.Append: lambda: self._append(effect),  # pyright: ignore[reportArgumentType]
            steps.ReadLog: lambda: self._read(effect),  # pyright: ignore[reportArgumentType]
            steps.ReadLast: self._read_last,
            steps.FetchSnapshot: lambda: self._fetch(effect),  # pyright: ignore[reportArgumentType]
            steps.VerifyCopy: self._verify,
        }
        self._around.tasks.start_soon(self._asked, what, work[type(effect)])

    async def _asked(self, what: object, work: Callable[[], Awaitable[steps.Input | None]]) -> None:
        try:
            given = await work()
        except StoreError:
            raise
        except Exception as error:
            self.drop()
            self._around.observer.failed(self.key, error)
            return
        finally:
            if what is not _SNAPSHOT:
                self._asking.discard(what)
        if given is not None:
            self.give(given)

    async def _append(self, effect: steps.Append) -> steps.Input:
        try:
            sequence = await self._around.log.append(self.key, dump_entry(effect.entry), stream=effect.stream, expected=effect.expected)
        except WrongLastSequence:
            if await self._shortened(effect):
                # Nothing will ever come behind what is gone. Begun anew, a recovery compares the log with the copies, and stops by name.
                self._around.observer.report("log_shortened", f"{self.key}: the log ends before {effect.expected}, which it held")
                self.drop()
            return steps.AppendUnsettled(effect.entry)
        except StreamReplaced:
            return steps.AppendUnsettled(effect.entry)
        except BusError:
            # The log is away, or full: it is asked again behind this, and must not be asked all the time.
            await self._around.sleep(self._around.runtime.retry_ms)
            return steps.AppendUnsettled(effect.entry)
        self._around.observer.committed(self.key)
        return steps.Appended(effect.entry, sequence)

    async def _shortened(self, effect: steps.Append) -> bool:
        """Whether the log has lost what this append comes behind, and is the same log."""
        try:
            stream, last = await self._around.log.last(self.key)
        except BusError:
            return False
        return stream == effect.stream and (0 if last is None else last.sequence) < effect.expected

    async def _read(self, effect: steps.ReadLog) -> steps.Input | None:
        """Asked again until the bus answers: a follower waits for nothing else."""
        log, entries, after = self._around.log, self._around.limits.read_entries_max, effect.after

        async def read() -> steps.Input:
            page = await log.read(self.key, after=after, entries=entries)
            begin = after
            if effect.stream not in ("", page.stream) and after:
                begin, page = 0, await log.read(self.key, after=0, entries=entries)
            found = tuple((each.sequence, _entry(each)) for each in page.entries)
            return steps.LogRead(page.stream, begin, found, max(page.remaining, self.behind if page.remaining else 0))

        return await self._until_answered(read)

    async def _read_last(self) -> steps.Input | None:
        async def read() -> steps.Input:
            stream, last = await self._around.log.last(self.key)
            return steps.LogLast(stream, *((last.sequence, _entry(last)) if last is not None else (0, None)))

        return await self._until_answered(read)

    async def _until_answered(self, read: Callable[[], Awaitable[steps.Input]]) -> steps.Input | None:
        pauses = self._around.pauses()
        while not self._gone:
            try:
                return await read()
            except BusUnavailable:
                await self._around.sleep(pauses.next_ms())
        return None

    async def _fetch(self, effect: steps.FetchSnapshot) -> steps.Input:
        around, source = self._around, effect.site
        asked = SnapshotAsked(election=self.key, site=around.site, topology=around.topology.version)
        found: Fetched | None = None
        try:
            async with around.fetching:
                found = await fetch(
                    around.mail, asked, source, around.elections, around.limits, folder=around.spool_folder, moved=self._moved
                )
        except OSError as error:
            around.observer.report("snapshot_not_kept", f"{self.key}, from {source}: {error}")
        if found is None:
            # It would be asked for again at once.
            await around.sleep(around.runtime.retry_ms)
            return steps.SnapshotFailed(source)
        self._close_fetched()
        if self._gone:
            found.close()
        else:
            self._fetched = found
        return steps.SnapshotFetched(source, found.copy, found.sound)

    def _close_fetched(self) -> None:
        if self._fetched is not None:
            self._fetched.close()
            self._fetched = None

    def _moved(self) -> None:
        self.moved_ms = self._around.clock.now_ms()

    async def _verify(self) -> steps.Input:
        """The machine takes nothing meanwhile: the rows stand still."""
        return steps.CopyVerified(await verified(self._around.ledger.view, self.key, self.member.follower.copy))

    # -------------------------------------------------------------------------------------------- telling the world

    def _tell(self) -> None:
        if not self._telling:
            self._telling = True
            self._around.tasks.start_soon(self._telling_all)

    async def _telling_all(self) -> None:
        """What follows from events that were not told, from the rows, until the last one is told or somebody else serves."""
        around, pauses = self._around, self._around.pauses()
        try:
            while self._serving and not self._gone and self._told < self.member.follower.copy.applied.sequence:
                sequence = self._told + 1
                try:
                    for place, message in enumerate(around.elections.react(_event_at(around.ledger.view, self.key, sequence))):
                        await around.facts.tell(self.key, sequence, place, message)
                except BusError:
                    await around.sleep(pauses.next_ms())
                    continue
                pauses.reset()
                # Another writer here may have begun meanwhile, with what the log says.
                self._told = max(self._told, sequence)
            self._note_told()
            if self._serving:
                self.give(steps.Told(self._told))
        finally:
            self._telling = False

    def _note_told(self) -> None:
        """In the rows here as well as with the next entry of the log: an election that came to its end has no next one."""
        change = self._around.ledger.change()
        row = change.get(COPIES, (self.key,))
        if row is not None and row.told < self._told <= row.applied.sequence:
            change.put(COPIES, (self.key,), CopyRow(row.stream, row.applied, row.log_sequence, self._told))
            self._around.ledger.put(change)


def untold(around: Surroundings, key: str) -> bool:
    """Whether something that the world is to be told may not have been told: whoever writes has to see to it."""
    copy = load_copy(around.ledger.view, key)
    numbers = range(copy.told + 1, copy.applied.sequence + 1)
    return any(list(around.elections.react(_event_at(around.ledger.view, key, number))) for number in numbers)


def _events(entry: BatchLogged) -> list[ElectionEvent]:
    """The entry's events, brought up to the present version of their types."""
    events: list[ElectionEvent] = []
    for record in entry.records:
        for logged in record.events:
            spec = CATALOG.by_key(logged.message)
            if spec is None:
                raise TypeError(f"{logged.message} is of a newer release")
            event = decode(spec, logged.body, version=logged.version)
            assert isinstance(event, ElectionEvent)
            events.append(event)
    return events


def _event_at(view: View, key: str, sequence: int) -> ElectionEvent:
    """A committed event from the rows. Of an archived election only the archiving is left."""
    data = view.get(EVENTS, (key_hash(key), sequence))
    if data is not None:
        return load_event(data)
    row = view.get(ELECTIONS, (key,))
    assert row is not None
    return ElectionArchived(election=key, at_ms=row.last_ms, sequence=row.sequence, kind=row.kind, events=row.sequence - 1, head=row.digest)


def _entry(logged: Logged) -> LogEntry:
    return load_entry(logged.body)
