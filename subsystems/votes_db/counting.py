"""One by one through a bundle: which votes verify, which are news, what becomes of each (D06, D07, D11, D12).

Written for bulk: the loop touches the view only for validators that have voted on that side already.
"""

from collections.abc import Iterator, Sequence

from messages.polkadot import VoteKind
from messages.statements import vote_payload
from messages.votes_db import CANDIDATES_PER_VOTE_MAX, Outcome, VoteOutcome
from overseer.subsystem import Check, Verify
from overseer.tables import View
from subsystems.votes_db.dispute_row import DisputeRow
from subsystems.votes_db.form import Bundle
from subsystems.votes_db.packing import INVALID, merge_slot, pack_slot, split_row
from subsystems.votes_db.rules import replaces
from subsystems.votes_db.tables import VOTES, dispute_row, scheme_and_key

__all__ = ["Count", "count_votes", "wanted_checks"]

_FEW_STATEMENTS = 4


class Count:
    """What one bundle adds to a dispute; mutable while it is being counted."""

    def __init__(self, row: DisputeRow) -> None:
        self.valid = row.valid
        self.invalid = row.invalid
        # News, in the order of the bundle.
        self.fresh: list[tuple[int, bytes]] = []
        # Vote rows as they will be, of the validators in `fresh`.
        self.rows: dict[int, bytes] = {}
        self.outcomes: list[VoteOutcome] = []


class _Payloads:
    """The signed bytes of each kind for one bundle, made when they are first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        # Of the kinds that name no candidates of their own.
        self.plain: dict[VoteKind, bytes] = {}

    def of(self, kind: VoteKind, hashes: Sequence[bytes]) -> bytes | Outcome:
        """The bytes, or why there are none."""
        if kind is not VoteKind.APPROVAL_MULTIPLE:
            if hashes:
                return Outcome.BAD_KIND
            if kind not in self.plain:
                self.plain[kind] = self._signed(kind, ())
            return self.plain[kind]
        if not 1 <= len(hashes) <= CANDIDATES_PER_VOTE_MAX:
            return Outcome.BAD_KIND
        return self._signed(kind, hashes) if self._bundle.candidate in hashes else Outcome.WRONG_CANDIDATE

    def _signed(self, kind: VoteKind, hashes: Sequence[bytes]) -> bytes:
        bundle = self._bundle
        parent = bundle.receipt.descriptor.relay_parent
        return vote_payload(kind, candidate=bundle.candidate, session=bundle.session, relay_parent=parent, candidates=hashes)


def count_votes(view: View, bundle: Bundle, row: DisputeRow, verify: Verify) -> Count:
    """Verify and count every vote of the bundle against what the dispute's row says."""
    count = Count(row)
    payloads = _Payloads(bundle)
    plain = payloads.plain
    validators, size = bundle.validators, bundle.size
    outcomes, rows = count.outcomes, count.rows
    for validator, kind, signature, hashes in bundle.statements:
        if validator >= size:
            outcomes.append(VoteOutcome(validator, kind, Outcome.UNKNOWN_VALIDATOR))
            continue
        payload = plain.get(kind) if not hashes else None
        if payload is None:
            payload = payloads.of(kind, hashes)
            if isinstance(payload, Outcome):
                outcomes.append(VoteOutcome(validator, kind, payload))
                continue
        slot = pack_slot(kind, signature, hashes)
        against = slot[0] == INVALID
        occupied = (count.invalid if against else count.valid) >> validator & 1
        present = _present(view, bundle, count, validator, against) if occupied else b""
        if present == slot:
            outcomes.append(VoteOutcome(validator, kind, Outcome.ALREADY_PRESENT))
            continue
        scheme, key = scheme_and_key(validators, validator)
        if not verify(Check(scheme, key, payload, signature)):
            outcomes.append(VoteOutcome(validator, kind, Outcome.BAD_SIGNATURE))
            continue
        if present and not replaces(slot[0], present[0]):
            outcomes.append(VoteOutcome(validator, kind, Outcome.ALREADY_PRESENT))
            continue
        contradicts = not present and (count.valid if against else count.invalid) >> validator & 1
        if present or contradicts:
            rows[validator] = merge_slot(_vote_row(view, bundle, count, validator), slot)
        else:
            rows[validator] = slot
        count.fresh.append((validator, slot))
        if against:
            count.invalid |= 1 << validator
        else:
            count.valid |= 1 << validator
        outcomes.append(VoteOutcome(validator, kind, Outcome.DOUBLE_VOTE if contradicts else Outcome.STORED))
    return count


def _vote_row(view: View, bundle: Bundle, count: Count, validator: int) -> bytes:
    row = count.rows.get(validator)
    return row if row is not None else view.get(VOTES, (*bundle.key, validator)) or b""


def _present(view: View, bundle: Bundle, count: Count, validator: int, against: bool) -> bytes:
    """The slot that the validator has filled on that side."""
    return split_row(_vote_row(view, bundle, count, validator))[1 if against else 0]


def wanted_checks(view: View, bundle: Bundle) -> Iterator[Check]:
    """The checks that counting this bundle will most likely ask for: of all votes but those stored byte for byte."""
    payloads = _Payloads(bundle)
    plain = payloads.plain
    validators, size = bundle.validators, bundle.size
    voted = _perhaps_voted(view, bundle)
    for validator, kind, signature, hashes in bundle.statements:
        if validator >= size:
            continue
        payload = plain.get(kind) if not hashes else None
        if payload is None:
            payload = payloads.of(kind, hashes)
            if isinstance(payload, Outcome):
                continue
        if voted >> validator & 1:
            stored = view.get(VOTES, (*bundle.key, validator))
            if stored is not None and pack_slot(kind, signature, hashes) in split_row(stored):
                continue
        scheme, key = scheme_and_key(validators, validator)
        yield Check(scheme, key, payload, signature)


def _perhaps_voted(view: View, bundle: Bundle) -> int:
    """The validators whose vote rows are worth a look: of few statements all, which is cheaper than reading the dispute's row."""
    if len(bundle.statements) <= _FEW_STATEMENTS:
        return -1
    row = dispute_row(view, bundle.key)
    return 0 if row is None else row.valid | row.invalid
