"""The Clock port on the operating system's wall clock."""

import time

import anyio

__all__ = ["SystemClock"]

# The wall clock may be stepped while we wait, which no timer notices: look again this often.
_LOOK_MS_MAX = 1_000


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_until(self, at_ms: int) -> None:
        while (left_ms := at_ms - self.now_ms()) > 0:  # noqa: ASYNC110 - a wall clock has no event to wait for
            await anyio.sleep(min(left_ms, _LOOK_MS_MAX) / 1000)

    async def wait(self, event: anyio.Event, until_ms: int) -> None:
        while not event.is_set() and (left_ms := until_ms - self.now_ms()) > 0:
            with anyio.move_on_after(min(left_ms, _LOOK_MS_MAX) / 1000):
                await event.wait()
