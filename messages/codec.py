"""Bytes in, typed messages out: the only door through which foreign bytes enter.

Bodies are CBOR maps, deterministically encoded (RFC 8949 section 4.2): one form per value, so that equal messages are
equal bytes and hashes mean something. Decoding is strict: size first, then no tags, no indefinite lengths, no
duplicate keys, text keys only, no floats, bounded depth, nothing behind the value, and canonical form.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import cbor2
import msgspec

from messages.canonical import arranger
from messages.message import Message, Spec

__all__ = [
    "BODY_BYTES_MAX",
    "DEPTH_MAX",
    "HEADERS_BYTES_MAX",
    "ITEMS_MAX",
    "CodecError",
    "decode",
    "decode_raw",
    "decode_value",
    "encode",
    "encode_value",
]

# NATS max_payload is 1 MiB for body plus headers; what exceeds it closes the client for good, so we stay well below.
BODY_BYTES_MAX = 768 * 1024
HEADERS_BYTES_MAX = 8 * 1024
# The deepest message of the contract needs 6.
DEPTH_MAX = 16
# Values in one body, counting those inside others. A megabyte of empty lists would cost 0.6 s and 50 MiB to take; the
# largest message of the contract (2000 votes, 3000 validators, 8000 hashes) needs under 20 000.
ITEMS_MAX = 64 * 1024
_U64_MAX = 2**64 - 1

_T = TypeVar("_T")


class CodecError(ValueError):
    """The bytes are not a valid body. `reason` is a stable snake_case word, `detail` says what and where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def _refuse_tag(*_: object) -> object:
    raise ValueError("tags are refused")


# cbor2 has built-in decoders for these; every other tag goes to tag_hook.
_BUILT_IN_TAGS = (*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799)
_SEMANTIC: Mapping[int, Callable[..., object]] = dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag)


def encode_value(value: object) -> bytes:
    """Canonical CBOR of plain data or of a struct (tables, journal records)."""
    data = msgspec.to_builtins(value, builtin_types=(bytes,))
    arrange = arranger(type(value))
    return cbor2.dumps(data, canonical=True) if arrange is None else cbor2.dumps(arrange(data))


def encode(message: Message) -> bytes:
    """The body of `message`.

    Raises CodecError(`body_too_large`) beyond BODY_BYTES_MAX: a sender must page.
    """
    data = encode_value(message)
    if len(data) > BODY_BYTES_MAX:
        raise CodecError("body_too_large", f"{message.spec.key} is {len(data)} bytes, the limit is {BODY_BYTES_MAX}")
    return data


def _check_canonical(value: object, depth: int) -> None:
    """Raise unless every map is sorted by encoded key and every scalar is of an allowed type."""
    kind = type(value)
    if kind is bytes or kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not 0 <= cast(int, value) <= _U64_MAX:
            raise CodecError("bad_value", "integers are unsigned, 64 bits at most")
        return
    if depth == 0:
        raise CodecError("too_deep", f"nesting beyond {DEPTH_MAX}")
    if kind is list:
        for item in cast(list[object], value):
            _check_canonical(item, depth - 1)
    elif kind is dict:
        before = (-1, "")
        for key, item in cast(dict[object, object], value).items():
            if type(key) is not str:
                raise CodecError("bad_key", "map keys must be text")
            rank = (len(key.encode()), key)
            if rank <= before:
                raise CodecError("not_canonical", f"map key {key!r} is out of order")
            before = rank
            _check_canonical(item, depth - 1)
    else:
        raise CodecError("bad_value", f"{kind.__name__} is not allowed")


# Heads whose length is in them, and how many bytes that value takes without what it contains; 0: another head.
_STEPS = bytes(
    1 + (head & 31 if head >> 5 in (2, 3) else 0) if (head & 31 < 24 and head >> 5 in (0, 2, 3, 4, 5)) or head in (0xF4, 0xF5, 0xF6) else 0
    for head in range(256)
)
# The least length or integer that may take 1, 2, 4 or 8 bytes behind its head.
_SHORTEST = (24, 2**8, 2**16, 2**32)


