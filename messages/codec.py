"""Bytes in, typed messages out: the only door through which foreign bytes enter.

Bodies are CBOR maps, deterministically encoded (RFC 8949 section 4.2): one form per value, so that equal messages are
equal bytes and hashes mean something. Decoding is strict: size first, then no tags, no indefinite lengths, no
duplicate keys, text keys only, no floats, bounded depth, nothing behind the value, and canonical form.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import cbor2
import msgspec

from messages.canonical import arranger
from messages.message import Kind, Message, Spec

__all__ = [
    "BODY_BYTES_MAX",
    "DEPTH_MAX",
    "HEADERS_BYTES_MAX",
    "ITEMS_MAX",
    "OWN_ITEMS_MAX",
    "CodecError",
    "decode",
    "decode_raw",
    "decode_value",
    "encode",
    "encode_value",
    "items_max",
]

# NATS max_payload is 1 MiB for body plus headers; what exceeds it closes the client for good, so we stay well below.
BODY_BYTES_MAX = 768 * 1024
HEADERS_BYTES_MAX = 8 * 1024
# The deepest message of the contract needs 6.
DEPTH_MAX = 16
# Values in one body, counting those inside others: bounds the time and memory of taking it (a megabyte of empty lists would
# cost 0.6 s and 50 MiB). The largest message of the contract (3000 validators, 8000 hashes) needs under 18 000.
ITEMS_MAX = 18 * 1024
# The same of what we recorded or asked for ourselves: journal events and replies (a page of candidates needs 27 000).
OWN_ITEMS_MAX = 64 * 1024

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


class _Encoded:
    """The message that was encoded last, with its body: an event goes to an election's log, to the journal and to the world in turn."""

    def __init__(self) -> None:
        self.last: tuple[Message, bytes] | None = None


_ENCODED = _Encoded()


def encode(message: Message) -> bytes:
    """The body of `message`.

    Raises CodecError(`body_too_large` | `too_many_items`): a sender must page.
    """
    last = _ENCODED.last
    if last is not None and last[0] is message:
        return last[1]
    data = _encode(message)
    _ENCODED.last = (message, data)
    return data


def _encode(message: Message) -> bytes:
    data = encode_value(message)
    if len(data) > BODY_BYTES_MAX:
        raise CodecError("body_too_large", f"{message.spec.key} is {len(data)} bytes, the limit is {BODY_BYTES_MAX}")
    # What nobody could read again must not be sent, nor recorded. No value is smaller than a byte.
    if len(data) > ITEMS_MAX:
        _check_heads(data, items_max(message.spec))
    return data


def items_max(spec: Spec) -> int:
    """How many values a body of `spec` may hold."""
    return OWN_ITEMS_MAX if spec.kind in (Kind.EVENT, Kind.REPLY) else ITEMS_MAX


# ------------------------------------------------------------------------------------------------ heads


def _sized(low: int, high: int, head: Callable[[int, int], str]) -> str:
    """A pattern of the strings of `low` to `high` bytes, whose head says which; halved, so that few alternatives are tried."""
    if high - low < 8:
        return "|".join(f"{head(size, size)}.{{{size}}}" for size in range(low, high + 1))
    middle = (low + high) // 2
    return f"(?={head(low, middle)})(?:{_sized(low, middle, head)})|(?:{_sized(middle + 1, high, head)})"


def _length_within(low: int, high: int) -> str:
    return rf"[\x{0x40 + low:02x}-\x{0x40 + high:02x}\x{0x60 + low:02x}-\x{0x60 + high:02x}]"


def _length_behind(low: int, high: int) -> str:
    return rf"[\x{low:02x}-\x{high:02x}]"


# One value without what it contains, in its shortest form: its head and, of a string, its bytes. Strings beyond 255 bytes
# are left out, as is all that is not allowed. What is frequent comes first: hashes and signatures.
_VALUE = "|".join(
    (
        r"[\x00-\x17\x40\x60\x80-\x97\xa0-\xb7\xf4-\xf6]",
        rf"[\x58\x78](?:\x20.{{32}}|\x40.{{64}}|{_sized(24, 255, _length_behind)})",
        r"[\x18\x98\xb8][\x18-\xff]",
        r"[\x19\x99\xb9](?!\x00)..",
        r"[\x1a\x9a\xba](?!\x00{2}).{4}",
        r"[\x1b\x9b\xbb](?!\x00{4}).{8}",
        _sized(1, 23, _length_within),
    )
)
_ONE_VALUE = re.compile(_VALUE.encode(), re.DOTALL)
_VALUES = re.compile(f"(?:{_VALUE}){{0,{ITEMS_MAX}}}+".encode(), re.DOTALL)
# The least length or integer that may take 1, 2, 4 or 8 bytes behind its head.
_SHORTEST = (24, 2**8, 2**16, 2**32)


def _check_heads(data: bytes, most: int) -> None:
    """Raise CodecError unless all values are of allowed types, in the shortest form, not too many, and end with the data.

    By their heads alone, before anything is made of them, and by the regular expression engine: ten times as fast as a loop.
    """
    at, end, room = 0, len(data), most
    while True:
        stop = cast("re.Match[bytes]", _VALUES.match(data, at)).end()
        if at == 0 and stop == end:
            return
        # No value is smaller than a byte: most bodies are too small to hold too many.
        if end > most and at < stop:
            room -= len(_ONE_VALUE.findall(data, at, stop))
        if room < 0 or (room == 0 and stop < end):
            raise CodecError("too_many_items", f"more than {most} values")
        if stop == end:
            return
        head = data[stop]
        if (head == 0x59 or head == 0x79) and stop + 256 < end and data[stop + 1]:
            at = stop + 3 + (data[stop + 1] << 8 | data[stop + 2])
            if at > end:
                raise CodecError("malformed", f"the body ends within a value (at byte {stop})")
        else:
            at = _value_end(data, stop)
        room -= 1


