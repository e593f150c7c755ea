"""Every message of the contract: typed -> bytes -> typed, typed -> JSON -> typed, and one form per value."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import CONTRACT, messages_of, simplest

from messages.codec import CodecError, decode, decode_raw, encode, encode_value
from messages.message import Spec
from messages.text import from_json, plain, to_json

EXAMPLES = settings(max_examples=15, deadline=None, database=None, derandomize=True)
every_message = pytest.mark.parametrize("spec", CONTRACT, ids=lambda spec: spec.key)


@every_message
@EXAMPLES
@given(data=st.data())
def test_every_message_survives_both_of_its_forms(spec: Spec, data: st.DataObject) -> None:
    message = data.draw(messages_of(spec))
    body = encode(message)
    assert decode(spec, body) == message
    assert encode(decode(spec, body)) == body
    assert from_json(spec, to_json(message)) == message
    assert json.loads(to_json(message)) == plain(decode_raw(body))


@every_message
def test_every_message_refuses_an_unknown_field_and_a_missing_one(spec: Spec) -> None:
    raw = decode_raw(encode(simplest(spec)))
    with pytest.raises(CodecError) as caught:
        decode(spec, _canonical({**raw, "a_field_that_is_not": 1}))
    assert caught.value.reason == "invalid"
    required = [f.encode_name for f in msgspec.structs.fields(spec.body) if f.required]
    for name in required:
        with pytest.raises(CodecError) as caught:
            decode(spec, _canonical({key: value for key, value in raw.items() if key != name}))
        assert caught.value.reason == "invalid"


@every_message
def test_every_reply_is_registered_and_every_name_is_a_subject_token(spec: Spec) -> None:
    assert spec.reply is None or any(spec.reply is other.body for other in CONTRACT)
    assert spec.name.replace("_", "").isalnum()
    assert spec.name == spec.name.lower()


@every_message
def test_every_mistyped_field_is_refused(spec: Spec) -> None:
    raw = decode_raw(encode(simplest(spec)))
    for name in raw:
        with pytest.raises(CodecError, match="invalid"):
            decode(spec, _canonical({**raw, name: {"x": 1}}))


def _canonical(raw: dict[str, object]) -> bytes:
    import cbor2

    return cbor2.dumps(raw, canonical=True)


def test_a_message_encoded_again_has_its_own_body_whatever_was_encoded_meanwhile() -> None:
    one, other = simplest(CONTRACT[0]), simplest(CONTRACT[1])
    bodies = [encode(message) for message in (one, one, other, one, other, other)]
    mine, others = encode_value(one), encode_value(other)
    assert bodies == [mine, mine, others, mine, others, others]
    assert mine != others
