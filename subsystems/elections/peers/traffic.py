"""What peers say to each other: queries, answers, referrals, and the three steps of an introduction.

Each is sealed by its author over bytes that bind both ends, the token and the ticket, so that it is good nowhere else: not in another
election, not from another peer, not to another requester (P19, P24).
"""

from collections.abc import Callable
from typing import assert_never

from blake3 import blake3

from messages.peers import PeerAccept, PeerAnswer, PeerConfirm, PeerInvite, PeerQuery, PeerReferral
from subsystems.elections.peers.proof import CHUNKS
from subsystems.elections.peers.ring import RING, le8

__all__ = [
    "SEAL_KEY_BYTES",
    "Authentic",
    "Seal",
    "Traffic",
    "answer_bytes",
    "invite_bytes",
    "is_for",
    "key_authentic",
    "key_seal",
    "peer_id",
    "query_bytes",
    "referral_bytes",
    "seals_of",
    "well_formed",
]

# Bytes to the seal of whoever speaks.
Seal = Callable[[bytes], bytes]
# Did `peer` seal these bytes? (peer, bytes, seal). Never raises.
Authentic = Callable[[int, bytes, bytes], bool]

# A seal begins with the public key.
SEAL_KEY_BYTES = 32


Traffic = PeerQuery | PeerAnswer | PeerReferral | PeerInvite | PeerAccept | PeerConfirm


def query_bytes(token: int, requester: int, ticket: int) -> bytes:
    """What a requester seals; it stays good through any forwarding."""
    return b"overseer peers query v1" + le8(token, requester, ticket)


def answer_bytes(answer: PeerAnswer) -> bytes:
    """What a responder seals: both ends, the ticket, and every mapping."""
    body = (answer.answer, *answer.signature)
    numbers = [number for mapping in body for number in (mapping.id, mapping.block)]
    return b"overseer peers answer v1" + le8(answer.requester, answer.responder, answer.ticket, len(answer.signature), *numbers)


def referral_bytes(referral: PeerReferral) -> bytes:
    r = referral
    return b"overseer peers referral v1" + le8(r.token, r.ticket, r.requester, r.sender, *r.suggestions)


def invite_bytes(sender: int, to: int, token: int, ticket: int) -> bytes:
    """What seals an introduction, and the second step's own challenge."""
    return b"overseer peers invite v1" + le8(sender, to, token, ticket)


def seals_of(message: Traffic) -> list[tuple[bytes, bytes]]:
    """The seals of a message, each with what it is over."""
    match message:
        case PeerQuery():
            return [(query_bytes(message.token, message.requester, message.ticket), message.seal)]
        case PeerAnswer():
            return [(answer_bytes(message), message.seal)]
        case PeerReferral():
            return [(referral_bytes(message), message.seal)]
        case PeerInvite():
            return [(invite_bytes(message.sender, message.to, message.token, message.ticket), message.seal)]
        case PeerAccept(proof=proof):
            asked = invite_bytes(proof.responder, proof.requester, message.token, message.ticket)
            return [*seals_of(proof), *([(asked, message.seal)] if message.ticket else [])]
        case PeerConfirm():
            return seals_of(message.proof)
        case _:
            assert_never(message)


# ------------------------------------------------------------------------------------------------ identities


def peer_id(key: bytes) -> int:
    """The id of whoever has this public key: nobody can claim an id without its key."""
    return int.from_bytes(blake3(b"overseer peer id v1" + key).digest()[:8], "little")


def key_seal(key: bytes, sign: Callable[[bytes], bytes]) -> Seal:
    """Seals that carry the public key, so that an id suffices to check them."""
    return lambda message: key + sign(message)


def key_authentic(verify: Callable[[bytes, bytes, bytes], bool]) -> Authentic:
    """The check of such seals by `verify(key, message, signature)`, which returns False for malformed input."""

    def authentic(peer: int, message: bytes, seal: bytes) -> bool:
        key, signature = seal[:SEAL_KEY_BYTES], seal[SEAL_KEY_BYTES:]
        return peer_id(key) == peer and verify(key, message, signature)

    return authentic


def is_for(requester: int, answer: PeerAnswer, authentic: Authentic) -> bool:
    """Whether an answer is one to `requester`, well formed, and sealed by its responder."""
    return well_formed(answer) and answer.requester == requester and authentic(answer.responder, answer_bytes(answer), answer.seal)


def well_formed(answer: PeerAnswer) -> bool:
    """Whether its numbers are u64 and its proof has ten mappings: what everything behind takes for granted."""
    numbers = [answer.requester, answer.responder, answer.ticket]
    numbers += [number for mapping in (answer.answer, *answer.signature) for number in (mapping.id, mapping.block)]
    return len(answer.signature) == CHUNKS and all(0 <= number < RING for number in numbers)
