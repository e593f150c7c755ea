"""Sessions, pruning and queries (D18, D19, D27)."""

import msgspec
import pytest
from votes_world import INVALID, VALID, bundle, candidate, digest, receipt, signer, signers, snapshot, vote, votes, votes_db

from messages.chain_api import BlockImported
from messages.polkadot import DisputeRef, Vote
from messages.signals import BlocksBlacklisted, SessionChange
from messages.votes_db import (
    ActiveDisputes,
    CandidateHashes,
    Candidates,
    DisputeSummaries,
    QueryBySession,
    QueryByValidatorAndSessionIndex,
    QueryByValidatorId,
    QueryVotes,
    RecentDisputes,
    SessionsPruned,
    UnknownDispute,
    VotesSnapshot,
)
from messages.votes_db_journal import PruneStep, RowsPruned
from overseer.subsystem import Check
from overseer.testing.given import Given
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

# Tables keyed by session first, and where in a key of the index by id the session stands.
SESSION_FIRST = ("votes", "voted", "disputed", "disputes", "candidates", "spam", "known", "held", "sessions")


def sessions_left(db: Given) -> set[int]:
    """The sessions that any row of any table is about."""
    left = {int.from_bytes(key[:4], "big") for name in SESSION_FIRST for key, _ in db.rows.scan(name, b"", None)}
    return left | {int.from_bytes(key[32:36], "big") for key, _ in db.rows.scan("ids", b"", None)}


def rows_of(db: Given) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: list(db.rows.scan(name, b"", None)) for name in db.rows.tables()}


def change(session: int, validators: int = 10) -> SessionChange:
    return SessionChange(index=session, validators=[s.validator for s in signers(validators)])


def database_with_votes_in(sessions: range, config: VotesDbConfig | None = None) -> Given:
    db = votes_db(10, sessions=sessions, config=config)
    for session in sessions:
        number = session % 7
        db.when(bundle([vote(0, VALID, number, session=session), vote(1, INVALID, number, session=session)], number, session=session))
        seen = digest("seen", session)
        db.when(BlockImported(hash=seen, parent=bytes(32), number=session, session=session, backed=[seen], included=[], blacklisted=False))
    return db


def voted_by(db: Given, validator: bytes, after: bytes | None = None) -> Candidates:
    answer = db.ask(QueryByValidatorId(validator_id=validator, after=after))
    assert isinstance(answer, Candidates)
    return answer


def test_D18_sessions_that_left_the_window_are_gone_from_all_tables_and_the_others_untouched() -> None:
    db = database_with_votes_in(range(3, 8))
    db.when(change(8))
    db.when(change(9))
    db.settle()
    assert sessions_left(db) == set(range(4, 10))
    before = {
        name: [row for row in rows if row[0][:4] >= (5).to_bytes(4, "big")] for name, rows in rows_of(db).items() if name in SESSION_FIRST
    }
    then = db.when(change(10))
    assert then.sent == []
    done = db.settle()
    assert done.sent == [SessionsPruned(through=4)]
    assert sessions_left(db) == set(range(5, 11))
    after = {
        name: [row for row in rows if row[0][:4] < (10).to_bytes(4, "big")] for name, rows in rows_of(db).items() if name in SESSION_FIRST
    }
    assert after == before
    shown = voted_by(db, signer(0).validator.key).candidates
    assert {c.session for c in shown} == {5, 6, 7}
    for session in range(3, 5):
        assert isinstance(db.ask(QueryVotes(session=session, candidate=candidate(session % 7))), UnknownDispute)
        assert db.ask(QueryBySession(session=session)) == CandidateHashes(hashes=[])


def test_D18_what_left_the_window_is_hidden_before_it_is_pruned() -> None:
    db = database_with_votes_in(range(1, 7))
    db.when(change(7))
    assert 1 in sessions_left(db)
    assert isinstance(db.ask(QueryVotes(session=1, candidate=candidate(1))), UnknownDispute)
    assert db.ask(QueryBySession(session=1)) == CandidateHashes(hashes=[])
    assert db.ask(QueryByValidatorAndSessionIndex(session=1, validator=0)) == CandidateHashes(hashes=[])
    assert 1 not in {c.session for c in voted_by(db, signer(0).validator.key).candidates}
    recent = db.ask(RecentDisputes())
    assert isinstance(recent, DisputeSummaries)
    assert {d.session for d in recent.disputes} == {2, 3, 4, 5, 6}


def test_D18_a_session_told_again_or_too_late_changes_nothing() -> None:
    db = votes_db(10, sessions=(9,), config=VotesDbConfig(window=2))
    assert db.when(change(9, 4)).events == []
    assert db.when(change(7)).events == []
    assert len(db.when(change(8)).events) == 1
    assert snapshotted_window(db) == (9, 8)


