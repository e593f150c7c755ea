"""Commands (blocks, votes) from a file and into one: JSON lines to read and write by hand, or a CBOR sequence (RFC 8742).

Each record is `{"message": "chain_api.cmd.import_block", "body": {...}}`; the name may be shorter where it is unique
(`import_block`). CBOR records are canonical, so "body" comes first. Which of the two a file is, its first byte tells.
"""

import functools
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from messages.codec import BODY_BYTES_MAX, DEPTH_MAX, ITEMS_MAX, CodecError, decode, encode
from messages.contract import load
from messages.message import Kind, Message, Spec
from messages.text import JSON_BYTES_MAX, from_json, to_json

__all__ = ["FeedFileError", "Form", "Record", "read", "write"]

Form = Literal["jsonl", "cbor"]

# A name, the field names and punctuation around a body.
_ENVELOPE_BYTES_MAX = 1024
_LINE_BYTES_MAX = JSON_BYTES_MAX + _ENVELOPE_BYTES_MAX
_NAME_BYTES_MAX = 200
# {"body": , "message": } as canonical CBOR writes it.
_BODY_KEY = b"\xa2\x64body"
_NAME_KEY = b"\x67message"


class FeedFileError(ValueError):
    """A file that is no feed, or not all of it. `place` is "line 3" or "byte 120"; records before it were good.

    Reasons: not_a_feed | truncated | line_too_long | not_a_record | unknown_message | not_a_command | and the codec's
    (`malformed`, `invalid`, `not_canonical`, `body_too_large`, ...).
    """

    def __init__(self, path: Path, place: str, reason: str, detail: str) -> None:
        super().__init__(f"{path}, {place}: {reason}: {detail}")
        self.path = path
        self.place = place
        self.reason = reason
        self.detail = detail


class Record(NamedTuple):
    """A command and where it was found."""

    place: str
    message: Message


