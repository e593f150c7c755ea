"""What is refused, whole or vote by vote; spam; all or nothing (D11 to D17, D26)."""

import msgspec
import pytest
from nacl.signing import SigningKey
from votes_world import (
    APPROVED,
    APPROVED_SEVERAL,
    BACKED,
    INVALID,
    SECONDED,
    VALID,
    bundle,
    candidate,
    due,
    outcomes,
    receipt,
    signer,
    signers,
    snapshot,
    vote,
    votes,
    votes_db,
)

from messages.chain_api import BlockImported, SubmitTransaction
from messages.codec import encode
from messages.dispute_conclusion import Detection, Resolution
from messages.polkadot import (
    Scheme,
    Validator,
    Vote,
)
from messages.scale import candidate_hash
from messages.signals import SessionChange
from messages.statements import vote_payload
from messages.votes_db import (
    Dispute,
    DisputeStatus,
    MalformedBundle,
    Outcome,
    QueryBySession,
    QueryVotes,
    RegisterVote,
    SessionOutOfWindow,
    SpamRefused,
    UnknownDispute,
)
from messages.votes_db_journal import GossipReleased
from overseer.subsystem import Check
from overseer.testing.given import Given
from overseer.verification import verify_check
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb


def nothing_stored(db: Given, session: int = 1) -> bool:
    return db.ask(QueryBySession(session=session)).hashes == [] and list(db.rows.scan("votes", b"", None)) == []  # type: ignore[union-attr]


def block(*, backed: list[bytes] | None = None, included: list[bytes] | None = None, session: int = 1, number: int = 50) -> BlockImported:
    return BlockImported(
        hash=bytes([number]) * 32,
        parent=bytes(32),
        number=number,
        session=session,
        backed=backed or [],
        included=included or [],
        blacklisted=False,
    )


# ------------------------------------------------------------------------------------------------ single votes


def test_D11_an_index_beyond_the_validator_set_is_unknown_and_the_rest_is_stored() -> None:
    db = votes_db(10)
    then = db.when(bundle([vote(0, VALID), vote(10, VALID), vote(1, VALID), msgspec.structs.replace(vote(2, VALID), validator=2**32 - 1)]))
    assert outcomes(then) == [Outcome.STORED, Outcome.UNKNOWN_VALIDATOR, Outcome.STORED, Outcome.UNKNOWN_VALIDATOR]
    assert snapshot(db).pro == [0, 1]


def test_D12_a_signature_over_another_session_candidate_or_kind_is_bad_each() -> None:
    db = votes_db(10)
    wrong = [
        vote(0, VALID, session=2),
        vote(1, VALID, of=1),
        msgspec.structs.replace(vote(2, VALID), kind=INVALID),
        msgspec.structs.replace(vote(3, SECONDED), kind=BACKED),
        vote(4, VALID, key=signer(5)),
    ]
    then = db.when(bundle([*wrong, vote(6, VALID)]))
    assert outcomes(then) == [Outcome.BAD_SIGNATURE] * 5 + [Outcome.STORED]
    assert snapshot(db).pro == [6]


def test_D12_when_every_vote_is_bad_nothing_is_recorded() -> None:
    db = votes_db(10)
    then = db.when(bundle([vote(0, VALID, session=2)]))
    assert outcomes(then) == [Outcome.BAD_SIGNATURE]
    assert (then.events, then.sent) == ([], [])
    assert nothing_stored(db)


def test_D12_a_forged_repeat_of_a_stored_vote_is_a_bad_signature() -> None:
    db = votes_db(10)
    good = vote(0, VALID)
    db.when(bundle([good]))
    forged = msgspec.structs.replace(good, signature=bytes(64))
    assert outcomes(db.when(bundle([forged, good]))) == [Outcome.BAD_SIGNATURE, Outcome.ALREADY_PRESENT]


def test_D12_what_is_stored_byte_for_byte_is_not_verified_again() -> None:
    asked: list[Check] = []

    def verify(check: Check) -> bool:
        asked.append(check)
        return verify_check(check)

    db = votes_db(10, verify=verify)
    message = bundle([vote(0, VALID), vote(1, INVALID)])
    db.when(message)
    assert len(asked) == 2
    assert outcomes(db.when(message)) == [Outcome.ALREADY_PRESENT] * 2
    assert len(asked) == 2


