"""Peers that want to be elected without holding what they say."""

import enum
from collections.abc import Sequence

import msgspec
from blake3 import blake3

from messages.peers import PeerAnswer, PeerQuery, PeerReferral, TokenMapping
from subsystems.elections.peers.proof import CHUNKS, chunks
from subsystems.elections.peers.ring import RING, le8
from subsystems.elections.peers.tokens import SUFFIXES, low
from subsystems.elections.peers.traffic import Seal, answer_bytes, referral_bytes

__all__ = ["TAKES_PART", "Attack", "fabricated", "misreferred"]


class Attack(enum.StrEnum):
    """What attackers do."""

    # They hold nothing; all fabricate the same proof, with plausible gaps.
    FORGED = "forged"
    # They hold one honest share among them all, and so agree with each other more than honest peers do.
    SHARED = "shared"
    # Each holds a share of its own: all that is wrong with it is where it stands.
    STORING = "storing"
    # They refer whoever asks to two of themselves, and those to two more.
    REFERRING = "referring"
    # They refer whoever asks to peers that do not exist.
    MISLEADING = "misleading"


# Who holds something is otherwise a peer like any other, which begins no elections.
TAKES_PART = (Attack.SHARED, Attack.STORING)


def misreferred(query: PeerQuery, peer: int, fellows: Sequence[int], seal: Seal) -> PeerReferral | None:
    """A referral to two of `fellows`, or to nobody where there are none; None where the requester did not ask this peer itself."""
    if query.hop != peer or query.sender != query.requester:
        return None
    drawn = blake3(le8(query.ticket, peer)).digest()
    numbers = [int.from_bytes(drawn[at : at + 8], "little") for at in (0, 8)]
    others = [fellow for fellow in fellows if fellow != peer]
    suggestions = [others[number % len(others)] for number in numbers] if others else numbers
    referral = PeerReferral(
        token=query.token, ticket=query.ticket, requester=query.requester, sender=peer, suggestions=suggestions, seal=b""
    )
    return msgspec.structs.replace(referral, seal=seal(referral_bytes(referral)))


def fabricated(query: PeerQuery, peer: int, block: int, seal: Seal, *, spacing: int) -> PeerAnswer:
    """The strongest answer of one who holds nothing: the token's true block, right low bits, order and side, and average gaps.

    It depends on the query's requester and token alone, so that all forgers agree.
    """
    wanted = chunks(query.requester, query.token, block)
    found: list[TokenMapping] = []
    for n, bits in enumerate(wanted):
        upward = n < CHUNKS // 2
        start = query.token if n % (CHUNKS // 2) == 0 else found[-1].id
        drawn = int.from_bytes(blake3(le8(query.requester, query.token, n)).digest()[:8], "little")
        gap = SUFFIXES * spacing // 2 + drawn * SUFFIXES * spacing // RING
        near = (start + gap if upward else start - gap) % RING
        token = (near - low(near) + bits) % RING
        found.append(TokenMapping(token, drawn))
    answer = PeerAnswer(
        requester=query.requester,
        responder=peer,
        ticket=query.ticket,
        answer=TokenMapping(query.token, block),
        signature=found,
        seal=b"",
    )
    return msgspec.structs.replace(answer, seal=seal(answer_bytes(answer)))
