"""Feldman's verifiable secret sharing: polynomials, commitments, shares, interpolation, and the proof that a dealer knows its secret.

Member `i` (from 0) is the point i + 1 of every polynomial; at 0 is the secret. With polynomials of degree t any t + 1 shares give it,
and t tell nothing.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add

from blake3 import blake3

from subsystems.consensus_manager.crypto.curve import (
    GENERATOR,
    G1Point,
    MalformedPoint,
    Scalar,
    decode_scalar,
    derive_scalar,
    evaluate_points,
)
from subsystems.consensus_manager.crypto.secret import Secret

__all__ = [
    "commit",
    "interpolation_weights",
    "point_of",
    "prove_knowledge",
    "share_holds",
    "share_of",
    "shows_knowledge",
    "sum_scalars",
]

_CHALLENGE = "overseer consensus v1 proof of knowledge challenge"


def point_of(member: int) -> int:
    """Where the polynomials are evaluated for a member: never at 0."""
    return member + 1


def commit(polynomial: Secret[list[Scalar]]) -> list[G1Point]:
    """Commitments to the coefficients, constant first."""
    return [GENERATOR * coefficient for coefficient in polynomial.reveal()]


def share_of(polynomial: Secret[list[Scalar]], member: int) -> Secret[Scalar]:
    """The member's share."""
    x, coefficients = Scalar(point_of(member)), polynomial.reveal()
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return Secret(value)


def share_holds(share: Secret[Scalar], commitments: Sequence[G1Point], member: int) -> bool:
    """Whether the share is what the commitments say it is."""
    return GENERATOR * share.reveal() == evaluate_points(commitments, point_of(member))


def interpolation_weights(members: Sequence[int]) -> list[Scalar]:
    """Lagrange's coefficients at 0: the secret is the sum of these members' shares, each times its weight.

    Raises ValueError: a member is named twice, or none is.
    """
    if not members or len(set(members)) != len(members):
        raise ValueError(f"{len(members)} members, {len(set(members))} of them distinct")
    points = [Scalar(point_of(member)) for member in members]
    weights: list[Scalar] = []
    for i, own in enumerate(points):
        above, below = Scalar(1), Scalar(1)
        for j, other in enumerate(points):
            if i != j:
                above = above * other
                below = below * (other - own)
        weights.append(above / below)
    return weights


def prove_knowledge(secret: Secret[Scalar], nonce: Secret[Scalar], *, context: bytes, public: G1Point) -> bytes:
    """Schnorr's proof that who made it knows the secret behind `public`: challenge and response, 64 bytes.

    `context` names session and dealer, so that it proves nothing elsewhere. `nonce` is used for this one proof alone.
    """
    challenge = _challenge(context, public, GENERATOR * nonce.reveal())
    response = nonce.reveal() + challenge * secret.reveal()
    return challenge.to_be_bytes() + response.to_be_bytes()


def shows_knowledge(proof: bytes, *, context: bytes, public: G1Point) -> bool:
    """Whether the proof is one, for this context and point."""
    try:
        challenge, response = decode_scalar(proof[:32]), decode_scalar(proof[32:])
    except MalformedPoint:
        return False
    return _challenge(context, public, GENERATOR * response - public * challenge) == challenge


def _challenge(context: bytes, public: G1Point, commitment: G1Point) -> Scalar:
    hashed = blake3(context + public.to_compressed_bytes() + commitment.to_compressed_bytes(), derive_key_context=_CHALLENGE)
    return derive_scalar(hashed.digest(length=64))


def sum_scalars(scalars: Sequence[Secret[Scalar]]) -> Secret[Scalar]:
    """The sum of at least one: a member's share of the group's key."""
    return Secret(reduce(add, (scalar.reveal() for scalar in scalars)))
