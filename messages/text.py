"""Messages as JSON, for people and stock `nats req`: the same fields, byte strings as "0x" and hexadecimal digits.

Reading is directed by the message's type: only where it has bytes is a string taken for hexadecimal. It is as strict as
the codec: no unknown or duplicate fields, no floats, bounds checked; errors tell the path.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, NoReturn, cast

import msgspec
from msgspec import inspect

from messages.codec import BODY_BYTES_MAX, DEPTH_MAX, CodecError, encode, items_max
from messages.message import Message, Spec

__all__ = ["JSON_BYTES_MAX", "from_json", "plain", "to_json"]

# Hexadecimal doubles the bytes; beyond this a JSON body cannot be a valid CBOR one.
JSON_BYTES_MAX = 3 * BODY_BYTES_MAX
# Each value but the first comes behind one of these. Those within texts are counted as well: no text of ours has so many.
_BEFORE_A_VALUE = (b",", b":", b"[", b"{")
_U64_MAX = 2**64 - 1


def plain(value: object) -> Any:
    """What JSON can carry of decoded CBOR: bytes become "0x..."."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in cast(dict[str, object], value).items()}
    if isinstance(value, list):
        return [plain(item) for item in cast(list[object], value)]
    return value


def to_json(message: Message) -> bytes:
    """The JSON form of `message`, UTF-8, on one line."""
    return json.dumps(plain(msgspec.to_builtins(message, builtin_types=(bytes,))), ensure_ascii=False).encode()


def from_json(spec: Spec, data: bytes) -> Message:
    """A validated message of `spec.body` (current version) from its JSON form.

    Raises CodecError(`body_too_large` | `too_many_items` | `malformed` | `bad_value` | `too_deep` | `invalid`).
    """
    if len(data) > JSON_BYTES_MAX:
        raise CodecError("body_too_large", f"{len(data)} bytes of JSON, the limit is {JSON_BYTES_MAX}")
    if len(data) > (most := items_max(spec)) and sum(map(data.count, _BEFORE_A_VALUE)) >= most:
        raise CodecError("too_many_items", f"more than {most} values")
    raw = _parse(data)
    try:
        message = msgspec.convert(_bytes_where_typed(_type_of(spec.body), raw, "$"), spec.body, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise CodecError("invalid", f"{spec.key}: {error}"[:300]) from None
    encode(message)
    return message


def _parse(data: bytes) -> object:
    def refuse(what: str) -> Callable[[str], NoReturn]:
        def raise_it(text: str) -> NoReturn:
            raise CodecError("bad_value", f"{what} {text[:40]} is not allowed: numbers are unsigned integers")

        return raise_it

    def integer(text: str) -> int:
        if text.startswith("-") or len(text) > 20 or int(text) > _U64_MAX:
            raise CodecError("bad_value", f"number {text[:40]} is not an unsigned integer of 64 bits")
        return int(text)

    try:
        # utf-8 alone: json.loads would also guess UTF-16 and UTF-32.
        return json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_float=refuse("number"),
            parse_constant=refuse("constant"),
            parse_int=integer,
        )
    except CodecError:
        raise
    except RecursionError:
        raise CodecError("too_deep", f"nesting beyond {DEPTH_MAX}") from None
    except ValueError as error:
        raise CodecError("malformed", f"not JSON in UTF-8: {error}"[:200]) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise CodecError("malformed", f"field {name[:40]!r} is there twice")
        found[name] = value
    return found


@functools.cache
def _type_of(body: type[Message]) -> inspect.Type:
    return inspect.type_info(body)


def _bytes_where_typed(kind: inspect.Type, value: object, path: str) -> object:
    """`value` with hexadecimal strings turned into bytes where `kind` has bytes; everything else as it is."""
    match kind:
        case inspect.BytesType():
            return _unhex(value, path)
        case inspect.Metadata(type=inner):
            return _bytes_where_typed(inner, value, path)
        case inspect.UnionType(types=members):
            others = [member for member in members if not isinstance(member, inspect.NoneType)]
            return value if value is None or len(others) != 1 else _bytes_where_typed(others[0], value, path)
        case inspect.ListType(item_type=item) if isinstance(value, list):
            return [_bytes_where_typed(item, each, f"{path}[{i}]") for i, each in enumerate(cast(list[object], value))]
        case inspect.DictType(value_type=item) if isinstance(value, dict):
            mapping = cast(dict[str, object], value)
            return {key: _bytes_where_typed(item, each, f"{path}.{key}") for key, each in mapping.items()}
        case inspect.StructType(fields=fields, array_like=True) if isinstance(value, list):
            items = cast(list[object], value)
            named = [_bytes_where_typed(f.type, each, f"{path}.{f.name}") for f, each in zip(fields, items, strict=False)]
            return [*named, *items[len(fields) :]]
        case inspect.StructType(fields=fields, array_like=False) if isinstance(value, dict):
            mapping = dict(cast(dict[str, object], value))
            for f in fields:
                if f.name in mapping:
                    mapping[f.name] = _bytes_where_typed(f.type, mapping[f.name], f"{path}.{f.name}")
            return mapping
        case _:
            return value


def _unhex(value: object, path: str) -> bytes:
    try:
        if isinstance(value, str) and value.startswith("0x"):
            data = bytes.fromhex(value[2:])
            # It also takes spaces between the digits.
            if 2 * len(data) == len(value) - 2:
                return data
    except ValueError:
        pass
    shown = json.dumps(value)[:60]
    raise CodecError("invalid", f'expected bytes as "0x" and an even number of hexadecimal digits, got {shown} - at `{path}`')
