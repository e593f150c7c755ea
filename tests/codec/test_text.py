"""Messages as JSON: strict, directed by the type, with errors that say where."""

import json

import pytest

from messages.chain_api import FinalizeBlock, ImportBlock, SubmitTransaction
from messages.codec import CodecError
from messages.overseer import InvalidRequest, Parked
from messages.polkadot import Side, Transaction, TransactionKind, Vote, VoteKind
from messages.text import JSON_BYTES_MAX, from_json, plain, to_json
from messages.votes_db import QueryByValidatorAndSessionIndex, RegisterVote

HASH = "0x" + "ab" * 32


def refused(spec_of: type, text: str | bytes) -> CodecError:
    with pytest.raises(CodecError) as caught:
        from_json(spec_of.spec, text if isinstance(text, bytes) else text.encode())  # type: ignore[attr-defined]
    return caught.value


def test_bytes_are_hexadecimal_in_both_directions() -> None:
    message = FinalizeBlock(hash=bytes.fromhex("ab" * 32))
    assert json.loads(to_json(message)) == {"hash": HASH}
    assert from_json(FinalizeBlock.spec, json.dumps({"hash": HASH}).encode()) == message
    assert from_json(FinalizeBlock.spec, json.dumps({"hash": HASH.upper().replace("0X", "0x")}).encode()) == message


def test_text_that_looks_hexadecimal_stays_text_where_the_type_is_text() -> None:
    message = InvalidRequest(reason="0xab", detail="0x")
    assert from_json(InvalidRequest.spec, to_json(message)) == message


def test_rows_lists_options_and_enums_are_reached() -> None:
    transaction = Transaction(
        TransactionKind.SLASH, 1, bytes(32), 2, Side.VALID, VoteKind.APPROVAL_MULTIPLE, bytes(64), [b"\x01" * 32, b"\x02" * 32]
    )
    message = SubmitTransaction(transactions=[transaction])
    assert from_json(SubmitTransaction.spec, to_json(message)) == message
    page = QueryByValidatorAndSessionIndex(session=1, validator=2, after=bytes(32))
    assert from_json(QueryByValidatorAndSessionIndex.spec, to_json(page)) == page


def test_fields_with_defaults_may_be_left_out() -> None:
    data = {"hash": HASH, "parent": HASH, "number": 1, "session": 2}
    message = from_json(ImportBlock.spec, json.dumps(data).encode())
    assert isinstance(message, ImportBlock)
    assert message.included == []
    assert message.session_start is None


@pytest.mark.parametrize("value", ["", "ab" * 32, "0x" + "ab" * 31 + "a", "0x" + "zz" * 32, "0X" + "ab" * 32, HASH + " ", 7, None, []])
def test_what_is_not_hexadecimal_is_refused_with_the_path(value: object) -> None:
    error = refused(FinalizeBlock, json.dumps({"hash": value}))
    assert error.reason == "invalid"
    assert "$.hash" in error.detail


def test_the_path_leads_into_lists_and_rows() -> None:
    vote = [0, "approval", "0xzz"]
    error = refused(RegisterVote, json.dumps({"explicit_votes": [vote]}))
    assert "`$.explicit_votes[0].signature`" in error.detail
    assert Vote.__struct_fields__[2] == "signature"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"\xff\xfe{\x00}\x00", "malformed"),
        (b'{"hash": "' + b"0x" + b"ab" * 32 + b'", "hash": "0x"}', "malformed"),
        (b'{"hash": "' + b"0x" + b"ab" * 32 + b'"} x', "malformed"),
        (b'{"number": 1.0}', "bad_value"),
        (b'{"number": 1e3}', "bad_value"),
        (b'{"number": NaN}', "bad_value"),
        (b'{"number": -1}', "bad_value"),
        (b'{"number": 18446744073709551616}', "bad_value"),
        (b'{"number": ' + b"9" * 10_000 + b"}", "bad_value"),
        (b"[" * 10_000, "too_deep"),
        (b"[" * 100_000, "too_many_items"),
        (b'{"a":' * 5_000, "too_deep"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
        (b'"0x"', "invalid"),
        (b"{}", "invalid"),
        (b" " * (JSON_BYTES_MAX + 1), "body_too_large"),
    ],
)
def test_json_that_is_no_message_is_refused_by_name(text: bytes, reason: str) -> None:
    assert refused(ImportBlock, text).reason == reason


def test_a_body_that_would_be_too_large_in_cbor_is_refused() -> None:
    text = json.dumps({"reason": "x", "detail": "y" * 800_000})
    assert refused(InvalidRequest, text).reason == "body_too_large"


def test_bounds_are_those_of_the_type() -> None:
    assert refused(FinalizeBlock, json.dumps({"hash": "0x" + "ab" * 31})).reason == "invalid"
    assert refused(FinalizeBlock, json.dumps({"hash": HASH, "more": 1})).reason == "invalid"


def test_plain_shows_any_decoded_value() -> None:
    assert plain({"a": b"\x01\x02", "b": [b"", None, True, "x", 7]}) == {"a": "0x0102", "b": ["0x", None, True, "x", 7]}


def test_json_is_utf8_on_one_line() -> None:
    message = Parked(stream="S", sequence=1, subject="ä", reason="r", detail="line\nbreak", body_hash=bytes(32), body_bytes=0, head=b"\xff")
    assert b"\n" not in to_json(message)
    assert "ä".encode() in to_json(message)
    assert from_json(Parked.spec, to_json(message)) == message
