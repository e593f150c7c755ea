"""The course of a dispute: detected, confirmed, concluded, late votes, double votes (D01 to D10, D28)."""

from collections.abc import Iterator

from votes_world import (
    APPROVED,
    BACKED,
    INVALID,
    SECONDED,
    VALID,
    bundle,
    candidate,
    due,
    outcomes,
    receipt,
    snapshot,
    transactions,
    vote,
    votes,
    votes_db,
)

from messages.chain_api import SubmitTransaction
from messages.codec import encode
from messages.dispute_conclusion import Challenged, ChallengeLifted, Detection, Resolution, Voter
from messages.polkadot import Side, TransactionKind, Vote
from messages.votes_db import (
    ActiveDisputes,
    Dispute,
    DisputeStatus,
    DisputeStatusChanged,
    DisputeSummaries,
    DoubleVoteSeen,
    Outcome,
    RecentDisputes,
)
from overseer.memory.rows import MemoryRows
from overseer.tables import Overlay, Tables
from overseer.testing.given import Given
from subsystems.votes_db.declaration import VotesDbConfig


def test_D01_one_sided_votes_never_dispute_not_even_at_supermajority() -> None:
    db = votes_db(10)
    then = db.when(bundle(votes(range(4), VALID)))
    assert outcomes(then) == [Outcome.STORED] * 4
    assert then.sent == []
    then = db.when(bundle(votes(range(4, 10), APPROVED)))
    assert then.sent == []
    assert snapshot(db).status is DisputeStatus.NONE
    assert snapshot(db).pro == list(range(10))


def test_D01_one_sided_invalid_votes_never_dispute_either() -> None:
    db = votes_db(10)
    assert db.when(bundle(votes(range(10), INVALID))).sent == []
    assert snapshot(db).status is DisputeStatus.NONE


def test_D02_the_second_side_is_detected_once_and_names_the_invalid_voter() -> None:
    db = votes_db(10)
    seconded = vote(3, SECONDED)
    against = vote(5, INVALID)
    assert db.when(bundle([seconded])).sent == []
    then = db.when(bundle([against]))
    assert then.sent_of(Detection) == [
        Detection(session=1, candidate=candidate(), block_number=7, contradicting=5, votes=[seconded, against], voted_candidates=[])
    ]
    assert db.when(bundle([vote(6, INVALID), vote(7, VALID)])).sent_of(Detection) == []


def test_D02_both_sides_in_one_bundle_name_the_lowest_invalid_index() -> None:
    then = votes_db(10).when(bundle([vote(8, INVALID), vote(1, VALID), vote(4, INVALID)]))
    (detection,) = then.sent_of(Detection)
    assert detection.contradicting == 4


def test_D02_the_valid_voter_contradicts_when_it_comes_second() -> None:
    db = votes_db(10)
    db.when(bundle([vote(2, INVALID)]))
    (detection,) = db.when(bundle([vote(9, VALID), vote(6, VALID)])).sent_of(Detection)
    assert detection.contradicting == 6


def test_D02_detection_carries_the_other_candidates_of_the_contradicting_voter_newest_last() -> None:
    db = votes_db(10)
    newest_last = sorted(range(1, 6), key=candidate, reverse=True)
    for at, of in enumerate(newest_last):
        db.when(bundle([vote(2, APPROVED, of)], of), now_ms=2_000_000 + at)
    db.when(bundle([vote(1, VALID)]))
    (detection,) = db.when(bundle([vote(2, INVALID)])).sent_of(Detection)
    assert detection.voted_candidates == [candidate(of) for of in newest_last]


def test_D02_a_lone_voter_contradicting_itself_has_no_other_candidates() -> None:
    db = votes_db(10)
    db.when(bundle([vote(2, VALID)]))
    (detection,) = db.when(bundle([vote(2, INVALID)])).sent_of(Detection)
    assert (detection.contradicting, detection.voted_candidates) == (2, [])


