"""What follows from a bundle: votes recorded, the dispute's state advanced, the world told (D01 to D09, D16, D17).

All of it is decided from the row before and the votes that are news; the stored votes are read only on the transitions
that need them: when the second side appears and when a side crosses the supermajority.
"""

from collections.abc import Iterable

from messages.message import Message
from messages.polkadot import CandidateReceipt, Side
from messages.scale import commitments_hash, encode_commitments
from messages.votes_db import (
    VOTES_PER_BUNDLE_MAX,
    DisputeStatus,
    DisputeStatusChanged,
    DoubleVoteSeen,
    SpamRefused,
    VotesRegistered,
)
from messages.votes_db_journal import (
    CandidateOpened,
    ChallengeEnded,
    ChallengeRaised,
    DisputeDetected,
    DisputeResolved,
    PovRecorded,
    TransactionsIssued,
    VotesImported,
)
from overseer.subsystem import Context, Decision
from overseer.tables import View
from subsystems.votes_db.counting import Count, count_votes
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.dispute_row import DisputeRow, members
from subsystems.votes_db.form import Bundle
from subsystems.votes_db.packing import INVALID, pack_votes, split_row
from subsystems.votes_db.rules import CONCLUDED, byzantine_threshold, is_potential_spam, status_of
from subsystems.votes_db.tables import KNOWN, VOTED, VOTES, Key, dispute_row, spam_slots, stored_candidate, window

__all__ = ["import_bundle"]

# Transactions of one message to the chain, and bytes of one event of them (an approval of several weighs up to 2 KiB).
_TRANSACTIONS_MAX = 1_000
_TRANSACTION_BYTES_MAX = 256 * 1024
# Commitments beyond this are gossiped by their hash.
_GOSSIPED_COMMITMENTS_BYTES_MAX = 64 * 1024

# validator -> vote row
Rows = dict[int, bytes]


def import_bundle(view: View, bundle: Bundle, context: Context, config: VotesDbConfig) -> Decision | SpamRefused:
    """Record what is news in the bundle. All or nothing: a rejection stores nothing (D16, D26)."""
    stored = dispute_row(view, bundle.key)
    row = stored or _new_row(view, bundle)
    count = count_votes(view, bundle, row, context.verify)
    status = status_of(
        valid=count.valid.bit_count(),
        invalid=count.invalid.bit_count(),
        voters=(count.valid | count.invalid).bit_count(),
        validators=row.validators,
    )
    reply = VotesRegistered(session=bundle.session, candidate=bundle.candidate, outcomes=count.outcomes, status=status)
    events: list[Message] = []
    if stored is None:
        if not count.fresh:
            return Decision(reply=reply)
        events.append(_opened(bundle, row))
    else:
        events.extend(_pov_news(view, bundle))
    if count.fresh:
        slots = _slots(view, bundle, row, count, status, config)
        if isinstance(slots, SpamRefused):
            return slots
        votes = pack_votes(count.fresh)
        events.append(VotesImported(session=bundle.session, candidate=bundle.candidate, votes=votes, slots=slots, at_ms=context.now_ms))
        events.extend(_consequences(view, bundle, row, count, status, context, config))
    return Decision(events=events, reply=reply)


def _new_row(view: View, bundle: Bundle) -> DisputeRow:
    """The block number is a hint; what the chain told of the candidate counts more."""
    seen = _seen_on_chain(view, bundle.candidate)
    return DisputeRow(validators=bundle.size, known=seen is not None, block_number=bundle.block_number if seen is None else seen)


def _seen_on_chain(view: View, candidate: bytes) -> int | None:
    """The number of a block that included the candidate, or else backed it; None when the chain does not know it."""
    kept = window(view)
    if kept is None:
        return None
    # A session's first block may be told before the session is.
    found = [data for s in range(kept.oldest, kept.current + 2) if (data := view.get(KNOWN, (s, candidate))) is not None]
    best = max(found, key=lambda data: data[0], default=None)
    return None if best is None else int.from_bytes(best[1:], "big")


