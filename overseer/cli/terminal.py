"""The keys of a terminal, one at a time: without the Enter key, and without an echo, for as long as a view is on it."""

import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

import anyio

__all__ = ["keys_pressed", "raw_keys"]


@contextmanager
def raw_keys() -> Generator[int | None]:
    """Gives where keys come from; None without a terminal. Ctrl-C stays what it is; the terminal becomes what it was, whatever happens."""
    # None when it was closed before we started.
    if sys.stdin is None or not sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def keys_pressed(descriptor: int | None) -> AsyncIterator[str]:
    """The keys, as they come; none without a terminal, and no more once it is closed."""
    while descriptor is not None:
        await anyio.wait_readable(descriptor)
        data = os.read(descriptor, 64)
        if not data:
            return
        for key in data.decode(errors="replace"):
            yield key
