"""Whether a child gets on: a pure judge of heartbeats by the supervisor's clock."""

from overseer.supervise.policy import SupervisePolicy
from overseer.supervise.status import Beat

__all__ = ["ProgressJudge"]


class ProgressJudge:
    """Judges one run of a child. Times are of the supervisor's clock, which never goes back, in milliseconds.

    `look` must be called every `tick_ms`. When it comes much too late, the supervisor itself was stopped, or the machine slept:
    that is not the child's fault, and every span starts anew.
    """

    def __init__(self, policy: SupervisePolicy, now_ms: int) -> None:
        self._policy = policy
        self.tick_ms = max(1, policy.stall_ms // 10)
        self._looked_ms = now_ms
        self._heard_ms = now_ms
        self._moved_ms = now_ms
        self.beat: Beat | None = None

    def heard(self, now_ms: int, beat: Beat) -> None:
        """Take note of a beat."""
        idle = not beat.pending
        if self.beat is None or beat.progress != self.beat.progress or idle or not self.beat.pending:
            self._moved_ms = now_ms
        self._heard_ms = now_ms
        self.beat = beat

    def look(self, now_ms: int) -> str | None:
        """What is wrong with the child, in words, or None."""
        late_ms = now_ms - self._looked_ms - self.tick_ms
        self._looked_ms = now_ms
        if late_ms > self._policy.stall_ms // 2:
            self._heard_ms = self._moved_ms = now_ms
            return None
        silent_ms, still_ms = now_ms - self._heard_ms, now_ms - self._moved_ms
        if self.beat is None:
            return f"no sign of life within {self._policy.start_ms} ms of its start" if silent_ms > self._policy.start_ms else None
        if silent_ms > self._policy.stall_ms:
            return f"no heartbeat for {silent_ms} ms: stopped, or its event loop hangs"
        if self.beat.pending and still_ms > self._policy.stall_ms:
            return f"work pending but no progress for {still_ms} ms (at {self.beat.progress})"
        return None
