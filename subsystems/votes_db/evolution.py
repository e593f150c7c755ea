"""Events into tables. Looks at nothing but the event and the tables."""

import msgspec

from messages.codec import encode_value
from messages.message import Message
from messages.polkadot import Side
from messages.votes_db import DisputeStatusChanged, StoredCandidate
from messages.votes_db_journal import (
    CandidateOpened,
    CandidatesKnown,
    CascadeTold,
    ChallengeEnded,
    ChallengeRaised,
    DisputeDetected,
    GossipHeld,
    GossipReleased,
    PovRecorded,
    RowsPruned,
    SessionOpened,
    TransactionsIssued,
    VotesImported,
)
from overseer.tables import Tables
from subsystems.votes_db.dispute_row import DisputeRow, dump_dispute, mask_of, members
from subsystems.votes_db.packing import INVALID, merge_slot, unpack_slots
from subsystems.votes_db.rules import CONCLUDED, is_potential_spam
from subsystems.votes_db.tables import (
    BACKED,
    CANDIDATES,
    CURSOR,
    DISPUTED,
    DISPUTES,
    HELD,
    IDS,
    INCLUDED,
    KNOWN,
    NUMBERS,
    SESSION_FIRST,
    SESSIONS,
    SPAM,
    VALIDATOR_BYTES,
    VOTED,
    VOTES,
    WINDOW,
    Key,
    dispute_row,
    scheme_and_key,
    spam_slots,
    stored_candidate,
    window,
)

__all__ = ["apply"]

_BY_NAME = {table.name: table for table in SESSION_FIRST}


def apply(tables: Tables, event: Message) -> None:
    """One recorded event. What is only told (resolutions, double votes, a finished pruning) changes no table."""
    match event:
        case VotesImported():
            _votes_imported(tables, event)
        case TransactionsIssued():
            _transactions_issued(tables, event)
        case CandidateOpened():
            _candidate_opened(tables, event)
        case PovRecorded():
            _pov_recorded(tables, event)
        case DisputeDetected():
            tables.put(DISPUTED, (event.session, event.candidate), b"")
        case DisputeStatusChanged():
            _status_changed(tables, event)
        case ChallengeRaised():
            _change(tables, (event.session, event.candidate), challenged=True)
        case ChallengeEnded():
            _change(tables, (event.session, event.candidate), lifted=True)
        case CascadeTold():
            _change(tables, (event.session, event.candidate), cascade=True)
        case CandidatesKnown():
            _candidates_known(tables, event)
        case SessionOpened():
            _session_opened(tables, event)
        case GossipHeld():
            tables.put(HELD, (event.dispute.session_index, event.dispute.candidate_hash), event.dispute)
        case GossipReleased():
            tables.delete(HELD, (event.session, event.candidate))
        case RowsPruned():
            _rows_pruned(tables, event)
        case _:
            pass


def _put(tables: Tables, key: Key, row: DisputeRow) -> None:
    tables.put(DISPUTES, key, dump_dispute(row))


def _change(tables: Tables, key: Key, **fields: object) -> None:
    row = dispute_row(tables, key)
    if row is not None:
        _put(tables, key, msgspec.structs.replace(row, **fields))


def _settled(tables: Tables, key: Key, row: DisputeRow) -> DisputeRow:
    """The row, its spam slots given back if it is no potential spam any more."""
    if not row.slotted or is_potential_spam(row.status, row.known):
        return row
    for validator in members(row.slotted):
        left = spam_slots(tables, key[0], validator) - 1
        if left > 0:
            tables.put(SPAM, (key[0], validator), bytes((left,)))
        else:
            tables.delete(SPAM, (key[0], validator))
    return msgspec.structs.replace(row, slotted=0)


# ------------------------------------------------------------------------------------------------ votes


def _candidate_opened(tables: Tables, event: CandidateOpened) -> None:
    key = (event.session, event.candidate)
    candidate = StoredCandidate(session=event.session, candidate=event.candidate, receipt=event.receipt, pov=event.pov)
    tables.put(CANDIDATES, key, encode_value(candidate))
    _put(tables, key, DisputeRow(validators=event.validators, block_number=event.block_number, known=event.known))