def _opened(bundle: Bundle, row: DisputeRow) -> CandidateOpened:
    return CandidateOpened(
        session=bundle.session,
        candidate=bundle.candidate,
        receipt=bundle.receipt,
        pov=bundle.pov,
        block_number=row.block_number,
        validators=row.validators,
        known=row.known,
    )


def _pov_news(view: View, bundle: Bundle) -> Iterable[Message]:
    """The first PoV told is kept, unless it is not the one that the descriptor names and this one is."""
    if bundle.pov is None:
        return
    known = stored_candidate(view, bundle.key)
    named = bundle.receipt.descriptor.pov_hash
    if known is not None and (known.pov is None or (bundle.pov == named and known.pov != named)):
        yield PovRecorded(session=bundle.session, candidate=bundle.candidate, pov=bundle.pov)


def _slots(
    view: View, bundle: Bundle, row: DisputeRow, count: Count, status: DisputeStatus, config: VotesDbConfig
) -> list[int] | SpamRefused:
    """The validators that take a spam slot with this import; refused when there are such but none has room.

    They are the new invalid voters, or all of them when the dispute begins with this import (the valid vote may be the later).
    """
    if not is_potential_spam(status, row.known):
        return []
    begins = row.status is DisputeStatus.NONE
    newcomers = members(count.invalid if begins else count.invalid & ~row.invalid)
    takers = [v for v in newcomers if spam_slots(view, bundle.session, v) < config.spam_slots]
    if newcomers and not takers:
        return SpamRefused(session=bundle.session, candidate=bundle.candidate, slots=config.spam_slots)
    return takers


def _consequences(
    view: View, bundle: Bundle, row: DisputeRow, count: Count, status: DisputeStatus, context: Context, config: VotesDbConfig
) -> Iterable[Message]:
    """Everything beyond the votes themselves, each once, on its transition."""
    session, candidate = bundle.key
    for validator in members(count.valid & count.invalid & ~(row.valid & row.invalid)):
        yield DoubleVoteSeen(session=session, candidate=candidate, validator=validator)
    if status is DisputeStatus.NONE:
        return
    changed = status is not row.status
    concludes = changed and status in CONCLUDED
    detected = row.status is DisputeStatus.NONE
    rows = _all_rows(view, bundle.key, count) if detected or concludes else count.rows
    if detected:
        yield _detected(view, bundle, row, count, rows, config)
    if changed:
        yield DisputeStatusChanged(session=session, candidate=candidate, status=status, previous=row.status, at_ms=context.now_ms)
    if status is DisputeStatus.CONCLUDED_FOR:
        if row.challenged and not row.lifted:
            yield ChallengeEnded(session=session, candidate=candidate)
    elif not row.challenged and count.invalid.bit_count() > byzantine_threshold(row.validators):
        yield ChallengeRaised(session=session, candidate=candidate)
    if concludes:
        yield _resolved(bundle.key, rows, status)
        yield from _transactions(bundle.key, row, count, status, rows, count.valid | count.invalid)
    elif status in CONCLUDED:
        late = (count.valid ^ row.valid) | (count.invalid ^ row.invalid)
        yield from _transactions(bundle.key, row, count, status, rows, late)


def _all_rows(view: View, key: Key, count: Count) -> Rows:
    """The vote rows of all voters as they will be, by validator."""
    rows = {int.from_bytes(packed[-4:], "big"): data for packed, data in view.scan_packed(VOTES, key)}
    rows.update(count.rows)
    return dict(sorted(rows.items()))


# ------------------------------------------------------------------------------------------------ the second side appears


def _detected(view: View, bundle: Bundle, row: DisputeRow, count: Count, rows: Rows, config: VotesDbConfig) -> DisputeDetected:
    """Contradicting is the lowest new voter of the side that appears second; the lowest invalid one when both come at once."""
    second = count.valid if row.invalid else count.invalid
    contradicting = members(second)[0]
    return DisputeDetected(
        session=bundle.session,
        candidate=bundle.candidate,
        block_number=row.block_number,
        contradicting=contradicting,
        votes=pack_votes(_carried(rows, config.page_bytes_max)),
        voted_candidates=_voted_candidates(view, bundle.key, contradicting, config),
        gossip=_gossiped_receipt(bundle.receipt) if config.gossip and not bundle.gossiped else None,
    )


