"""Bytes nobody should send: each refused quickly, with a reason that has a name."""

import struct
import time

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import CONTRACT, simplest

from messages.chain_api import FinalizeBlock
from messages.codec import BODY_BYTES_MAX, DEPTH_MAX, ITEMS_MAX, CodecError, decode, decode_raw, encode

# Far beyond what a refusal takes (all are below 20 ms on two busy cores), far below what an attack takes.
SECONDS_MAX = 1.0


def map_of(value: bytes, key: bytes = b"\x61a") -> bytes:
    """The map {a: value}, as bytes."""
    return b"\xa1" + key + value


def colliding_keys() -> bytes:
    """Integer keys that all hash alike in Python."""
    modulus = 2**61 - 1
    pairs = b"".join(b"\x1b" + struct.pack(">Q", modulus * i) + b"\x00" for i in range(1, 9) if modulus * i < 2**64)
    return bytes([0xA0 + len(pairs) // 10]) + pairs


HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "malformed"),
    "too large": (b"\x5a" + struct.pack(">I", BODY_BYTES_MAX) + bytes(BODY_BYTES_MAX), "body_too_large"),
    "cut short": (map_of(b"\x58\x20" + bytes(31)), "malformed"),
    "bytes behind": (map_of(b"\x00") + b"\x00", "not_canonical"),
    "two values": (map_of(b"\x00") * 2, "not_canonical"),
    # tags
    "tag: date as text": (map_of(b"\xc0\x74" + b"2013-03-21T20:04:00Z"), "malformed"),
    "tag: epoch date": (map_of(b"\xc1\x00"), "malformed"),
    "tag: positive bignum": (map_of(b"\xc2\x49\x01" + bytes(8)), "malformed"),
    "tag: negative bignum": (map_of(b"\xc3\x49\x01" + bytes(8)), "malformed"),
    "tag: small bignum": (map_of(b"\xc2\x41\x01"), "malformed"),
    "tag: decimal that never ends": (map_of(b"\xc4\x82\x1a\x7f\xff\xff\xff\x01"), "malformed"),
    "tag: bigfloat": (map_of(b"\xc5\x82\x1a\x7f\xff\xff\xff\x01"), "malformed"),
    "tag: CBOR in bytes": (map_of(b"\xd8\x18\x41\x00"), "malformed"),
    "tag: string reference namespace": (map_of(b"\xd9\x01\x00\x82\x63abc\xd8\x19\x00"), "malformed"),
    "tag: shared value": (map_of(b"\xd8\x1c\x80"), "malformed"),
    "tag: cyclic list": (map_of(b"\xd8\x1c\x81\xd8\x1d\x00"), "malformed"),
    "tag: shared reference bomb": (map_of(b"\x82\xd8\x1c\x82\x00\x00\x82\xd8\x1d\x00\xd8\x1d\x00"), "malformed"),
    "tag: rational": (map_of(b"\xd8\x1e\x82\x01\x03"), "malformed"),
    "tag: regular expression": (map_of(b"\xd8\x23\x67(a+)+$b"), "malformed"),
    "tag: mail": (map_of(b"\xd8\x24\x61x"), "malformed"),
    "tag: UUID": (map_of(b"\xd8\x25\x50" + bytes(16)), "malformed"),
    "tag: IP address": (map_of(b"\xd9\x01\x04\x44" + bytes(4)), "malformed"),
    "tag: IP network": (map_of(b"\xd9\x01\x05\xa1\x44" + bytes(4) + b"\x18\x18"), "malformed"),
    "tag: set": (map_of(b"\xd9\x01\x02\x80"), "malformed"),
    "tag: days": (map_of(b"\xd8\x64\x00"), "malformed"),
    "tag: date": (map_of(b"\xd9\x03\xec\x6a" + b"2013-03-21"), "malformed"),
    "tag: complex number": (map_of(b"\xd9\xa7\xf8\x82\x01\x02"), "malformed"),
    "tag: self-described": (b"\xd9\xd9\xf7" + map_of(b"\x00"), "malformed"),
    "tag: unknown": (map_of(b"\xda\x00\x01\x00\x00\x00"), "malformed"),
    "tag: the largest": (map_of(b"\xdb" + b"\xff" * 8 + b"\x00"), "malformed"),
    # lengths
    "indefinite map": (b"\xbf\x61a\x00\xff", "malformed"),
    "indefinite list": (map_of(b"\x9f\x00\xff"), "malformed"),
    "indefinite bytes": (map_of(b"\x5f\x41\x00\xff"), "malformed"),
    "indefinite text": (map_of(b"\x7f\x61a\xff"), "malformed"),
    "a lone break": (b"\xff", "malformed"),
    "endless bytes": (map_of(b"\x5b" + b"\xff" * 8), "malformed"),
    "endless text": (map_of(b"\x7b" + b"\xff" * 8), "malformed"),
    "endless list": (map_of(b"\x9b" + b"\xff" * 8), "malformed"),
    "endless map": (b"\xbb" + b"\xff" * 8, "malformed"),
    "4 GiB of bytes": (map_of(b"\x5a" + b"\xff" * 4), "malformed"),
    "reserved length": (map_of(b"\x1c"), "malformed"),
    "reserved length of a list": (map_of(b"\x9e"), "malformed"),
    "as many empty lists as fit": (b"\x9a" + struct.pack(">I", BODY_BYTES_MAX - 5) + b"\x80" * (BODY_BYTES_MAX - 5), "too_many_items"),
    "one value too many": (map_of(b"\x99" + struct.pack(">H", ITEMS_MAX - 2) + b"\x00" * (ITEMS_MAX - 2)), "too_many_items"),
    # depth
    "lists in lists, just too deep": (map_of(b"\x81" * DEPTH_MAX + b"\x80"), "too_deep"),
    "maps in maps, just too deep": (b"\xa1\x61a" * (DEPTH_MAX + 1) + b"\x00", "too_deep"),
    "400 deep": (map_of(b"\x81" * 400 + b"\x00"), "too_deep"),
    "as deep as fits": (b"\x81" * BODY_BYTES_MAX, "too_many_items"),
    # keys
    "duplicate keys": (b"\xa2\x61a\x00\x61a\x01", "malformed"),
    "integer key": (map_of(b"\x00", key=b"\x00"), "malformed"),
    "colliding integer keys": (colliding_keys(), "malformed"),
    "bytes key": (map_of(b"\x00", key=b"\x41a"), "bad_key"),
    "list key": (map_of(b"\x00", key=b"\x80"), "malformed"),
    "null key": (map_of(b"\x00", key=b"\xf6"), "malformed"),
    "keys out of order": (b"\xa2\x61b\x00\x61a\x00", "not_canonical"),
    "longer key first": (b"\xa2\x62aa\x00\x61b\x00", "not_canonical"),
    "keys out of order within": (map_of(b"\xa2\x61b\x00\x61a\x00"), "not_canonical"),
    # other forms of the same value
    "integer in 1 byte too many": (map_of(b"\x18\x00"), "not_canonical"),
    "integer in 2 bytes": (map_of(b"\x19\x00\xff"), "not_canonical"),
    "integer in 8 bytes": (map_of(b"\x1b" + bytes(7) + b"\x01"), "not_canonical"),
    "long length of bytes": (map_of(b"\x58\x01\x00"), "not_canonical"),
    "long length of text": (map_of(b"\x78\x01a"), "not_canonical"),
    "long length of a key": (map_of(b"\x00", key=b"\x78\x01a"), "not_canonical"),
    "long length of a list": (map_of(b"\x98\x01\x00"), "not_canonical"),
    "long length of the map": (b"\xb8\x01\x61a\x00", "not_canonical"),
    # values we have no use for
    "half float": (map_of(b"\xf9\x3c\x00"), "bad_value"),
    "single float": (map_of(b"\xfa\x3f\x80\x00\x00"), "bad_value"),
    "double float": (map_of(b"\xfb" + struct.pack(">d", 1.5)), "bad_value"),
    "not a number": (map_of(b"\xf9\x7e\x00"), "bad_value"),
    "infinity": (map_of(b"\xf9\x7c\x00"), "bad_value"),
    "negative integer": (map_of(b"\x20"), "bad_value"),
    "most negative integer": (map_of(b"\x3b" + b"\xff" * 8), "bad_value"),
    "undefined": (map_of(b"\xf7"), "bad_value"),
    "simple value": (map_of(b"\xe0"), "bad_value"),
    "long simple value": (map_of(b"\xf8\xff"), "bad_value"),
    "simple value in a bad form": (map_of(b"\xf8\x14"), "malformed"),
    "text that is not UTF-8": (map_of(b"\x61\xff"), "malformed"),
    "text with half a surrogate pair": (map_of(b"\x63\xed\xa0\x80"), "malformed"),
    "key that is not UTF-8": (map_of(b"\x00", key=b"\x61\xff"), "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_quickly_with_the_reason(name: str) -> None:
    data, reason = HOSTILE[name]
    began = time.perf_counter()
    with pytest.raises(CodecError) as caught:
        decode_raw(data)
    assert time.perf_counter() - began < SECONDS_MAX
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 400


EVERY_TAG = [*range(24), *range(24, 300), 1004, 43000, 55799, 2**16, 2**32, 2**64 - 1]
# What a tag may hold: each kind of value, and what the built-in tags expect.
TAGGED = [b"\x00", b"\x41\x01", b"\x61a", b"\x80", b"\x82\x01\x02", b"\xa0", b"\xf6", b"\xf9\x3c\x00", b"\x63a+)", b"\xc2\x41\x01"]


@pytest.mark.parametrize("held", TAGGED, ids=bytes.hex)
def test_every_tag_is_refused_whatever_it_holds(held: bytes) -> None:
    for tag in EVERY_TAG:
        for width, form in ((0, None), (24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
            if form is None:
                if tag > 23:
                    continue
                head = bytes((0xC0 | tag,))
            else:
                if tag >= 1 << (8 * struct.calcsize(form)):
                    continue
                head = bytes((0xC0 | width,)) + struct.pack(form, tag)
            for body in (head + held, map_of(head + held), map_of(b"\x00", key=head + held), map_of(b"\x81" + head + held)):
                with pytest.raises(CodecError) as caught:
                    decode_raw(body)
                assert caught.value.reason == "malformed"


@pytest.mark.parametrize("head", [0xF9, 0xFA, 0xFB])
@pytest.mark.parametrize(
    "bits", ["zero", "negative zero", "infinity", "negative infinity", "quiet NaN", "signalling NaN", "payload NaN", "one"]
)
def test_no_float_of_any_width_is_taken(head: int, bits: str) -> None:
    size, exponent = {0xF9: (2, 5), 0xFA: (4, 8), 0xFB: (8, 11)}[head]
    mantissa = 8 * size - 1 - exponent
    full = (1 << exponent) - 1
    value = {
        "zero": 0,
        "negative zero": 1 << (8 * size - 1),
        "infinity": full << mantissa,
        "negative infinity": (1 << (8 * size - 1)) | full << mantissa,
        "quiet NaN": full << mantissa | 1 << (mantissa - 1),
        "signalling NaN": full << mantissa | 1,
        "payload NaN": full << mantissa | (1 << mantissa) - 1,
        "one": (full >> 1) << mantissa,
    }[bits]
    for body in (bytes((head,)) + value.to_bytes(size, "big"), map_of(bytes((head,)) + value.to_bytes(size, "big"))):
        with pytest.raises(CodecError) as caught:
            decode_raw(body)
        assert caught.value.reason == "bad_value"


@pytest.mark.parametrize("major", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("value", [0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1])
def test_of_all_forms_of_a_number_or_length_the_shortest_alone_is_taken(major: int, value: int) -> None:
    forms = [(24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")]
    shortest = next((code for code, form in forms if value < 1 << (8 * struct.calcsize(form))), 27) if value > 23 else 0
    for code, form in forms:
        if code <= shortest or value >= 1 << (8 * struct.calcsize(form)):
            continue
        data = map_of(bytes((major << 5 | code,)) + struct.pack(form, value) + b"\x61a" * min(value, 300))
        with pytest.raises(CodecError) as caught:
            decode_raw(data)
        assert caught.value.reason == "not_canonical"


def test_lists_shared_twice_at_every_depth_are_refused_before_they_unfold() -> None:
    """2 to the power of 40 values in a few hundred bytes, by tags 28 and 29."""
    bomb = b"\xd8\x1c\x82\x00\x00"
    for place in range(40):
        bomb = b"\xd8\x1c\x82" + bomb + b"\xd8\x1d" + (bytes((place,)) if place < 24 else bytes((0x18, place)))
    began = time.perf_counter()
    with pytest.raises(CodecError, match="tags are refused"):
        decode_raw(map_of(bomb))
    assert time.perf_counter() - began < SECONDS_MAX


def test_as_many_colliding_keys_as_fit_are_refused_quickly() -> None:
    """Big integers that all hash alike in Python: 750 KB of them took 25 s."""
    modulus = 2**61 - 1
    numbers = [(modulus * factor).to_bytes(16, "big") for factor in range(1, 40_000)]
    data = b"\xb9" + struct.pack(">H", len(numbers)) + b"".join(b"\xc2\x50" + number + b"\x00" for number in numbers)
    began = time.perf_counter()
    with pytest.raises(CodecError):
        decode_raw(data[:BODY_BYTES_MAX])
    assert time.perf_counter() - began < SECONDS_MAX


def test_the_limits_themselves_are_allowed() -> None:
    deepest = map_of(b"\x81" * (DEPTH_MAX - 1) + b"\x00")
    assert decode_raw(deepest)
    largest = map_of(b"\x5a" + struct.pack(">I", BODY_BYTES_MAX - 8) + bytes(BODY_BYTES_MAX - 8))
    assert len(largest) == BODY_BYTES_MAX
    assert decode_raw(largest)
    # The map, its key and the list are three of them.
    most = map_of(b"\x99" + struct.pack(">H", ITEMS_MAX - 3) + b"\x00" * (ITEMS_MAX - 3))
    assert len(decode_raw(most)["a"]) == ITEMS_MAX - 3


def test_a_body_beyond_the_limit_is_not_encoded_either() -> None:
    from messages.overseer import InvalidRequest

    with pytest.raises(CodecError) as caught:
        encode(InvalidRequest(reason="x", detail="y" * BODY_BYTES_MAX))
    assert caught.value.reason == "body_too_large"


@pytest.mark.parametrize("body", [b"\x80", b"\x00", b"\x61a", b"\x41a", b"\xf6", b"\xf5"])
def test_a_body_that_is_no_map_is_invalid(body: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        decode(FinalizeBlock.spec, body)
    assert caught.value.reason == "invalid"


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name_or_have_exactly_this_form(data: bytes) -> None:
    try:
        value = decode_raw(data)
    except CodecError:
        return
    assert cbor2.dumps(value, canonical=True) == data


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_a_valid_body_with_flipped_bytes_is_refused_or_another_valid_one(data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(CONTRACT))
    body = bytearray(encode(simplest(spec)))
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            at = data.draw(st.integers(0, len(body) - 1))
            body[at] ^= data.draw(st.integers(1, 255))
    try:
        message = decode(spec, bytes(body))
    except CodecError:
        return
    assert encode(message) == bytes(body)
