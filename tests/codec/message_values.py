"""Hypothesis strategies for values of every message type, generated from the types."""

import enum

from hypothesis import strategies as st
from msgspec import inspect

from messages.contract import own
from messages.message import Message, Spec

__all__ = ["CONTRACT", "messages_of", "simplest"]

# What the package defines; other tests register messages of their own.
CONTRACT = own()

_U64_MAX = 2**64 - 1
# Lists and byte strings stay small: the bounds have tests of their own.
_ITEMS = 3


def messages_of(spec: Spec) -> st.SearchStrategy[Message]:
    return _values(inspect.type_info(spec.body))


def _values(kind: inspect.Type) -> st.SearchStrategy:
    match kind:
        case inspect.Metadata(type=inner):
            return _values(inner)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.IntType(ge=low, le=high):
            return st.integers(low or 0, _U64_MAX if high is None else high)
        case inspect.BytesType(min_length=low, max_length=high):
            return st.binary(min_size=low or 0, max_size=min((low or 0) + 8, 8192 if high is None else high))
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True)
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(8, 8 if high is None else high))
        case inspect.EnumType(cls=cls):
            assert issubclass(cls, enum.Enum)
            return st.sampled_from(list(cls))
        case inspect.ListType(item_type=item, min_length=low, max_length=high):
            most = (low or 0) + _ITEMS
            return st.lists(_values(item), min_size=low or 0, max_size=most if high is None else min(most, high))
        case inspect.UnionType(types=members):
            return st.one_of(*(_values(member) for member in members))
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{f.name: _values(f.type) for f in fields})
        case _:
            raise TypeError(f"no strategy for {kind!r}")


def simplest(spec: Spec) -> Message:
    """One valid message, the same each time."""
    return _simplest(inspect.type_info(spec.body))


def _simplest(kind: inspect.Type) -> object:
    match kind:
        case inspect.Metadata(type=inner):
            return _simplest(inner)
        case inspect.BoolType():
            return False
        case inspect.NoneType():
            return None
        case inspect.IntType(ge=low):
            return low or 0
        case inspect.BytesType(min_length=low):
            return bytes(low or 0)
        case inspect.StrType():
            return "a"
        case inspect.EnumType(cls=cls):
            return next(iter(cls))
        case inspect.ListType(min_length=low, item_type=item):
            return [_simplest(item)] * max(1, low or 0)
        case inspect.UnionType(types=members):
            return _simplest(next(m for m in members if not isinstance(m, inspect.NoneType)))
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{f.name: _simplest(f.type) for f in fields})
        case _:
            raise TypeError(f"no value for {kind!r}")
