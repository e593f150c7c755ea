"""Deterministic sr25519 signing for development keys: the same seed gives the same bytes, run after run.

The native library draws every signature's nonce from the operating system, so a development chain signed by it would never
be the same twice and no failing seed could be replayed. Here the nonce is a hash of the secret and of what is signed. What
comes out is an ordinary sr25519 signature (schnorrkel over a Merlin transcript, Substrate's context), verified natively.

About 0.6 ms each, and the arithmetic is not constant-time: for development keys alone.
"""

from functools import lru_cache
from hashlib import blake2b

import sr25519  # pyright: ignore[reportMissingTypeStubs]
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

__all__ = ["pair_from_seed", "sign"]

_L = 2**252 + 27742317777372353535851937790883648493
_P = 2**255 - 19
_D = (-121665 * pow(121666, -1, _P)) % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)
# 1/sqrt(a - d) with a = -1, as ristretto255 defines it (RFC 9496 section 4.1).
_INVSQRT_A_MINUS_D = 54469307008909316920995813868745141605393597292927456921205312896311721017578

# ------------------------------------------------------------------------------------------------ Keccak and STROBE

_MASK = 2**64 - 1


def _round_constants() -> list[int]:
    constants: list[int] = []
    register = 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            if register & 1:
                constant |= 1 << ((1 << power) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


def _lane_moves() -> list[tuple[int, int, int]]:
    """(from lane, to lane, rotation) of the steps rho and pi, the unmoved lane 0 first."""
    moves = [(0, 0, 0)]
    x, y = 1, 0
    for step in range(24):
        to_x, to_y = y, (2 * x + 3 * y) % 5
        moves.append((x + 5 * y, to_x + 5 * to_y, (step + 1) * (step + 2) // 2 % 64))
        x, y = to_x, to_y
    return moves


_ROUNDS = _round_constants()
_MOVES = _lane_moves()
_CHI = [(i, i - i % 5 + (i + 1) % 5, i - i % 5 + (i + 2) % 5) for i in range(25)]


def _keccak_f(state: bytearray) -> None:
    """Keccak-f[1600] in place."""
    lanes = [int.from_bytes(state[i : i + 8], "little") for i in range(0, 200, 8)]
    moved = [0] * 25
    for constant in _ROUNDS:
        c = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        d = [c[x - 1] ^ ((c[(x + 1) % 5] << 1 | c[(x + 1) % 5] >> 63) & _MASK) for x in range(5)]
        for source, target, turn in _MOVES:
            lane = lanes[source] ^ d[source % 5]
            moved[target] = (lane << turn | lane >> (64 - turn)) & _MASK
        lanes = [moved[i] ^ (~moved[j] & moved[k]) for i, j, k in _CHI]
        lanes[0] ^= constant
    state[:] = b"".join(lane.to_bytes(8, "little") for lane in lanes)


_RATE = 166
_META = 0x10 | 0x02  # M | A
_AD = 0x02  # A
_PRF = 0x01 | 0x02 | 0x04  # I | A | C


class _Transcript:
    """A Merlin transcript: labelled messages in, challenges out (STROBE-128)."""

    def __init__(self) -> None:
        self.state = bytearray(200)
        self.at = 0
        self.began = 0

    @classmethod
    def new(cls, label: bytes) -> "_Transcript":
        new = cls()
        new.state[:18] = bytes([1, _RATE + 2, 1, 0, 1, 96]) + b"STROBEv1.0.2"
        _keccak_f(new.state)
        new._begin(_META)
        new._absorb(b"Merlin v1.0")
        new.append(b"dom-sep", label)
        return new

    def copy(self) -> "_Transcript":
        other = _Transcript()
        other.state[:] = self.state
        other.at, other.began = self.at, self.began
        return other

    def _permute(self) -> None:
        self.state[self.at] ^= self.began
        self.state[self.at + 1] ^= 0x04
        self.state[_RATE + 1] ^= 0x80
        _keccak_f(self.state)
        self.at = self.began = 0

    def _absorb(self, data: bytes) -> None:
        for byte in data:
            self.state[self.at] ^= byte
            self.at += 1
            if self.at == _RATE:
                self._permute()

    def _begin(self, flags: int) -> None:
        before, self.began = self.began, self.at + 1
        self._absorb(bytes([before, flags]))
        if flags & 0x04 and self.at != 0:
            self._permute()

    def append(self, label: bytes, message: bytes) -> None:
        self._begin(_META)
        self._absorb(label + len(message).to_bytes(4, "little"))
        self._begin(_AD)
        self._absorb(message)

    def challenge(self, label: bytes, size: int) -> bytes:
        """`size` bytes, at most one block of the sponge."""
        self._begin(_META)
        self._absorb(label + size.to_bytes(4, "little"))
        self._begin(_PRF)
        return bytes(self.state[:size])


@lru_cache(maxsize=64)
def _opened(message: bytes) -> _Transcript:
    """The transcript up to the signer's own part; many validators sign the same bytes."""
    transcript = _Transcript.new(b"SigningContext")
    transcript.append(b"", b"substrate")
    transcript.append(b"sign-bytes", message)
    transcript.append(b"proto-name", b"Schnorr-sig")
    return transcript


# ------------------------------------------------------------------------------------------------ ristretto255


def _root_of_ratio(v: int) -> int:
    """The non-negative 1/sqrt(v), or 1/sqrt(i*v) when v is not a square."""
    r = pow(v, 3, _P) * pow(pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    check = v * r % _P * r % _P
    if check in (_P - 1, -_SQRT_M1 % _P):
        r = r * _SQRT_M1 % _P
    return _P - r if r & 1 else r


def _times_base(scalar: int) -> bytes:
    """The ristretto255 encoding of `scalar` times the base point (RFC 9496 section 4.3.2, with Z = 1)."""
    point = int.from_bytes(crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(32, "little")), "little")
    odd, y = point >> 255, point & (2**255 - 1)
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * _root_of_ratio(u * v % _P) % _P
    if x & 1 != odd:
        x = _P - x
    t = x * y % _P
    u1, u2 = (1 + y) * (1 - y) % _P, t
    inverse = _root_of_ratio(u1 * u2 % _P * u2 % _P)
    first, second = inverse * u1 % _P, inverse * u2 % _P
    z_inverse = first * second % _P * t % _P
    if t * z_inverse % _P & 1:
        x, y, second = y * _SQRT_M1 % _P, x * _SQRT_M1 % _P, first * _INVSQRT_A_MINUS_D % _P
    if x * z_inverse % _P & 1:
        y = _P - y
    s = second * (1 - y) % _P
    return (_P - s if s & 1 else s).to_bytes(32, "little")


# ------------------------------------------------------------------------------------------------ keys


def pair_from_seed(seed: bytes) -> tuple[bytes, bytes]:
    """(public key 32, secret key 64) of a 32-byte seed, as Substrate derives them."""
    public, secret = sr25519.pair_from_seed(seed)  # pyright: ignore
    return bytes(public), bytes(secret)  # pyright: ignore


def sign(public: bytes, secret: bytes, message: bytes) -> bytes:
    """The 64-byte signature of `message` in Substrate's context: the same for the same arguments."""
    key = int.from_bytes(secret[:32], "little")
    nonce = blake2b(secret[32:] + public + message, person=b"sr25519 dev").digest()
    r = int.from_bytes(nonce, "little") % _L
    commitment = _times_base(r)
    transcript = _opened(message).copy()
    transcript.append(b"sign:pk", public)
    transcript.append(b"sign:R", commitment)
    c = int.from_bytes(transcript.challenge(b"sign:c", 64), "little") % _L
    s = bytearray(((c * key + r) % _L).to_bytes(32, "little"))
    s[31] |= 128  # marks schnorrkel signatures
    return commitment + bytes(s)
