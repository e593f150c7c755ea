"""The published CDDL says what is on the wire: readers that are not ours take every message by it, and none that is wrong."""

from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from cddl_readers import Reader, for_pycddl, pycddl_reader, zcbor_reader
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from message_values import CONTRACT, messages_of, simplest
from msgspec import inspect

from messages.codec import encode
from messages.message import Spec

# The contract has no floats: wherever one stands, the body is wrong.
FOREIGN = 1.5


@pytest.fixture(scope="module")
def zcbor() -> Reader:
    return zcbor_reader()


@pytest.fixture(scope="module")
def pycddl() -> Reader:
    return pycddl_reader()


def wrong_ones(spec: Spec) -> Iterator[tuple[str, bytes]]:
    """Bodies that are no such message, each with what is wrong: a field too many, one too few, each value of another type."""
    body: dict[str, Any] = cbor2.loads(encode(simplest(spec)))
    yield "unknown field", cbor2.dumps({**body, "zz_unknown_zz": 0})
    info = inspect.type_info(spec.body)
    assert isinstance(info, inspect.StructType)
    for name in (field.encode_name for field in info.fields if field.required):
        yield f"without {name}", cbor2.dumps({key: value for key, value in body.items() if key != name})
    for path, changed in _with_foreign(body):
        yield f"a float at {path}", cbor2.dumps(changed)


def _with_foreign(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Copies of `value`, one for each value in it, with that one replaced."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}", {**value, key: FOREIGN}
            yield from ((at, {**value, key: changed}) for at, changed in _with_foreign(inner, f"{path}.{key}"))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield f"{path}[{i}]", [*value[:i], FOREIGN, *value[i + 1 :]]
            yield from ((at, [*value[:i], changed, *value[i + 1 :]]) for at, changed in _with_foreign(inner, f"{path}[{i}]"))


def test_every_message_is_one_by_its_rule_and_no_wrong_one_is(zcbor: Reader) -> None:
    taken: list[str] = []
    for spec in CONTRACT:
        assert zcbor(spec, encode(simplest(spec))), f"{spec.key} is refused"
        taken += [f"{spec.key} {what}" for what, body in wrong_ones(spec) if zcbor(spec, body)]
    assert not taken


def test_the_document_as_published_is_read_and_says_the_same(pycddl: Reader) -> None:
    wrong: list[str] = []
    asked = [spec for spec in CONTRACT if for_pycddl(spec)]
    for spec in asked:
        if not pycddl(spec, encode(simplest(spec))):
            wrong.append(f"{spec.key} is refused")
        wrong += [f"{spec.key} {what} is taken" for what, body in wrong_ones(spec) if pycddl(spec, body)]
    assert not wrong
    assert len(asked) > len(CONTRACT) / 2


@settings(max_examples=300, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_values_a_message_has_it_is_one_by_its_rule(zcbor: Reader, pycddl: Reader, data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(CONTRACT))
    body = encode(data.draw(messages_of(spec)))
    assert zcbor(spec, body)
    assert not for_pycddl(spec) or pycddl(spec, body)
