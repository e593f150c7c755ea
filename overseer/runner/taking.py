"""Bytes in, ahead of the decisions: pull one line in order and without gaps, read, have signatures checked meanwhile."""

from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from messages.overseer import Position
from overseer.checks import Memo, Verifier
from overseer.limits import Limits
from overseer.pauses import Pauses
from overseer.ports.bus import BusUnavailable, Delivery, Line
from overseer.ports.store import Store
from overseer.runner.errors import StreamChanged
from overseer.runner.intake import Intake, Reader
from overseer.runner.observer import Observer, Progress, Step
from overseer.runner.opening import holds
from overseer.subsystem import Check, Subsystem
from overseer.tables import View

__all__ = ["ReadBatch", "Taker"]

# Signature checks after which a pull is handed over in parts: the workers begin with the first while the next is read, and
# have others while it is decided. About 100 ms of one core.
_CHECKS_AT_ONCE = 2_048


class ReadBatch(msgspec.Struct):
    """A pulled batch of one line, read; `memo` holds the checks computed ahead."""

    line: str
    intakes: deque[Intake]
    memo: Memo


class Taker:
    """Takes one line's deliveries from behind `position` on and hands them over, for ever.

    `position` is of what was decided last; `resumed` is called whenever the consumer was set anew; `say` reports trouble of a place
    once, "" when it has passed; `committed` returns when everything up to a sequence is.
    """

    def __init__(
        self,
        name: str,
        line: Line,
        reader: Reader,
        subsystem: Subsystem,
        store: Store,
        verifier: Verifier,
        hand_over: Callable[[ReadBatch], Awaitable[None]],
        *,
        position: Callable[[], Position],
        limits: Limits,
        progress: Progress,
        observer: Observer,
        say: Callable[[str, str], None],
        resumed: Callable[[], None],
        committed: Callable[[int], Awaitable[None]],
    ) -> None:
        self._name = name
        self._line = line
        self._reader = reader
        self._subsystem = subsystem
        self._store = store
        self._verifier = verifier
        self._hand_over = hand_over
        self._position = position
        self._taken = position().sequence
        self._limits = limits
        self._progress = progress
        self._observer = observer
        self._say = say
        self._resumed = resumed
        self._committed = committed

    async def run(self) -> None:
        """Raises StreamChanged; waits out a bus that is away."""
        pauses = Pauses(self._limits.reconnect_ms, self._limits.reconnect_ms_max)
        while True:
            try:
                # Setting the consumer counts as acknowledging all before, and what is acknowledged may be trimmed.
                await self._committed(self._taken)
                await self._check_stream()
                await self._line.seek(self._taken + 1)
                # Replaced since the first look, it would have us wait for a sequence of the old one.
                await self._check_stream()
                self._resumed()
                expected = 1
                while True:
                    deliveries = await self._line.pull(self._limits.batch_messages_max, self._limits.pull_wait_ms)
                    pauses.reset()
                    self._progress.trouble = ""
                    self._say(self._name, "")
                    whole = _contiguous(deliveries, expected)
                    if whole:
                        expected += len(whole)
                        # A redelivered message is behind us already.
                        self._taken = max(self._taken, *(delivery.message.sequence for delivery in whole))
                        self._observer.step(Step.PULLED)
                        await self._read(whole)
                    if len(whole) < len(deliveries):
                        # A torn pull: an ack of what came later would lose what is missing. Start again behind what we have.
                        self._observer.trouble(f"gap in the deliveries of {self._name} behind {self._taken}")
                        break
            except BusUnavailable as error:
                self._progress.trouble = f"bus: {error}"
                self._say(self._name, self._progress.trouble)
                await anyio.sleep(pauses.next_ms() / 1000)

    async def _check_stream(self) -> None:
        state = await self._line.state()
        if not await holds(self._line, state, self._position()):
            raise StreamChanged(self._line.stream, self._taken, state.last_sequence, state.id)

    async def _read(self, deliveries: list[Delivery]) -> None:
        read = deque[Intake]()
        checks: list[Check] = []
        size = 0
        view = View(self._store)
        for delivery in deliveries:
            intake = self._reader.read(delivery)
            read.append(intake)
            size += len(delivery.message.body)
            if intake.message is not None:
                checks.extend(self._subsystem.checks(view, intake.message))
            if size > self._limits.batch_bytes_max or len(checks) >= _CHECKS_AT_ONCE:
                await self._push(read, checks)
                read, checks, size = deque[Intake](), [], 0
        if read:
            await self._push(read, checks)

    async def _push(self, read: deque[Intake], checks: list[Check]) -> None:
        self._progress.waiting += len(read)
        await self._hand_over(ReadBatch(self._name, read, self._verifier.ahead(checks)))


def _contiguous(deliveries: list[Delivery], expected: int) -> list[Delivery]:
    """The leading deliveries whose consumer sequences follow one another from `expected`."""
    for i, delivery in enumerate(deliveries):
        if delivery.consumer_sequence != expected + i:
            return deliveries[:i]
    return deliveries