def test_D02_a_new_dispute_is_gossiped_once_with_its_votes() -> None:
    db = votes_db(10)
    for_it, against = vote(0, BACKED), vote(1, INVALID)
    then = db.when(bundle([for_it, against]))
    assert then.sent_of(Dispute) == [
        Dispute(candidate=receipt(), candidate_hash=candidate(), block_number=7, session_index=1, votes=[for_it, against])
    ]
    assert db.when(bundle([vote(2, INVALID)])).sent_of(Dispute) == []


def test_D02_a_dispute_told_by_the_network_is_imported_and_not_told_again() -> None:
    here, there = votes_db(10), votes_db(10)
    (told,) = here.when(bundle([vote(0, BACKED), vote(1, INVALID)])).sent_of(Dispute)
    then = there.when(told, sender="votes_db")
    assert len(then.sent_of(Detection)) == 1
    assert then.sent_of(Dispute) == []
    assert there.when(bundle([vote(2, INVALID)])).sent_of(Dispute) == []
    assert snapshot(there).cons == [1, 2]
    assert here.when(told, sender="votes_db").events == []


def test_D02_gossip_can_be_switched_off() -> None:
    db = votes_db(10, config=VotesDbConfig(gossip=False))
    assert db.when(bundle([vote(0, BACKED), vote(1, INVALID)])).sent_of(Dispute) == []


def test_D03_the_fourth_distinct_voter_of_ten_confirms() -> None:
    db = votes_db(10)
    db.when(bundle([vote(0, VALID), vote(1, VALID), vote(2, INVALID)]))
    assert snapshot(db).status is DisputeStatus.ACTIVE
    then = db.when(bundle([vote(3, VALID)]), now_ms=5_000_000)
    assert then.sent_of(DisputeStatusChanged) == [
        DisputeStatusChanged(
            session=1, candidate=candidate(), status=DisputeStatus.CONFIRMED, previous=DisputeStatus.ACTIVE, at_ms=5_000_000
        )
    ]


def test_D04_the_seventh_invalid_of_nine_concludes_against_and_not_before() -> None:
    db = votes_db(9)
    then = db.when(bundle([vote(8, VALID), *votes(range(6), INVALID)]))
    assert then.sent_of(Resolution) == []
    assert transactions(then) == []
    then = db.when(bundle([vote(6, INVALID)]))
    voters = [Voter(i, None, INVALID) for i in range(7)] + [Voter(8, VALID, None)]
    assert then.sent_of(Resolution) == [Resolution(session=1, candidate=candidate(), valid=False, voters=voters)]
    assert snapshot(db).status is DisputeStatus.CONCLUDED_AGAINST
    assert due(then) == {("reward", i, "invalid") for i in range(7)} | {("slash", 8, "invalid")}


def test_D05_of_a_thousand_the_667th_invalid_resolves_once_and_later_votes_are_judged_singly() -> None:
    db = votes_db(1000)
    db.when(bundle([vote(999, VALID)]))
    for start in range(0, 666, 333):
        then = db.when(bundle(votes(range(start, start + 333), INVALID)))
        assert then.sent_of(Resolution) == []
    then = db.when(bundle([vote(666, INVALID)]))
    (resolution,) = then.sent_of(Resolution)
    assert not resolution.valid
    assert len(resolution.voters) == 668
    assert due(then) == {("reward", i, "invalid") for i in range(667)} | {("slash", 999, "invalid")}

    late = vote(667, INVALID)
    then = db.when(bundle([late]))
    assert then.sent_of(Resolution) == []
    (reward,) = transactions(then)
    assert (reward.kind, reward.validator, reward.vote, reward.signature) == (TransactionKind.REWARD, 667, INVALID, late.signature)
    assert due(db.when(bundle([vote(998, BACKED)]))) == {("slash", 998, "invalid")}


