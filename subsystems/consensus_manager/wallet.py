"""The secrets of one node, and what is done with them. They are kept outside of the journal and come in as an argument.

`signing` and `box` are the node's identity; `sealing` is made anew for every session and erased when the accepting block of a later group
is final: then what the journal holds sealed is lost for good.
"""

from blake3 import blake3
from msgspec import Struct
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from messages.consensus_manager import Identity, OfAttempt
from messages.consensus_signing import signed_bytes
from subsystems.consensus_manager.crypto.boxes import box_public, seal, unseal
from subsystems.consensus_manager.crypto.secret import Secret

__all__ = ["Wallet"]

_SIGNATURE_BYTES = 64
_DEAL = b"overseer deal seed v1\x00"


class Wallet(Struct, frozen=True, kw_only=True):
    """`signing`: the seed of an Ed25519 key; `box`: an X25519 key; `sealing`: None once it is erased. All have 32 bytes."""

    signing: Secret[bytes]
    box: Secret[bytes]
    sealing: Secret[bytes] | None

    @property
    def identity(self) -> Identity:
        """The public side."""
        return Identity(crypto_sign_seed_keypair(self.signing.reveal())[0], box_public(self.box))

    def sign(self, payload: bytes) -> bytes:
        """Ed25519, deterministic: the same message is always the same bytes."""
        _, secret = crypto_sign_seed_keypair(self.signing.reveal())
        return crypto_sign(payload, secret)[:_SIGNATURE_BYTES]

    def signature(self, message: OfAttempt) -> bytes:
        """The sender's signature under a message."""
        return self.sign(signed_bytes(message))

    def deal_seed(self, session: bytes) -> Secret[bytes] | None:
        """The seed of this node's deal in a session: one and the same for as long as the session's key is there, whatever else is lost."""
        return None if self.sealing is None else Secret(blake3(_DEAL + session, key=self.sealing.reveal()).digest())

    def seal(self, secret: Secret[bytes], label: bytes) -> bytes | None:
        """To be stored; None when the session's key is erased."""
        return None if self.sealing is None else seal(secret, label=label, key=self.sealing)

    def unseal(self, sealed: bytes | None, label: bytes) -> Secret[bytes] | None:
        """What was sealed; None when nothing was, or it cannot be opened any more."""
        return None if sealed is None or self.sealing is None else unseal(sealed, label=label, key=self.sealing)
