"""What the makers make verifies."""

from collections.abc import Callable, Iterator

import pytest

from messages.chain_api import ResumeMode
from messages.codec import decode, encode
from messages.governance import resume_payload
from messages.polkadot import Scheme, VoteKind
from messages.scale import blake2b_256, candidate_hash, commitments_hash
from messages.statements import StatementError, vote_payload
from overseer.feeds.make import make_authority, make_block, make_bundle, make_receipt, make_resume, make_validators, make_vote
from overseer.subsystem import Check
from overseer.verification import verify_check

KEYS = make_validators("keys", 12, ed25519_every=3)
PARENT = b"\x07" * 32


@pytest.mark.parametrize("kind", list(VoteKind))
@pytest.mark.parametrize("index", [0, 2])
def test_a_vote_of_any_kind_by_either_scheme_verifies(kind: VoteKind, index: int) -> None:
    several = [b"\x01" * 32, b"\x02" * 32] if kind is VoteKind.APPROVAL_MULTIPLE else []
    vote = make_vote(KEYS[index], index, kind, candidate=b"\x01" * 32, session=4, relay_parent=PARENT, candidates=several)
    payload = vote_payload(kind, candidate=b"\x01" * 32, session=4, relay_parent=PARENT, candidates=several)
    assert verify_check(Check(KEYS[index].scheme.value, KEYS[index].public, payload, vote.signature))
    assert vote == make_vote(KEYS[index], index, kind, candidate=b"\x01" * 32, session=4, relay_parent=PARENT, candidates=several)


def test_a_vote_whose_kind_and_hashes_do_not_go_together_is_not_made() -> None:
    with pytest.raises(StatementError):
        make_vote(KEYS[0], 0, VoteKind.APPROVAL, candidate=PARENT, session=1, candidates=[PARENT])


def test_a_receipt_has_a_collators_signature_and_the_same_hash_with_and_without_its_commitments() -> None:
    receipt = make_receipt("r", para_id=2000, relay_parent=PARENT, pov=b"proof")
    plain = make_receipt("r", para_id=2000, relay_parent=PARENT, pov=b"proof", plain=True)
    assert receipt.commitments is not None
    assert plain.commitments is None
    assert plain.commitments_hash == commitments_hash(receipt.commitments)
    assert candidate_hash(receipt) == candidate_hash(plain)
    d = receipt.descriptor
    assert d.pov_hash == blake2b_256(b"proof")
    signed = PARENT + (2000).to_bytes(4, "little") + d.persisted_validation_data_hash + d.pov_hash + d.validation_code_hash
    assert verify_check(Check(Scheme.SR25519.value, d.collator, signed, d.signature))
    others = [make_receipt("s", para_id=2000, relay_parent=PARENT), make_receipt("r", para_id=2001, relay_parent=PARENT)]
    assert len({candidate_hash(r) for r in [receipt, *others]}) == 3


def test_a_bundle_of_all_kinds_verifies_and_its_attestations_belong_to_its_bits(checks_of: Callable[..., Iterator[Check]]) -> None:
    ballots = [
        (9, VoteKind.BACKING_VALID),
        (2, VoteKind.BACKING_SECONDED),
        (3, VoteKind.EXPLICIT_INVALID),
        (4, VoteKind.APPROVAL),
        (5, VoteKind.APPROVAL_MULTIPLE),
        (3, VoteKind.EXPLICIT_VALID),
    ]
    receipt = make_receipt("r", para_id=1, relay_parent=PARENT)
    bundle = make_bundle(KEYS, receipt, ballots, session=3, block_number=8, approved_with=[bytes(32)], pov=b"proof")
    assert bundle.backing_validators == bytes([0b100, 0b10])
    assert [a.kind.value for a in bundle.validity_votes] == ["implicit", "explicit"]
    checks = list(checks_of(bundle, KEYS.validators))
    assert len(checks) == 6
    assert all(verify_check(check) for check in checks)
    assert decode(bundle.spec, encode(bundle)) == bundle
    assert bundle.pov == blake2b_256(b"proof")


def test_a_bundle_that_cannot_be_is_not_made() -> None:
    receipt = make_receipt("r", para_id=1, relay_parent=PARENT)
    with pytest.raises(ValueError, match="backs twice"):
        make_bundle(KEYS, receipt, [(1, VoteKind.BACKING_VALID), (1, VoteKind.BACKING_SECONDED)], session=1, block_number=1)
    with pytest.raises(ValueError, match="not in a set"):
        make_bundle(KEYS, receipt, [(12, VoteKind.APPROVAL)], session=1, block_number=1)


def test_blocks_with_any_difference_have_different_hashes_and_equal_ones_the_same() -> None:
    block = make_block(PARENT, 5, session=1, epoch_start=2)
    assert (block.epoch, block.round) == (1, 3)
    assert block == make_block(PARENT, 5, session=1, epoch_start=2)
    others = [
        make_block(bytes(32), 5, session=1, epoch_start=2),
        make_block(PARENT, 6, session=1, epoch_start=2),
        make_block(PARENT, 5, session=1, epoch_start=2, salt=b"x"),
        make_block(PARENT, 5, session=1, epoch_start=2, included=[bytes(32)]),
        make_block(PARENT, 5, session=1, epoch_start=2, backed=[bytes(32)]),
        make_block(PARENT, 5, session=1, epoch_start=2, transactions=[bytes(32)]),
        make_block(PARENT, 5, session=1, epoch_start=2, session_start=KEYS.validators),
    ]
    assert len({b.hash for b in [block, *others]}) == 8


def test_C13_a_resume_carries_the_authoritys_signature() -> None:
    authority = make_authority("a")
    resume = make_resume(authority, ResumeMode.ABANDON, chain=bytes(32), entry=1, frozen_at=4, roots=[PARENT])
    payload = resume_payload(ResumeMode.ABANDON, chain=bytes(32), entry=1, frozen_at=4, roots=[PARENT])
    assert verify_check(Check("ed25519", authority.public, payload, resume.signature))
