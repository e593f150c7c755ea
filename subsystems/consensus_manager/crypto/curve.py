"""Scalars and points from foreign bytes, strictly (E20), and the arithmetic on them.

A point is taken only in its one compressed form, on the curve, in the subgroup, and not the identity; a scalar only below the
order. arkworks refuses all of it but the identity, which it even takes in several forms.

The library's arithmetic is not in constant time: who can measure a node's time to the microsecond may learn about its secrets.
"""

from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import add

from py_arkworks_bls12381 import G1Point, G2Point, Scalar

__all__ = [
    "GENERATOR",
    "G1Point",
    "G2Point",
    "MalformedPoint",
    "Scalar",
    "decode_point",
    "decode_scalar",
    "decode_signature",
    "derive_scalar",
    "evaluate_points",
    "sum_points",
]

GENERATOR = G1Point()
_IDENTITY = G1Point.identity()
_IDENTITY_G2 = G2Point.identity()


class MalformedPoint(ValueError):
    """These bytes are no point or scalar that may be used."""


def decode_point(data: bytes) -> G1Point:
    """A point of G1. Raises MalformedPoint."""
    try:
        point = G1Point.from_compressed_bytes(data)
    except ValueError as error:
        raise MalformedPoint(str(error)) from None
    if point == _IDENTITY:
        raise MalformedPoint("the identity")
    return point


@lru_cache(maxsize=512)
def decode_signature(data: bytes) -> G2Point:
    """A point of G2. Raises MalformedPoint. A partial signature is looked at twice: checked, and combined."""
    try:
        point = G2Point.from_compressed_bytes(data)
    except ValueError as error:
        raise MalformedPoint(str(error)) from None
    if point == _IDENTITY_G2:
        raise MalformedPoint("the identity")
    return point


def decode_scalar(data: bytes) -> Scalar:
    """A scalar from its 32 bytes, big-endian. Raises MalformedPoint."""
    try:
        return Scalar.from_be_bytes(data)
    except ValueError as error:
        raise MalformedPoint(str(error)) from None


def derive_scalar(uniform: bytes) -> Scalar:
    """A scalar from 64 uniform bytes: close enough to uniform (2^-257)."""
    if len(uniform) != 64:
        raise ValueError(f"{len(uniform)} bytes, 64 are needed")
    return Scalar.from_be_bytes_mod_order(uniform)


def sum_points(points: Sequence[G1Point]) -> G1Point:
    """The sum of at least one point."""
    return reduce(add, points)


def evaluate_points(coefficients: Sequence[G1Point], at: int) -> G1Point:
    """The polynomial with these coefficients (constant first) at a small number, by Horner: far faster than a multiexponentiation."""
    x = Scalar(at)
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
