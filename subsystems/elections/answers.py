"""Queries about elections of any kind."""

from itertools import islice

from messages.elections import (
    ElectionHistory,
    ElectionReport,
    Elections,
    ElectionSummary,
    GetElection,
    HistoryRow,
    ListElections,
    ProjectionCount,
    ProjectionPage,
    ProjectionState,
    QueryHistory,
    QueryProjection,
    UnknownElection,
    UnknownProjection,
)
from messages.message import Message, Rejection
from overseer.tables import View
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.projection import PROJECTIONS, ProjectionRow, counts_of
from subsystems.elections.retention import retain_until_ms
from subsystems.elections.rows import ELECTIONS, EVENTS, ElectionRow, key_hash, stored_event

__all__ = ["answer"]


def answer(view: View, query: Message, config: ElectionsConfig) -> Message | Rejection:
    """Rejects with UnknownElection, UnknownProjection."""
    if isinstance(query, ListElections):
        return _list(view, query, config)
    assert isinstance(query, GetElection | QueryHistory | QueryProjection)
    row = view.get(ELECTIONS, (query.election,))
    if row is None:
        return UnknownElection(election=query.election)
    match query:
        case GetElection():
            return _report(view, query.election, row, config)
        case QueryHistory():
            return _history(view, query, config)
        case QueryProjection():
            return _projection(view, query, config)


def _summary(key: str, row: ElectionRow) -> ElectionSummary:
    return ElectionSummary(key, row.kind, row.sequence, row.created_ms, row.last_ms, row.terminal_ms or None, row.archived)


def _list(view: View, query: ListElections, config: ElectionsConfig) -> Elections:
    limit = min(query.limit, config.page_rows_max)
    rows = view.scan(ELECTIONS, start=(query.after + "\0",))
    found = [_summary(key, row) for (key,), row in islice(rows, limit + 1)]
    return Elections(elections=found[:limit], more=len(found) > limit)


def _report(view: View, key: str, row: ElectionRow, config: ElectionsConfig) -> ElectionReport:
    states = [_state(name, state) for (_, name), state in view.scan(PROJECTIONS, prefix=(key_hash(key),))]
    return ElectionReport(summary=_summary(key, row), head=row.digest, retain_until_ms=retain_until_ms(row, config), projections=states)


def _state(name: str, row: ProjectionRow) -> ProjectionState:
    return ProjectionState(name, row.version, row.applied, row.stale)


def _history(view: View, query: QueryHistory, config: ElectionsConfig) -> ElectionHistory:
    election, limit = key_hash(query.election), min(query.limit, config.page_rows_max)
    events: list[HistoryRow] = []
    size = 0
    for (_, sequence), data in view.scan(EVENTS, prefix=(election,), start=(election, query.start)):
        size += len(data)
        if len(events) >= limit or (events and size > config.page_bytes_max):
            return ElectionHistory(election=query.election, events=events, more=True)
        stored = stored_event(data)
        events.append(HistoryRow(sequence, stored.message, stored.version, stored.body))
    return ElectionHistory(election=query.election, events=events, more=False)


def _projection(view: View, query: QueryProjection, config: ElectionsConfig) -> ProjectionPage | Rejection:
    election, limit = key_hash(query.election), min(query.limit, config.page_rows_max)
    row = view.get(PROJECTIONS, (election, query.projection))
    if row is None:
        known = [name for (_, name), _ in view.scan(PROJECTIONS, prefix=(election,))]
        return UnknownProjection(projection=query.projection, known=known)
    found = list(islice(counts_of(view, election, query.projection, query.after), limit + 1))
    return ProjectionPage(
        election=query.election,
        state=_state(query.projection, row),
        counts=[ProjectionCount(key, count) for key, count in found[:limit]],
        more=len(found) > limit,
    )
