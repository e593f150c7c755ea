"""Signals from the node's stream: governance mode and the chain are known at every site, as whoever writes decides by them."""

from collections.abc import Callable

import anyio.lowlevel

from overseer.pauses import Pauses
from overseer.ports.bus import BusUnavailable, Delivery, Line
from overseer.runner.intake import Reader
from overseer.sites.declaration import SIGNALS, declaration
from overseer.sites.surroundings import Surroundings
from overseer.sites.tables import PLACES, Place, signal_place
from overseer.subsystem import Context
from overseer.verification import verify_check

__all__ = ["SignalReader"]

_BATCH = 64
_WAIT_MS = 1_000


class SignalReader:
    """Reads the site's own consumer; its place is kept with what it read."""

    def __init__(self, around: Surroundings, line: Line, node: str, *, heard: Callable[[], None]) -> None:
        """`heard` is called behind each signal by which something new is known."""
        self._around = around
        self._line = line
        self._heard = heard
        self._reader = Reader(node, declaration(line.sender))
        self.place: Place | None = around.ledger.view.get(PLACES, signal_place)

    async def run(self) -> None:
        """For ever; waits out the bus."""
        around = self._around
        pauses = around.pauses()
        while True:
            try:
                await self._read(pauses)
            except BusUnavailable:
                await around.sleep(pauses.next_ms())

    async def _read(self, pauses: Pauses) -> None:
        """Until the connection is lost: raises BusUnavailable."""
        state = await self._line.state()
        known = self.place is not None and self.place.stream == state.id and self.place.sequence <= state.last_sequence
        place = self.place if known and self.place is not None else Place(state.id, 0)
        await self._line.seek(place.sequence + 1)
        # Replaced since the first look, it would have us wait for a sequence of the old one.
        if (await self._line.state()).id != place.stream:
            raise BusUnavailable("the stream was replaced")
        while True:
            deliveries = await self._line.pull(_BATCH, _WAIT_MS)
            pauses.reset()
            if not deliveries:
                await anyio.lowlevel.checkpoint()
                continue
            change = self._around.ledger.change()
            for delivery in deliveries:
                self._take(delivery)
            self.place = Place(place.stream, deliveries[-1].message.sequence)
            change.put(PLACES, signal_place, self.place)
            self._around.ledger.put(change)
            await self._around.ledger.durable()
            await self._line.ack(deliveries[-1])

    def _take(self, delivery: Delivery) -> None:
        """What cannot be read is told, and left out."""
        around = self._around
        intake = self._reader.read(delivery)
        if intake.refusal is not None:
            around.observer.report("signal_refused", f"{delivery.message.subject}: {intake.refusal}")
        if intake.message is None or type(intake.message) not in SIGNALS:
            return
        change = around.ledger.change()
        context = Context(now_ms=delivery.message.time_ms, sender="chain_api", position=delivery.message.sequence, verify=verify_check)
        events = around.elections.heard(change, intake.message, context)
        for event in events:
            around.elections.evolve(change, event)
        around.ledger.put(change)
        if events:
            self._heard()
