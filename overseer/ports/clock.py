"""The Clock port: wall time and waiting."""

from typing import Protocol

import anyio

__all__ = ["Clock"]


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch; may step either way (the runner never lets context.time go back)."""
        ...

    async def sleep_until(self, at_ms: int) -> None:
        """Return when now_ms() >= at_ms; at once if it is already."""
        ...

    async def wait(self, event: anyio.Event, until_ms: int) -> None:
        """Return when the event is set or now_ms() >= until_ms, whichever is first."""
        ...
