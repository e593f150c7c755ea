"""SCALE of candidate receipts against Polkadot's own libraries, and against hostile bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import scale
from messages.codec import BODY_BYTES_MAX
from messages.polkadot import CandidateCommitments, CandidateDescriptor, CandidateReceipt, HorizontalMessage

VECTORS = json.loads((Path(__file__).parent / "vectors" / "polkadot_votes.json").read_text())


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def receipt_of(vector: dict[str, Any]) -> CandidateReceipt:
    d, c = vector["descriptor"], vector["commitments"]
    return CandidateReceipt(
        descriptor=CandidateDescriptor(
            para_id=d["paraId"],
            relay_parent=unhex(d["relayParent"]),
            collator=unhex(d["collatorId"]),
            persisted_validation_data_hash=unhex(d["persistedValidationDataHash"]),
            pov_hash=unhex(d["povHash"]),
            erasure_root=unhex(d["erasureRoot"]),
            signature=unhex(d["signature"]),
            para_head=unhex(d["paraHead"]),
            validation_code_hash=unhex(d["validationCodeHash"]),
        ),
        commitments=CandidateCommitments(
            upward_messages=[unhex(m) for m in c["upwardMessages"]],
            horizontal_messages=[HorizontalMessage(m["recipient"], unhex(m["data"])) for m in c["horizontalMessages"]],
            new_validation_code=None if c["newValidationCode"] is None else unhex(c["newValidationCode"]),
            head_data=unhex(c["headData"]),
            processed_downward_messages=c["processedDownwardMessages"],
            hrmp_watermark=c["hrmpWatermark"],
        ),
    )


descriptors = st.builds(
    CandidateDescriptor,
    para_id=st.integers(0, 2**32 - 1),
    signature=st.binary(min_size=64, max_size=64),
    **{
        name: st.binary(min_size=32, max_size=32)
        for name in (
            "relay_parent",
            "collator",
            "persisted_validation_data_hash",
            "pov_hash",
            "erasure_root",
            "para_head",
            "validation_code_hash",
        )
    },
)
commitments = st.builds(
    CandidateCommitments,
    upward_messages=st.lists(st.binary(max_size=100), max_size=70),
    horizontal_messages=st.lists(st.builds(HorizontalMessage, st.integers(0, 2**32 - 1), st.binary(max_size=20)), max_size=3),
    new_validation_code=st.none() | st.binary(max_size=20_000),
    head_data=st.binary(max_size=100),
    processed_downward_messages=st.integers(0, 2**32 - 1),
    hrmp_watermark=st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize("vector", VECTORS["receipts"], ids=lambda v: v["candidate_hash"][:10])
def test_D14_receipts_of_polkadot_have_the_hashes_that_polkadot_gives_them(vector: dict[str, Any]) -> None:
    receipt = receipt_of(vector)
    assert len(scale.encode_descriptor(receipt.descriptor)) == 292
    assert scale.encode_committed_receipt(receipt) == unhex(vector["committed_receipt_scale"])
    assert receipt.commitments is not None
    assert scale.commitments_hash(receipt.commitments) == unhex(vector["commitments_hash"])
    assert scale.candidate_hash(receipt) == unhex(vector["candidate_hash"])
    plain = CandidateReceipt(descriptor=receipt.descriptor, commitments_hash=unhex(vector["commitments_hash"]))
    assert scale.candidate_hash(plain) == unhex(vector["candidate_hash"])
    assert scale.decode_committed_receipt(unhex(vector["committed_receipt_scale"])) == receipt


@pytest.mark.parametrize("vector", VECTORS["receipts"], ids=lambda v: v["candidate_hash"][:10])
def test_D14_one_flipped_bit_anywhere_in_a_receipt_gives_another_hash_or_is_refused(vector: dict[str, Any]) -> None:
    data = unhex(vector["committed_receipt_scale"])
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            receipt = scale.decode_committed_receipt(bytes(flipped))
        except scale.ScaleError:
            continue
        assert scale.candidate_hash(receipt) != unhex(vector["candidate_hash"])


def test_D14_a_receipt_with_neither_or_both_of_commitments_and_their_hash_has_no_hash() -> None:
    receipt = receipt_of(VECTORS["receipts"][0])
    with pytest.raises(scale.ScaleError, match="commitments_missing"):
        scale.candidate_hash(CandidateReceipt(descriptor=receipt.descriptor))
    both = CandidateReceipt(descriptor=receipt.descriptor, commitments=receipt.commitments, commitments_hash=bytes(32))
    with pytest.raises(scale.ScaleError, match="commitments_twice"):
        scale.candidate_hash(both)
    with pytest.raises(scale.ScaleError, match="commitments_missing"):
        scale.encode_committed_receipt(CandidateReceipt(descriptor=receipt.descriptor, commitments_hash=bytes(32)))


def test_compact_lengths_are_those_of_the_scale_reference() -> None:
    known = {0: "00", 1: "04", 42: "a8", 63: "fc", 64: "0101", 69: "1501", 16383: "fdff", 16384: "02000100", 65535: "feff0300"}
    known |= {2**30 - 1: "feffffff", 2**30: "0300000040", 100_000_000_000_000: "0b00407a10f35a"}
    assert {n: scale.encode_compact(n).hex() for n in known} == known
    with pytest.raises(scale.ScaleError, match="out_of_range"):
        scale.encode_compact(-1)


def test_commitments_with_every_part_set_are_laid_out_as_specified() -> None:
    c = CandidateCommitments(
        upward_messages=[b"\xaa", b""],
        horizontal_messages=[HorizontalMessage(7, b"\xbb\xcc")],
        new_validation_code=b"\xdd",
        head_data=b"\xee\xff",
        processed_downward_messages=3,
        hrmp_watermark=258,
    )
    assert scale.encode_commitments(c).hex(" ") == "08 04 aa 00 04 07 00 00 00 08 bb cc 01 04 dd 08 ee ff 03 00 00 00 02 01 00 00"


@given(descriptor=descriptors, commitments=commitments)
def test_what_is_encoded_decodes_to_itself_and_loses_nothing_when_cut(
    descriptor: CandidateDescriptor, commitments: CandidateCommitments
) -> None:
    receipt = CandidateReceipt(descriptor=descriptor, commitments=commitments)
    data = scale.encode_committed_receipt(receipt)
    assert scale.decode_committed_receipt(data) == receipt
    with pytest.raises(scale.ScaleError):
        scale.decode_committed_receipt(data[:-1])
    with pytest.raises(scale.ScaleError):
        scale.decode_committed_receipt(data + b"\x00")


@given(tail=st.binary(max_size=200))
def test_hostile_bytes_are_refused_by_name_or_are_the_only_form_of_their_value(tail: bytes) -> None:
    data = bytes(292) + tail
    try:
        receipt = scale.decode_committed_receipt(data)
    except scale.ScaleError:
        return
    assert scale.encode_committed_receipt(receipt) == data


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("", "truncated"),
        ("01", "truncated"),
        ("0100", "not_shortest"),
        ("02010000", "not_shortest"),
        ("0300000040", "length_beyond_end"),
        ("feffffff", "length_beyond_end"),
        ("04", "length_beyond_end"),
        ("00 00 02", "bad_option"),
        ("00 00 00 00 00000000 00000000 00", "trailing_bytes"),
        ("00 08" + "00" * 9, "length_beyond_end"),
    ],
)
def test_every_defect_of_committed_bytes_is_named_with_its_place(tail: str, reason: str) -> None:
    with pytest.raises(scale.ScaleError) as caught:
        scale.decode_committed_receipt(bytes(292) + bytes.fromhex(tail))
    assert caught.value.reason == reason
    assert caught.value.offset is not None


def test_a_receipt_that_is_too_large_or_of_too_many_messages_is_refused_before_any_work() -> None:
    with pytest.raises(scale.ScaleError, match="too_large"):
        scale.decode_committed_receipt(bytes(BODY_BYTES_MAX + 1))
    many = bytes(292) + scale.encode_compact(scale.MESSAGES_MAX + 1) + bytes(scale.MESSAGES_MAX + 20)
    with pytest.raises(scale.ScaleError, match="too_many"):
        scale.decode_committed_receipt(many)


def test_a_descriptor_of_wrong_length_is_refused() -> None:
    receipt = receipt_of(VECTORS["receipts"][0])
    d = receipt.descriptor
    short = CandidateDescriptor(**{name: getattr(d, name) for name in d.__struct_fields__} | {"collator": bytes(31)})
    with pytest.raises(scale.ScaleError, match="descriptor_length"):
        scale.encode_descriptor(short)
