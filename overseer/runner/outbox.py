"""Recorded -> told: publishes what is committed, strictly in order, by compare-and-set under the sender's own filter.

The last message under that filter *is* the published mark: read at start and whenever an outcome is unknown. Whatever is
stored behind the mark is published, nothing else: so a crash between commit and publish, a lost answer or an overtaken
retry can neither lose nor double a message. Only a stream trimmed beyond our last message has no such mark: then the one
kept with the last commit is taken.
"""

from collections import deque
from collections.abc import Sequence

import anyio

from messages.codec import decode_value
from messages.subjects import HEADER_ID, MessageId, SubjectError
from overseer.limits import Limits
from overseer.ports.bus import BusUnavailable, Line, OutcomeUnknown, Outgoing, StoredMessage, StreamFull, WrongLastSequence
from overseer.runner.engine import Mark, outgoing
from overseer.runner.errors import SecondCopy
from overseer.runner.schema import Head, OutboxRow, Published
from overseer.tables import Rows, Table

__all__ = ["Outbox", "message_id_of"]

# Rows read from the store in one go when catching up.
_LOAD_ROWS = 2_000
_NOTHING: Mark = (0, 0)
# Behind every place in a record.
_LAST_PLACE = 2**32 - 1


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

    def __init__(self, line: Line, rows: Rows, table: Table[OutboxRow], head: Head, limits: Limits, *, name: str = "node") -> None:
        self.line = line
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
        # Behind what is waiting there is more in the store than was loaded.
        self._more_in_store = False
        # The last row known to be committed: during a commit more can be read, but must not be told.
        self._committed: Mark = _NOTHING
        # What the next append expects to be last under the filter; 0 when nothing is there.
        self._expected = 0
        self._mark: Mark = _NOTHING
        # Where the mark was stored; stays when the stream is trimmed beyond it.
        self._mark_sequence = 0
        self._stream = ""
        self._wake = anyio.Event()
        self._moved = anyio.Event()

    def __len__(self) -> int:
        """Messages committed and not known to be published (as far as loaded)."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether intake must stop until some of it is published."""
        return self._more_in_store or len(self._waiting) > self._limits.outbox_messages_max

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
        self._waiting.clear()
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
            if not opening and mark > self._committed:
                # A copy of our store is at work: it wrote what we never did.
                raise SecondCopy(self.line.sender, self._incarnation, f"{found.incarnation} at {found.sequence}")
        elif found is not None and found.incarnation in self._past and (opening or stored.sequence <= self._mark_sequence):
            # Ours, of before this store was restored: what it wrote up to its last own record is out, however far it went.
            mark = min((found.sequence, found.index), (self._began - 1, _LAST_PLACE))
        else:
            raise SecondCopy(self.line.sender, self._incarnation, found.incarnation if found is not None else "(without an id)")
        self._mark, self._mark_sequence, self._expected = mark, stored.sequence, stored.sequence

    async def _look_for_nothing(self) -> None:
        """Nothing of ours is there: trimmed away after it was published, or lost with the stream."""
        self._expected = 0
        state = await self.line.state()
        if state.id != self._stream or state.first_sequence <= self._mark_sequence:
            self._mark, self._mark_sequence = _NOTHING, 0
        self._stream = state.id

    def _load(self) -> None:
        """Refill from the store, behind the last one waiting or published."""
        last = self._waiting[-1][0] if self._waiting else self._mark
        self._more_in_store = False
        start, end = self._table.pack((last[0], last[1])), self._table.pack(self._committed)
        for key, data in self._rows.scan(self._table.name, start + b"\0", end + b"\0"):
            if len(self._waiting) >= _LOAD_ROWS:
                self._more_in_store = True
                break
            self._waiting.append((self._unpack(key), outgoing(decode_value(OutboxRow, data))))

    def offer(self, messages: Sequence[tuple[Mark, Outgoing]]) -> None:
        """Messages just committed, in order."""
        if not messages:
            return
        self._committed = messages[-1][0]
        if not self._more_in_store:
            self._waiting.extend(messages)
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

    async def drain(self) -> None:
        """Publish for ever. Raises SecondCopy; waits out everything else, saying so in `trouble`."""
        pause_ms = self._limits.reconnect_ms
        while True:
            try:
                if self.trouble:
                    await self._resync()
                    self.trouble = ""
                while self._waiting:
                    await self._publish_some()
                    self.trouble = ""
                    pause_ms = self._limits.reconnect_ms
            except (BusUnavailable, OutcomeUnknown, StreamFull) as error:
                self.trouble = f"{type(error).__name__}: {error}"
                await anyio.sleep(pause_ms / 1000)
                pause_ms = min(pause_ms * 2, self._limits.reconnect_ms_max)
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
            self._waiting.clear()
            self._load()
        while self._waiting and self._waiting[0][0] <= self._mark:
            self._waiting.popleft()
            self.published += 1
        self._tell()

    async def _publish_some(self) -> None:
        chosen = [self._waiting[i] for i in range(self._next_batch())]
        try:
            self._expected = await self.line.append([message for _, message in chosen], self._expected)
        except WrongLastSequence:
            await self._resync()
            return
        self._mark_sequence = self._expected
        for _ in chosen:
            self._mark = self._waiting.popleft()[0]
        self.published += len(chosen)
        self._tell()

    def _tell(self) -> None:
        """The mark moved: load more, and let those who wait look."""
        if self._more_in_store and len(self._waiting) < _LOAD_ROWS // 2:
            self._load()
        self._moved.set()
        self._moved = anyio.Event()

    def _next_batch(self) -> int:
        """How many to append at once: one by one below the size from which an atomic batch pays."""
        count = min(len(self._waiting), self._limits.append_batch_max)
        if count < self._limits.append_batch_min:
            return 1
        size = 0
        for i in range(count):
            message = self._waiting[i][1]
            size += len(message.body) + 512
            if size > self._limits.append_bytes_max:
                return max(1, i)
        return count
