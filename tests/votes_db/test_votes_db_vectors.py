"""Real votes of Polkadot, signed by an independent implementation, through the whole import (D12, D14)."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from votes_world import outcomes, signer

from messages.polkadot import (
    CandidateCommitments,
    CandidateDescriptor,
    CandidateReceipt,
    HorizontalMessage,
    Scheme,
    Validator,
    Vote,
    VoteKind,
)
from messages.signals import SessionChange
from messages.votes_db import MalformedBundle, Outcome, RegisterVote
from overseer.testing.given import Given
from subsystems.votes_db.subsystem import VotesDb

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "polkadot_votes.json").read_text())


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def vector_receipt(number: int) -> CandidateReceipt:
    descriptor, made = VECTORS["receipts"][number]["descriptor"], VECTORS["receipts"][number]["commitments"]
    code = made["newValidationCode"]
    return CandidateReceipt(
        descriptor=CandidateDescriptor(
            para_id=descriptor["paraId"],
            relay_parent=unhex(descriptor["relayParent"]),
            collator=unhex(descriptor["collatorId"]),
            persisted_validation_data_hash=unhex(descriptor["persistedValidationDataHash"]),
            pov_hash=unhex(descriptor["povHash"]),
            erasure_root=unhex(descriptor["erasureRoot"]),
            signature=unhex(descriptor["signature"]),
            para_head=unhex(descriptor["paraHead"]),
            validation_code_hash=unhex(descriptor["validationCodeHash"]),
        ),
        commitments=CandidateCommitments(
            upward_messages=[unhex(m) for m in made["upwardMessages"]],
            horizontal_messages=[HorizontalMessage(m["recipient"], unhex(m["data"])) for m in made["horizontalMessages"]],
            new_validation_code=None if code is None else unhex(code),
            head_data=unhex(made["headData"]),
            processed_downward_messages=made["processedDownwardMessages"],
            hrmp_watermark=made["hrmpWatermark"],
        ),
    )


def vector_bundle(vector: dict[str, Any], signature: bytes | None = None) -> RegisterVote:
    """The vector's vote as validator 0's."""
    number = [r["candidate_hash"] for r in VECTORS["receipts"]].index(vector["candidate_hash"])
    return RegisterVote(
        candidate=vector_receipt(number),
        candidate_hash=unhex(vector["candidate_hash"]),
        block_number=1,
        session_index=vector["session"],
        explicit_votes=[Vote(0, VoteKind(vector["kind"]), unhex(vector["signature"]) if signature is None else signature)],
    )


def vector_db(vector: dict[str, Any], key: bytes | None = None) -> Given:
    db = Given(VotesDb())
    own = Validator(unhex(vector["validator_id"]) if key is None else key, Scheme(vector["scheme"]))
    db.when(SessionChange(index=vector["session"], validators=[own, signer(1).validator]))
    return db


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("place", range(len(VECTORS["votes"])))
def test_D12_real_votes_of_polkadot_are_stored_and_one_flipped_bit_is_a_bad_signature(place: int) -> None:
    vector = VECTORS["votes"][place]
    signature, key = unhex(vector["signature"]), unhex(vector["validator_id"])
    assert outcomes(vector_db(vector).when(vector_bundle(vector))) == [Outcome.STORED]
    # Every bit of the signature for some of them, a sample for the others.
    bits = range(512) if place < 2 else random.Random(place).sample(range(512), 24)
    db = vector_db(vector)
    for bit in bits:
        assert outcomes(db.when(vector_bundle(vector, flipped(signature, bit)))) == [Outcome.BAD_SIGNATURE], bit
    for bit in random.Random(place).sample(range(256), 24):
        assert outcomes(vector_db(vector, flipped(key, bit)).when(vector_bundle(vector))) == [Outcome.BAD_SIGNATURE], bit


@pytest.mark.parametrize("number", range(len(VECTORS["receipts"])))
def test_D14_one_flipped_bit_in_a_real_receipt_is_another_candidate(number: int) -> None:
    vector = next(v for v in VECTORS["votes"] if v["candidate_hash"] == VECTORS["receipts"][number]["candidate_hash"])
    good = vector_bundle(vector)
    for field in ("relay_parent", "collator", "persisted_validation_data_hash", "pov_hash", "erasure_root", "signature", "para_head"):
        data = getattr(good.candidate.descriptor, field)
        bit = random.Random(field).randrange(len(data) * 8)
        descriptor = msgspec.structs.replace(good.candidate.descriptor, **{field: flipped(data, bit)})
        message = msgspec.structs.replace(good, candidate=msgspec.structs.replace(good.candidate, descriptor=descriptor))
        rejection = vector_db(vector).when(message).rejection
        assert isinstance(rejection, MalformedBundle)
        assert rejection.reason == "candidate_hash"
