"""A child that is an OS process: its own session and process group, a pipe each for its beats, its stderr and our death."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc
import msgspec

from overseer.supervise.parent import PARENT_FD
from overseer.supervise.policy import EXIT_FATAL
from overseer.supervise.pulse import HEARTBEAT_FD, HEARTBEAT_MS, BeatLines
from overseer.supervise.run import Ending, Hear, Run
from overseer.supervise.status import signal_name

__all__ = ["ChildSpec", "LastLines", "ProcessRun", "to_our_stderr"]

READ_BYTES_MAX = 64 * 1024
# After a process is gone, how long what it wrote may take to be read: someone outside its group may hold the pipe open.
DRAIN_MS_MAX = 1_000
# How long a killed process may take to be gone when we are cancelled; beyond it hangs in the kernel.
KILL_MS_MAX = 5_000

# Gets the child's name and what it wrote to stderr, in pieces as they come.
Sink = Callable[[str, bytes], None]


def to_our_stderr(name: str, data: bytes) -> None:
    """Pass a child's stderr on. A closed stderr of ours, or none (2>&-), must not stop the supervision."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        return
    with suppress(OSError, ValueError):
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A process to be supervised. It must beat (`own_pulse`), and should call `die_with_parent` first thing.

    `env` is added to ours. Its stdin and stdout are /dev/null; stderr is passed on to `sink` and remembered a little.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = {}
    cwd: Path | None = None
    sink: Sink = to_our_stderr

    async def start(self, heartbeat_ms: int) -> Run:
        """Raises OSError when the program cannot be started."""
        parent_read, parent_write = os.pipe()
        beat_read, beat_write = os.pipe()
        stderr_read, stderr_write = os.pipe()
        theirs, ours = (parent_read, beat_write, stderr_write), (parent_write, beat_read, stderr_read)
        told = {PARENT_FD: str(parent_read), HEARTBEAT_FD: str(beat_write), HEARTBEAT_MS: str(heartbeat_ms)}
        process: anyio.abc.Process | None = None
        try:
            # Shielded: a process half started could not be ended by anyone.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr_write,
                    cwd=self.cwd,
                    env={**os.environ, **self.env, **told},
                    start_new_session=True,
                    pass_fds=(parent_read, beat_write),
                )
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        # A shielded scope is left by an exception or by the assignment.
        assert process is not None
        return ProcessRun(self, process, parent_write=parent_write, beat_read=beat_read, stderr_read=stderr_read)


class ProcessRun:
    """A running process and our ends of its pipes, which `serve` closes."""

    def __init__(self, spec: ChildSpec, process: anyio.abc.Process, *, parent_write: int, beat_read: int, stderr_read: int) -> None:
        self._spec = spec
        self._process = process
        self._parent_write = parent_write
        self._beat_read = beat_read
        self._stderr_read = stderr_read

    @property
    def pid(self) -> int:
        return self._process.pid

    async def serve(self, hear: Hear) -> Ending:
        """Read beats and stderr until the process is gone, then end what it left behind in its group."""
        beats, last = BeatLines(), LastLines()

        def on_beats(data: bytes) -> None:
            for beat in beats.feed(data):
                hear(beat)

        def on_stderr(data: bytes) -> None:
            last.feed(data)
            self._spec.sink(self._spec.name, data)

        drained = anyio.Event()

        async def drain() -> None:
            await _read_all(self._stderr_read, on_stderr)
            drained.set()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain)
                tasks.start_soon(_read_all, self._beat_read, on_beats)
                await self._process.wait()
                self._end_group()
                with anyio.move_on_after(DRAIN_MS_MAX / 1000):
                    await drained.wait()
                tasks.cancel_scope.cancel()
        finally:
            await self._release()
        return _ending(self._process.returncode or 0, last.lines)

    async def _release(self) -> None:
        self.kill()
        _close((self._parent_write, self._beat_read, self._stderr_read))
        with anyio.move_on_after(KILL_MS_MAX / 1000, shield=True):
            await self._process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM to the process alone: it ends its own children in order."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to its whole group."""
        if self._process.returncode is None:
            self._end_group()

    def _end_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


class LastLines:
    """The last lines of a byte stream, bounded in number and length."""

    LINES_MAX = 20
    LINE_BYTES_MAX = 2_000

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=self.LINES_MAX)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take what came next."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[: self.LINE_BYTES_MAX] for line in lines)
        self._rest = rest[: self.LINE_BYTES_MAX]

    @property
    def lines(self) -> tuple[str, ...]:
        """Oldest first, the unfinished one included."""
        return tuple(line.decode(errors="replace").rstrip() for line in (*self._lines, self._rest) if line.strip())


async def _read_all(fd: int, take: Callable[[bytes], None]) -> None:
    """Give everything that comes to `take`, until the other end is closed."""
    os.set_blocking(fd, False)
    while True:
        await anyio.wait_readable(fd)
        try:
            data = os.read(fd, READ_BYTES_MAX)
        except BlockingIOError:
            continue
        if not data:
            return
        take(data)


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def _ending(code: int, last_lines: tuple[str, ...]) -> Ending:
    if code < 0:
        return Ending(cause=f"killed by {signal_name(-code)}", signal=-code, last_lines=last_lines)
    return Ending(cause=f"exit code {code}", exit_code=code, final=code == EXIT_FATAL, last_lines=last_lines)
