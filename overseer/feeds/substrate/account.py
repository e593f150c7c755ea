"""What the feed tells of itself: why it waits, and what of the chain it could not read."""

from collections import Counter
from collections.abc import Callable

from overseer.observe.logs import logger

__all__ = ["Account"]

# Different reasons that are kept apart; beyond them they are counted as one.
_REASONS_MAX = 32
_SHOWN_MAX = 3


class Account:
    """Told to `heard` as one line whenever it changes; "" when all is well and everything was read."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._told = ""
        self._trouble = ""
        self._waits = ""
        self._halted = ""
        self._unread: Counter[str] = Counter()
        self._log = logger("feed")

    @property
    def note(self) -> str:
        shown = [f"{what} ({count})" for what, count in self._unread.most_common(_SHOWN_MAX)]
        more = len(self._unread) - len(shown)
        unread = f"not read: {', '.join(shown)}" + (f", and {more} other reasons" if more > 0 else "") if shown else ""
        return "; ".join(part for part in (self._trouble, self._waits, self._halted, unread) if part)

    def trouble(self, what: str) -> None:
        """With the remote; "" when it is followed."""
        self._trouble = what
        self._tell()

    def waits(self, what: str) -> None:
        """For the own node; "" when it answers."""
        self._waits = f"waits for this node: {what}" if what else ""
        self._tell()

    def halted(self, what: str) -> None:
        """Blocks go on, finality does not; "" when it does."""
        self._halted = what
        self._tell()

    def unread(self, what: str, *, block: bytes) -> None:
        """One block of which this was not read: counted, and logged when it is new."""
        key = what if what in self._unread or len(self._unread) < _REASONS_MAX else "of other reasons"
        if key not in self._unread:
            self._log.warning("not_read", what=what, block=block.hex())
        self._unread[key] += 1
        self._tell()

    def _tell(self) -> None:
        note = self.note
        if note != self._told:
            self._told = note
            self._heard(note)
