"""Targets: what travels in bodies. CBOR, its JSON form, SCALE receipts, signed statements."""

import functools
import io
import struct

import cbor2
from msgspec import inspect

from messages.codec import CodecError, decode, decode_raw, encode
from messages.message import Message
from messages.polkadot import VoteKind
from messages.scale import ScaleError, candidate_hash, decode_committed_receipt, encode_committed_receipt
from messages.statements import StatementError, vote_payload
from messages.text import from_json, to_json
from overseer.feeds.make import make_receipt
from tests.codec.message_values import CONTRACT, simplest
from tests.fuzz.target import Broken, Target

__all__ = ["TARGETS"]

_CBOR_TOKENS = (
    *(bytes((head,)) for head in (0x00, 0x17, 0x20, 0x40, 0x60, 0x80, 0x9F, 0xA0, 0xBF, 0xF4, 0xF5, 0xF6, 0xF7, 0xFF)),
    *(bytes((head, 0)) for head in (0x18, 0x38, 0x58, 0x78, 0x98, 0xB8, 0xF8)),
    *(bytes((0xC0 + tag,)) for tag in range(6)),
    *(b"\xd8" + bytes((tag,)) for tag in (24, 25, 28, 29, 30, 35, 36, 37, 100)),
    *(b"\xd9" + struct.pack(">H", tag) for tag in (256, 258, 260, 261, 1004, 43000, 55799)),
    *(bytes((head,)) + b"\xff" * 8 for head in (0x1B, 0x3B, 0x5B, 0x7B, 0x9B, 0xBB, 0xDB)),
    *(bytes((head,)) + b"\xff" * 4 for head in (0x1A, 0x5A, 0x7A, 0x9A, 0xBA)),
    b"\xf9\x7e\x00",
    b"\xf9\x3c\x00",
    b"\xfa\x7f\xc0\x00\x00",
    b"\xfb" + bytes(8),
    b"\x1b" + struct.pack(">Q", 2**61 - 1),
    b"\x5f\x41a\xff",
    b"\x81" * 17,
    b"\xa1\x61a" * 17,
    b"\x82\xd8\x1c\x80\xd8\x1d\x00",
)


def _raw(data: bytes) -> str:
    value = decode_raw(data)
    # An independent reading, as lenient as it gets, must see the same; and there is one form per value.
    stream = io.BytesIO(data)
    if cbor2.load(stream) != value or stream.tell() != len(data):
        raise Broken("cbor2 reads another value")
    if cbor2.dumps(value, canonical=True) != data:
        raise Broken("another form of the same value was taken")
    return "taken"


def _of_a_message(data: bytes) -> str:
    """The first two bytes choose the message type."""
    spec = CONTRACT[int.from_bytes(data[:2], "big") % len(CONTRACT)]
    body = data[2:]
    message = decode(spec, body)
    if encode(message) != body and not _has_defaults(spec.body):
        raise Broken("what is decoded is encoded otherwise")
    if decode(spec, encode(message)) != message:
        raise Broken("another message comes back")
    return "taken"


@functools.cache
def _has_defaults(body: type[Message]) -> bool:
    """Whether a field may be left out somewhere in it: then a message has a shorter form too."""
    return any(not field.required for kind in _structs(inspect.type_info(body)) for field in kind.fields)


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    match kind:
        case inspect.Metadata(type=inner):
            return _structs(inner)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return _structs(item)
        case inspect.UnionType(types=members):
            return [each for member in members for each in _structs(member)]
        case inspect.StructType(fields=fields):
            return [kind, *(each for field in fields for each in _structs(field.type))]
        case _:
            return []


def _as_json(data: bytes) -> str:
    spec = CONTRACT[int.from_bytes(data[:2], "big") % len(CONTRACT)]
    message = from_json(spec, data[2:])
    if from_json(spec, to_json(message)) != message or decode(spec, encode(message)) != message:
        raise Broken("another message comes back")
    return "taken"


def _chosen(form: str) -> list[bytes]:
    def body(message: Message) -> bytes:
        return encode(message) if form == "cbor" else to_json(message)

    return [struct.pack(">H", at) + body(simplest(spec)) for at, spec in enumerate(CONTRACT)]


def _receipt(data: bytes) -> str:
    receipt = decode_committed_receipt(data)
    if encode_committed_receipt(receipt) != data:
        raise Broken("another form of the same receipt was taken")
    candidate_hash(receipt)
    return "taken"


def _statement(data: bytes) -> str:
    kind = list(VoteKind)[data[0] % len(VoteKind)] if data else VoteKind.APPROVAL
    session = int.from_bytes(data[1:6], "big", signed=True)
    pieces = [data[at : at + 32] for at in range(6, len(data), 32)]
    first, parent, *several = [*pieces, b"", b""] if len(pieces) < 2 else pieces
    payload = vote_payload(kind, candidate=first, session=session, relay_parent=parent, candidates=several)
    if payload[:4] not in (b"DISP", b"BKNG", b"APPR") or not 40 <= len(payload) <= 73 + 32 * len(several) + 4:
        raise Broken(f"odd bytes to be signed: {payload!r}")
    return "taken"


TARGETS = (
    Target(
        "cbor",
        "any CBOR body, against cbor2 at its most lenient and its canonical encoder",
        _raw,
        lambda: [encode(simplest(spec)) for spec in CONTRACT],
        allowed=(CodecError,),
        tokens=_CBOR_TOKENS,
    ),
    Target(
        "message",
        "the CBOR body of each message type of the contract",
        _of_a_message,
        lambda: _chosen("cbor"),
        allowed=(CodecError,),
        tokens=_CBOR_TOKENS,
    ),
    Target(
        "json",
        "the JSON body of each message type (qry and req, stored JSON commands)",
        _as_json,
        lambda: _chosen("json"),
        allowed=(CodecError,),
        tokens=(b'"0x"', b"[", b"{", b"}", b"]", b",", b'""', b"null", b"true", b"-1", b"1e9", b"NaN", b"18446744073709551616", b"\\u0000"),
    ),
    Target(
        "receipt",
        "SCALE bytes of a committed candidate receipt",
        _receipt,
        lambda: [encode_committed_receipt(make_receipt(f"{n}", para_id=n, relay_parent=bytes(32))) for n in range(4)],
        allowed=(ScaleError,),
        tokens=(b"\x00", b"\x01", b"\x02", b"\x03", b"\xfe\xff\xff\xff", b"\xfd\xff", b"\x04", b"\xff" * 4),
    ),
    Target(
        "statement",
        "the parts of a signed statement",
        _statement,
        lambda: [bytes((kind,)) + bytes(5) + bytes(32) * 3 for kind in range(len(VoteKind))],
        allowed=(StatementError,),
    ),
)