class _Fault(Exception):
    """What is wrong with a record, before its place is known."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    message: str
    body: msgspec.Raw


@functools.cache
def _spec(name: str) -> Spec:
    found = load().by_name(name)
    commands = [spec for spec in found if spec.kind is Kind.COMMAND]
    if len(commands) == 1:
        return commands[0]
    if commands:
        raise _Fault("unknown_message", f"{name!r} is ambiguous: {', '.join(spec.key for spec in commands)}")
    if found:
        raise _Fault("not_a_command", f"{found[0].key}: a feed carries commands alone")
    raise _Fault("unknown_message", f"there is no message {name[:_NAME_BYTES_MAX]!r}")


# ------------------------------------------------------------------------------------------------ reading


def read(path: Path) -> Iterator[Record]:
    """The file's commands in order, one at a time: the file may be larger than memory.

    Raises FeedFileError when it comes to a defect, OSError for the file itself.
    """
    with path.open("rb") as file:
        first = file.read(1)
        file.seek(0)
        if not first:
            return
        if first == _BODY_KEY[:1]:
            yield from _read_cbor(path, file)
        elif first in b"{ \t\r\n":
            yield from _read_lines(path, file)
        else:
            raise FeedFileError(path, "byte 0", "not_a_feed", f"begins with {first.hex()}, not with a JSON object or a CBOR map of two")


def _read_lines(path: Path, file: BinaryIO) -> Iterator[Record]:
    number = 0
    while line := file.readline(_LINE_BYTES_MAX + 1):
        number += 1
        place = f"line {number}"
        if len(line) > _LINE_BYTES_MAX:
            raise FeedFileError(path, place, "line_too_long", f"the limit is {_LINE_BYTES_MAX} bytes")
        if not line.strip():
            continue
        try:
            yield Record(place, _from_line(line))
        except (_Fault, CodecError) as fault:
            raise FeedFileError(path, place, fault.reason, fault.detail) from None


def _from_line(line: bytes) -> Message:
    try:
        envelope = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _Fault("not_a_record", f'expected {{"message": name, "body": {{...}}}}: {error}'[:300]) from None
    return from_json(_spec(envelope.message), bytes(envelope.body))


def _read_cbor(path: Path, file: BinaryIO) -> Iterator[Record]:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, end = 0, len(data)
        while at < end:
            place = f"byte {at}"
            try:
                message, at = _from_sequence(data, at)
            except (_Fault, CodecError) as fault:
                raise FeedFileError(path, place, fault.reason, fault.detail) from None
            yield Record(place, message)


def _from_sequence(data: mmap.mmap, at: int) -> tuple[Message, int]:
    """The record that begins at `at`, and where the next one does."""
    begin = _expect(data, at, _BODY_KEY)
    end = _item_end(data, begin, begin + BODY_BYTES_MAX)
    name_at = _expect(data, end, _NAME_KEY)
    major, size, text_at = _head(data, name_at)
    if major != 3 or size > _NAME_BYTES_MAX:
        raise _Fault("not_a_record", f"a message's name is a text of {_NAME_BYTES_MAX} bytes at most")
    name = data[text_at : text_at + size]
    if len(name) < size:
        raise _Fault("truncated", "the file ends within a record")
    return decode(_spec(name.decode(errors="replace")), data[begin:end]), text_at + size


def _expect(data: mmap.mmap, at: int, expected: bytes) -> int:
    end = at + len(expected)
    found = data[at:end]
    if found != expected:
        if expected.startswith(found):
            raise _Fault("truncated", "the file ends within a record")
        raise _Fault("not_a_record", f"expected {expected!r}, found {found!r}")
    return end


def _item_end(data: mmap.mmap, at: int, limit: int) -> int:
    """Where the CBOR item at `at` ends, by its heads alone: nothing is decoded, and nothing beyond `limit` looked at."""
    open_items = [1]
    items = 0
    while open_items:
        if not open_items[-1]:
            open_items.pop()
            continue
        open_items[-1] -= 1
        items += 1
        if items > ITEMS_MAX:
            raise _Fault("too_many_items", f"more than {ITEMS_MAX} values")
        major, value, at = _head(data, at)
        if major in (2, 3):
            at += value
        elif major in (4, 5):
            open_items.append(value * (2 if major == 5 else 1))
        elif major == 6:
            raise _Fault("malformed", "tags are refused")
        if len(open_items) > DEPTH_MAX + 2:
            raise _Fault("too_deep", f"nesting beyond {DEPTH_MAX}")
        if at > limit:
            raise _Fault("body_too_large", f"the limit is {BODY_BYTES_MAX} bytes")
        if at > len(data):
            raise _Fault("truncated", "the file ends within a record")
    return at


def _head(data: mmap.mmap, at: int) -> tuple[int, int, int]:
    """(major type, argument, where it ends) of the item head at `at`."""
    if at >= len(data):
        raise _Fault("truncated", "the file ends within a record")
    major, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return major, info, at + 1
    if info > 27:
        raise _Fault("malformed", "indefinite or reserved lengths are refused")
    end = at + 1 + (1 << (info - 24))
    return major, int.from_bytes(data[at + 1 : end], "big"), end


# ------------------------------------------------------------------------------------------------ writing


def write(path: Path, messages: Iterable[Message], *, form: Form = "jsonl", append: bool = False) -> int:
    """Write commands as records; returns how many. Raises CodecError(`body_too_large`), OSError, ValueError for other messages."""
    count = 0
    with path.open("ab" if append else "wb") as file:
        for message in messages:
            file.write(record_bytes(message, form))
            count += 1
    return count


def record_bytes(message: Message, form: Form) -> bytes:
    """One record, as `read` takes it."""
    if message.spec.kind is not Kind.COMMAND:
        raise ValueError(f"{message.spec.key}: a feed carries commands alone")
    name = message.spec.key.encode()
    if form == "jsonl":
        return b'{"message": "' + name + b'", "body": ' + to_json(message) + b"}\n"
    return _BODY_KEY + encode(message) + _NAME_KEY + _text(name)


def _text(data: bytes) -> bytes:
    head = bytes([0x60 | len(data)]) if len(data) < 24 else bytes([0x78, len(data)])
    return head + data
