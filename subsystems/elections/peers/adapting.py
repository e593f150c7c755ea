"""Parameters that follow what happens, and the alert of too many splits. Off by default, but for the alert."""

import msgspec

from subsystems.elections.peers.config import PeersConfig

__all__ = ["Adaptation", "SplitWatch", "adapted_interval", "adapted_threshold"]

_LOOSEST, _STRICTEST = 7, 9


class Adaptation(msgspec.Struct, kw_only=True):
    """Where the parameters stand, and what was seen since they were last changed."""

    threshold: int
    interval_ms: int
    ended: int = 0
    elected: int = 0
    # Places in the peer list that were taken or lost, and elections, since the interval was looked at.
    moves: int = 0
    turns: int = 0


def adapted_threshold(now: Adaptation, config: PeersConfig) -> int:
    """The threshold from now on: one less where under 20 % of a window's elections elected, one more where over 80 % did; 7 to 9.

    Between the two nothing changes, and after a change a whole window is waited for: it does not swing.
    """
    if not config.adaptive_threshold or now.ended < config.adaptive_window:
        return now.threshold
    if now.elected * 100 < 20 * now.ended:
        return max(min(_LOOSEST, now.threshold), now.threshold - 1)
    if now.elected * 100 > 80 * now.ended:
        return min(max(_STRICTEST, now.threshold), now.threshold + 1)
    return now.threshold


def adapted_interval(now: Adaptation, config: PeersConfig) -> int:
    """The interval from now on: a quarter longer after a window without a move in the list, half after one with many."""
    if not config.adaptive_interval or now.turns < config.adaptive_window:
        return now.interval_ms
    if now.moves == 0:
        return min(config.interval_max_ms, now.interval_ms * 5 // 4)
    if now.moves * 4 >= now.turns:
        return max(config.interval_min_ms, now.interval_ms // 2)
    return now.interval_ms


class SplitWatch(msgspec.Struct, kw_only=True):
    """When elections were split, of late; and whether that was told."""

    times_ms: list[int] = msgspec.field(default_factory=list[int])
    raised: bool = False

    def turned(self, now_ms: int, config: PeersConfig) -> bool | None:
        """True when the alert is to be raised, False when it is over: no split is left in the window. None: as it was."""
        self.times_ms = [at for at in self.times_ms if now_ms - at < config.alert_window_ms]
        if not self.raised and len(self.times_ms) >= config.alert_splits:
            self.raised = True
            return True
        if self.raised and not self.times_ms:
            self.raised = False
            return False
        return None

    def quiet_ms(self, config: PeersConfig) -> int | None:
        """When a raised alert will be over if nothing more happens."""
        return self.times_ms[-1] + config.alert_window_ms if self.raised and self.times_ms else None