def test_D12_ed25519_validators_vote_among_the_others() -> None:
    keys = signers(6, ed25519_every=2)
    db = Given(VotesDb())
    db.when(SessionChange(index=1, validators=[k.validator for k in keys]))
    then = db.when(bundle([vote(i, VALID, key=keys[i]) for i in range(6)], validators=6))
    assert outcomes(then) == [Outcome.STORED] * 6
    assert outcomes(db.when(bundle([vote(0, INVALID, key=keys[2])], validators=6))) == [Outcome.BAD_SIGNATURE]


def test_D12_an_approval_of_several_names_this_candidate_and_keeps_its_hashes() -> None:
    db = votes_db(10)
    both = [candidate(1), candidate(0)]
    then = db.when(
        bundle(
            [
                vote(0, APPROVED_SEVERAL, several=both),
                vote(1, APPROVED_SEVERAL, several=[candidate(1), candidate(2)]),
                Vote(2, APPROVED_SEVERAL, bytes(64)),
                Vote(3, APPROVED, vote(3, APPROVED).signature, [candidate(0)]),
                vote(4, APPROVED_SEVERAL, several=[candidate(i) for i in range(65)]),
                Vote(5, APPROVED_SEVERAL, vote(5, APPROVED_SEVERAL, several=both).signature, both[::-1]),
                vote(6, APPROVED_SEVERAL, several=[candidate(i) for i in range(64)]),
            ]
        )
    )
    assert outcomes(then) == [
        Outcome.STORED,
        Outcome.WRONG_CANDIDATE,
        Outcome.BAD_KIND,
        Outcome.BAD_KIND,
        Outcome.BAD_KIND,
        Outcome.BAD_SIGNATURE,
        Outcome.STORED,
    ]
    assert [v.candidates for v in snapshot(db).votes] == [both, [candidate(i) for i in range(64)]]
    # As evidence of a slash the hashes go along.
    (slash, *_) = [
        t
        for m in db.when(bundle(votes(range(1, 9), INVALID))).sent
        if hasattr(m, "transactions")
        for t in m.transactions
        if t.kind.value == "slash"
    ]
    assert slash.candidates == both


# ------------------------------------------------------------------------------------------------ whole messages


def refused(db: Given, message: RegisterVote) -> MalformedBundle | SessionOutOfWindow | SpamRefused:
    then = db.when(message)
    assert isinstance(then.rejection, MalformedBundle | SessionOutOfWindow | SpamRefused)
    assert (then.events, then.sent) == ([], [])
    return then.rejection


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        (b"\x00\x00", "bitfield_zero"),
        (b"", "bitfield_length"),
        (b"\x03", "bitfield_length"),
        (b"\x03\x00\x00", "bitfield_length"),
        (b"\x01\x04", "bitfield_length"),
        (b"\x01\x00", "attestation_count"),
        (b"\x07\x00", "attestation_count"),
    ],
)
def test_D13_a_bitfield_that_does_not_fit_its_attestations_refuses_the_whole_message(bits: bytes, reason: str) -> None:
    db = votes_db(10)
    message = bundle([vote(5, VALID)], backing={0: SECONDED, 1: BACKED})
    refusal = refused(db, msgspec.structs.replace(message, backing_validators=bits))
    assert (type(refusal), refusal.reason) == (MalformedBundle, reason)
    assert nothing_stored(db)


def test_D13_set_bits_without_attestations_are_refused_too() -> None:
    message = msgspec.structs.replace(bundle([vote(5, VALID)]), backing_validators=b"\x01\x00")
    assert refused(votes_db(10), message).reason == "attestation_count"


def test_D13_neither_attestations_nor_votes_is_refused() -> None:
    assert refused(votes_db(10), bundle()).reason == "no_votes"


def test_D13_the_ith_attestation_belongs_to_the_ith_set_bit() -> None:
    db = votes_db(12)
    then = db.when(bundle(backing={9: BACKED, 1: SECONDED, 11: BACKED}, validators=12))
    assert [(o.validator, o.kind, o.outcome) for o in then.reply.outcomes] == [  # type: ignore[union-attr]
        (1, SECONDED, Outcome.STORED),
        (9, BACKED, Outcome.STORED),
        (11, BACKED, Outcome.STORED),
    ]


