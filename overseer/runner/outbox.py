"""Recorded -> told: publishes what is committed, strictly in order, by compare-and-set under the sender's own filter.

The last message under that filter *is* the published mark: read at start and whenever an outcome is unknown. Whatever is
stored behind the mark is published, nothing else: so a crash between commit and publish, a lost answer or an overtaken
retry can neither lose nor double a message.
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
from overseer.runner.schema import OutboxRow
from overseer.tables import Rows, Table

__all__ = ["Outbox", "message_id_of"]

# Rows read from the store in one go when catching up.
_LOAD_ROWS = 2_000


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

    def __init__(self, line: Line, rows: Rows, table: Table[OutboxRow], incarnation: str, limits: Limits) -> None:
        self.line = line
        self.trouble = ""
        self.published = 0
        self._rows = rows
        self._table = table
        self._incarnation = incarnation
        self._limits = limits
        self._waiting: deque[tuple[Mark, Outgoing]] = deque()
        # Behind what is waiting there is more in the store than was loaded.
        self._more_in_store = False
        self._last_sequence = 0
        self._mark: Mark = (0, 0)
        # The incarnation found under our filter at start, when it was not ours.
        self._previous = ""
        self._wake = anyio.Event()
        self._empty = anyio.Event()

    def __len__(self) -> int:
        """Messages committed and not known to be published (as far as loaded)."""
        return len(self._waiting)

    @property
    def mark(self) -> Mark:
        """The last message known to be published: (journal index, place)."""
        return self._mark

    async def open(self) -> None:
        """Find the published mark and load what is behind it. Raises BusUnavailable."""
        last = await self.line.last_own()
        found = message_id_of(last)
        if found is not None and found.incarnation != self._incarnation:
            self._previous = found.incarnation
        self._adopt(last)
        self._waiting.clear()
        self._load()

    def _adopt(self, stored: StoredMessage | None) -> None:
        found = message_id_of(stored)
        self._last_sequence = stored.sequence if stored is not None else 0
        if found is None or found.incarnation == self._previous:
            self._mark = (0, 0)
        elif found.incarnation == self._incarnation:
            self._mark = (found.sequence, found.index)
        else:
            raise SecondCopy(self.line.sender, self._incarnation, found.incarnation)

    def _load(self) -> None:
        """Refill from the store, behind the last one waiting or published."""
        last = self._waiting[-1][0] if self._waiting else self._mark
        self._more_in_store = False
        for key, data in self._rows.scan(self._table.name, self._table.pack((last[0], last[1] + 1)), None):
            if len(self._waiting) >= _LOAD_ROWS:
                self._more_in_store = True
                break
            mark = self._table.unpack(key)
            self._waiting.append(((mark[0], mark[1]), outgoing(decode_value(OutboxRow, data))))

    def offer(self, messages: Sequence[tuple[Mark, Outgoing]]) -> None:
        """Messages just committed, in order."""
        if messages and not self._more_in_store:
            self._waiting.extend(messages)
            self._wake.set()

    def recheck(self) -> None:
        """The connection was lost: the stream may have lost our last messages; look before anything else."""
        self.trouble = self.trouble or "looking at the stream again"
        self._wake.set()

    async def flushed(self) -> None:
        """Return when everything offered is published."""
        while self._waiting:
            await self._empty.wait()

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
            self._empty.set()
            self._empty = anyio.Event()
            await self._wake.wait()
            self._wake = anyio.Event()

    async def _resync(self) -> None:
        """What is last under our filter decides what is still to be sent: after an unknown outcome, or when it moved.

        A mark below the one we had means that the stream lost its tail: what is missing is sent again.
        """
        before = self._mark
        self._adopt(await self.line.last_own())
        if self._mark < before:
            self._waiting.clear()
            self._load()
        while self._waiting and self._waiting[0][0] <= self._mark:
            self._waiting.popleft()
            self.published += 1

    async def _publish_some(self) -> None:
        chosen = [self._waiting[i] for i in range(self._next_batch())]
        try:
            self._last_sequence = await self.line.append([message for _, message in chosen], self._last_sequence)
        except WrongLastSequence:
            await self._resync()
            return
        for _ in chosen:
            self._mark = self._waiting.popleft()[0]
        self.published += len(chosen)
        if self._more_in_store and len(self._waiting) < _LOAD_ROWS // 2:
            self._load()

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
