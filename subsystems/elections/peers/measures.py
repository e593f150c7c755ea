"""Metrics, counted from facts alone: a recount of the journal gives the same numbers."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from messages.peers import (
    PeerAnswerTaken,
    PeerChannelOpened,
    PeerElectionEnd,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerEvent,
    PeerTrafficRefused,
)

__all__ = ["Measures", "percentile"]

# Times of so many elections are kept for the percentiles: a day at the default interval.
_TIMES_MAX = 1_440


class Measures(msgspec.Struct, kw_only=True):
    """Counters of one node's elections. Percentages are whole numbers; times in ms, of elections that elected."""

    started: int = 0
    elected: int = 0
    split: int = 0
    no_consensus: int = 0
    abandoned: int = 0
    # Elections that were split at some time, however they ended.
    splits_seen: int = 0
    channels_opened: int = 0
    channels_referred: int = 0
    answers_taken: int = 0
    times_ms: list[int] = msgspec.field(default_factory=list[int])
    refusals: dict[str, int] = msgspec.field(default_factory=dict[str, int])

    @classmethod
    def recounted(cls, facts: Iterable[PeerEvent]) -> "Measures":
        measures = cls()
        for fact in facts:
            measures.apply(fact)
        return measures

    def apply(self, fact: PeerEvent) -> None:
        match fact:
            case PeerElectionStarted():
                self.started += 1
            case PeerChannelOpened():
                self.channels_opened += 1
                self.channels_referred += fact.referred
            case PeerAnswerTaken():
                self.answers_taken += 1
            case PeerTrafficRefused():
                self.refusals = dict(sorted((Counter(self.refusals) + Counter([fact.code])).items()))
            case PeerElectionEnded():
                self._ended(fact)
            case _:
                pass

    def _ended(self, fact: PeerElectionEnded) -> None:
        self.splits_seen += fact.split
        match fact.end:
            case PeerElectionEnd.ELECTED:
                self.elected += 1
                self.times_ms = [*self.times_ms, fact.took_ms][-_TIMES_MAX:]
            case PeerElectionEnd.SPLIT:
                self.split += 1
            case PeerElectionEnd.NO_CONSENSUS:
                self.no_consensus += 1
            case PeerElectionEnd.ABANDONED:
                self.abandoned += 1

    @property
    def ended(self) -> int:
        return self.elected + self.split + self.no_consensus + self.abandoned

    @property
    def success_percent(self) -> int:
        return self.elected * 100 // self.ended if self.ended else 0

    @property
    def split_percent(self) -> int:
        return self.splits_seen * 100 // self.ended if self.ended else 0

    def time_ms(self, percent: int) -> int:
        """The time to completion that so many percent of the elections kept within; 0 before the first."""
        return percentile(self.times_ms, percent)


def percentile(values: list[int], percent: int) -> int:
    """The smallest value that `percent` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[-(-percent * len(ordered) // 100) - 1] if ordered else 0
