"""One run of a supervised child, whatever it is: what the supervisor needs of it."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from overseer.supervise.status import Beat

__all__ = ["Child", "Ending", "Hear", "Run"]

# Called with every beat of the running child.
Hear = Callable[[Beat], None]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `cause` is in words; the code or the signal is set for a process, neither for a task.

    `final`: a restart cannot mend it.
    """

    cause: str
    exit_code: int | None = None
    signal: int | None = None
    final: bool = False
    last_lines: tuple[str, ...] = ()


class Run(Protocol):
    """A child that has been started."""

    @property
    def pid(self) -> int | None: ...

    async def serve(self, hear: Hear) -> Ending:
        """Listen to the child until it is gone, with everything it started. Cancelled: it is killed."""
        ...

    def ask_to_stop(self) -> None:
        """Tell it to end in order. Harmless when it is gone."""
        ...

    def kill(self) -> None:
        """End it at once. Harmless when it is gone."""
        ...


class Child(Protocol):
    """A child as it is described: it can be started again and again."""

    @property
    def name(self) -> str: ...

    async def start(self, heartbeat_ms: int) -> Run:
        """Raises OSError when it cannot be started."""
        ...
