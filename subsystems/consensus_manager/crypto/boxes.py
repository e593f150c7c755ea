"""What only one reader may see: shares on their way to their receivers, and secrets at rest.

A share is boxed (X25519, XSalsa20-Poly1305) with a key that its dealer makes for one deal and forgets; the dealer's signature over the
whole deal says whose it is. The nonce binds session, dealer and receiver, so a box opens nowhere else.

At rest a secret is sealed under a key of its session that lies outside of the journal. The nonce is derived from key and content: the
same secret gives the same bytes, and no two secrets ever share a nonce.
"""

from blake3 import blake3
from nacl.bindings import (
    crypto_box_easy,
    crypto_box_open_easy,
    crypto_box_seed_keypair,
    crypto_scalarmult_base,
    crypto_secretbox,
    crypto_secretbox_open,
)
from nacl.exceptions import CryptoError

from subsystems.consensus_manager.crypto.secret import Secret

__all__ = ["box_public", "box_share", "ephemeral_keys", "open_box", "seal", "unseal"]

_NONCE_BYTES = 24
_BOX_NONCE = "overseer consensus v1 box nonce"
_SEAL_NONCE = "overseer consensus v1 seal nonce"
_SEAL_KEY = "overseer consensus v1 seal key"


def ephemeral_keys(seed: Secret[bytes]) -> tuple[bytes, Secret[bytes]]:
    """A key pair from 32 bytes: public, secret."""
    public, secret = crypto_box_seed_keypair(seed.reveal())
    return public, Secret(secret)


def box_public(secret: Secret[bytes]) -> bytes:
    """The public key of a box key."""
    return crypto_scalarmult_base(secret.reveal())


def box_share(share: bytes, *, place: bytes, receiver: bytes, ephemeral: Secret[bytes]) -> bytes:
    """The share in a box for the key `receiver`; `place` names session, dealer and receiver.

    Raises ValueError: the receiver's key is none that anything can be kept secret with.
    """
    try:
        return crypto_box_easy(share, _nonce(place), receiver, ephemeral.reveal())
    except CryptoError as error:
        raise ValueError(f"no key to seal to: {error}") from None


def open_box(box: bytes, *, place: bytes, ephemeral: bytes, receiver: Secret[bytes]) -> Secret[bytes] | None:
    """What is in the box; None when it does not open with this key, or was made for another place."""
    try:
        return Secret(crypto_box_open_easy(box, _nonce(place), ephemeral, receiver.reveal()))
    except CryptoError:
        return None


def seal(secret: Secret[bytes], *, label: bytes, key: Secret[bytes]) -> bytes:
    """The secret, to be stored; `label` says what it is and of what session."""
    inner = _sealing_key(label, key)
    nonce = blake3(secret.reveal(), key=blake3(inner, derive_key_context=_SEAL_NONCE).digest()).digest(length=_NONCE_BYTES)
    return nonce + crypto_secretbox(secret.reveal(), nonce, inner)


def unseal(sealed: bytes, *, label: bytes, key: Secret[bytes]) -> Secret[bytes] | None:
    """What was sealed; None: with another key, under another label, or it was changed since."""
    try:
        return Secret(crypto_secretbox_open(sealed[_NONCE_BYTES:], sealed[:_NONCE_BYTES], _sealing_key(label, key)))
    except (CryptoError, ValueError):
        return None


def _sealing_key(label: bytes, key: Secret[bytes]) -> bytes:
    return blake3(key.reveal() + label, derive_key_context=_SEAL_KEY).digest()


def _nonce(place: bytes) -> bytes:
    return blake3(place, derive_key_context=_BOX_NONCE).digest(length=_NONCE_BYTES)
