"""Recorded -> told: publishes what is committed, strictly in order, by compare-and-set under the sender's own filter.

The last message under that filter *is* the published mark: read at start and whenever an outcome is unknown. Whatever is
stored behind the mark is published, nothing else: so a crash between commit and publish, a lost answer or an overtaken
retry can neither lose nor double a message. Only a stream trimmed beyond our last message has no such mark: then the one
kept with the last commit is taken.
"""

import time
from collections import deque
from collections.abc import Sequence

import anyio

from messages.codec import decode_value
from messages.subjects import HEADER_ID, MessageId, SubjectError
from overseer.limits import Limits
from overseer.pauses import Pauses
from overseer.ports.bus import BusUnavailable, Line, OutcomeUnknown, Outgoing, StoredMessage, StreamFull, WrongLastSequence
from overseer.ports.tracer import Tracer
from overseer.runner.engine import Mark, outgoing
from overseer.runner.errors import SecondCopy
from overseer.runner.schema import LAST_PLACE, Head, OutboxRow, Published
from overseer.runner.trust import Trust, signed
from overseer.tables import Rows, Table

__all__ = ["Outbox", "message_id_of"]

# Messages looked at, newest first, for our own last one behind which a copy of us has written.
_LOOKED_BACK_MAX = 10_000
# Messages published one by one after a batch was not taken: others may hold open all batches that the server has room for.
_SINGLES_AFTER_REFUSAL = 1_000
# Rows read from the store in one go when catching up.
_LOAD_ROWS = 2_000
_NOTHING: Mark = (0, 0)


def message_id_of(stored: StoredMessage | None) -> MessageId | None:
    """The id a stored message of ours carries, or None."""
    if stored is None:
        return None
    try:
        return MessageId.parse(stored.headers.get(HEADER_ID, ""))
    except SubjectError:
        return None


