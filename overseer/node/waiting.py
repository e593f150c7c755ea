"""What a process of a node waits out, alive to its supervisor: a server that is not there yet, a disk that is full."""

from collections.abc import Awaitable, Callable

import anyio

from overseer.config import Config
from overseer.failures import lone
from overseer.nats.connection import Connection
from overseer.node.bus import connect_as
from overseer.observe.logs import logger
from overseer.ports.bus import BusUnavailable
from overseer.ports.store import StoreFull
from overseer.supervise.pulse import Pulse
from overseer.supervise.status import Beat
from overseer.supervise.stopping import StopRequest

__all__ = ["connected_when_up", "outlast_full_disk"]

# How often a full disk is looked at again: each look opens the store.
ROOM_LOOK_MS = 1_000


async def outlast_full_disk(name: str, serve: Callable[[], Awaitable[None]], pulse: Pulse, stop: StopRequest) -> None:
    """Run `serve`, and once more whenever a full disk ended it: aloud, not ready, and from the store again when there is room."""
    log, progress, said = logger(name), 0, False
    while True:
        try:
            await serve()
            return
        except Exception as error:
            full = lone(error)
            if not isinstance(full, StoreFull) or stop.requested:
                raise
            if not said:
                log.error("store_full", error=str(full))
            said, progress = True, progress + 1
            pulse.beat(Beat(progress=progress, note=str(full)))
            with anyio.move_on_after(ROOM_LOOK_MS / 1000):
                await stop.wait()
                return


async def connected_when_up(config: Config, url: str, user: str, pulse: Pulse, stop: StopRequest) -> Connection:
    """Connect; wait for a server that is not there yet, until told to stop. Raises what `connect_as` does."""
    progress = 0
    while True:
        try:
            return await connect_as(config, url, user, wait_ms=pulse.period_ms)
        except BusUnavailable as error:
            if stop.requested:
                raise
            progress += 1
            pulse.beat(Beat(progress=progress, note=str(error)))
