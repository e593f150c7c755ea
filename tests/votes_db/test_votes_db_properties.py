"""Whatever the order and the bundling: the state of a dispute is a function of its votes (D28)."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from votes_world import APPROVED, BACKED, INVALID, SECONDED, VALID, bundle, outcomes, snapshot, transactions, vote, votes_db

from messages.dispute_conclusion import Challenged, ChallengeLifted, Detection, Resolution
from messages.message import Message
from messages.polkadot import Vote, VoteKind
from messages.votes_db import Dispute, DisputeStatus, DisputeStatusChanged, DoubleVoteSeen, RegisterVote
from overseer.subsystem import Check, Verify
from overseer.testing.given import Given, Then
from overseer.verification import verify_check
from subsystems.votes_db.rules import byzantine_threshold, status_of, supermajority

VALIDATORS = 7
KINDS = (VALID, INVALID, SECONDED, BACKED, APPROVED)

Cast = tuple[int, VoteKind]
casts = st.lists(st.tuples(st.integers(0, VALIDATORS - 1), st.sampled_from(KINDS)), unique=True, max_size=20)


@cache
def signed(cast: Cast) -> Vote:
    return vote(*cast)


def bundles_of(data: st.DataObject, all_casts: list[Cast]) -> list[RegisterVote]:
    """The same votes in another order and other bundles, some of them twice."""
    order = data.draw(st.permutations(all_casts))
    repeats = data.draw(st.lists(st.sampled_from(all_casts), max_size=5)) if all_casts else []
    left = [*order, *repeats]
    made: list[RegisterVote] = []
    while left:
        size = data.draw(st.integers(1, len(left)))
        made.append(bundle([signed(c) for c in left[:size]], validators=VALIDATORS))
        left = left[size:]
    return made


def run(messages: list[RegisterVote]) -> tuple[Given, list[Then]]:
    db = votes_db(VALIDATORS)
    thens = [db.when(m) for m in messages]
    assert all(t.rejection is None for t in thens)
    return db, thens


def sent(thens: list[Then], kind: type[Message]) -> list[Message]:
    return [m for t in thens for m in t.sent_of(kind)]


def test_thresholds_are_those_of_the_spec() -> None:
    table = {0: (0, 0), 1: (0, 1), 4: (1, 3), 7: (2, 5), 9: (2, 7), 10: (3, 7), 1000: (333, 667)}
    assert {n: (byzantine_threshold(n), supermajority(n)) for n in table} == table


@settings(max_examples=150, deadline=None)
@given(casts=casts, data=st.data())
def test_D28_the_state_is_a_function_of_the_votes_whatever_order_and_bundles(casts: list[Cast], data: st.DataObject) -> None:
    db, thens = run(bundles_of(data, casts))
    valid = {i for i, kind in casts if kind is not INVALID}
    invalid = {i for i, kind in casts if kind is INVALID}
    status = status_of(valid=len(valid), invalid=len(invalid), voters=len(valid | invalid), validators=VALIDATORS)
    if casts:
        shown = snapshot(db)
        assert (set(shown.pro), set(shown.cons), shown.status) == (valid, invalid, status)
        # A backing vote wins its slot.
        backed = {i for i, kind in casts if kind in (SECONDED, BACKED)}
        assert {v.validator for v in shown.votes if v.kind in (SECONDED, BACKED)} == backed
    assert {m.validator for m in sent(thens, DoubleVoteSeen)} == valid & invalid
    assert len(sent(thens, DoubleVoteSeen)) == len(valid & invalid)
    assert len(sent(thens, Detection)) == len(sent(thens, Dispute)) == (1 if valid and invalid else 0)
    due = [(t.kind.value, t.validator) for then in thens for t in transactions(then) if t.verdict.value == "invalid"]
    if status is DisputeStatus.CONCLUDED_AGAINST:
        slashed = {v for kind, v in due if kind == "slash"}
        assert slashed == valid
        assert {v for kind, v in due if kind == "reward"} - slashed == invalid - valid
        assert [m.valid for m in sent(thens, Resolution)][-1] is False
    else:
        assert due == []


@settings(max_examples=150, deadline=None)
@given(casts=casts, data=st.data())
def test_D28_whatever_is_repeated_is_rewarded_and_slashed_once_by_verdict(casts: list[Cast], data: st.DataObject) -> None:
    messages = bundles_of(data, casts)
    db, thens = run(messages)
    again = [db.when(m) for m in messages]
    assert all(not t.events and not t.sent for t in again)
    identities = Counter((t.kind, t.session, t.candidate, t.validator, t.verdict) for then in thens for t in transactions(then))
    assert all(count == 1 for count in identities.values())
    # Nobody is rewarded after having been slashed for the same verdict.
    slashed: set[tuple[int, str]] = set()
    for then in thens:
        for t in transactions(then):
            assert not (t.kind.value == "reward" and (t.validator, t.verdict.value) in slashed)
        slashed |= {(t.validator, t.verdict.value) for t in transactions(then) if t.kind.value == "slash"}
    # Transitions are told once each, and go one way.
    told = [(m.previous, m.status) for m in sent(thens, DisputeStatusChanged)]
    assert all(before == told[i - 1][1] for i, (before, _) in enumerate(told) if i)
    assert len({status for _, status in told}) == len(told)
    assert [m.valid for m in sent(thens, Resolution)] in ([], [True], [False], [True, False])
    assert len(sent(thens, Challenged)) <= 1
    assert len(sent(thens, ChallengeLifted)) <= len(sent(thens, Challenged))
    assert rows_of(db.replayed()) == rows_of(db)


def rows_of(db: Given) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: list(db.rows.scan(name, b"", None)) for name in db.rows.tables()}


def memo_of(messages: list[RegisterVote], asked: list[Check]) -> Verify:
    """As a runner does: the checks of a whole batch computed ahead, from the tables before it; the rest inline."""
    ahead = votes_db(VALIDATORS)
    memo = {check: verify_check(check) for m in messages for check in ahead.subsystem.checks(ahead.view, m)}

    def verify(check: Check) -> bool:
        if check in memo:
            return memo[check]
        asked.append(check)
        return verify_check(check)

    return verify


@settings(max_examples=50, deadline=None)
@given(casts=casts, forged=st.sets(st.integers(0, 19)), data=st.data())
def test_checks_are_a_hint_only_and_foresee_all_that_is_asked(casts: list[Cast], forged: set[int], data: st.DataObject) -> None:
    cast_votes = [signed((i, VALID)) if n in forged and kind is INVALID else signed((i, kind)) for n, (i, kind) in enumerate(casts)]
    made = [Vote(v.validator, kind, v.signature) for v, (_, kind) in zip(cast_votes, casts, strict=True)]
    messages: list[RegisterVote] = []
    while made:
        size = data.draw(st.integers(1, len(made)))
        messages.append(bundle(made[:size], validators=VALIDATORS))
        made = made[size:]
    inline, with_memo = votes_db(VALIDATORS), votes_db(VALIDATORS, verify=memo_of(messages, asked := []))
    for message in messages:
        one, other = inline.when(message), with_memo.when(message)
        assert (one.events, one.sent, outcomes(one)) == (other.events, other.sent, outcomes(other))
    assert rows_of(inline) == rows_of(with_memo)
    assert asked == []


def test_checks_of_what_is_stored_byte_for_byte_are_not_asked_for_again() -> None:
    db = votes_db(VALIDATORS)
    message = bundle([signed((0, VALID)), signed((1, INVALID))], validators=VALIDATORS)
    assert len(list(db.subsystem.checks(db.view, message))) == 2
    db.when(message)
    assert list(db.subsystem.checks(db.view, message)) == []


@pytest.mark.parametrize("session", [0, 2])
def test_checks_of_a_refused_bundle_are_none(session: int) -> None:
    db = votes_db(VALIDATORS)
    assert list(db.subsystem.checks(db.view, bundle([signed((0, VALID))], session=session))) == []