def _carried(rows: Rows, bytes_max: int) -> list[tuple[int, bytes]]:
    """The votes so far, by validator; of very many, as many of each side as fit a message, so that both are there."""
    sides: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    for validator, data in rows.items():
        for slot in split_row(data):
            if slot:
                sides[slot[0] == INVALID].append((validator, slot))
    chosen: list[tuple[int, bytes]] = []
    room, votes_left = bytes_max, VOTES_PER_BUNDLE_MAX
    for place, against in enumerate(sorted(sides, key=lambda s: len(sides[s]))):
        # The smaller side first: what it leaves is the other's.
        budget, most = (room // 2, votes_left // 2) if place == 0 else (room, votes_left)
        for vote in sides[against][:most]:
            budget -= len(vote[1])
            if budget < 0:
                break
            room -= len(vote[1])
            votes_left -= 1
            chosen.append(vote)
    return sorted(chosen, key=lambda vote: vote[0])


def _voted_candidates(view: View, key: Key, validator: int, config: VotesDbConfig) -> list[bytes]:
    """The other candidates that the validator voted on in the session, newest last; bounded in number and in work."""
    session, candidate = key
    found: list[tuple[bytes, bytes]] = []
    for scanned, (packed, at) in enumerate(view.scan_packed(VOTED, (session, validator))):
        if scanned >= config.voted_candidates_scanned_max:
            break
        if packed[-32:] != candidate:
            found.append((at, packed[-32:]))
    return [other for _, other in sorted(found)[-config.voted_candidates_max :]]


def _gossiped_receipt(receipt: CandidateReceipt) -> CandidateReceipt:
    """As it came, or plain when its commitments are large."""
    commitments = receipt.commitments
    if commitments is None or len(encode_commitments(commitments)) <= _GOSSIPED_COMMITMENTS_BYTES_MAX:
        return receipt
    return CandidateReceipt(descriptor=receipt.descriptor, commitments_hash=commitments_hash(commitments))


# ------------------------------------------------------------------------------------------------ a side crosses supermajority


def _resolved(key: Key, rows: Rows, status: DisputeStatus) -> DisputeResolved:
    sides = [split_row(data) for data in rows.values()]
    return DisputeResolved(
        session=key[0],
        candidate=key[1],
        valid=status is DisputeStatus.CONCLUDED_FOR,
        validators=list(rows),
        valid_kinds="".join(chr(valid[0]) if valid else "-" for valid, _ in sides),
        invalid_kinds="".join(chr(invalid[0]) if invalid else "-" for _, invalid in sides),
    )


def _transactions(key: Key, row: DisputeRow, count: Count, status: DisputeStatus, rows: Rows, voters: int) -> Iterable[TransactionsIssued]:
    """Rewards and slashes due to `voters` under the verdict, each once; a double voter is slashed, never rewarded.

    Who was rewarded and votes the losing side as well later on is slashed then.
    """
    for_valid = status is DisputeStatus.CONCLUDED_FOR
    winners, losers = (count.valid, count.invalid) if for_valid else (count.invalid, count.valid)
    rewarded, slashed = (row.rewarded_for, row.slashed_for) if for_valid else (row.rewarded_against, row.slashed_against)
    slashes = losers & voters & ~slashed
    rewards = winners & ~losers & voters & ~rewarded
    winning = 0 if for_valid else 1
    due = [(v, split_row(rows[v])[winning], True) for v in members(rewards)]
    due += [(v, split_row(rows[v])[1 - winning], False) for v in members(slashes)]
    while due:
        size, taken = 0, 0
        while taken < min(len(due), _TRANSACTIONS_MAX) and (not taken or size + len(due[taken][1]) <= _TRANSACTION_BYTES_MAX):
            size += len(due[taken][1])
            taken += 1
        part, due = due[:taken], due[taken:]
        yield TransactionsIssued(
            session=key[0],
            candidate=key[1],
            verdict=Side.VALID if for_valid else Side.INVALID,
            rewards=pack_votes((v, slot) for v, slot, reward in part if reward),
            slashes=pack_votes((v, slot) for v, slot, reward in part if not reward),
        )
