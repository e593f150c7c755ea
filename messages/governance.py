"""The bytes that the governance authority signs (Ed25519) to end governance mode."""

from collections.abc import Iterable

from messages.chain_api import ResumeMode

__all__ = ["RESUME_DOMAIN", "resume_payload"]

RESUME_DOMAIN = b"overseer resume v1\x00"
_MODES = {ResumeMode.PARDON: b"\x00", ResumeMode.ABANDON: b"\x01"}


def resume_payload(mode: ResumeMode, *, chain: bytes, entry: int, frozen_at: int, roots: Iterable[bytes]) -> bytes:
    """What a `resume` signs. It names one entry into governance mode of one chain, so it ends no other (C13, C21).

    Layout: the domain `overseer resume v1` and 00; mode (00 pardon, 01 abandon); genesis hash 32; entry u32; frozen_at u32;
    number of roots u32; the roots' hashes ascending, each once. Integers little-endian. The order in which `roots` are given
    and repeats do not count: roots are a set.

    Raises OverflowError for integers beyond 32 bits, which the codec refuses.
    """
    ordered = sorted(set(roots))
    numbers = (entry, frozen_at, len(ordered))
    return RESUME_DOMAIN + _MODES[mode] + chain + b"".join(n.to_bytes(4, "little") for n in numbers) + b"".join(ordered)
