"""A subsystem that somebody else runs (a container, a service manager): watched over the bus, neither started nor ended.

What tells that it is there: its consumer has a pull waiting, or has moved since the last look. A runner pulls only after it has
opened its store and repaired what was to be repaired, so one that pulls is ready.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from overseer.nats.provision import Api, ApiError, call
from overseer.ports.bus import BusError
from overseer.supervise.run import Ending, Hear, Run
from overseer.supervise.status import Beat

__all__ = ["ElsewhereChild", "Look", "looking_at"]

# Longer than a pull waits and a large batch takes; shorter than anybody's patience.
ABSENT_MS = 5_000

# How the subsystem looks now.
Look = Callable[[], Awaitable[Beat]]


class ElsewhereChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child of the supervisor that is only looked at."""

    name: str
    look: Look

    async def start(self, heartbeat_ms: int) -> Run:
        return _ElsewhereRun(self.look, heartbeat_ms)


class _ElsewhereRun:
    """Beats for the subsystem until told to stop: it never fails, as a restart is not ours to make."""

    pid = None

    def __init__(self, look: Look, heartbeat_ms: int) -> None:
        self._look = look
        self._heartbeat_ms = heartbeat_ms
        self._stopped = anyio.Event()

    async def serve(self, hear: Hear) -> Ending:
        while not self._stopped.is_set():
            hear(await self._look())
            with anyio.move_on_after(self._heartbeat_ms / 1000):
                await self._stopped.wait()
        return Ending(cause="looked at no more")

    def ask_to_stop(self) -> None:
        self._stopped.set()

    def kill(self) -> None:
        self._stopped.set()


def looking_at(api: Api, stream: str, durable: str, *, clock: Callable[[], float]) -> Look:
    """Looks at the consumer `durable`; `clock` in seconds. The bus being away is told, never raised."""
    seen: tuple[int, int] | None = None
    present_at = float("-inf")

    async def look() -> Beat:
        nonlocal seen, present_at
        try:
            info = await call(api, f"CONSUMER.INFO.{stream}.{durable}")
        except (BusError, ApiError) as error:
            return Beat(progress=seen[0] if seen else 0, note=f"cannot be looked at: {error}")
        now = (_sequence(info, "ack_floor"), _sequence(info, "delivered"))
        if info["num_waiting"] or (seen is not None and now != seen):
            present_at = clock()
        seen = now
        ready = clock() - present_at < ABSENT_MS / 1000
        return Beat(progress=now[0], ready=ready, note="" if ready else "takes no messages: is it running?")

    return look


def _sequence(info: dict[str, Any], place: str) -> int:
    return int(info[place]["stream_seq"])