def test_D14_a_receipt_that_does_not_hash_to_the_candidate_is_refused() -> None:
    db = votes_db(10)
    refusal = refused(db, msgspec.structs.replace(bundle([vote(0, VALID)]), candidate=receipt(1)))
    assert (type(refusal), refusal.reason) == (MalformedBundle, "candidate_hash")
    assert nothing_stored(db)


@pytest.mark.parametrize("commitments", ["both", "neither"])
def test_D14_a_receipt_carries_its_commitments_or_their_hash(commitments: str) -> None:
    whole = receipt()
    form = (
        msgspec.structs.replace(whole, commitments_hash=bytes(32))
        if commitments == "both"
        else msgspec.structs.replace(whole, commitments=None)
    )
    assert refused(votes_db(10), msgspec.structs.replace(bundle([vote(0, VALID)]), candidate=form)).reason == "receipt_form"


def test_D15_sessions_outside_the_window_are_refused_with_which() -> None:
    db = votes_db(10, sessions=(9, 10), config=VotesDbConfig(window=2))
    assert refused(db, bundle([vote(0, VALID, session=8)], session=8)) == SessionOutOfWindow(
        session=8, reason="too_old", oldest=9, current=10
    )
    future = refused(db, bundle([vote(0, VALID, session=11)], session=11))
    assert future == SessionOutOfWindow(session=11, reason="unknown", oldest=9, current=10)
    assert future.retriable
    assert nothing_stored(db, 8)
    assert nothing_stored(db, 11)


def test_D15_before_the_first_session_everything_is_unknown() -> None:
    assert refused(Given(VotesDb()), bundle([vote(0, VALID)])) == SessionOutOfWindow(session=1, reason="unknown", oldest=None, current=None)


def test_D15_word_of_a_dispute_that_overtakes_its_session_is_held_until_it_starts() -> None:
    here, there = votes_db(10, sessions=(1, 2)), votes_db(10)
    (told,) = here.when(bundle([vote(0, VALID, session=2), vote(1, INVALID, session=2)], session=2)).sent_of(Dispute)
    (second,) = here.when(bundle([vote(0, VALID, 1, session=2), vote(1, INVALID, 1, session=2)], 1, session=2)).sent_of(Dispute)
    there.when(second, sender="votes_db")
    then = there.when(told, sender="votes_db")
    assert (then.rejection, then.sent) == (None, [])
    assert isinstance(there.when(told, sender="votes_db").rejection, SessionOutOfWindow)
    there.when(SessionChange(index=2, validators=[s.validator for s in signers(10)]))
    then = there.settle()
    assert len(then.sent_of(Detection)) == 2
    assert then.sent_of(Dispute) == []
    assert snapshot(there, session=2).cons == snapshot(there, 1, session=2).cons == [1]
    assert list(there.rows.scan("held", b"", None)) == []
    assert there.timers == {}


def test_D15_what_is_held_is_bounded_and_near() -> None:
    db = votes_db(10, config=VotesDbConfig(held_max=2, window=3))
    told = [
        Dispute(candidate=receipt(i), candidate_hash=candidate(i), block_number=1, session_index=2, votes=[vote(0, VALID, i, session=2)])
        for i in range(3)
    ]
    assert [db.when(d, sender="votes_db").rejection is None for d in told] == [True, True, False]
    far = msgspec.structs.replace(told[2], session_index=5)
    assert votes_db(10, config=VotesDbConfig(window=3)).when(far, sender="votes_db").rejection is not None


def test_D15_a_held_dispute_that_is_malformed_is_let_go_when_its_session_starts() -> None:
    db = votes_db(10)
    db.when(Dispute(candidate=receipt(1), candidate_hash=candidate(0), block_number=1, session_index=2, votes=[vote(0, VALID)]))
    db.when(SessionChange(index=2, validators=[s.validator for s in signers(10)]))
    (released, *_) = db.settle().events
    assert isinstance(released, GossipReleased)
    assert released.refused == "malformed_bundle"
    assert list(db.rows.scan("held", b"", None)) == []


# ------------------------------------------------------------------------------------------------ large ones