def snapshotted_window(db: Given) -> tuple[int, int]:
    data = db.rows.get("window", b"\x00")
    assert data is not None
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")


def trusting(check: Check) -> bool:
    """For bulk: the memo says that all signatures verify."""
    return True


@pytest.mark.slow
def test_D19_pruning_a_hundred_thousand_votes_is_bounded_by_step_and_goes_on_after_an_interruption() -> None:
    step = 5_000
    config = VotesDbConfig(window=1, prune_rows_per_step=step)
    db = votes_db(1000, config=config, verify=trusting)
    # From 1 to 999: the first validator has voted on nothing.
    for of in range(101):
        db.when(bundle([Vote(i, VALID, bytes(64)) for i in range(1, 1000)], of))
    assert len(list(db.rows.scan("votes", b"", None))) > 100_000
    db.when(change(2, 4))
    left = row_count(db)
    for _ in range(7):
        assert db.fire_one() is not None
        now = row_count(db)
        assert 0 < left - now <= step
        left = now

    # Killed here: another process goes on with the tables and the timer as they were committed.
    resumed = Given(VotesDb(config), verify=trusting)
    resumed.rows, resumed.timers, resumed.now_ms = db.rows.copy(), dict(db.timers), db.now_ms
    assert [type(t.message) for t in resumed.timers.values()] == [PruneStep]
    then = resumed.settle()
    assert then.sent == [SessionsPruned(through=1)]
    assert sessions_left(resumed) == {2}
    db.settle()
    assert rows_of(db) == rows_of(resumed) == rows_of(db.replayed())


@pytest.mark.parametrize("step", [1, 7])
def test_D19_no_step_takes_more_rows_than_allowed_and_every_step_some(step: int) -> None:
    db = database_with_votes_in(range(1, 3), VotesDbConfig(window=2, prune_rows_per_step=step))
    db.when(change(4, 2))
    left = row_count(db)
    while db.fire_one() is not None:
        now = row_count(db)
        assert left - now <= step
        assert now < left or not db.timers
        left = now
    assert sessions_left(db) == {4}


def row_count(db: Given) -> int:
    return sum(len(list(db.rows.scan(name, b"", None))) for name in (*SESSION_FIRST, "ids"))


def test_D19_the_index_by_id_is_pruned_in_steps_too_even_when_nobody_voted() -> None:
    db = votes_db(10, config=VotesDbConfig(window=1, prune_rows_per_step=3))
    db.when(change(2, 2))
    steps = db.settle().events
    assert [(e.ids_from, e.ids_to) for e in steps if isinstance(e, RowsPruned)] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert sessions_left(db) == {2}


def test_D27_a_validator_is_found_by_id_under_every_index_it_had() -> None:
    keys = signers(10)
    own = keys[0]
    db = Given(VotesDb())
    fifth, sixth = list(keys), list(keys)
    fifth[0], fifth[3] = fifth[3], fifth[0]
    sixth[0], sixth[8] = sixth[8], sixth[0]
    db.when(SessionChange(index=5, validators=[k.validator for k in fifth]))
    db.when(SessionChange(index=6, validators=[k.validator for k in sixth]))
    db.when(bundle([vote(3, VALID, 1, session=5, key=own)], 1, session=5))
    pov = digest("pov of 2")
    db.when(bundle([vote(8, INVALID, 2, session=6, key=own)], 2, session=6, pov=pov))
    db.when(bundle([vote(3, VALID, 3, session=6, key=keys[3])], 3, session=6))
    shown = voted_by(db, own.validator.key)
    assert sorted(((c.session, c.candidate, c.receipt, c.pov) for c in shown.candidates), key=lambda c: c[0]) == [
        (5, candidate(1), receipt(1), None),
        (6, candidate(2), receipt(2), pov),
    ]
    assert shown.next is None
    assert db.ask(QueryByValidatorAndSessionIndex(session=5, validator=3)) == CandidateHashes(hashes=[candidate(1)])
    assert db.ask(QueryByValidatorAndSessionIndex(session=6, validator=8)) == CandidateHashes(hashes=[candidate(2)])
    assert voted_by(db, bytes(32)) == Candidates(candidates=[])


def test_D27_a_candidate_voted_on_in_two_sessions_is_shown_once() -> None:
    db = votes_db(10, sessions=(1, 2))
    for session in (1, 2):
        db.when(bundle([vote(4, VALID, session=session)], session=session))
    assert [(c.session, c.candidate) for c in voted_by(db, signer(4).validator.key).candidates] == [(1, candidate())]


