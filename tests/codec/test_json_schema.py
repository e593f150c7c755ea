"""JSON Schemas of messages: every message in its JSON form is one by its schema, and what the codec refuses for its form is none."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from message_values import CONTRACT, messages_of, simplest

from messages.codec import CodecError
from messages.contract import load
from messages.json_schema import definitions, schema
from messages.message import Spec
from messages.text import from_json, to_json

PREFIX = "#/definitions/"


@pytest.fixture(scope="module")
def all_at_once() -> dict[str, Any]:
    return definitions(CONTRACT, PREFIX)


def validator(spec: Spec, all_at_once: dict[str, Any]) -> Draft7Validator:
    return Draft7Validator({"$ref": PREFIX + spec.key, "definitions": all_at_once})


def taken(spec: Spec, value: Any) -> bool:
    try:
        from_json(spec, json.dumps(value).encode())
    except CodecError:
        return False
    return True


def changed(value: Any) -> Iterator[Any]:
    """Copies of `value`, each with one thing changed: a value of another type, bytes cut or lengthened, a number out of bounds."""
    yield from (1.5, 2**64, "0x0", "0x" + "00" * 33, None)
    if isinstance(value, dict):
        yield {**value, "zz_unknown": 0}
        for key, inner in value.items():
            yield {other: kept for other, kept in value.items() if other != key}
            yield from ({**value, key: each} for each in changed(inner))
    elif isinstance(value, list) and value:
        yield value[:-1]
        yield [*value, value[-1]]
        yield from ([each, *value[1:]] for each in changed(value[0]))


def test_every_schema_is_one(all_at_once: dict[str, Any]) -> None:
    Draft7Validator.check_schema({"definitions": all_at_once})


@settings(max_examples=150, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_message_is_one_by_its_schema(all_at_once: dict[str, Any], data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(CONTRACT))
    written = json.loads(to_json(data.draw(messages_of(spec))))
    validator(spec, all_at_once).validate(written)


def test_the_schema_takes_what_the_reader_takes_and_nothing_else(all_at_once: dict[str, Any]) -> None:
    differ: list[str] = []
    compared = 0
    for spec in CONTRACT:
        by_schema = validator(spec, all_at_once)
        written = json.loads(to_json(simplest(spec)))
        for value in (written, *changed(written)):
            # A body is an object; of another JSON value the reader has no opinion of its own.
            if not isinstance(value, dict):
                continue
            compared += 1
            if by_schema.is_valid(value) != taken(spec, value):
                differ.append(f"{spec.key}: {json.dumps(value)[:200]}")
    assert not differ, differ[:5]
    assert compared > 5_000


def test_a_schema_stands_by_itself() -> None:
    for spec in CONTRACT[::8]:
        Draft7Validator.check_schema(schema(spec))
        Draft7Validator(schema(spec)).validate(json.loads(to_json(simplest(spec))))
    vote = load().by_key("votes_db.cmd.register_vote")
    assert vote is not None
    assert schema(vote)["definitions"]["vote"]["type"] == "array"