def test_D02_a_receipt_with_large_commitments_is_gossiped_with_their_hash() -> None:
    made = msgspec.structs.replace(receipt().commitments, head_data=bytes(100_000))
    large = msgspec.structs.replace(receipt(), commitments=made)
    name = candidate_hash(large)
    parent = large.descriptor.relay_parent
    cast = [
        Vote(i, k, signer(i).sign(vote_payload(k, candidate=name, session=1, relay_parent=parent))) for i, k in ((0, VALID), (1, INVALID))
    ]
    message = RegisterVote(candidate=large, candidate_hash=name, block_number=1, session_index=1, explicit_votes=cast)
    (told,) = votes_db(10).when(message).sent_of(Dispute)
    assert isinstance(told, Dispute)
    assert told.candidate.commitments is None
    assert outcomes(votes_db(10).when(told)) == [Outcome.STORED] * 2


@pytest.mark.parametrize(("valid", "invalid", "carried"), [(20, 20, (5, 5)), (1, 30, (1, 9)), (30, 2, (8, 2))])
def test_D02_a_detection_carries_as_many_votes_of_both_sides_as_fit(valid: int, invalid: int, carried: tuple[int, int]) -> None:
    db = votes_db(100, config=VotesDbConfig(page_bytes_max=65 * 10))
    then = db.when(bundle([*votes(range(valid), VALID), *votes(range(50, 50 + invalid), INVALID)], validators=100))
    (detection,) = then.sent_of(Detection)
    assert isinstance(detection, Detection)
    kinds = [v.kind for v in detection.votes]
    assert (kinds.count(VALID), kinds.count(INVALID)) == carried


def test_D05_transactions_with_many_hashes_go_out_in_messages_of_bounded_size() -> None:
    db = votes_db(400, verify=lambda check: True)
    several = [candidate(i) for i in range(64)]
    for start in (0, 140):
        db.when(bundle([Vote(i, APPROVED_SEVERAL, bytes(64), several) for i in range(start, start + 140)], validators=400))
    then = db.when(bundle([Vote(300, INVALID, bytes(64))], validators=400))
    sizes = [len(encode(m)) for m in then.sent_of(SubmitTransaction)]
    assert len(sizes) > 1
    assert max(sizes) < 320 * 1024
    assert len(due(then)) == 281


# ------------------------------------------------------------------------------------------------ spam


def disputes_by_one_voter(db: Given, count: int, *, start: int = 0) -> None:
    for of in range(start, start + count):
        assert db.when(bundle([vote(1, VALID, of), vote(0, INVALID, of)], of)).rejection is None


def test_D16_the_51st_unknown_candidate_of_a_lone_voter_is_spam_and_nothing_is_stored() -> None:
    db = votes_db(10)
    disputes_by_one_voter(db, 50)
    refusal = refused(db, bundle([vote(1, VALID, 50), vote(0, INVALID, 50)], 50))
    assert refusal == SpamRefused(session=1, candidate=candidate(50), slots=50)
    assert isinstance(db.ask(QueryVotes(session=1, candidate=candidate(50))), UnknownDispute)


def test_D16_the_valid_vote_may_come_second() -> None:
    db = votes_db(10)
    disputes_by_one_voter(db, 50)
    assert db.when(bundle([vote(0, INVALID, 50)], 50)).rejection is None
    assert isinstance(refused(db, bundle([vote(1, VALID, 50)], 50)), SpamRefused)
    assert snapshot(db, 50).pro == []


def test_D16_one_invalid_voter_with_room_lets_the_bundle_in() -> None:
    db = votes_db(10)
    disputes_by_one_voter(db, 50)
    then = db.when(bundle([vote(1, VALID, 50), vote(0, INVALID, 50), vote(2, INVALID, 50)], 50))
    assert outcomes(then) == [Outcome.STORED] * 3
    # Further votes on it need no room of the one that has none.
    assert outcomes(db.when(bundle([vote(1, BACKED, 50)], 50))) == [Outcome.STORED]
    assert isinstance(refused(db, bundle([vote(1, VALID, 51), vote(0, INVALID, 51)], 51)), SpamRefused)


