"""A node's identity: the secret keys that it signs and opens boxes with, as files that only its owner can read.

<keys>/identity/
    signing.key      seed of an Ed25519 key, in hexadecimal: signs network messages and stands in the validator set
    box.key          X25519 key: boxes of the DKGs are sealed to it
"""

import os
import secrets
import stat
from pathlib import Path

from nacl.bindings import crypto_scalarmult_base, crypto_sign, crypto_sign_seed_keypair

from overseer.nats.keys import UnusableKey
from overseer.nats.private_files import private_folder, write_private
from subsystems.consensus_manager.crypto.secret import Secret

__all__ = ["KEY_BYTES", "Identity", "IdentityFolder", "IdentityOnDisk", "read_key"]

KEY_BYTES = 32
_SIGNATURE_BYTES = 64
# A key is 64 hexadecimal digits; what is longer is none.
_FILE_BYTES_MAX = 256
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Identity:
    """The keys of one node, in memory."""

    def __init__(self, signing: Secret[bytes], box: Secret[bytes]) -> None:
        self.signing = signing
        self.box = box
        public, secret = crypto_sign_seed_keypair(signing.reveal())
        self.public = public
        self.box_public = crypto_scalarmult_base(box.reveal())
        self._pair = Secret(secret)

    def sign(self, payload: bytes) -> bytes:
        """Ed25519, deterministic: 64 bytes."""
        return crypto_sign(payload, self._pair.reveal())[:_SIGNATURE_BYTES]


class IdentityFolder:
    """Where a node's identity lies (`Config.identity_dir`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def ensure(self) -> Identity:
        """The identity; made if there is none. Idempotent, also with another process doing the same. Raises UnusableKey."""
        private_folder(self.folder.parent)
        private_folder(self.folder)
        for name in ("signing", "box"):
            if not self._path(name).exists():
                write_private(self._path(name), secrets.token_hex(KEY_BYTES) + "\n", replace=False)
        return self.load()

    def load(self) -> Identity:
        """Raises UnusableKey when there is none, or others can read it."""
        return Identity(read_key(self._path("signing")), read_key(self._path("box")))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.key"


class IdentityOnDisk:
    """The identity in a folder, read when it is first needed. What it needs raises as `IdentityFolder.load`."""

    def __init__(self, folder: Path) -> None:
        self._folder = IdentityFolder(folder)
        self._loaded: Identity | None = None

    @property
    def identity(self) -> Identity:
        if self._loaded is None:
            self._loaded = self._folder.load()
        return self._loaded

    @property
    def public(self) -> bytes:
        return self.identity.public

    def sign(self, payload: bytes) -> bytes:
        return self.identity.sign(payload)


def read_key(path: Path) -> Secret[bytes]:
    """The 32 bytes in a file. Raises UnusableKey, OSError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise UnusableKey(path, "there is none", "run: overseer provision") from None
    if os.name == "posix" and mode & _OTHERS:
        raise UnusableKey(path, "others can read it", f"run: chmod 600 {path}; a key that was read by others should be replaced")
    try:
        key = bytes.fromhex(raw.decode("ascii").strip())
    except (UnicodeDecodeError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UnusableKey(path, "not a key of 32 bytes in hexadecimal", "restore it from a backup: a new one is another identity")
    return Secret(key)