def _pov_recorded(tables: Tables, event: PovRecorded) -> None:
    key = (event.session, event.candidate)
    candidate = stored_candidate(tables, key)
    if candidate is not None:
        tables.put(CANDIDATES, key, encode_value(msgspec.structs.replace(candidate, pov=event.pov)))


def _votes_imported(tables: Tables, event: VotesImported) -> None:
    """Two rows per voter, written packed: this runs a thousand times for a bundle."""
    key = (event.session, event.candidate)
    row = dispute_row(tables, key)
    if row is None:
        return
    valid, invalid = row.valid, row.invalid
    before = VOTES.pack(key)
    session, candidate = before[:4], before[4:]
    at = event.at_ms.to_bytes(8, "big")
    put = tables.put_packed
    for validator, slot in unpack_slots(event.votes):
        index = validator.to_bytes(4, "big")
        bit = 1 << validator
        against = slot[0] == INVALID
        if (valid | invalid) & bit:
            slot = merge_slot(tables.get(VOTES, (*key, validator)) or b"", slot)
        else:
            put(VOTED, session + index + candidate, at)
        put(VOTES, before + index, slot)
        if against:
            invalid |= bit
        else:
            valid |= bit
    for validator in event.slots:
        tables.put(SPAM, (event.session, validator), bytes((spam_slots(tables, event.session, validator) + 1,)))
    slotted = row.slotted | mask_of(event.slots)
    _put(tables, key, msgspec.structs.replace(row, valid=valid, invalid=invalid, slotted=slotted))


def _status_changed(tables: Tables, event: DisputeStatusChanged) -> None:
    key = (event.session, event.candidate)
    row = dispute_row(tables, key)
    if row is None:
        return
    # The time of the first conclusion is kept (D08).
    at_ms = event.at_ms if row.concluded_at_ms is None and event.status in CONCLUDED else row.concluded_at_ms
    _put(tables, key, _settled(tables, key, msgspec.structs.replace(row, status=event.status, concluded_at_ms=at_ms)))


def _transactions_issued(tables: Tables, event: TransactionsIssued) -> None:
    key = (event.session, event.candidate)
    row = dispute_row(tables, key)
    if row is None:
        return
    rewarded, slashed = mask_of(event.rewards.validators), mask_of(event.slashes.validators)
    if event.verdict is Side.VALID:
        row = msgspec.structs.replace(row, rewarded_for=row.rewarded_for | rewarded, slashed_for=row.slashed_for | slashed)
    else:
        row = msgspec.structs.replace(row, rewarded_against=row.rewarded_against | rewarded, slashed_against=row.slashed_against | slashed)
    _put(tables, key, row)


# ------------------------------------------------------------------------------------------------ chain and sessions


def _candidates_known(tables: Tables, event: CandidatesKnown) -> None:
    """What the chain backed or included is no spam, in whichever session of the window it is disputed."""
    number = event.number.to_bytes(4, "big")
    kept = window(tables)
    for strength, candidates in ((BACKED, event.backed), (INCLUDED, event.included)):
        for candidate in candidates:
            tables.put(KNOWN, (event.session, candidate), bytes((strength,)) + number)
            for session in range(kept.oldest, kept.current + 1) if kept is not None else ():
                key = (session, candidate)
                row = dispute_row(tables, key)
                if row is not None:
                    told = event.number if strength == INCLUDED or not row.known else row.block_number
                    _put(tables, key, _settled(tables, key, msgspec.structs.replace(row, known=True, block_number=told)))


def _session_opened(tables: Tables, event: SessionOpened) -> None:
    validators = event.validators
    tables.put(SESSIONS, (event.session,), validators)
    tables.put(WINDOW, (0,), NUMBERS.pack(event.current, event.oldest))
    for index in range(len(validators) // VALIDATOR_BYTES):
        tables.put(IDS, (scheme_and_key(validators, index)[1], event.session, index), b"")


def _rows_pruned(tables: Tables, event: RowsPruned) -> None:
    validators = tables.get(SESSIONS, (event.session,)) or b""
    for index in range(event.ids_from, event.ids_to):
        tables.delete(IDS, (scheme_and_key(validators, index)[1], event.session, index))
    tables.put(CURSOR, (0,), NUMBERS.pack(event.session, event.ids_to))
    for pruned in event.ranges:
        table = _BY_NAME[pruned.table]
        tables.delete_range(table, (event.session,), end=table.unpack(pruned.end) if pruned.end else None)
