"""A stream in memory: messages, limits, compare-and-set and consumers, as the JetStream server has them.

Every mutation is synchronous: nothing can come between a check and what it allows.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence

import anyio

from overseer.ports.bus import (
    BusUnavailable,
    Delivery,
    OutcomeUnknown,
    Outgoing,
    StoredMessage,
    StreamFull,
    StreamState,
    WrongLastSequence,
)
from overseer.ports.clock import Clock
from overseer.ports.envelope import header_bytes, matches

__all__ = ["MemoryConsumer", "MemoryStream"]


class MemoryConsumer:
    """A durable consumer: what it wants and how far it was delivered and acknowledged."""

    def __init__(self, durable: str, filters: tuple[str, ...]) -> None:
        self.durable = durable
        self.filters = filters
        # The stream sequence looked at next, and the consumer sequence given last.
        self.next_sequence = 1
        self.delivered = 0
        # Stream sequence up to which everything was acknowledged.
        self.acknowledged = 0
        # Stream sequences to be delivered once more before anything else.
        self.again: deque[int] = deque()
        # Counts resets: a line that did not make the last one has lost its place.
        self.resets = 0

    def reset(self, sequence: int) -> int:
        """Deliver from `sequence` on, counting from 1. Returns the reset's number."""
        self.next_sequence = sequence
        self.acknowledged = sequence - 1
        self.delivered = 0
        self.again.clear()
        self.resets += 1
        return self.resets

    def wants(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.filters)