class Outbox:
    """The way out onto one line. `offer` what a commit wrote; `drain` publishes until told to stop."""

    def __init__(
        self,
        line: Line,
        rows: Rows,
        table: Table[OutboxRow],
        head: Head,
        limits: Limits,
        *,
        name: str = "node",
        trust: Trust | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`trust` signs what goes to other nodes; `tracer` is told of what is out."""
        self.line = line
        self._trust = trust
        self._tracer = tracer
        self.trouble = ""
        self.published = 0
        self._rows = rows
        self._table = table
        self._incarnation = head.incarnation.hex()
        # Rows before this record were rendered under earlier incarnations of this store.
        self._began = head.began
        self._past = frozenset(past.hex() for past in head.past)
        self._kept = head.published.get(name)
        self._limits = limits
        self._waiting: deque[tuple[Mark, Outgoing]] = deque()
        # Of their bodies.
        self._bytes = 0
        # Behind what is waiting there is more in the store than was loaded.
        self._more_in_store = False
        # The last row known to be committed: during a commit more can be read, but must not be told.
        self._committed: Mark = _NOTHING
        # The last row that an append was begun with.
        self._attempted: Mark = _NOTHING
        # What the next append expects to be last under the filter; 0 when nothing is there.
        self._expected = 0
        self._mark: Mark = _NOTHING
        # Where the mark was stored; stays when the stream is trimmed beyond it.
        self._mark_sequence = 0
        self._stream = ""
        self._wake = anyio.Event()
        self._moved = anyio.Event()
        # Messages of one append at most: a full stream that has room for a few takes a few.
        self._at_once = limits.append_batch_max
        # So many more go one by one.
        self._singles = 0
        # What is waiting can only go out once the stream was trimmed.
        self.no_room = False

    def __len__(self) -> int:
        """Messages committed and not known to be published (as far as loaded)."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether intake must stop until some of it is published."""
        limits = self._limits
        return self._more_in_store or len(self._waiting) > limits.outbox_messages_max or self._bytes > limits.outbox_bytes_max

    @property
    def mark(self) -> Mark:
        """The last message known to be published: (journal index, place)."""
        return self._mark

    def known(self) -> Published:
        """The mark as the next commit keeps it."""
        return Published(stream=self._stream, sequence=self._mark_sequence, index=self._mark[0], place=self._mark[1])

    async def open(self) -> None:
        """Find the published mark and load what is behind it. Raises BusUnavailable, SecondCopy."""
        self._committed = next((self._unpack(key) for key, _ in self._rows.scan(self._table.name, b"", None, reverse=True)), _NOTHING)
        state = await self.line.state()
        self._stream = state.id
        if self._kept is not None and self._kept.stream == state.id:
            self._mark, self._mark_sequence = (self._kept.index, self._kept.place), self._kept.sequence
        await self._look(opening=True)
        # Rows that are long out may have been dropped.
        self._committed = max(self._committed, self._mark)
        self._forget()
        self._load()

    def _unpack(self, key: bytes) -> Mark:
        index, place = self._table.unpack(key)
        return index, place

    async def _look(self, *, opening: bool = False) -> None:
        """Adopt what is last under our filter as the mark."""
        stored = await self.line.last_own()
        if stored is None:
            await self._look_for_nothing()
            return
        found = message_id_of(stored)
        if found is not None and found.incarnation == self._incarnation:
            mark = (found.sequence, found.index)
            if not opening and mark > self._mark and not self._tried(mark, stored):
                # A copy of our store is at work: it wrote what we never did, or not yet.
                raise SecondCopy(self.line.sender, self._incarnation, f"{found.incarnation} at {found.sequence}")
        elif found is not None and found.incarnation in self._past and (opening or stored.sequence <= self._mark_sequence):
            # Ours, of before this store was restored: what it wrote up to its last own record is out, however far it went.
            mark = min((found.sequence, found.index), (self._began - 1, LAST_PLACE))
            if opening and found.sequence < self._began - 1:
                # It may be our own (later records told nothing on this line), or that of a copy of an older state of ours, which
                # then wrote behind our own last message.
                mark = await self._last_row_told(stored.sequence, mark)
        else:
            raise SecondCopy(self.line.sender, self._incarnation, found.incarnation if found is not None else "(without an id)")
        self._mark, self._mark_sequence, self._expected = mark, stored.sequence, stored.sequence

    async def _last_row_told(self, until: int, otherwise: Mark) -> Mark:
        """The newest row of ours that is in the stream up to that sequence: looked for as far back as the kept mark."""
        state = await self.line.state()
        first = max(state.first_sequence, self._mark_sequence, until - _LOOKED_BACK_MAX)
        for sequence in range(until, first - 1, -1):
            stored = await self.line.message_at(sequence)
            found = message_id_of(stored)
            if stored is None or found is None or found.sender != self.line.sender:
                continue
            row = self._rows.get(self._table.name, self._table.pack((found.sequence, found.index)))
            told = None if row is None else decode_value(OutboxRow, row)
            if told is not None and told.headers.get(HEADER_ID) == stored.headers[HEADER_ID] and told.body == stored.body:
                return found.sequence, found.index
        return max(self._mark, otherwise)

    def _tried(self, mark: Mark, stored: StoredMessage) -> bool:
        """Whether this is a message that we have tried to publish, and heard no answer."""
        for at, message in self._waiting:
            if at >= mark:
                return mark == at <= self._attempted and (message.subject, message.body) == (stored.subject, stored.body)
        return False

    async def _look_for_nothing(self) -> None:
        """Nothing of ours is there: trimmed away after it was published, or lost with the stream."""
        self._expected = 0
        state = await self.line.state()
        lost = state.id != self._stream or state.first_sequence <= self._mark_sequence or state.last_sequence < self._mark_sequence
        # Trimmed or not: a sequence that was given again had lost its first message, which was our last one.
        if lost or (self._mark_sequence and await self.line.message_at(self._mark_sequence) is not None):
            self._mark, self._mark_sequence = _NOTHING, 0
        self._stream = state.id

    def _load(self) -> None:
        """Refill from the store, behind the last one waiting or published."""
        last = self._waiting[-1][0] if self._waiting else self._mark
        self._more_in_store = False
        start, end = self._table.pack((last[0], last[1])), self._table.pack(self._committed)
        for key, data in self._rows.scan(self._table.name, start + b"\0", end + b"\0"):
            if len(self._waiting) >= _LOAD_ROWS or self._bytes > self._limits.outbox_bytes_max:
                self._more_in_store = True
                break
            self._put(self._unpack(key), outgoing(decode_value(OutboxRow, data)))

    def _put(self, mark: Mark, message: Outgoing) -> None:
        self._waiting.append((mark, message))
        self._bytes += len(message.body)

    def _take(self) -> Mark:
        """The first one is out: its mark."""
        mark, message = self._waiting.popleft()
        self._bytes -= len(message.body)
        return mark

    def _forget(self) -> None:
        self._waiting.clear()
        self._bytes = 0

    def offer(self, messages: Sequence[tuple[Mark, Outgoing]]) -> None:
        """Messages just committed, in order."""
        if not messages:
            return
        self._committed = messages[-1][0]
        if not self._more_in_store:
            for mark, message in messages:
                self._put(mark, message)
            self._wake.set()

    def recheck(self) -> None:
        """The connection was lost: the stream may have lost our last messages; look before anything else."""
        self.trouble = self.trouble or "looking at the stream again"
        self._wake.set()

    async def flushed(self) -> None:
        """Return when everything offered until now is published."""
        until = self._committed
        while self._waiting and self._mark < until:
            await self._moved.wait()

    async def flushed_or_no_room(self) -> None:
        """As `flushed`, or return when the stream is full: then only trimming what is acknowledged makes room."""
        until = self._committed
        while self._waiting and self._mark < until and not self.no_room:
            await self._moved.wait()

    async def drain(self) -> None:
        """Publish for ever. Raises SecondCopy; waits out everything else, saying so in `trouble`."""
        pauses = Pauses(self._limits.reconnect_ms, self._limits.reconnect_ms_max)
        while True:
            try:
                if self.trouble:
                    await self._resync()
                    self.trouble = ""
                while self._waiting:
                    await self._publish_some()
                    self.trouble = ""
                    pauses.reset()
            except (BusUnavailable, OutcomeUnknown, StreamFull) as error:
                self.trouble = f"{type(error).__name__}: {error}"
                if isinstance(error, StreamFull):
                    self._at_once = max(1, self._at_once // 8)
                    self.no_room = True
                    self._tell()
                await anyio.sleep(pauses.next_ms() / 1000)
                continue
            await self._wake.wait()
            self._wake = anyio.Event()

    async def _resync(self) -> None:
        """What is last under our filter decides what is still to be sent: after an unknown outcome, or when it moved.

        A mark below the one we had means that the stream lost its tail: what is missing is sent again.
        """
        before = self._mark
        await self._look()
        if self._mark < before:
            self._forget()
            self._load()
        while self._waiting and self._waiting[0][0] <= self._mark:
            self._take()
            self.published += 1
        self._tell()

    async def _publish_some(self) -> None:
        chosen = [self._waiting[i] for i in range(self._next_batch())]
        self._attempted = max(self._attempted, chosen[-1][0])
        began_ns = time.time_ns() if self._tracer is not None else 0
        try:
            self._expected = await self.line.append([signed(self._trust, message) for _, message in chosen], self._expected)
        except WrongLastSequence:
            await self._resync()
            return
        except BusUnavailable:
            self._singles = _SINGLES_AFTER_REFUSAL if len(chosen) > 1 else self._singles
            raise
        self._singles = max(0, self._singles - 1)
        self._at_once, self.no_room = min(2 * self._at_once, self._limits.append_batch_max), False
        self._mark_sequence = self._expected
        for _ in chosen:
            self._mark = self._take()
        self.published += len(chosen)
        if self._tracer is not None:
            self._tracer.sent([message for _, message in chosen], began_ns, time.time_ns())
        self._tell()

    def _tell(self) -> None:
        """The mark moved: load more, and let those who wait look."""
        if self._more_in_store and len(self._waiting) < _LOAD_ROWS // 2:
            self._load()
        self._moved.set()
        self._moved = anyio.Event()

    def _next_batch(self) -> int:
        """How many to append at once: one by one below the size from which an atomic batch pays."""
        count = min(len(self._waiting), self._at_once)
        if self._singles or count < self._limits.append_batch_min:
            return 1
        size = 0
        for i in range(count):
            message = self._waiting[i][1]
            size += len(message.body) + 512
            if size > self._limits.append_bytes_max:
                return max(1, i)
        return count