def test_D05_transactions_go_out_a_thousand_at_most_in_one_message() -> None:
    then = votes_db(1600).when(bundle([vote(1599, VALID), *votes(range(1100), INVALID)]))
    assert [len(m.transactions) for m in then.sent_of(SubmitTransaction)] == [1000, 101]


def test_D06_a_vote_seen_before_is_no_event_and_no_transaction() -> None:
    db = votes_db(4)
    first = bundle([vote(0, VALID), *votes(range(1, 4), INVALID)])
    db.when(first)
    then = db.when(first)
    assert outcomes(then) == [Outcome.ALREADY_PRESENT] * 4
    assert (then.events, then.sent) == ([], [])
    # sr25519 signatures differ from one time to the next; it is the same vote all the same.
    then = db.when(bundle(votes(range(1, 4), INVALID)))
    assert outcomes(then) == [Outcome.ALREADY_PRESENT] * 3
    assert (then.events, then.sent) == ([], [])


def test_D06_the_same_vote_twice_in_one_bundle_counts_once() -> None:
    db = votes_db(10)
    twice = vote(4, VALID)
    assert outcomes(db.when(bundle([twice, twice]))) == [Outcome.STORED, Outcome.ALREADY_PRESENT]
    assert [v.validator for v in snapshot(db).votes] == [4]


def test_D06_backing_takes_the_place_of_an_explicit_vote_and_is_never_replaced() -> None:
    db = votes_db(10)
    db.when(bundle([vote(0, VALID), vote(1, APPROVED)]))
    assert outcomes(db.when(bundle([vote(0, APPROVED), vote(1, VALID)]))) == [Outcome.ALREADY_PRESENT] * 2
    assert outcomes(db.when(bundle(backing={0: SECONDED, 1: BACKED}))) == [Outcome.STORED] * 2
    assert outcomes(db.when(bundle([vote(0, BACKED), vote(1, SECONDED)]))) == [Outcome.ALREADY_PRESENT] * 2
    assert [(v.validator, v.kind) for v in snapshot(db).votes] == [(0, SECONDED), (1, BACKED)]
    assert snapshot(db).pro == [0, 1]


def test_D07_a_validator_voting_both_ways_counts_on_both_sides_and_once_for_confirmation() -> None:
    db = votes_db(7)
    db.when(bundle([vote(0, VALID)]))
    then = db.when(bundle([vote(0, INVALID)]))
    assert outcomes(then) == [Outcome.DOUBLE_VOTE]
    assert then.sent_of(DoubleVoteSeen) == [DoubleVoteSeen(session=1, candidate=candidate(), validator=0)]
    shown = snapshot(db)
    assert (shown.pro, shown.cons, shown.status) == ([0], [0], DisputeStatus.ACTIVE)
    assert [v.kind for v in shown.votes] == [VALID, INVALID]
    then = db.when(bundle([vote(1, VALID)]))
    assert snapshot(db).status is DisputeStatus.ACTIVE
    assert then.sent_of(DoubleVoteSeen) == []
    db.when(bundle([vote(2, VALID)]))
    assert snapshot(db).status is DisputeStatus.CONFIRMED


def test_D07_a_double_voter_is_slashed_and_never_rewarded() -> None:
    db = votes_db(4)
    then = db.when(bundle([vote(0, VALID), vote(0, INVALID), vote(1, INVALID), vote(2, INVALID)]))
    assert due(then) == {("slash", 0, "invalid"), ("reward", 1, "invalid"), ("reward", 2, "invalid")}
    # The evidence is the vote that lost.
    assert {t.vote for t in transactions(then) if t.kind is TransactionKind.SLASH} == {VALID}


def test_D07_who_was_rewarded_and_then_votes_the_other_way_is_slashed_as_well() -> None:
    db = votes_db(4)
    db.when(bundle([vote(3, VALID), *votes(range(3), INVALID)]))
    assert due(db.when(bundle([vote(1, VALID)]))) == {("slash", 1, "invalid")}
    assert due(db.when(bundle([vote(3, INVALID)]))) == set()