def _scan(data: bytes) -> int:
    """The number of values, from their heads alone; 0 unless all are of allowed types, in the shortest form, and end with the data.

    Raises CodecError(`too_many_items`). What is malformed is left to the decoder.
    """
    at, end, items, plain = 0, len(data), 0, True
    steps, most = _STEPS, ITEMS_MAX
    while at < end:
        items += 1
        if items > most:
            raise CodecError("too_many_items", f"more than {ITEMS_MAX} values")
        head = data[at]
        step = steps[head]
        if step:
            at += step
            continue
        at += 1
        if head == 0x58 and at < end:
            # By far the most frequent: hashes and signatures.
            plain = plain and data[at] >= 24
            at += 1 + data[at]
            continue
        major, code = head >> 5, head & 31
        if code > 27:
            return 0
        length = code
        if code >= 24:
            size = 1 << (code - 24)
            length = data[at] if code == 24 and at < end else int.from_bytes(data[at : at + size], "big")
            at += size
            plain = plain and length >= _SHORTEST[code - 24]
        plain = plain and code >= 24 and major not in (1, 6, 7)
        if major == 2 or major == 3:
            at += length
    return items if plain and at == end else 0


# Added to a count that must not be equal to anything.
_ODD = -(2**40)


def _count(value: object, depth: int) -> int:
    """The number of values inside, keys and those further in too; negative when keys are not text in order, or it is too deep."""
    kind = type(value)
    if kind is not list and kind is not dict:
        return 0
    if depth == 0:
        return _ODD
    if kind is list:
        inner: Iterable[object] = cast(list[object], value)
        count = len(cast(list[object], value))
    else:
        inner = cast(dict[object, object], value).values()
        count = 2 * len(inner) if _in_order(cast(dict[object, object], value)) else _ODD
    for item in inner:
        kind = type(item)
        # Bulk lists hold many empty ones.
        if (kind is list or kind is dict) and (item or depth == 1):
            count += _count(item, depth - 1)
    return count


def _in_order(keys: Iterable[object]) -> bool:
    """Whether they are text, in the order of their encoding."""
    before, before_size = "", -1
    for key in keys:
        if type(key) is not str:
            return False
        size = len(key) if key.isascii() else len(key.encode())
        if size < before_size or (size == before_size and key <= before):
            return False
        before, before_size = key, size
    return True


def decode_raw(data: bytes) -> Any:
    """Plain data from hostile bytes: dict, list, int, str, bytes, bool, None.

    Raises CodecError(`body_too_large` | `too_many_items` | `malformed` | `not_canonical` | `bad_value` | `bad_key` |
    `too_deep`).
    """
    if len(data) > BODY_BYTES_MAX:
        raise CodecError("body_too_large", f"{len(data)} bytes, the limit is {BODY_BYTES_MAX}")
    items = _scan(data)
    try:
        value = cbor2.loads(
            data,
            max_depth=DEPTH_MAX + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_SEMANTIC,
            tag_hook=_refuse_tag,
        )
    except Exception as error:
        raise CodecError("malformed", f"not CBOR as we allow it: {error}"[:200]) from None
    # The heads tell all but the order of keys; and bytes behind the value would be values too many.
    if items and items == 1 + _count(value, DEPTH_MAX):
        return value
    _check_canonical(value, DEPTH_MAX)
    # Shortest lengths and integers, and nothing behind the value: the plain encoder reproduces the input exactly.
    if cbor2.dumps(value) != data:
        raise CodecError("not_canonical", "another encoding of the same value, or bytes behind it")
    return value


def decode(spec: Spec, data: bytes, *, version: int | None = None) -> Message:
    """A validated message of `spec.body` from hostile bytes, upcast from `version` (default: the current one).

    Raises CodecError(`unsupported_version` | `invalid`, and those of decode_raw).
    """
    version = spec.version if version is None else version
    if not 1 <= version <= spec.version:
        raise CodecError("unsupported_version", f"{spec.key} version {version}; known are 1 to {spec.version}")
    raw = decode_raw(data)
    if version < spec.version:
        if not isinstance(raw, dict):
            raise CodecError("invalid", f"{spec.key}: expected a map")
        for step in range(version, spec.version):
            try:
                raw = spec.upcasters[step](cast(dict[str, Any], raw))
            except Exception as error:
                raise CodecError("invalid", f"{spec.key} version {step} cannot be upcast: {error!r}"[:300]) from None
    try:
        return msgspec.convert(raw, spec.body, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise CodecError("invalid", f"{spec.key}: {error}"[:300]) from None


def decode_value(kind: type[_T], data: bytes) -> _T:
    """A value that we wrote ourselves (a table row, a journal record): trusted for form, still typed."""
    return msgspec.convert(cbor2.loads(data), kind, builtin_types=(bytes,))
