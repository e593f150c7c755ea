"""What a proof of storage is, by a definition of its own: nothing of the code under test is used, and nothing is fast.

A node holds what it was told to hold, and beside that a share of the universe of its seed (`holdings`).
"""

from bisect import bisect_left
from collections.abc import Sequence

from blake3 import blake3
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from messages.peers import PeerAccept, PeerAnswer, PeerInvite, PeerQuery, PeerReferral, TokenMapping
from overseer.simulation.peers.universe import Holding

__all__ = ["Held", "agreement", "answer_sealed", "apart", "flaw", "invited", "query_sealed", "referral_sealed"]

_RING = 2**64
_CHANCE = 10.0**-6
_NEIGHBOURS = 32
# Of gaps between 64 neighbours: how many means one gap may be, and ten together, where more is less likely than `_CHANCE` (docs/adr/0027).
_GAP_MEANS = 63 * (_CHANCE ** (-1 / 63) - 1)
_SPAN_MEANS = 39.461


def _le(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def apart(one: int, other: int) -> int:
    return min((one - other) % _RING, (other - one) % _RING)


class Held:
    """The tokens of one node. `own`: what it was told to hold; that goes first."""

    def __init__(self, shares: Sequence[Holding], ring: Sequence[int], suffixes: Sequence[Sequence[int]]) -> None:
        self.own: dict[int, int] = {}
        self._shares = shares
        self._ring = ring
        self._suffixes = suffixes

    def block(self, token: int) -> int | None:
        if token in self.own:
            return self.own[token]
        return self._shares[0].block_of(token) if self._shares else None

    def _ending(self, bits: int) -> list[int]:
        base = [token for token in self._suffixes[bits] if self._shares[0].holds(token)] if self._shares else []
        return [*base, *(token for token in self.own if token % 1024 == bits)]

    def neighbours(self, place: int, *, upward: bool) -> list[int]:
        """How far the nearest 32 are on one side, the nearest first; upward one at the place itself is among them."""
        found = [(token - place) % _RING if upward else (place - token - 1) % _RING + 1 for token in self.own]
        ring, at = self._ring, bisect_left(self._ring, place)
        taken = 0
        for step in range(len(ring) if self._shares else 0):
            token = ring[(at + step if upward else at - 1 - step) % len(ring)]
            if token not in self.own and self._shares[0].holds(token):
                found.append((token - place) % _RING if upward else (place - token - 1) % _RING + 1)
                taken += 1
                if taken == _NEIGHBOURS:
                    break
        return sorted(found)[:_NEIGHBOURS]

    def proof(self, challenger: int, token: int) -> list[TokenMapping] | None:
        """Ten mappings, or none."""
        block = self.block(token)
        if block is None:
            return None
        found: list[TokenMapping] = []
        for side in (1, -1):
            gone = 0
            for bits in _digits(challenger, token, block)[:5] if side == 1 else _digits(challenger, token, block)[5:]:
                beyond = [away for each in self._ending(bits) if (away := side * (each - token) % _RING) > gone]
                if not beyond:
                    return None
                gone = min(beyond)
                at = (token + side * gone) % _RING
                named = self.block(at)
                assert named is not None
                found.append(TokenMapping(at, named))
        return found

    def sound_proof(self, challenger: int, token: int) -> list[TokenMapping] | None:
        """One that this node itself would take, not at the edge of what it holds."""
        proof, block = self.proof(challenger, token), self.block(token)
        if proof is None or block is None or flaw(self, challenger, TokenMapping(token, block), proof):
            return None
        up, down = self.neighbours(token, upward=True), self.neighbours(token, upward=False)
        if len(up) == len(down) == _NEIGHBOURS and max(up[-1], down[-1]) > 4 * min(up[-1], down[-1]):
            return None
        return proof


def _digits(challenger: int, token: int, block: int) -> list[int]:
    """Ten numbers below 1024."""
    number = int.from_bytes(blake3(_le(challenger, token, block)).digest(), "little")
    return [number // 1024**n % 1024 for n in range(10)]


def flaw(
    held: Held, challenger: int, answer: TokenMapping, proof: Sequence[TokenMapping], *, contradictions: int = 0, familiar: int = 0
) -> str:
    """What is wrong with a proof, for the node that holds this; "" where nothing is."""
    if len(proof) != 10:
        return "length"
    if [mapping.id % 1024 for mapping in proof] != _digits(challenger, answer.id, answer.block):
        return "low bits"
    if len({mapping.id for mapping in (answer, *proof)}) != 11:
        return "repeated"
    spans = [[(mapping.id - answer.id) % _RING for mapping in proof[:5]], [(answer.id - mapping.id) % _RING for mapping in proof[5:]]]
    if any(span != sorted(span) or span[-1] > 2**63 for span in spans):
        return "side"
    up, down = held.neighbours(answer.id, upward=True), held.neighbours(answer.id, upward=False)
    if len(up) == len(down) == _NEIGHBOURS:
        mean = (up[-1] + down[-1]) // 63 * 1024
        gaps = [later - before for span in spans for before, later in zip([0, *span], span, strict=False)]
        if max(gaps) > _GAP_MEANS * mean or sum(gaps) > _SPAN_MEANS * mean:
            return "gap"
    own = [(mapping.block, held.block(mapping.id)) for mapping in (answer, *proof)]
    if sum(mine not in (None, told) for told, mine in own) > contradictions:
        return "contradicted"
    if sum(mine is not None for _, mine in own[1:]) < familiar and held.proof(challenger, answer.id) is not None:
        return "unfamiliar"
    return ""


def agreement(one: PeerAnswer, other: PeerAnswer, void: set[int]) -> int:
    """How many mappings two answers have in common, without those to void blocks."""
    return len({m for m in one.signature if m.block not in void} & {m for m in other.signature if m.block not in void})


# ------------------------------------------------------------------------------------------------ seals


def _is_sealed(by: int, payload: bytes, seal: bytes) -> bool:
    """A public key whose hash is the peer's id, and its signature."""
    key, signature = seal[:32], seal[32:]
    if int.from_bytes(blake3(b"overseer peer id v1" + key).digest()[:8], "little") != by or len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + payload, key)
    except (BadSignatureError, ValueError):
        return False
    return True


def query_sealed(query: PeerQuery) -> bool:
    payload = b"overseer peers query v1" + _le(query.token, query.requester, query.ticket)
    return _is_sealed(query.requester, payload, query.seal)


def answer_sealed(answer: PeerAnswer) -> bool:
    numbers = [number for mapping in (answer.answer, *answer.signature) for number in (mapping.id, mapping.block)]
    payload = b"overseer peers answer v1" + _le(answer.requester, answer.responder, answer.ticket, len(answer.signature), *numbers)
    return len(answer.signature) == 10 and _is_sealed(answer.responder, payload, answer.seal)


def referral_sealed(referral: PeerReferral) -> bool:
    numbers = _le(referral.token, referral.ticket, referral.requester, referral.sender, *referral.suggestions)
    return _is_sealed(referral.sender, b"overseer peers referral v1" + numbers, referral.seal)


def invited(message: PeerInvite | PeerAccept) -> bool:
    """Whether a challenge of an introduction is sealed by whoever gives it."""
    by, to = (message.sender, message.to) if isinstance(message, PeerInvite) else (message.proof.responder, message.proof.requester)
    return _is_sealed(by, b"overseer peers invite v1" + _le(by, to, message.token, message.ticket), message.seal)
