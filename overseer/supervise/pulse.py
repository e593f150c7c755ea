"""Heartbeats: a child tells its supervisor that it lives and gets on, one short JSON line at a time.

The same `Pulse` serves a process (lines over a pipe), a task in the supervisor's own process, and one that nobody supervises.
"""

import os
import re
from collections.abc import Callable
from typing import Protocol

import anyio
import msgspec

from overseer.supervise.status import Beat

__all__ = ["HEARTBEAT_FD", "HEARTBEAT_MS", "LINE_BYTES_MAX", "BeatLines", "NoPulse", "PipePulse", "Pulse", "keep_beating", "own_pulse"]

HEARTBEAT_FD = "OVERSEER_HEARTBEAT_FD"
HEARTBEAT_MS = "OVERSEER_HEARTBEAT_MS"
# A line is at most what POSIX writes to a pipe in one piece: never torn, never mixed.
LINE_BYTES_MAX = 512
NOTE_CHARACTERS_MAX = 100
# Anything that JSON would write in more than two bytes.
_UNSAFE = re.compile(r"[^ -~]")


class Pulse(Protocol):
    """Where a supervised child beats."""

    @property
    def period_ms(self) -> int:
        """How often the supervisor wants to hear."""
        ...

    def beat(self, beat: Beat) -> None:
        """Tell it; never blocks, never fails."""
        ...


class NoPulse:
    """Nobody listens (a subsystem started by hand)."""

    period_ms = 1_000

    def beat(self, beat: Beat) -> None:
        """Nothing to do."""


class PipePulse:
    """Beats into the pipe that the supervisor gave us."""

    def __init__(self, fd: int, period_ms: int) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._fd = fd
        self.period_ms = period_ms

    def beat(self, beat: Beat) -> None:
        """One line; dropped when the supervisor does not read (it is stopped) or is gone (then we end anyway)."""
        short = msgspec.structs.replace(beat, note=_UNSAFE.sub("?", beat.note[:NOTE_CHARACTERS_MAX]))
        try:
            os.write(self._fd, msgspec.json.encode(short) + b"\n")
        except OSError:
            return


def own_pulse() -> PipePulse | NoPulse:
    """The pulse that the environment tells of. Takes the variables away, so that our own children do not see them."""
    fd = os.environ.pop(HEARTBEAT_FD, "")
    period_ms = os.environ.pop(HEARTBEAT_MS, "1000")
    return PipePulse(int(fd), int(period_ms)) if fd else NoPulse()


async def keep_beating(pulse: Pulse, read: Callable[[], Beat]) -> None:
    """Beat for ever with what `read` says. In the event loop that does the work: when it hangs, so do the beats."""
    while True:
        pulse.beat(read())
        await anyio.sleep(pulse.period_ms / 1000)


class BeatLines:
    """The supervisor's end: bytes in, beats out. What is no beat is skipped (a child may be wrong, never harmful)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Beat]:
        """The beats completed by `data`, in order."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        return [beat for line in lines if (beat := _beat(line)) is not None]


def _beat(line: bytes) -> Beat | None:
    try:
        return msgspec.json.decode(line, type=Beat) if len(line) <= LINE_BYTES_MAX else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