def test_D27_a_pov_told_later_is_kept_and_only_the_one_of_the_descriptor_replaces_it() -> None:
    db = votes_db(10)
    named, other = receipt().descriptor.pov_hash, digest("other")

    def pov() -> bytes | None:
        return voted_by(db, signer(0).validator.key).candidates[0].pov

    first = bundle([vote(0, VALID)])
    db.when(first)
    assert pov() is None
    for told, kept in ((other, other), (digest("third"), other), (named, named), (other, named)):
        db.when(msgspec.structs.replace(first, pov=told))
        assert pov() == kept


def test_answers_come_in_pages_that_together_are_all() -> None:
    config = VotesDbConfig(page_rows_max=3)
    db = votes_db(10, config=config)
    for of in range(8):
        db.when(bundle([vote(1, VALID, of), vote(2, INVALID, of)], of))
    everything = sorted(candidate(of) for of in range(8))

    for make in (
        lambda after: QueryBySession(session=1, after=after),
        lambda after: QueryByValidatorAndSessionIndex(session=1, validator=2, after=after),
    ):
        found: list[bytes] = []
        after: bytes | None = None
        while True:
            page = db.ask(make(after))
            assert isinstance(page, CandidateHashes)
            assert len(page.hashes) <= 3
            found += page.hashes
            after = page.next
            if after is None:
                break
        assert found == everything

    found, after = [], None
    while True:
        shown = voted_by(db, signer(1).validator.key, after)
        assert len(shown.candidates) <= 3
        found += [c.candidate for c in shown.candidates]
        after = shown.next
        if after is None:
            break
    assert found == everything


def test_candidates_are_paged_by_bytes_as_well() -> None:
    db = votes_db(10, config=VotesDbConfig(page_bytes_max=1_500))
    for of in range(5):
        db.when(bundle([vote(1, VALID, of)], of))
    first = voted_by(db, signer(1).validator.key)
    assert 1 <= len(first.candidates) < 5
    assert first.next == first.candidates[-1].candidate


def test_votes_are_paged_by_validator_and_the_sets_are_complete_on_every_page() -> None:
    db = votes_db(10, config=VotesDbConfig(page_rows_max=4))
    db.when(bundle([*votes(range(9), VALID), vote(0, INVALID)]))
    seen: list[int] = []
    after: int | None = None
    while True:
        page = db.ask(QueryVotes(session=1, candidate=candidate(), after=after))
        assert isinstance(page, VotesSnapshot)
        assert (page.pro, page.cons, page.validators) == (list(range(9)), [0], 10)
        seen += [v.validator for v in page.votes]
        after = page.next
        if after is None:
            break
    assert seen == [0, *range(9)]


def test_disputes_are_listed_by_session_and_candidate_in_pages() -> None:
    db = database_with_votes_in(range(1, 7), VotesDbConfig(rows_scanned_max=4))
    for kind in (RecentDisputes, ActiveDisputes):
        found: list[tuple[int, bytes]] = []
        query = kind(limit=2)
        while True:
            page = db.ask(query)
            assert isinstance(page, DisputeSummaries)
            assert len(page.disputes) <= 2
            found += [(d.session, d.candidate) for d in page.disputes]
            if page.next_session is None:
                break
            query = kind(limit=2, after_session=page.next_session, after_candidate=page.next_candidate)
        assert found == [(s, candidate(s % 7)) for s in range(1, 7)]
    behind = db.ask(RecentDisputes(after_session=4))
    assert isinstance(behind, DisputeSummaries)
    assert [d.session for d in behind.disputes] == [5, 6]


def test_disputes_that_are_inactive_are_looked_through_a_bounded_number_at_a_time() -> None:
    db = votes_db(1, config=VotesDbConfig(rows_scanned_max=2))
    for of in range(7):
        db.when(bundle([vote(0, VALID, of), vote(0, INVALID, of)], of, validators=1))
    db.now_ms += 180_001
    pages, query = 0, ActiveDisputes()
    while True:
        page = db.ask(query)
        assert isinstance(page, DisputeSummaries)
        assert page.disputes == []
        pages += 1
        if page.next_session is None:
            break
        query = ActiveDisputes(after_session=page.next_session, after_candidate=page.next_candidate)
    assert pages > 2


def test_a_cascade_is_noted_once_at_the_dispute_that_caused_it() -> None:
    db = votes_db(4)
    db.when(bundle([vote(3, VALID), *votes(range(3), INVALID)]))
    assert not snapshot(db).cascade_told
    told = BlocksBlacklisted(
        cascade=bytes(32),
        roots=[bytes(32)],
        hashes=[bytes(32)],
        cause=DisputeRef(session=1, candidate=candidate()),
        page=0,
        last=True,
        count=1,
    )
    assert len(db.when(told).events) == 1
    assert snapshot(db).cascade_told
    assert db.when(told).events == []
    assert db.when(msgspec.structs.replace(told, cause=DisputeRef(session=1, candidate=candidate(1)))).events == []