class MemoryStream:
    """One stream. `messages_max` and `bytes_max` refuse what does not fit (discard: new); None is no limit."""

    def __init__(
        self,
        name: str,
        *,
        subjects: Sequence[str],
        stream_id: str,
        clock: Clock,
        messages_max: int | None = None,
        bytes_max: int | None = None,
    ) -> None:
        self.name = name
        self.subjects = tuple(subjects)
        self.id = stream_id
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.consumers: dict[str, MemoryConsumer] = {}
        # Counts what no connection survives (a crash, a replacement): a line of an earlier one has lost its place.
        self.generation = 0
        self._clock = clock
        # The disk is full and the server says nothing: every append ends in OutcomeUnknown, and nothing is stored.
        self.silent = False
        # Sees every message that was stored, right after it was.
        self.on_stored: Callable[[StoredMessage], None] | None = None
        # What is missing below this was trimmed, though single messages are still there.
        self._trimmed_below = 0
        self._first = 1
        # By sequence, from `_first` on; None where one was trimmed from between others.
        self._messages: list[StoredMessage | None] = []
        self._held = 0
        self._bytes = 0
        # By pattern, up to which sequence was looked, and what was found; until something is dropped.
        self._last_under: dict[str, tuple[int, StoredMessage | None]] = {}
        self._changed = anyio.Event()

    # --- reading ---------------------------------------------------------------------------------------------------------

    def state(self) -> StreamState:
        used = ((self._held, self.messages_max), (self._bytes, self.bytes_max))
        fill = max((is_ / most for is_, most in used if most), default=0.0)
        first = max(self._first, min(self._trimmed_below, self.last_sequence + 1))
        return StreamState(self.id, first, self.last_sequence, fill)

    @property
    def last_sequence(self) -> int:
        return self._first + len(self._messages) - 1

    def messages(self, after: int = 0) -> list[StoredMessage]:
        """All that are still there behind sequence `after`, in order."""
        return [message for message in self._messages[max(0, after + 1 - self._first) :] if message is not None]

    def at(self, sequence: int) -> StoredMessage | None:
        place = sequence - self._first
        return self._messages[place] if 0 <= place < len(self._messages) else None

    def last_under(self, pattern: str) -> StoredMessage | None:
        """The last message still there whose subject matches; a trimmed one is gone from this view too."""
        looked, found = self._last_under.get(pattern, (self._first - 1, None))
        for message in reversed(self._messages[looked + 1 - self._first :]):
            if message is not None and matches(pattern, message.subject):
                found = message
                break
        self._last_under[pattern] = self.last_sequence, found
        return found

    def take(self, consumer: MemoryConsumer, batch: int) -> list[Delivery]:
        """The next deliveries of `consumer`, at most `batch`; they count as delivered."""
        taken: list[Delivery] = []
        while len(taken) < batch:
            message = self._next(consumer)
            if message is None:
                break
            consumer.delivered += 1
            taken.append(Delivery(consumer.delivered, message, f"{consumer.durable} {consumer.resets} {message.sequence}"))
        return taken

    def _next(self, consumer: MemoryConsumer) -> StoredMessage | None:
        while consumer.again:
            message = self.at(consumer.again.popleft())
            if message is not None:
                return message
        consumer.next_sequence = max(consumer.next_sequence, self._first)
        while consumer.next_sequence <= self.last_sequence:
            message = self.at(consumer.next_sequence)
            consumer.next_sequence += 1
            if message is not None and consumer.wants(message.subject):
                return message
        return None

    @property
    def changed(self) -> anyio.Event:
        """Set when something is stored, or the stream is cut off, replaced or reset; another one from then on."""
        return self._changed

    # --- writing ---------------------------------------------------------------------------------------------------------

    def store(self, messages: Sequence[Outgoing], *, own_filter: str = "", expected_last: int | None = None) -> int:
        """All or none. Returns the last sequence.

        Raises WrongLastSequence, StreamFull, BusUnavailable (no such subject here), OutcomeUnknown (when `silent`).
        """
        if self.silent:
            raise OutcomeUnknown("no answer: the server is silent")
        for message in messages:
            if not any(matches(subject, message.subject) for subject in self.subjects):
                raise BusUnavailable(f"nobody listens on {message.subject}")
        if expected_last is not None:
            last = self.last_under(own_filter)
            found = 0 if last is None else last.sequence
            if found != expected_last:
                raise WrongLastSequence(f"the last sequence under {own_filter} is {found}, not {expected_last}")
        size = sum(_stored_bytes(message) for message in messages)
        if self.messages_max is not None and self._held + len(messages) > self.messages_max:
            raise StreamFull(f"{self.name}: maximum messages exceeded ({self.messages_max}): trim the stream or raise its limit")
        if self.bytes_max is not None and self._bytes + size > self.bytes_max:
            raise StreamFull(f"{self.name}: maximum bytes exceeded ({self.bytes_max}): trim the stream or raise its limit")
        self._bytes += size
        self._held += len(messages)
        for message in messages:
            sequence = self.last_sequence + 1
            stored = StoredMessage(sequence, self._clock.now_ms(), message.subject, dict(message.headers), message.body)
            self._messages.append(stored)
            if self.on_stored is not None:
                self.on_stored(stored)
        self.wake()
        return self.last_sequence

    def trim(self, below: int, *, keep: Collection[int] = ()) -> int:
        """Drop everything before sequence `below`, but for `keep` (the overseer's purge spares each sender's last message).

        Returns how many went.
        """
        gone = min(max(0, below - self._first), len(self._messages))
        before = self._held
        self._trimmed_below = max(self._trimmed_below, min(below, self.last_sequence + 1))
        for at in range(gone):
            if self._first + at not in keep:
                self._drop(self._messages[at : at + 1])
                self._messages[at] = None
        empty = next((at for at, message in enumerate(self._messages) if message is not None), len(self._messages))
        del self._messages[:empty]
        self._first += empty
        return before - self._held

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = anyio.Event()

    # --- what a simulation does to it ------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Every line loses its place; stored messages and acknowledgements stay (the server was killed and came back)."""
        self.generation += 1
        self.wake()

    def truncate(self, messages: int) -> None:
        """Lose the last `messages` (power failed before they were synced); their sequences are given again."""
        kept = max(0, len(self._messages) - messages)
        self._drop(self._messages[kept:])
        del self._messages[kept:]
        self.disconnect()

    def replace(self, stream_id: str) -> None:
        """Somebody deleted the stream and made it anew: another id, empty, consumers at the start."""
        self.id = stream_id
        self._messages.clear()
        self._last_under.clear()
        self._first, self._held, self._bytes, self._trimmed_below = 1, 0, 0, 0
        for consumer in self.consumers.values():
            consumer.reset(1)
        self.disconnect()

    def roll_back_acks(self, durable: str, acknowledged: int) -> None:
        """Forget the consumer's last acknowledgements: the server was killed within 100 ms of them."""
        consumer = self.consumers[durable]
        consumer.acknowledged = min(consumer.acknowledged, acknowledged)
        self.disconnect()

    def deliver_again(self, durable: str, sequence: int) -> None:
        """The server delivers a message once more, under a new consumer sequence."""
        self.consumers[durable].again.append(sequence)
        self.wake()

    def _drop(self, messages: Sequence[StoredMessage | None]) -> None:
        self._last_under.clear()
        gone = [message for message in messages if message is not None]
        self._held -= len(gone)
        self._bytes -= sum(_stored_bytes(message) for message in gone)


def _stored_bytes(message: Outgoing | StoredMessage) -> int:
    """What the file store charges for a message: a record header and checksum beside its parts."""
    overhead = 30 + (4 if message.headers else 0)
    return overhead + len(message.subject) + header_bytes(message.headers) + len(message.body)
