"""Threshold BLS signatures: partial signatures by shares, and the one signature of the group that any degree + 1 of them give.

The scheme is `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_AUG_` of draft-irtf-cfrg-bls-signature: the message that is hashed begins with the
group's public key, so that a signature says nothing under another key. Any implementation of it verifies the group's signatures.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from py_arkworks_bls12381 import GT

from subsystems.consensus_manager.crypto.curve import (
    GENERATOR,
    G1Point,
    G2Point,
    MalformedPoint,
    Scalar,
    decode_point,
    decode_signature,
    evaluate_points,
)
from subsystems.consensus_manager.crypto.feldman import interpolation_weights, point_of
from subsystems.consensus_manager.crypto.secret import Secret

__all__ = ["combine", "group_signature_holds", "hash_message", "partial_holds", "partial_signature", "public_share"]

_SCHEME = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_AUG_"
_MINUS_GENERATOR = -GENERATOR


@lru_cache(maxsize=64)
def hash_message(key: bytes, message: bytes) -> G2Point:
    """The point that is signed: the same for partial signatures and the group's."""
    return G2Point.hash_to_curve(key + message, _SCHEME)


def partial_signature(share: Secret[Scalar], hashed: G2Point) -> bytes:
    return (hashed * share.reveal()).to_compressed_bytes()


def public_share(commitments: Sequence[G1Point], member: int) -> G1Point:
    """The public key of a member's share; `commitments` are the sums over all qualified dealers."""
    return evaluate_points(commitments, point_of(member))


def partial_holds(public: G1Point, hashed: G2Point, signature: bytes) -> bool:
    """Whether a signature is that of `public`; malformed ones are not."""
    try:
        point = decode_signature(signature)
    except MalformedPoint:
        return False
    return GT.pairing_check([public, _MINUS_GENERATOR], [hashed, point])


def combine(partials: Mapping[int, bytes], degree: int) -> bytes:
    """The group's signature from partial signatures by member, each known to hold: of the first degree + 1 of them.

    Raises ValueError: too few; MalformedPoint: one is no point. Which ones are used makes no difference.
    """
    members = sorted(partials)[: degree + 1]
    if len(members) <= degree:
        raise ValueError(f"{len(members)} partial signatures, {degree + 1} are needed")
    # "unchecked" is the lengths of the lists; the points are checked (E20).
    points = [decode_signature(partials[member]) for member in members]
    return G2Point.multiexp_unchecked(points, interpolation_weights(members)).to_compressed_bytes()


def group_signature_holds(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the group with this public key signed the message; a malformed key or signature never did."""
    try:
        public = decode_point(key)
    except MalformedPoint:
        return False
    return partial_holds(public, hash_message(key, message), signature)