def test_D16_a_dispute_takes_one_slot_of_a_voter_however_many_imports_it_takes() -> None:
    db = votes_db(10)
    for of in range(50):
        for message in ([vote(1, VALID, of), vote(0, INVALID, of)], [vote(2, INVALID, of)]):
            assert db.when(bundle(message, of)).rejection is None
    assert snapshot(db, 49).status is DisputeStatus.ACTIVE
    assert isinstance(refused(db, bundle([vote(1, VALID, 50), vote(0, INVALID, 50)], 50)), SpamRefused)


def test_D16_slots_are_counted_by_session() -> None:
    db = votes_db(10, sessions=(1, 2))
    disputes_by_one_voter(db, 50)
    message = bundle([vote(1, VALID, 50, session=2), vote(0, INVALID, 50, session=2)], 50, session=2)
    assert db.when(message).rejection is None


def test_D16_candidates_that_the_chain_knows_are_no_spam() -> None:
    db = votes_db(10)
    disputes_by_one_voter(db, 50)
    db.when(block(backed=[candidate(50)], included=[candidate(51)]))
    disputes_by_one_voter(db, 2, start=50)
    # One becomes known later: its slot is free again, for one other.
    db.when(block(included=[candidate(7)], number=51))
    disputes_by_one_voter(db, 1, start=52)
    assert isinstance(refused(db, bundle([vote(1, VALID, 53), vote(0, INVALID, 53)], 53)), SpamRefused)


def test_D17_once_one_of_its_disputes_is_confirmed_the_voter_is_heard_again() -> None:
    db = votes_db(10)
    disputes_by_one_voter(db, 50)
    db.when(bundle(votes((2, 3), VALID, 9), 9))
    assert snapshot(db, 9).status is DisputeStatus.CONFIRMED
    disputes_by_one_voter(db, 1, start=50)
    assert isinstance(refused(db, bundle([vote(1, VALID, 51), vote(0, INVALID, 51)], 51)), SpamRefused)


# ------------------------------------------------------------------------------------------------ the chain's word


def test_the_block_number_is_a_hint_and_the_chain_knows_better() -> None:
    db = votes_db(10)
    assert db.when(bundle([vote(0, VALID, 1), vote(1, INVALID, 1)], 1)).sent_of(Detection)[0].block_number == 7  # type: ignore[attr-defined]
    db.when(block(backed=[candidate(0)], number=40))
    db.when(block(included=[candidate(0)], number=41))
    assert db.when(block(backed=[candidate(0)], included=[candidate(0)], number=42)).events == []
    assert db.when(bundle([vote(0, VALID), vote(1, INVALID)])).sent_of(Detection)[0].block_number == 41  # type: ignore[attr-defined]


def test_the_block_that_included_a_candidate_counts_more_than_the_one_that_backed_it() -> None:
    db = votes_db(10)
    db.when(block(backed=[candidate()], number=40))
    db.when(bundle([vote(0, VALID)]))
    db.when(block(included=[candidate()], number=41))
    assert db.when(bundle([vote(1, INVALID)])).sent_of(Detection)[0].block_number == 41  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ all or nothing


def test_D26_a_failure_in_the_middle_of_a_bundle_leaves_nothing_and_the_redelivery_all() -> None:
    class PowerCut(Exception):
        pass

    left = [700]

    def verify(check: Check) -> bool:
        left[0] -= 1
        if left[0] == 0:
            raise PowerCut
        return verify_check(check)

    db = votes_db(1000, verify=verify)
    before = [list(db.rows.scan(name, b"", None)) for name in db.rows.tables()]
    message = bundle([vote(999, VALID), *votes(range(999), INVALID)])
    with pytest.raises(PowerCut):
        db.when(message)
    assert [list(db.rows.scan(name, b"", None)) for name in db.rows.tables()] == before
    then = db.when(message)
    assert outcomes(then) == [Outcome.STORED] * 1000
    assert len(then.sent_of(Resolution)) == 1
    assert len(due(then)) == 1000
    assert db.when(message).events == []


def test_D12_a_key_that_is_no_point_is_a_bad_signature_and_no_error() -> None:
    db = Given(VotesDb())
    db.when(SessionChange(index=1, validators=[Validator(b"\xff" * 32), Validator(b"\xff" * 32, Scheme.ED25519)]))
    message = bundle([Vote(i, VALID, SigningKey(bytes(32)).sign(b"").signature) for i in range(2)], validators=2)
    assert outcomes(db.when(message)) == [Outcome.BAD_SIGNATURE] * 2
