"""Development validators' keys, all of them from one seed: the same seed gives the same keys and the same signatures."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b

import msgspec
from nacl.signing import SigningKey

from messages.polkadot import Scheme, Validator
from overseer.feeds import schnorrkel

__all__ = ["Key", "KeyFileError", "Keyring", "derive"]


def derive(seed: str | bytes, *path: str | int | bytes) -> bytes:
    """32 bytes that `seed` and `path` determine; every other path gives others."""
    parts = [seed, *path]
    data = b"".join(len(p).to_bytes(4, "little") + p for p in (part if isinstance(part, bytes) else str(part).encode() for part in parts))
    return blake2b(data, digest_size=32, person=b"overseer dev").digest()


class KeyFileError(ValueError):
    """Not a key file: `{"keys": [{"scheme": "sr25519" | "ed25519", "seed": <64 hex digits>}, ...]}`."""


class Key:
    """A key pair of one scheme, from 32 secret bytes."""

    def __init__(self, scheme: Scheme, seed: bytes) -> None:
        self.scheme = scheme
        self.seed = seed

    @cached_property
    def _pair(self) -> tuple[bytes, bytes]:
        if self.scheme is Scheme.SR25519:
            return schnorrkel.pair_from_seed(self.seed)
        return bytes(SigningKey(self.seed).verify_key), self.seed

    @property
    def public(self) -> bytes:
        return self._pair[0]

    @property
    def validator(self) -> Validator:
        """As a session's validator set lists it."""
        return Validator(self.public, self.scheme)

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same for the same message."""
        if self.scheme is Scheme.SR25519:
            return schnorrkel.sign(*self._pair, message)
        return SigningKey(self.seed).sign(message).signature


class _StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scheme: Scheme
    seed: str


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[_StoredKey]


class Keyring:
    """Keys in order; the place of a key is not its validator index (sessions choose)."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)

    @classmethod
    def from_seed(cls, seed: str | bytes, count: int, *, ed25519_every: int = 0) -> "Keyring":
        """`count` sr25519 keys; every `ed25519_every`-th is Ed25519 instead (0: none, 1: all)."""
        return cls([Key(_scheme(i, ed25519_every), derive(seed, "validator", i)) for i in range(count)])

    @classmethod
    def from_json(cls, text: bytes | str) -> "Keyring":
        """The keys of a key file. Raises KeyFileError."""
        try:
            stored = msgspec.json.decode(text, type=_KeyFile)
            seeds = [bytes.fromhex(k.seed) for k in stored.keys]
        except (msgspec.MsgspecError, ValueError) as error:
            raise KeyFileError(f"not a key file: {error}") from None
        for i, seed in enumerate(seeds):
            if len(seed) != 32:
                raise KeyFileError(f"key {i}: a seed has 32 bytes, this one {len(seed)}")
        return cls([Key(k.scheme, seed) for k, seed in zip(stored.keys, seeds, strict=True)])

    def to_json(self) -> bytes:
        """A key file. It holds secrets: for development keys."""
        stored = _KeyFile([_StoredKey(k.scheme, k.seed.hex()) for k in self.keys])
        return msgspec.json.format(msgspec.json.encode(stored), indent=1)

    def __getitem__(self, index: int) -> Key:
        return self.keys[index]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)

    @property
    def validators(self) -> list[Validator]:
        """The set in which every key's index is its place."""
        return [key.validator for key in self.keys]


def _scheme(index: int, ed25519_every: int) -> Scheme:
    return Scheme.ED25519 if ed25519_every and index % ed25519_every == ed25519_every - 1 else Scheme.SR25519
