"""A whole deal from one seed, and the check of somebody else's.

Everything in a deal is derived from the seed and from where it is made: the same seed gives the same bytes, so a deal that was recorded
but not published yet, or whose shares must be shown, is never another one.
"""

from collections.abc import Sequence
from functools import lru_cache

from blake3 import blake3
from msgspec import Struct

from subsystems.consensus_manager.crypto.boxes import box_share, ephemeral_keys, open_box
from subsystems.consensus_manager.crypto.curve import G1Point, MalformedPoint, Scalar, decode_point, decode_scalar, derive_scalar
from subsystems.consensus_manager.crypto.feldman import commit, prove_knowledge, share_holds, share_of, shows_knowledge
from subsystems.consensus_manager.crypto.secret import Secret

__all__ = ["Dealing", "deal_from", "decode_commitments", "is_sound", "open_share", "shown_share", "shown_share_holds"]

_DERIVE = "overseer consensus v1 deal"
# Decoded deals kept: those of the attempts that live at once, for their shares, answers and sums. Decoding is most of the work.
_DEALS_KEPT = 512


class Dealing(Struct, frozen=True, kw_only=True):
    """What a deal tells, encoded."""

    commitments: list[bytes]
    ephemeral: bytes
    boxes: list[bytes]
    proof: bytes


def _place(session: bytes, dealer: int, receiver: int) -> bytes:
    return session + dealer.to_bytes(2, "little") + receiver.to_bytes(2, "little")


def _context(session: bytes, dealer: int) -> bytes:
    return session + dealer.to_bytes(2, "little")


def _drawn(seed: Secret[bytes], context: bytes, purpose: bytes, length: int) -> bytes:
    return blake3(seed.reveal() + context + purpose, derive_key_context=_DERIVE).digest(length=length)


def _polynomial(seed: Secret[bytes], context: bytes, degree: int) -> Secret[list[Scalar]]:
    """The coefficients, constant first. None is ever 0 but with a chance of 2^-255."""
    return Secret([derive_scalar(_drawn(seed, context, b"coefficient" + k.to_bytes(2, "little"), 64)) for k in range(degree + 1)])


def deal_from(seed: Secret[bytes], *, session: bytes, dealer: int, degree: int, receivers: Sequence[bytes]) -> Dealing:
    """The deal of a seed of 32 bytes. `receivers` are the members' box keys, in their order.

    A member whose box key is useless gets a box that does not open: it can complain, and is answered in public.
    """
    context = _context(session, dealer)
    polynomial = _polynomial(seed, context, degree)
    commitments = commit(polynomial)
    public, ephemeral = ephemeral_keys(Secret(_drawn(seed, context, b"ephemeral", 32)))
    boxes: list[bytes] = []
    for member, receiver in enumerate(receivers):
        share = share_of(polynomial, member).reveal().to_be_bytes()
        try:
            boxes.append(box_share(share, place=_place(session, dealer, member), receiver=receiver, ephemeral=ephemeral))
        except ValueError:
            boxes.append(bytes(len(share) + 16))
    nonce = Secret(derive_scalar(_drawn(seed, context, b"nonce", 64)))
    proof = prove_knowledge(Secret(polynomial.reveal()[0]), nonce, context=context, public=commitments[0])
    return Dealing(commitments=[c.to_compressed_bytes() for c in commitments], ephemeral=public, boxes=boxes, proof=proof)


def shown_share(seed: Secret[bytes], *, session: bytes, dealer: int, degree: int, member: int) -> bytes:
    """The share that the deal of this seed gave a member, to be shown in public."""
    return share_of(_polynomial(seed, _context(session, dealer), degree), member).reveal().to_be_bytes()


@lru_cache(maxsize=_DEALS_KEPT)
def decode_commitments(commitments: tuple[bytes, ...]) -> tuple[G1Point, ...]:
    """Raises MalformedPoint."""
    return tuple(decode_point(commitment) for commitment in commitments)


@lru_cache(maxsize=_DEALS_KEPT)
def is_sound(session: bytes, dealer: int, commitments: tuple[bytes, ...], proof: bytes) -> bool:
    """Whether all commitments are points that may be used (E20), and the dealer knows its secret."""
    try:
        points = decode_commitments(commitments)
    except MalformedPoint:
        return False
    return shows_knowledge(proof, context=_context(session, dealer), public=points[0])


def open_share(box: bytes, *, session: bytes, dealer: int, member: int, ephemeral: bytes, receiver: Secret[bytes]) -> Secret[Scalar] | None:
    """The member's share of a deal, None when the box does not open or holds no scalar. Whether it fits is another question."""
    opened = open_box(box, place=_place(session, dealer, member), ephemeral=ephemeral, receiver=receiver)
    if opened is None:
        return None
    try:
        return Secret(decode_scalar(opened.reveal()))
    except MalformedPoint:
        return None


@lru_cache(maxsize=_DEALS_KEPT)
def shown_share_holds(share: bytes, commitments: tuple[bytes, ...], member: int) -> bool:
    """Whether a share that was shown in public is canonical and fits the commitments."""
    try:
        return share_holds(Secret(decode_scalar(share)), decode_commitments(commitments), member)
    except MalformedPoint:
        return False
