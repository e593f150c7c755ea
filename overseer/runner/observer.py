"""What a runner tells those who watch it: numbers for metrics, progress for the supervisor. All methods are cheap."""

import enum
from typing import Protocol

import msgspec

__all__ = ["Observer", "Progress", "Silent", "Step"]


class Step(enum.StrEnum):
    """The boundaries of the runner's work, in order: where a kill must be harmless (and where tests kill)."""

    PULLED = "pulled"
    DECIDED = "decided"
    COMMITTED = "committed"
    ANSWERED = "answered"
    PUBLISHED = "published"
    ACKNOWLEDGED = "acknowledged"


class Progress(msgspec.Struct):
    """What a supervisor wants to know. `waiting` tells whether there is work that should move `handled`.

    `blocked`: it cannot move now, and that is not our fault (the outbox is full and the bus takes nothing).
    """

    handled: int = 0
    waiting: int = 0
    blocked: bool = False
    concluded: bool = False
    ready: bool = False
    trouble: str = ""


class Observer(Protocol):
    def step(self, step: Step) -> None:
        """A boundary was passed."""
        ...

    def batch(self, size: int, decide_s: float, commit_s: float) -> None: ...

    def flight(self, seconds: float) -> None:
        """Time from a message's storing in the stream to its commit here."""
        ...

    def result(self, status: str, code: str) -> None:
        """One input: accepted | rejected | parked, with the code of a refusal."""
        ...

    def trouble(self, what: str) -> None:
        """Something that passes but must be seen: the bus is away, the stream is full, an alarm."""
        ...


class Silent:
    """Watches nothing."""

    def step(self, step: Step) -> None:
        pass

    def batch(self, size: int, decide_s: float, commit_s: float) -> None:
        pass

    def flight(self, seconds: float) -> None:
        pass

    def result(self, status: str, code: str) -> None:
        pass

    def trouble(self, what: str) -> None:
        pass
