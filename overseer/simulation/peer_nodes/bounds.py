"""What a node counts, counted anew; and how much it keeps, against what it may keep."""

from collections import Counter
from collections.abc import Sequence

from messages.message import Message
from messages.peer_queries import PeerMeasures
from messages.peers import (
    PeerAnswerTaken,
    PeerChannelOpened,
    PeerElectionEnd,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerRow,
    PeerTrafficRefused,
)
from subsystems.elections.peers.config import PeersConfig

__all__ = ["Rows", "Tally", "Tickets"]


class Tally:
    """The facts of a journal."""

    def __init__(self) -> None:
        self._facts = Counter[str]()
        self._refused = Counter[str]()
        self._took: list[int] = []

    def count(self, event: Message) -> None:
        match event:
            case PeerElectionStarted():
                self._facts["started"] += 1
            case PeerChannelOpened():
                self._facts["channels_opened"] += 1
                self._facts["channels_referred"] += event.referred
            case PeerAnswerTaken():
                self._facts["answers_taken"] += 1
            case PeerTrafficRefused():
                self._refused[event.code] += 1
            case PeerElectionEnded():
                self._facts[event.end.value] += 1
                self._facts["splits"] += event.split
                if event.end is PeerElectionEnd.ELECTED:
                    self._took.append(event.took_ms)
            case _:
                pass

    def disagrees(self, told: PeerMeasures) -> str:
        """The first figure that is another one, or ""."""
        ended = sum(self._facts[end.value] for end in PeerElectionEnd)
        names = ("started", "elected", "split", "no_consensus", "abandoned", "channels_opened", "channels_referred", "answers_taken")
        figures = {name: (self._facts[name], getattr(told, name)) for name in names}
        figures["success_percent"] = (_percent(self._facts["elected"], ended), told.success_percent)
        figures["split_percent"] = (_percent(self._facts["splits"], ended), told.split_percent)
        for percent, found in ((50, told.p50_ms), (95, told.p95_ms), (99, told.p99_ms)):
            figures[f"p{percent}_ms"] = (self._within(percent), found)
        for code in {*self._refused, *(each.code for each in told.refusals)}:
            figures[code] = (self._refused[code], sum(each.count for each in told.refusals if each.code == code))
        return next((f"{name} is {found}, counted {counted}" for name, (counted, found) in figures.items() if counted != found), "")

    def _within(self, percent: int) -> int:
        """The least time that so many of all kept within."""
        return next((t for t in sorted(self._took) if 100 * sum(took <= t for took in self._took) >= percent * len(self._took)), 0)


def _percent(part: int, whole: int) -> int:
    return 100 * part // whole if whole else 0


class Rows:
    """What is kept of each kind: the course, void blocks, peers, elections, introductions, finished and handled tickets."""

    def __init__(self, rules: PeersConfig) -> None:
        self._rows: dict[int, set[int]] = {kind: set() for kind in range(7)}
        # Invitations of one's own are as many as the list is long, each open for a quarter of the time in which it is answered or expires.
        self._most = {
            0: 1,
            1: 1,
            2: rules.identified_max + rules.list_max,
            3: rules.elections_max,
            4: rules.introductions_max + 2 * rules.list_max,
            5: rules.finished_max,
            6: rules.handled_max,
        }

    def moved(self, rows: Sequence[PeerRow]) -> str:
        """Which bound is broken by it, or ""."""
        for row in rows:
            (self._rows[row.kind].add if row.value is not None else self._rows[row.kind].discard)(row.id)
        return next((f"{len(held)} rows of kind {kind}" for kind, held in self._rows.items() if len(held) > self._most[kind]), "")


class Tickets:
    """Tickets that are remembered for a while, at most so many: the oldest go first, and of equally old ones any."""

    def __init__(self, most: int) -> None:
        self._most = most
        # In order of time.
        self._until: dict[int, int] = {}

    def note(self, ticket: int, until_ms: int) -> None:
        self._until.pop(ticket, None)
        self._until[ticket] = until_ms

    def forget(self, now_ms: int) -> None:
        """Those whose time is over."""
        while self._until and self._until[oldest := next(iter(self._until))] <= now_ms:
            del self._until[oldest]

    def keeps(self, ticket: int, now_ms: int) -> bool | None:
        """Whether it is known; None where that cannot be told."""
        until_ms = self._until.get(ticket, 0)
        if until_ms <= now_ms:
            return False
        if len(self._until) <= self._most:
            return True
        later = [each for each in self._until.values() if each >= until_ms]
        return True if len(later) <= self._most else False if sum(each > until_ms for each in later) >= self._most else None
