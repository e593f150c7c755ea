"""How far a consumer is behind, and whether it gets on: a pure judge of looks at it."""

import enum

import msgspec

__all__ = ["Lag", "LagJudge", "LagState"]

# The oldest message waits so long: more than a burst, which is over in a second or two.
SLOW_MS = 5_000
# Something waits and nothing was done for so long: less than the supervisor's patience, so that it is named before it is restarted.
STUCK_MS = 10_000
# The pace is of about this long.
_PACE_MS = 10_000


class LagState(enum.StrEnum):
    """`level`: it keeps up. `slow`: it gets on, behind. `stuck`: it does not get on."""

    LEVEL = "level"
    SLOW = "slow"
    STUCK = "stuck"


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer at one moment.

    `pending`: messages for it that it has not acknowledged; `oldest_ms`: how long the first of them has been in the stream;
    `still_ms`: how long nothing was acknowledged although something waited; `per_s`: messages acknowledged in a second, lately.
    """

    state: LagState = LagState.LEVEL
    pending: int = 0
    oldest_ms: int = 0
    still_ms: int = 0
    per_s: float = 0.0

    def text(self) -> str:
        """In words, with what can be done; "" for one that keeps up."""
        waiting = f"{self.pending} messages wait, the oldest for {self.oldest_ms / 1000:.0f} s"
        match self.state:
            case LagState.LEVEL:
                return ""
            case LagState.SLOW:
                left = f", about {self.pending / self.per_s:.0f} s of work" if self.per_s else ""
                return f"slow: {waiting}; {self.per_s:.0f} a second are done{left}. It catches up by itself unless that only grows"
            case LagState.STUCK:
                return (
                    f"stuck: {waiting}, and none was done for {self.still_ms / 1000:.0f} s. "
                    "A hanging process is restarted by itself; else its note and the overseer's log say what it waits for"
                )


class LagJudge:
    """Judges one consumer by looks at it, one after another. Times are of a clock that never goes back, in milliseconds."""

    def __init__(self, *, slow_ms: int = SLOW_MS, stuck_ms: int = STUCK_MS) -> None:
        self._slow_ms = slow_ms
        self._stuck_ms = stuck_ms
        self._pending = 0
        self._done = -1
        self._moved_ms = 0
        # When the pace was last begun anew, and what had been done by then.
        self._since_ms = 0
        self._since_done = 0
        self._per_s = 0.0

    def look(self, now_ms: int, *, done: int, pending: int, oldest_ms: int) -> Lag:
        """`done`: messages acknowledged so far, a count that only grows while the consumer is not set anew."""
        if done != self._done or not pending or not self._pending:
            self._moved_ms = now_ms
        if done < self._since_done or self._done < 0:
            self._since_ms, self._since_done = now_ms, done
        elif now_ms - self._since_ms >= _PACE_MS or not self._per_s:
            self._per_s = 1000 * (done - self._since_done) / max(1, now_ms - self._since_ms)
            if now_ms - self._since_ms >= _PACE_MS:
                self._since_ms, self._since_done = now_ms, done
        self._done, self._pending = done, pending
        still_ms = now_ms - self._moved_ms
        state = LagState.LEVEL
        if still_ms >= self._stuck_ms:
            state = LagState.STUCK
        elif pending and oldest_ms >= self._slow_ms:
            state = LagState.SLOW
        return Lag(state=state, pending=pending, oldest_ms=oldest_ms if pending else 0, still_ms=still_ms, per_s=self._per_s)