def concluded_for(validators: int = 7) -> Given:
    """Seven validators: 0 to 4 voted valid, 6 invalid, at 1 000 000 ms."""
    db = votes_db(validators)
    then = db.when(bundle([vote(6, INVALID), *votes(range(5), VALID)]), now_ms=1_000_000)
    assert [r.valid for r in then.sent_of(Resolution)] == [True]
    assert due(then) == {("reward", i, "valid") for i in range(5)} | {("slash", 6, "valid")}
    return db


def test_D08_enough_invalid_votes_later_override_a_conclusion_for_and_keep_its_time() -> None:
    db = concluded_for()
    then = db.when(bundle([vote(5, INVALID), *votes(range(2), INVALID)]), now_ms=1_500_000)
    assert due(then) == {("slash", i, "valid") for i in (0, 1, 5)}
    then = db.when(bundle([vote(2, INVALID)]), now_ms=2_000_000)
    assert [r.valid for r in then.sent_of(Resolution)] == [False]
    assert due(then) == {("slash", i, "invalid") for i in range(5)} | {("reward", i, "invalid") for i in (5, 6)}
    shown = snapshot(db)
    assert (shown.status, shown.concluded_at_ms) == (DisputeStatus.CONCLUDED_AGAINST, 1_000_000)


def test_D09_enough_valid_votes_later_never_override_a_conclusion_against() -> None:
    db = votes_db(7)
    db.when(bundle([vote(6, VALID), *votes(range(5), INVALID)]), now_ms=1_000_000)
    then = db.when(bundle([vote(5, VALID), *votes(range(5), VALID)]), now_ms=2_000_000)
    assert then.sent_of(Resolution) == []
    assert then.sent_of(DisputeStatusChanged) == []
    assert due(then) == {("slash", i, "invalid") for i in range(6)}
    assert snapshot(db).status is DisputeStatus.CONCLUDED_AGAINST
    assert snapshot(db).concluded_at_ms == 1_000_000


def listed(db: Given, query: RecentDisputes | ActiveDisputes) -> list[bytes]:
    answer = db.ask(query)
    assert isinstance(answer, DisputeSummaries)
    return [d.candidate for d in answer.disputes]


def test_D10_concluded_disputes_are_active_for_180_s_and_recent_ever_after() -> None:
    db = concluded_for()
    db.now_ms = 1_180_000
    assert listed(db, ActiveDisputes()) == [candidate()]
    assert listed(db, RecentDisputes()) == [candidate()]
    db.now_ms = 1_180_001
    assert listed(db, ActiveDisputes()) == []
    db.now_ms = 1_181_000
    assert listed(db, ActiveDisputes()) == []
    assert listed(db, RecentDisputes()) == [candidate()]


def test_D10_an_unconcluded_dispute_stays_active() -> None:
    db = votes_db(10)
    db.when(bundle([vote(0, VALID), vote(1, INVALID)]))
    db.now_ms += 10**9
    assert listed(db, ActiveDisputes()) == [candidate()]


def test_D10_one_sided_votes_are_no_dispute_to_list() -> None:
    db = votes_db(10)
    db.when(bundle([vote(0, VALID)]))
    assert listed(db, RecentDisputes()) == listed(db, ActiveDisputes()) == []


def test_D25_invalid_votes_beyond_f_challenge_once_and_a_conclusion_for_lifts_it_once() -> None:
    db = votes_db(7)
    assert db.when(bundle([vote(0, VALID), *votes(range(4, 6), INVALID)])).sent_of(Challenged) == []
    assert db.when(bundle([vote(6, INVALID)])).sent_of(Challenged) == [Challenged(session=1, candidate=candidate())]
    assert db.when(bundle([vote(3, INVALID)])).sent_of(Challenged) == []
    then = db.when(bundle(votes(range(1, 5), VALID)))
    assert then.sent_of(ChallengeLifted) == [ChallengeLifted(session=1, candidate=candidate())]
    then = db.when(bundle([vote(0, INVALID)]))
    assert [r.valid for r in then.sent_of(Resolution)] == [False]
    assert then.sent_of(Challenged) == then.sent_of(ChallengeLifted) == []


