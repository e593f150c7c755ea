"""When to restart, and when to give up: bounds and a pure account of failures."""

from collections import deque
from typing import Annotated

import msgspec

from overseer.supervise.status import Failure

__all__ = ["EXIT_FATAL", "Failures", "SupervisePolicy"]

# A child ends with this code when a restart cannot help (bad configuration, foreign store, second copy): given up at once.
EXIT_FATAL = 78

Ms = Annotated[int, msgspec.Meta(ge=1)]


class SupervisePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of supervision; all times in milliseconds."""

    # Pause before the first restart of a failed subsystem or NATS server, in milliseconds; doubled with each further failure in
    # the window, and short again for what had run well before (longer than backoff_max_ms).
    backoff_first_ms: Ms = 200
    # Longest pause before a restart.
    backoff_max_ms: Ms = 10_000
    # Restarts of one subsystem, or of the embedded NATS server, within the window; the next failure stops the node, naming the
    # first one and its cause.
    restarts_max: Annotated[int, msgspec.Meta(ge=0)] = 8
    # The window in which restarts are counted.
    restarts_window_ms: Ms = 120_000
    # How long a new process may take to its first sign of life.
    start_ms: Ms = 60_000
    # A subsystem without a sign of life, or with pending work and no progress, for this long is killed and restarted.
    stall_ms: Ms = 20_000
    # How long the announcement of the end (`conclude`) may take when the node stops.
    conclude_ms: Ms = 3_000
    # How long subsystems may take to end by themselves once told to, before they are killed.
    terminate_ms: Ms = 10_000

    @property
    def heartbeat_ms(self) -> int:
        """The period of a child's heartbeat: several in each stall window, at most one a second."""
        return max(1, min(1_000, self.stall_ms // 5))


class Failures:
    """The failures of one child within the window: how long to wait, and whether it was one too many. Pure."""

    def __init__(self, policy: SupervisePolicy) -> None:
        self._policy = policy
        self._recent: deque[tuple[int, Failure]] = deque()

    def add(self, now_ms: int, failure: Failure) -> None:
        """Note a failure at `now_ms` (a clock that never goes back) and forget those before the window."""
        self._recent.append((now_ms, failure))
        while self._recent[0][0] < now_ms - self._policy.restarts_window_ms:
            self._recent.popleft()

    @property
    def first(self) -> Failure | None:
        """The first failure in the window: most likely the cause of the rest."""
        return self._recent[0][1] if self._recent else None

    @property
    def count(self) -> int:
        """How many there were in the window."""
        return len(self._recent)

    @property
    def too_many(self) -> bool:
        """Whether another restart would exceed the bound, or cannot help."""
        return len(self._recent) > self._policy.restarts_max or any(f.final for _, f in self._recent)

    def backoff_ms(self) -> int:
        """How long to wait before the next restart: at first short, longer with each run that soon ended as well."""
        doublings = 0
        for _, failure in reversed(self._recent):
            if failure.after_ms >= self._policy.backoff_max_ms or doublings == 30:
                break
            doublings += 1
        else:
            doublings = max(0, doublings - 1)
        return min(self._policy.backoff_max_ms, self._policy.backoff_first_ms << doublings)
