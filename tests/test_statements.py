"""The signed bytes of votes, transactions and resumes."""

import json
from pathlib import Path
from typing import Any

import pytest

from messages.chain_api import ResumeMode
from messages.governance import resume_payload
from messages.polkadot import Side, Transaction, TransactionKind, VoteKind
from messages.statements import StatementError, vote_payload
from messages.transaction import transaction_id
from overseer.subsystem import Check
from overseer.verification import verify_check

VECTORS = json.loads((Path(__file__).parent / "vectors" / "polkadot_votes.json").read_text())


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def payload_of(vector: dict[str, Any]) -> bytes:
    return vote_payload(
        VoteKind(vector["kind"]),
        candidate=unhex(vector["candidate_hash"]),
        session=vector["session"],
        relay_parent=unhex(vector["relay_parent"]),
    )


def check_of(vector: dict[str, Any]) -> Check:
    return Check(vector["scheme"], unhex(vector["validator_id"]), payload_of(vector), unhex(vector["signature"]))


def vote_id(vector: dict[str, Any]) -> str:
    return f"{vector['scheme']}-{vector['kind']}-{vector['candidate_hash'][2:8]}"


@pytest.mark.parametrize("vector", VECTORS["votes"], ids=vote_id)
def test_D12_votes_of_polkadot_verify_over_our_bytes(vector: dict[str, Any]) -> None:
    assert payload_of(vector) == unhex(vector["payload"])
    assert verify_check(check_of(vector))


@pytest.mark.parametrize("vector", VECTORS["votes"], ids=vote_id)
def test_D12_one_flipped_bit_anywhere_in_a_vote_fails_it(vector: dict[str, Any]) -> None:
    check = check_of(vector)
    for field in ("key", "message", "signature"):
        data = getattr(check, field)
        for bit in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            assert not verify_check(check._replace(**{field: bytes(flipped)})), (field, bit)


@pytest.mark.parametrize("vector", VECTORS["votes"], ids=vote_id)
def test_D12_a_vote_is_bound_to_its_kind_session_candidate_and_relay_parent(vector: dict[str, Any]) -> None:
    check, kind = check_of(vector), VoteKind(vector["kind"])
    facts = {
        "candidate": unhex(vector["candidate_hash"]),
        "session": vector["session"],
        "relay_parent": unhex(vector["relay_parent"]),
    }
    others = [vote_payload(other, **facts) for other in VoteKind if other not in (kind, VoteKind.APPROVAL_MULTIPLE)]
    others.append(vote_payload(kind, **facts | {"session": vector["session"] + 1}))
    others.append(vote_payload(kind, **facts | {"candidate": bytes(32)}))
    if kind in (VoteKind.BACKING_SECONDED, VoteKind.BACKING_VALID):
        others.append(vote_payload(kind, **facts | {"relay_parent": bytes(32)}))
    assert not any(verify_check(check._replace(message=other)) for other in others)


def test_the_signed_bytes_of_every_kind_are_those_of_the_table() -> None:
    c, p, s = b"\xcc" * 32, b"\xbb" * 32, (258).to_bytes(4, "little")
    table = {
        VoteKind.EXPLICIT_VALID: b"DISP\x01" + c + s,
        VoteKind.EXPLICIT_INVALID: b"DISP\x00" + c + s,
        VoteKind.BACKING_SECONDED: b"BKNG\x01" + c + s + p,
        VoteKind.BACKING_VALID: b"BKNG\x02" + c + s + p,
        VoteKind.APPROVAL: b"APPR" + c + s,
    }
    assert {k: vote_payload(k, candidate=c, session=258, relay_parent=p) for k in table} == table
    assert sorted({len(b) for b in table.values()}) == [40, 41, 73]


def test_an_approval_of_several_candidates_signs_their_vector_in_the_order_given() -> None:
    one, two = b"\x01" * 32, b"\x02" * 32

    def several(*hashes: bytes) -> bytes:
        return vote_payload(VoteKind.APPROVAL_MULTIPLE, candidate=one, session=5, relay_parent=bytes(32), candidates=hashes)

    assert several(two, one) == b"APPR\x08" + two + one + b"\x05\x00\x00\x00"
    assert several(one, two) != several(two, one)
    assert several(one) == vote_payload(VoteKind.APPROVAL, candidate=one, session=5, relay_parent=bytes(32))
    assert several(*[one] * 64)[4:6] == b"\x01\x01"


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        (VoteKind.APPROVAL_MULTIPLE, {}, "no_candidates"),
        (VoteKind.APPROVAL, {"candidates": [bytes(32)]}, "unexpected_candidates"),
        (VoteKind.APPROVAL_MULTIPLE, {"candidates": [bytes(31)]}, "hash_length"),
        (VoteKind.APPROVAL, {"candidate": bytes(33)}, "hash_length"),
        (VoteKind.APPROVAL, {"session": 2**32}, "session_range"),
    ],
)
def test_what_has_no_signed_bytes_is_refused_by_name(kind: VoteKind, change: dict[str, Any], reason: str) -> None:
    facts: dict[str, Any] = {"candidate": bytes(32), "session": 1, "relay_parent": bytes(32)}
    with pytest.raises(StatementError) as caught:
        vote_payload(kind, **facts | change)
    assert caught.value.reason == reason


TRANSACTION = Transaction(TransactionKind.SLASH, 7, b"\xcc" * 32, 3, Side.INVALID, VoteKind.EXPLICIT_VALID, bytes(64))


def changed(**fields: Any) -> Transaction:
    return Transaction(*[fields.get(name, getattr(TRANSACTION, name)) for name in Transaction.__struct_fields__])


def test_C15_the_identity_of_a_transaction_is_its_kind_session_candidate_validator_and_verdict() -> None:
    same = changed(vote=VoteKind.APPROVAL, signature=b"\x01" * 64, candidates=[bytes(32)])
    assert transaction_id(same) == transaction_id(TRANSACTION)
    others = [
        changed(kind=TransactionKind.REWARD),
        changed(session=8),
        changed(candidate=bytes(32)),
        changed(validator=4),
        changed(verdict=Side.VALID),
    ]
    assert len({transaction_id(t) for t in [TRANSACTION, *others]}) == 6
    # By hand: domain, slash, session 7, candidate, validator 3, invalid.
    assert transaction_id(TRANSACTION).hex() == "3ec5205ac41803396d6b46b9dfbab9cf1dcdac27df127e944aa4fcaa56de2811"


def test_C13_C21_the_signed_bytes_of_a_resume_bind_mode_chain_entry_freeze_and_roots() -> None:
    facts: dict[str, Any] = {"chain": b"\x01" * 32, "entry": 1, "frozen_at": 4, "roots": [b"\x03" * 32, b"\x02" * 32]}
    payload = resume_payload(ResumeMode.PARDON, **facts)
    layout = (
        b"overseer resume v1\x00" + b"\x00" + b"\x01" * 32 + b"\x01\0\0\0" + b"\x04\0\0\0" + b"\x02\0\0\0" + b"\x02" * 32 + b"\x03" * 32
    )
    assert payload == layout
    assert resume_payload(ResumeMode.PARDON, **facts | {"roots": [b"\x02" * 32, b"\x03" * 32, b"\x02" * 32]}) == payload
    changes: list[dict[str, Any]] = [{"chain": bytes(32)}, {"entry": 2}, {"frozen_at": 5}, {"roots": []}]
    others = [resume_payload(ResumeMode.PARDON, **facts | change) for change in changes]
    assert len({payload, resume_payload(ResumeMode.ABANDON, **facts), *others}) == 6
