"""Peers that want to be elected without holding what they say."""

import enum

import msgspec
from blake3 import blake3

from messages.peers import PeerAnswer, PeerQuery, TokenMapping
from subsystems.elections.peers.proof import CHUNKS, chunks
from subsystems.elections.peers.ring import RING, le8
from subsystems.elections.peers.tokens import SUFFIXES, low
from subsystems.elections.peers.traffic import Seal, answer_bytes

__all__ = ["Attack", "fabricated"]


class Attack(enum.StrEnum):
    """What attackers do."""

    # They hold nothing; all fabricate the same proof, with plausible gaps.
    FORGED = "forged"
    # They hold one honest share among them all, and so agree with each other more than honest peers do.
    SHARED = "shared"


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