def _value_end(data: bytes, at: int) -> int:
    """Where the value at `at`, without what it contains, ends. Raises CodecError: it names what is wrong there."""
    head = data[at]
    major, code = head >> 5, head & 31
    if major == 6:
        raise CodecError("malformed", f"tags are refused (at byte {at})")
    if code > 27 or data[at : at + 2] in _BAD_SIMPLE:
        raise CodecError("malformed", f"indefinite or reserved lengths are refused (at byte {at})")
    if major == 7:
        raise CodecError("bad_value", f"floats, undefined and simple values are not allowed (at byte {at})")
    if major == 1:
        raise CodecError("bad_value", f"integers are unsigned, 64 bits at most (at byte {at})")
    start = at + 1 + ((1 << (code - 24)) if code >= 24 else 0)
    length = int.from_bytes(data[at + 1 : start], "big") if code >= 24 else code
    if start <= len(data) and code >= 24 and length < _SHORTEST[code - 24]:
        raise CodecError("not_canonical", f"{length} is not in its shortest form (at byte {at})")
    if start + (length if major in (2, 3) else 0) > len(data):
        raise CodecError("malformed", f"the body ends within a value (at byte {at})")
    return start + length


# Simple values that have a form of one byte.
_BAD_SIMPLE = frozenset(bytes((0xF8, value)) for value in range(32))


# ------------------------------------------------------------------------------------------------ keys


def _in_order(keys: Iterable[object]) -> None:
    """Raise CodecError unless they are text, in the order of their encoding."""
    before, before_size = b"", -1
    try:
        for key in map(str.encode, cast("Iterable[str]", keys)):
            size = len(key)
            if size <= before_size and (size < before_size or key <= before):
                raise CodecError("not_canonical", f"map key {key[:100]!r} is out of order")
            before, before_size = key, size
    except TypeError:
        raise CodecError("bad_key", "map keys must be text") from None


# Our messages are of a few hundred shapes; refusals are not kept.
_known_order = lru_cache(maxsize=1024)(_in_order)
# Shapes worth keeping: more than a few keys, none so long that a thousand of them were a burden.
_KEYS_KEPT_MIN, _KEYS_KEPT_MAX, _KEY_CHARS_KEPT_MAX = 6, 64, 64


def _ordered(value: Mapping[Any, Any], *_: object) -> Mapping[Any, Any]:
    """The map as it is. Raises CodecError, see _in_order."""
    if len(value) < 2:
        for key in value:
            if type(key) is not str:
                _in_order(value)
    elif _KEYS_KEPT_MIN <= len(value) <= _KEYS_KEPT_MAX and max(map(len, value)) <= _KEY_CHARS_KEPT_MAX:
        _known_order(tuple(value))
    else:
        _in_order(value)
    return value


# ------------------------------------------------------------------------------------------------ decoding


# Put behind the body. No body has it within: negative integers are refused by their heads.
_END_VALUE = -1
_END = b"\x20"
_LIST_OF_TWO = b"\x82"


def decode_raw(data: bytes, *, most: int = ITEMS_MAX) -> Any:
    """Plain data from hostile bytes: dict, list, int, str, bytes, bool, None; `most` values in all.

    Raises CodecError(`body_too_large` | `too_many_items` | `malformed` | `not_canonical` | `bad_value` | `bad_key` |
    `too_deep`).
    """
    if len(data) > BODY_BYTES_MAX:
        raise CodecError("body_too_large", f"{len(data)} bytes, the limit is {BODY_BYTES_MAX}")
    _check_heads(data, most)
    try:
        # The list's own level, and an empty list or map on the last one counts for none.
        value, behind = cbor2.loads(
            _LIST_OF_TWO + data + _END,
            max_depth=DEPTH_MAX + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_SEMANTIC,
            tag_hook=_refuse_tag,
            object_hook=_ordered,
        )
    except Exception as error:
        raise _named(error) from None
    if behind != _END_VALUE:
        raise CodecError("not_canonical", "bytes behind the value")
    return value


def _named(error: BaseException) -> CodecError:
    """What stopped cbor2: a refusal of ours, or its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CodecError):
            return cause
        cause = cause.__cause__
    if "nesting depth" in str(error):
        return CodecError("too_deep", f"nesting beyond {DEPTH_MAX}")
    return CodecError("malformed", f"not CBOR as we allow it: {error}"[:200])


def decode(spec: Spec, data: bytes, *, version: int | None = None) -> Message:
    """A validated message of `spec.body` from hostile bytes, upcast from `version` (default: the current one).

    Raises CodecError(`unsupported_version` | `invalid`, and those of decode_raw).
    """
    version = spec.version if version is None else version
    if not 1 <= version <= spec.version:
        raise CodecError("unsupported_version", f"{spec.key} version {version}; known are 1 to {spec.version}")
    raw = decode_raw(data, most=items_max(spec))
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
    """A value that we wrote ourselves (a table row, a journal record): trusted for form, still typed.

    Raises CodecError(`damaged`) when it is not what we wrote.
    """
    try:
        return msgspec.convert(cbor2.loads(data, semantic_decoders=_SEMANTIC, tag_hook=_refuse_tag), kind, builtin_types=(bytes,))
    except Exception as error:
        raise CodecError("damaged", f"no {getattr(kind, '__name__', kind)}: {error}"[:300]) from None