def test_D25_a_lifted_challenge_is_not_lifted_again_by_late_votes() -> None:
    db = votes_db(10)
    assert len(db.when(bundle([vote(0, VALID), *votes(range(6, 10), INVALID)])).sent_of(Challenged)) == 1
    assert len(db.when(bundle(votes(range(1, 7), VALID))).sent_of(ChallengeLifted)) == 1
    late = db.when(bundle([vote(7, VALID)]))
    assert outcomes(late) == [Outcome.DOUBLE_VOTE]
    assert late.sent_of(ChallengeLifted) == []


def test_D28_the_whole_import_replayed_changes_nothing_and_sends_nothing() -> None:
    db = votes_db(7)
    messages = [
        bundle(backing={0: SECONDED, 1: BACKED}, validators=7, pov=b"\x01" * 32),
        bundle([vote(2, INVALID)]),
        bundle([vote(3, INVALID), vote(1, INVALID), vote(4, INVALID)]),
        bundle([vote(5, INVALID), vote(6, VALID)]),
    ]
    sent = [m for message in messages for m in db.when(message).sent]
    assert any(isinstance(m, SubmitTransaction) for m in sent)
    before = rows_of(db)
    for message in messages:
        then = db.when(message)
        assert (then.events, then.sent) == ([], [])
    assert rows_of(db) == before


def test_D28_the_events_alone_build_the_same_tables() -> None:
    db = votes_db(7)
    db.when(bundle([vote(0, VALID), vote(1, INVALID)], pov=b"\x01" * 32))
    db.when(bundle([*votes(range(2, 7), INVALID), vote(1, VALID)]))
    assert rows_of(db.replayed()) == rows_of(db)
    assert Side.INVALID in {
        t.verdict for e in db.history for m in db.subsystem.react(e) if isinstance(m, SubmitTransaction) for t in m.transactions
    }


def rows_of(db: Given) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: list(db.rows.scan(name, b"", None)) for name in db.rows.tables()}


class CountingRows(MemoryRows):
    """Counts the rows that are read."""

    read = 0

    def get(self, table: str, key: bytes) -> bytes | None:
        self.read += 1
        return super().get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for row in super().scan(table, start, end, reverse=reverse):
            self.read += 1
            yield row


def test_D05_the_thousandth_vote_reads_and_writes_as_many_rows_as_the_tenth() -> None:
    db = votes_db(1000, verify=lambda check: True)
    rows = CountingRows(db.rows.tables())
    for name in db.rows.tables():
        rows.load(name, db.rows.scan(name, b"", None))
    db.rows = rows
    db.when(bundle([Vote(999, VALID, bytes(64))]))
    work: list[tuple[int, int, int]] = []
    for i in range(999):
        rows.read, written = 0, Overlay(rows)
        then = db.when(bundle([Vote(i, INVALID, bytes(64))]))
        read = rows.read
        for event in then.events:
            db.subsystem.evolve(Tables(written), event)
        work.append((read, sum(len(r) for r in written.rows.values()), sum(len(encode(e)) for e in then.events)))
    # Until the dispute is confirmed (332) its voters take spam slots; once concluded (665), each vote is judged by itself.
    phases = [{w[:2] for w in work[start:end]} for start, end in ((1, 332), (340, 660), (670, 999))]
    assert [len(phase) for phase in phases] == [1, 1, 1]
    (unconfirmed,), (confirmed,), (late,) = phases
    assert confirmed <= unconfirmed
    assert late[0] <= confirmed[0] + 1
    assert max(w[2] for w in work[1:332]) <= work[10][2] + 4
