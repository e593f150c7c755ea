"""How long an election is kept (point 10 of the runtime, B20): never purged early, and only by an archive event."""

from collections.abc import Sequence

from messages.elections import Archived, ArchiveDue, ElectionArchived, ElectionEvent, Retained, UnknownElection
from messages.message import Rejection
from overseer.subsystem import SetTimer
from overseer.tables import View
from subsystems.elections.config import RETENTION_MS, ElectionsConfig
from subsystems.elections.rows import ELECTIONS, ElectionRow

__all__ = ["archive", "archive_timers", "retain_until_ms"]


def retain_until_ms(row: ElectionRow, config: ElectionsConfig) -> int | None:
    """The moment from which it may be archived; None before it came to its end."""
    if not row.terminal_ms:
        return None
    return max(row.created_ms + RETENTION_MS, row.terminal_ms + config.results_retention_ms)


def archive(view: View, key: str, now_ms: int, config: ElectionsConfig) -> ElectionArchived | Rejection:
    """The event that ends it, or why not. Rejects with UnknownElection, Archived, Retained."""
    row = view.get(ELECTIONS, (key,))
    if row is None:
        return UnknownElection(election=key)
    if row.archived:
        return Archived(election=key)
    until_ms = retain_until_ms(row, config)
    if until_ms is None or now_ms < until_ms:
        return Retained(election=key, until_ms=until_ms)
    return ElectionArchived(election=key, at_ms=now_ms, sequence=row.sequence + 1, kind=row.kind, events=row.sequence, head=row.digest)


def archive_timers(
    row: ElectionRow | None, key: str, events: Sequence[ElectionEvent], terminal: tuple[type[ElectionEvent], ...], config: ElectionsConfig
) -> list[SetTimer]:
    """When one of `events` ends an election that is to be archived by itself: the moment it may be."""
    ended = next((event for event in events if isinstance(event, terminal)), None)
    if ended is None or not config.archive_when_due:
        return []
    created_ms = row.created_ms if row is not None else events[0].at_ms
    due_ms = max(created_ms + RETENTION_MS, ended.at_ms + config.results_retention_ms)
    return [SetTimer(key=f"archive {key}", at_ms=due_ms, message=ArchiveDue(election=key))]
