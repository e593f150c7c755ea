"""Signature checks: sr25519 (schnorrkel, Substrate context) and Ed25519. Malformed input is False, never an error.

Imports nothing of the rest of the system: the check workers load this module alone (overseer/check_worker.py).
"""

from typing import TYPE_CHECKING

import sr25519  # pyright: ignore[reportMissingTypeStubs]
from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

if TYPE_CHECKING:
    from overseer.subsystem import Check

__all__ = ["KEY_BYTES", "SCHEMES", "SIGNATURE_BYTES", "verify_check", "verify_signature"]

# By their code on the way to a worker.
SCHEMES = ("sr25519", "ed25519")
# The same in both schemes.
KEY_BYTES = 32
SIGNATURE_BYTES = 64


def verify_signature(scheme: str, key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` verifies under `key`; unknown schemes and wrong lengths never do."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        if scheme == "sr25519":
            # A key that is no curve point or a signature without schnorrkel's mark raises ValueError.
            return bool(sr25519.verify(signature, message, key))  # pyright: ignore
        if scheme == "ed25519":
            crypto_sign_open(signature + message, key)
            return True
    except (ValueError, TypeError, CryptoError):
        return False
    return False


def verify_check(check: "Check") -> bool:
    """The check, computed here and now: about 40 us."""
    return verify_signature(check.scheme, check.key, check.message, check.signature)
