"""Signature checks: sr25519 (schnorrkel, Substrate context) and Ed25519. Malformed input is False, never an error."""

import sr25519
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from overseer.subsystem import Check

__all__ = ["verify_check"]


def verify_check(check: Check) -> bool:
    """Whether the signature verifies; unknown schemes never do."""
    try:
        if check.scheme == "sr25519":
            return bool(sr25519.verify(check.signature, check.message, check.key))  # pyright: ignore
        if check.scheme == "ed25519":
            VerifyKey(check.key).verify(check.message, check.signature)
            return True
    except (ValueError, CryptoError):
        return False
    return False
