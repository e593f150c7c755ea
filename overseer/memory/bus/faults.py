"""What can go wrong between a line and its stream, to be set by whoever simulates it."""

import enum
from collections import deque
from collections.abc import Callable

__all__ = ["AppendFault", "LineFaults"]


class AppendFault(enum.Enum):
    """What becomes of an append whose answer is lost. Both raise OutcomeUnknown."""

    # The server stored it.
    STORED = "stored"
    # It never arrived, or the server is silent (a full disk: neither answer nor error).
    LOST = "lost"


class LineFaults:
    """The faults of one line. All off when made; those of one use are spent by what they hit."""

    def __init__(self) -> None:
        # Everything raises BusUnavailable, waiting pulls too (a partition). Set it by `MemoryLine.cut` and `heal`.
        self.unavailable = False
        # One for each of the next appends; None lets one through.
        self.appends: deque[AppendFault | None] = deque()
        # Of the next pull that would return something only the first k arrive; the rest counts as delivered.
        self.torn_after: int | None = None
        # Called when that has happened. A connection that tore ends, or the server delivers once more what was not acknowledged:
        # whoever simulates says which, and when.
        self.on_torn: Callable[[], None] | None = None
        # Atomic batches are refused as long as this is set: others hold open as many as the server has room for.
        self.batches_refused = False
        # Acknowledgements vanish as long as this is set.
        self.lose_acks = False
