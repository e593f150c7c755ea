"""What is known about a supervised child, as data, and the states it goes through."""

import enum
import signal

import msgspec

__all__ = ["TRANSITIONS", "Beat", "ChildState", "ChildStatus", "Failure", "GaveUp", "signal_name"]


class ChildState(enum.StrEnum):
    """Where a child is in its life."""

    # Not started yet, or waiting for its restart.
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    # Found without progress; being killed.
    STALLED = "stalled"
    # Told to end.
    STOPPING = "stopping"
    ENDED = "ended"
    GAVE_UP = "gave_up"


# What may follow each state; anything else is a fault of the supervisor.
TRANSITIONS: dict[ChildState, frozenset[ChildState]] = {
    ChildState.WAITING: frozenset({ChildState.STARTING, ChildState.ENDED}),
    ChildState.STARTING: frozenset(
        {ChildState.READY, ChildState.STALLED, ChildState.STOPPING, ChildState.WAITING, ChildState.GAVE_UP, ChildState.ENDED}
    ),
    ChildState.READY: frozenset(
        {ChildState.STARTING, ChildState.STALLED, ChildState.STOPPING, ChildState.WAITING, ChildState.GAVE_UP, ChildState.ENDED}
    ),
    ChildState.STALLED: frozenset({ChildState.WAITING, ChildState.GAVE_UP, ChildState.STOPPING, ChildState.ENDED}),
    ChildState.STOPPING: frozenset({ChildState.ENDED}),
    ChildState.ENDED: frozenset(),
    ChildState.GAVE_UP: frozenset(),
}


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sign of life. `progress` counts anything done and only grows; `pending` says that there is work to be done."""

    progress: int
    pending: bool = False
    # Started up, consuming, answering.
    ready: bool = False
    # What it is doing, or why it is not ready: a few words.
    note: str = ""
    # Where its own /metrics are served on loopback; 0: nowhere.
    http_port: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a child ended, or had to be ended, when it should not have."""

    at_ms: int
    # In words: "exit code 3", "killed by SIGSEGV", "no heartbeat for 20000 ms", "RuntimeError: ...".
    cause: str
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    stalled: bool = False
    # A restart cannot mend it.
    final: bool = False
    # How long it had run.
    after_ms: int = 0
    # The last lines it wrote to stderr, oldest first.
    last_lines: tuple[str, ...] = ()

    def text(self) -> str:
        """The cause with its circumstances, on several lines."""
        who = f" (pid {self.pid})" if self.pid else ""
        head = f"{self.cause}{who}, after {self.after_ms / 1000:.1f} s"
        return "\n".join([f"{head}; its last words:", *(f"    {line}" for line in self.last_lines)]) if self.last_lines else head


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one child. Times are milliseconds since the Unix epoch."""

    name: str
    state: ChildState
    since_ms: int
    pid: int | None = None
    restarts: int = 0
    stalls: int = 0
    beat: Beat | None = None
    # The last one ever.
    last_failure: Failure | None = None


class GaveUp(Exception):
    """A child failed more often than the policy allows, or in a way that a restart cannot mend (fatal for the node)."""

    def __init__(self, *, child: str, failures: int, first: Failure, last: Failure) -> None:
        self.child = child
        self.failures = failures
        self.first = first
        self.last = last
        super().__init__(child, failures, first, last)

    def __str__(self) -> str:
        times = "once" if self.failures == 1 else f"{self.failures} times"
        text = f"{self.child} failed {times} and was given up. First failure: {self.first.text()}"
        return text if self.last is self.first else f"{text}\nLast failure: {self.last.cause}"


def signal_name(number: int) -> str:
    """SIGSEGV for 11; the bare number when it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
