"""The contract as CDDL: the golden file, and (where pycddl is installed) an independent validator's opinion."""

from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import CONTRACT, messages_of, simplest

from messages.cddl import document
from messages.codec import decode_raw, encode
from messages.message import Spec

GOLDEN = Path(__file__).parent.parent / "golden" / "messages.cddl"
EXAMPLES = settings(max_examples=5, deadline=None, database=None, derandomize=True)
every_message = pytest.mark.parametrize("spec", CONTRACT, ids=lambda spec: spec.key)


def test_the_contract_is_the_published_one() -> None:
    if document() != GOLDEN.read_text():
        pytest.fail(
            "the messages changed: raise the version of what old readers cannot read (with an upcaster), "
            "then run: python -m messages.cddl > tests/golden/messages.cddl"
        )


def test_every_message_has_exactly_one_rule_and_the_document_is_the_same_each_time() -> None:
    lines = document().splitlines()
    rules = [line.partition(" = ")[0] for line in lines if " = " in line and not line.startswith((";", " "))]
    assert len(rules) == len(set(rules))
    assert {spec.key for spec in CONTRACT} <= set(rules)
    assert document() == document()


def validator(spec: Spec):  # type: ignore[no-untyped-def]
    """A function that raises unless its argument is a body of `spec`: pycddl checks against a document's first rule."""
    pycddl = pytest.importorskip("pycddl")
    return pycddl, pycddl.Schema(f"start = {spec.key}\n{document()}").validate_cbor


@every_message
@EXAMPLES
@given(data=st.data())
def test_encoded_messages_are_valid_for_an_independent_validator(spec: Spec, data: st.DataObject) -> None:
    _, check = validator(spec)
    check(encode(data.draw(messages_of(spec))))


@every_message
def test_the_independent_validator_refuses_what_we_refuse(spec: Spec) -> None:
    pycddl, check = validator(spec)
    raw = decode_raw(encode(simplest(spec)))
    check(cbor2.dumps(raw, canonical=True))
    wrong = [{**raw, "a_field_that_is_not": 1}, *({**raw, name: {"x": 1}} for name in raw)]
    for body in wrong:
        with pytest.raises(pycddl.ValidationError):
            check(cbor2.dumps(body, canonical=True))
