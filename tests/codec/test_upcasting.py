"""Old versions of a message are brought up to date before they are validated."""

from typing import Any

import cbor2
import pytest

from messages.codec import CodecError, decode, encode
from messages.message import Kind, Message, Spec
from messages.primitives import U32


class Weight(Message, frozen=True, kw_only=True):
    """Version 1 had `pounds`; version 2 `grams`; version 3 renamed it and tells the scale."""

    weight_g: U32
    scale: str


def to_2(raw: dict[str, Any]) -> dict[str, Any]:
    return {"grams": raw["pounds"] * 454}


def to_3(raw: dict[str, Any]) -> dict[str, Any]:
    return {"weight_g": raw["grams"], "scale": "unknown"}


SPEC = Spec(kind=Kind.FACT, owner="test", name="weight", version=3, body=Weight, upcasters={1: to_2, 2: to_3})


def body(**fields: object) -> bytes:
    return cbor2.dumps(fields, canonical=True)


def test_every_old_version_is_upcast_step_by_step() -> None:
    assert decode(SPEC, body(pounds=2), version=1) == Weight(weight_g=908, scale="unknown")
    assert decode(SPEC, body(grams=7), version=2) == Weight(weight_g=7, scale="unknown")
    assert decode(SPEC, body(weight_g=7, scale="shop"), version=3) == Weight(weight_g=7, scale="shop")
    assert decode(SPEC, encode(Weight(weight_g=7, scale="shop"))) == Weight(weight_g=7, scale="shop")


@pytest.mark.parametrize("version", [0, 4, 2**31])
def test_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(CodecError) as caught:
        decode(SPEC, body(pounds=2), version=version)
    assert caught.value.reason == "unsupported_version"


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (body(grams=7), 1),  # the upcaster does not find its field
        (body(pounds=b"x"), 1),  # an upcaster's result is validated
        (body(pounds=2**40), 1),
        (b"\x80", 1),  # no map
        (body(pounds=2), 3),  # an old body under the new version
    ],
)
def test_what_an_upcaster_cannot_take_is_invalid_and_never_raises_otherwise(data: bytes, version: int) -> None:
    with pytest.raises(CodecError) as caught:
        decode(SPEC, data, version=version)
    assert caught.value.reason == "invalid"


def test_old_bytes_are_as_hostile_as_new_ones() -> None:
    with pytest.raises(CodecError) as caught:
        decode(SPEC, body(pounds=2) + b"\x00", version=1)
    assert caught.value.reason == "not_canonical"
