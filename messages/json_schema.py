"""The contract as JSON Schema (draft 7), generated from the types: of the JSON form of a message, as `messages.text` reads and writes it.

Byte strings are `"0x"` and hexadecimal digits, rows of bulk lists are arrays with the fields in order, a field with a default may be
missing. Definitions are named as the rules of the CDDL (`messages.cddl`): a message by its key, a shared type after its class.
"""

import enum
import functools
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect

from messages.cddl import Names, classes, first_words
from messages.contract import own
from messages.message import Spec
from messages.text import plain

__all__ = ["definitions", "schema"]

Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"
_HEXADECIMAL = "^0x([0-9a-fA-F]{2})*$"
_U64_MAX = 2**64 - 1


def schema(spec: Spec) -> Schema:
    """A schema of one message that stands by itself: with the types it is made of."""
    names = _names() if spec.body.__module__.startswith("messages.") else Names([spec])
    used = dict.fromkeys(classes(spec.body))
    shared = {names.of(kind): _definition(kind, names, "#/definitions/") for kind in used if kind is not spec.body}
    made = {"$schema": _DIALECT, "title": spec.key, **_definition(spec.body, names, "#/definitions/")}
    return {**made, "definitions": shared} if shared else made


def definitions(specs: Iterable[Spec], prefix: str) -> dict[str, Schema]:
    """By name, those of all these messages and of the types they are made of; they refer to each other behind `prefix`."""
    wanted = list(specs)
    names = Names(wanted)
    kinds = [*names.shared(), *(spec.body for spec in wanted)]
    return {names.of(kind): _definition(kind, names, prefix) for kind in kinds}


@functools.cache
def _names() -> Names:
    """Of the whole contract: a shared type is then called the same in every schema."""
    return Names(own())


def _definition(kind: type[object], names: Names, prefix: str) -> Schema:
    words = " ".join(first_words(kind).split())
    described = {"description": words} if words else {}
    if issubclass(kind, enum.Enum):
        return {**described, "type": "string", "enum": [member.value for member in kind]}
    return {**described, **_struct(kind, names, prefix)}


def _struct(kind: type, names: Names, prefix: str) -> Schema:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    required = [field.encode_name for field in info.fields if field.required]
    if info.array_like:
        items = [{"title": field.encode_name, **_field(field, names, prefix)} for field in info.fields]
        return {"type": "array", "items": items, "minItems": len(required), "maxItems": len(items)}
    properties = {field.encode_name: _field(field, names, prefix) for field in info.fields}
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made


def _field(field: inspect.Field, names: Names, prefix: str) -> Schema:
    made = _type(field.type, names, prefix)
    # Beside `$ref` nothing counts in draft 7.
    if field.default is msgspec.NODEFAULT or "$ref" in made:
        return made
    return {**made, "default": plain(msgspec.to_builtins(field.default, builtin_types=(bytes,)))}


def _type(kind: inspect.Type, names: Names, prefix: str) -> Schema:
    match kind:
        case inspect.Metadata(type=inner):
            return _type(inner, names, prefix)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.IntType(ge=low, le=high):
            return {"type": "integer", "minimum": low or 0, "maximum": _U64_MAX if high is None else high}
        case inspect.BytesType(min_length=low, max_length=high):
            # Two characters for each byte, behind "0x".
            sizes = _sizes("Length", None if not low else 2 + 2 * low, None if high is None else 2 + 2 * high)
            return {"type": "string", "pattern": _HEXADECIMAL, **sizes}
        case inspect.StrType(min_length=low, max_length=high, pattern=pattern):
            whole = {"pattern": f"{pattern.removesuffix(chr(92) + 'Z')}$"} if pattern else {}
            return {"type": "string", **whole, **_sizes("Length", low, high)}
        case inspect.EnumType(cls=cls) | inspect.StructType(cls=cls):
            return {"$ref": prefix + names.of(cls)}
        case inspect.ListType(item_type=item, min_length=low, max_length=high):
            return {"type": "array", "items": _type(item, names, prefix), **_sizes("Items", low, high)}
        case inspect.DictType(value_type=item):
            return {"type": "object", "additionalProperties": _type(item, names, prefix)}
        case inspect.UnionType(types=members):
            ordered = sorted(members, key=lambda member: isinstance(member, inspect.NoneType))
            return {"anyOf": [_type(member, names, prefix) for member in ordered]}
        case _:
            raise TypeError(f"no JSON Schema for {kind!r}: add it to messages.json_schema")


def _sizes(what: str, low: int | None, high: int | None) -> Schema:
    return {**({f"min{what}": low} if low else {}), **({} if high is None else {f"max{what}": high})}
