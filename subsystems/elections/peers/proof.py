"""A proof of storage: ten tokens that only who holds the neighbourhood of a challenge token finds, bound to the challenger.

Chunk i is ten bits of BLAKE3(challenger, token, block). Chunks 0 to 4 lead upward from the token to the next id with those low
bits, each beyond the last; chunks 5 to 9 downward. The low bits alone can be fabricated for nothing, so a verifier also looks at order
and side, repetition, gaps, and what it holds itself (P06, P19, P20).
"""

import enum
from collections.abc import Sequence
from itertools import pairwise

from blake3 import blake3

from messages.peers import TokenMapping
from subsystems.elections.peers.ring import HALF, RING, le8
from subsystems.elections.peers.tokens import LOW_BITS, SUFFIXES, Tokens, low, neighbourhood

__all__ = ["CHUNKS", "Flaw", "chunks", "flaw_of", "prove", "sound"]

CHUNKS = 10
_SIDE = CHUNKS // 2
# A gap to the next match is exponential; its mean is 1024 spacings, of which 63 are measured. So a gap is longer than x measured means
# with the chance (1 + x / 63) ^ -63: one in 10^6 is x = 15.447. The sum of all ten is beta prime (10, 63), times 63: one in 10^6 is 39.461.
# In thousandths of a mean. (With a mean known exactly they would be 13.816 and 32.711.)
_GAP_MAX = 15_447
_SPAN_MAX = 39_461


class Flaw(enum.StrEnum):
    """Why a proof is none."""

    LENGTH = "length"
    LOW_BITS = "low_bits"
    REPEATED = "repeated"
    SIDE = "side"
    GAP = "gap"
    SPAN = "span"
    CONTRADICTED = "contradicted"
    UNFAMILIAR = "unfamiliar"


def chunks(challenger: int, token: int, block: int) -> list[int]:
    """The ten numbers of ten bits that the ids of a proof end with."""
    bits = int.from_bytes(blake3(le8(challenger, token, block)).digest(), "little")
    return [bits >> (LOW_BITS * n) & (SUFFIXES - 1) for n in range(CHUNKS)]


def prove(tokens: Tokens, challenger: int, token: int) -> tuple[TokenMapping, list[TokenMapping]] | None:
    """The token's own mapping and the ten of the proof; None where the token is not held or not all ten are found."""
    block = tokens.block_of(token)
    if block is None:
        return None
    wanted = chunks(challenger, token, block)
    up = _scan(tokens, token, wanted[:_SIDE], upward=True)
    down = _scan(tokens, token, wanted[_SIDE:], upward=False) if up is not None else None
    if up is None or down is None:
        return None
    return TokenMapping(token, block), [*up, *down]


def _scan(tokens: Tokens, token: int, wanted: Sequence[int], *, upward: bool) -> list[TokenMapping] | None:
    found: list[TokenMapping] = []
    reached = 0
    for bits in wanted:
        after = (token + reached if upward else token - reached) % RING
        mapping = next(tokens.with_low_bits(bits, after=after, upward=upward), None)
        if mapping is None:
            return None
        gone = _gone(token, mapping.id, upward)
        # Around the ring and past the token, or nothing but the token.
        if gone <= reached:
            return None
        reached = gone
        found.append(mapping)
    return found


def _gone(token: int, reached: int, upward: bool) -> int:
    return ((reached - token) if upward else (token - reached)) % RING


def flaw_of(
    mappings: Sequence[TokenMapping],
    *,
    challenger: int,
    answer: TokenMapping,
    tokens: Tokens,
    contradictions_max: int = 0,
    familiar_min: int = 0,
) -> Flaw | None:
    """What is wrong with a proof for `challenger` about the token and block of `answer`, as far as one's own `tokens` tell.

    `contradictions_max`: how many mappings, the answer's among them, may name another block than one's own copy. `familiar_min`: how many
    of the ten one must hold oneself, where one could have proven the same; what is fabricated is held by nobody.
    """
    if len(mappings) != CHUNKS:
        return Flaw.LENGTH
    if [low(mapping.id) for mapping in mappings] != chunks(challenger, answer.id, answer.block):
        return Flaw.LOW_BITS
    if len({answer.id, *(mapping.id for mapping in mappings)}) != CHUNKS + 1:
        return Flaw.REPEATED
    around = neighbourhood(tokens, answer.id)
    flaw = _misplaced(answer.id, mappings, None if around is None else around.spacing)
    if flaw is not None:
        return flaw
    own = [(mapping.block, tokens.block_of(mapping.id)) for mapping in (*mappings, answer)]
    if sum(held is not None and held != block for block, held in own) > contradictions_max:
        return Flaw.CONTRADICTED
    if familiar_min and sum(held is not None for _, held in own[:-1]) < familiar_min and prove(tokens, challenger, answer.id) is not None:
        return Flaw.UNFAMILIAR
    return None


def _misplaced(token: int, mappings: Sequence[TokenMapping], mean: int | None) -> Flaw | None:
    """What is wrong with the places of ten mappings, where tokens are `mean` apart (None: nobody knows)."""
    gaps = [*_gaps(token, mappings[:_SIDE], upward=True), *_gaps(token, mappings[_SIDE:], upward=False)]
    if any(gap <= 0 for gap in gaps) or sum(gaps[:_SIDE]) > HALF or sum(gaps[_SIDE:]) > HALF:
        return Flaw.SIDE
    if mean is not None and max(gaps) * 1000 > _GAP_MAX * SUFFIXES * mean:
        return Flaw.GAP
    if mean is not None and sum(gaps) * 1000 > _SPAN_MAX * SUFFIXES * mean:
        return Flaw.SPAN
    return None


def sound(tokens: Tokens, challenger: int, token: int) -> tuple[TokenMapping, list[TokenMapping]] | None:
    """A proof that others will take for good; None where there is none.

    At the edge of what is held an honest proof looks like a bad one: the scan leaps over what is not held.
    """
    proof = prove(tokens, challenger, token)
    if proof is None:
        return None
    around = neighbourhood(tokens, token)
    if around is not None and around.at_edge:
        return None
    # Low bits and blocks are right: it was made of what is held.
    flawed = len({*proof[1]}) < CHUNKS or _misplaced(token, proof[1], None if around is None else around.spacing) is not None
    return None if flawed else proof


def _gaps(token: int, mappings: Sequence[TokenMapping], *, upward: bool) -> list[int]:
    """How far each id is beyond the one before it, away from the token; not positive where it is on the other side of it."""
    gone = [0, *(_gone(token, mapping.id, upward) for mapping in mappings)]
    return [later - earlier for earlier, later in pairwise(gone)]
