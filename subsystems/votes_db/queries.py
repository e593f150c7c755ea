"""Answers from committed state: bounded pages, nothing of sessions that have left the window (D10, D18, D27)."""

from collections.abc import Iterator
from heapq import merge
from itertools import groupby

from messages.codec import decode_value
from messages.votes_db import (
    ActiveDisputes,
    CandidateHashes,
    Candidates,
    DisputeSummaries,
    DisputeSummary,
    QueryBySession,
    QueryByValidatorAndSessionIndex,
    QueryByValidatorId,
    QueryVotes,
    RecentDisputes,
    StoredCandidate,
    UnknownDispute,
    VoteRecord,
    VotesSnapshot,
)
from overseer.tables import View
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.dispute_row import members
from subsystems.votes_db.packing import to_records
from subsystems.votes_db.rules import inactive
from subsystems.votes_db.tables import CANDIDATES, DISPUTED, DISPUTES, IDS, VOTED, VOTES, dispute_row, window

__all__ = ["by_session", "by_validator_and_session", "by_validator_id", "list_disputes", "votes_snapshot"]

_FIRST, _LAST = bytes(32), b"\xff" * 32


def _kept(view: View, session: int) -> bool:
    kept = window(view)
    return kept is not None and session >= kept.oldest


def _voted(view: View, session: int, validator: int, after: bytes | None) -> Iterator[tuple[bytes, int]]:
    """(candidate, session) of every vote of the validator, behind the candidate `after`."""
    for key, _ in view.scan_packed(VOTED, (session, validator), start=(session, validator, after or _FIRST)):
        candidate = key[-32:]
        if candidate != after:
            yield candidate, session


def _page(hashes: Iterator[bytes], limit: int) -> CandidateHashes:
    page: list[bytes] = []
    for candidate in hashes:
        if len(page) == limit:
            return CandidateHashes(hashes=page, next=page[-1])
        page.append(candidate)
    return CandidateHashes(hashes=page)


def by_validator_and_session(view: View, query: QueryByValidatorAndSessionIndex, config: VotesDbConfig) -> CandidateHashes:
    """Candidates that the validator of that index voted on in the session, by hash."""
    if not _kept(view, query.session):
        return CandidateHashes(hashes=[])
    return _page((c for c, _ in _voted(view, query.session, query.validator, query.after)), config.page_rows_max)


def by_session(view: View, query: QueryBySession, config: VotesDbConfig) -> CandidateHashes:
    """Candidates that anyone voted on in the session, by hash."""
    if not _kept(view, query.session):
        return CandidateHashes(hashes=[])
    rows = view.scan_packed(DISPUTES, (query.session,), start=(query.session, query.after or _FIRST))
    return _page((key[-32:] for key, _ in rows if key[-32:] != query.after), config.page_rows_max)


def by_validator_id(view: View, query: QueryByValidatorId, config: VotesDbConfig) -> Candidates:
    """Candidates voted on under any index in any session of the window, by hash, each once (D27).

    One voted on in several sessions is shown with the first of them. A missing PoV is null.
    """
    places = [key for key, _ in view.scan(IDS, (query.validator_id,)) if _kept(view, key[1])]
    found = merge(*(_voted(view, session, index, query.after) for _, session, index in places))
    page: list[StoredCandidate] = []
    size = 0
    for candidate, group in groupby(found, key=lambda item: item[0]):
        data = view.get(CANDIDATES, (next(group)[1], candidate)) or b""
        if page and (len(page) == config.page_rows_max or size + len(data) > config.page_bytes_max):
            return Candidates(candidates=page, next=page[-1].candidate)
        if data:
            page.append(decode_value(StoredCandidate, data))
            size += len(data)
    return Candidates(candidates=page)


def votes_snapshot(view: View, query: QueryVotes, config: VotesDbConfig) -> VotesSnapshot | UnknownDispute:
    """Who voted how; known as soon as there is one vote, disputed or not."""
    key = (query.session, query.candidate)
    row = dispute_row(view, key) if _kept(view, query.session) else None
    if row is None:
        return UnknownDispute(session=query.session, candidate=query.candidate)
    votes: list[VoteRecord] = []
    size = 0
    following: int | None = None
    for packed, data in view.scan_packed(VOTES, key, start=(*key, query.after or 0)):
        validator = int.from_bytes(packed[-4:], "big")
        if validator == query.after:
            continue
        if votes and (size + len(data) > config.page_bytes_max or len(votes) >= config.page_rows_max):
            following = votes[-1].validator
            break
        votes.extend(to_records(validator, data))
        size += len(data)
    return VotesSnapshot(
        session=query.session,
        candidate=query.candidate,
        pro=members(row.valid),
        cons=members(row.invalid),
        votes=votes,
        status=row.status,
        validators=row.validators,
        concluded_at_ms=row.concluded_at_ms,
        cascade_told=row.cascade,
        next=following,
    )


def list_disputes(view: View, query: RecentDisputes | ActiveDisputes, now_ms: int, config: VotesDbConfig) -> DisputeSummaries:
    """Disputes of the window by (session, candidate); of active ones those alone that are not inactive yet (D10)."""
    kept = window(view)
    if kept is None:
        return DisputeSummaries(disputes=[])
    after: tuple[int, bytes] | None = None
    if query.after_session is not None:
        after = (query.after_session, _LAST if query.after_candidate is None else query.after_candidate)
    disputes: list[DisputeSummary] = []
    last: tuple[int, bytes] | None = None
    start = max((kept.oldest, _FIRST), after or (0, _FIRST))
    for scanned, ((session, candidate), _) in enumerate(view.scan(DISPUTED, start=start)):
        if (session, candidate) == after:
            continue
        if last is not None and (len(disputes) >= max(1, query.limit) or scanned > config.rows_scanned_max):
            return DisputeSummaries(disputes=disputes, next_session=last[0], next_candidate=last[1])
        last = (session, candidate)
        row = dispute_row(view, last)
        if row is None:
            continue
        if isinstance(query, ActiveDisputes) and inactive(row.status, row.concluded_at_ms, now_ms, config.inactive_after_ms):
            continue
        disputes.append(DisputeSummary(session, candidate, row.status, row.valid.bit_count(), row.invalid.bit_count(), row.concluded_at_ms))
    return DisputeSummaries(disputes=disputes)
