"""The order of maps that is worked out once per type is the order that sorting gives."""

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import CONTRACT, messages_of

from messages.canonical import arranger
from messages.codec import encode_value
from messages.message import Spec


def sorted_anew(value: object) -> bytes:
    return cbor2.dumps(msgspec.to_builtins(value, builtin_types=(bytes,)), canonical=True)


@pytest.mark.parametrize("spec", CONTRACT, ids=lambda spec: spec.key)
@settings(max_examples=10, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_every_message_is_encoded_as_if_its_maps_were_sorted(spec: Spec, data: st.DataObject) -> None:
    message = data.draw(messages_of(spec))
    assert encode_value(message) == sorted_anew(message)


class Inner(msgspec.Struct, kw_only=True):
    zz: int = 1
    b: int = 2


class Row(msgspec.Struct, array_like=True):
    number: int
    inner: Inner | None


class Outer(msgspec.Struct, kw_only=True):
    long_name: list[Row]
    é: bytes
    zz: Inner
    a: list[Inner] | None = None


class Loose(msgspec.Struct, kw_only=True):
    zz: dict[str, int]
    a: Inner | list[Inner]


class Sparse(msgspec.Struct, kw_only=True, omit_defaults=True):
    zz: int = 0
    a: int = 0


@pytest.mark.parametrize("rows", [[], [Row(1, None)], [Row(1, Inner()), Row(2, None)]])
@pytest.mark.parametrize("a", [None, [], [Inner(), Inner(b=5)]])
def test_maps_are_sorted_at_every_depth(rows: list[Row], a: list[Inner] | None) -> None:
    value = Outer(long_name=rows, é=b"", zz=Inner(), a=a)
    assert encode_value(value) == sorted_anew(value)


@pytest.mark.parametrize(
    "value", [Loose(zz={"bb": 1, "c": 2}, a=Inner()), Sparse(zz=1), Sparse(a=1), {"zz": 1, "a": 2}, [{"zz": 1, "a": 2}], 7]
)
def test_what_the_type_does_not_tell_is_sorted_each_time(value: object) -> None:
    assert encode_value(value) == sorted_anew(value)


def test_rows_without_maps_need_no_arranging() -> None:
    arrange = arranger(Row)
    assert arrange is not None
    assert arrange([1, {"zz": 1, "b": 2}]) == [1, {"b": 2, "zz": 1}]
