"""Keys: one nkey (an Ed25519 pair) for every user of the bus, kept in a folder that only its owner can read.

The server's configuration holds public keys only. A seed leaves its file for one purpose: to sign the server's challenge.
It is never printed: `Seed` hides it from `repr`, `str`, formatting, pickling and logs.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, cast

import nkeys  # pyright: ignore[reportMissingTypeStubs]

from overseer.nats.private_files import private_folder, write_private

__all__ = ["KeyFolder", "Seed", "UnusableKey"]

# Comes without types.
_nkeys = cast(Any, nkeys)
# The raw size of an Ed25519 seed.
_SEED_BYTES = 32
_SUFFIX = ".nk"
_USER = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class UnusableKey(Exception):
    """A key file that cannot be used: which, why, and what to do."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"key {path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy


class Seed:
    """A user's secret. `reveal()` is the only way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def public(self) -> str:
        """The public key, as the server's configuration names the user (U...). Raises ValueError when this is no user seed."""
        try:
            pair = _nkeys.from_seed(bytearray(self._text.encode()))
            public = cast(bytes, pair.public_key).decode()
            pair.wipe()
        except Exception:  # nkeys raises its own, binascii's and ValueError; none may carry the seed onwards
            raise ValueError("not an nkey seed") from None
        if not public.startswith("U"):
            raise ValueError("not the seed of a user")
        return public

    def __repr__(self) -> str:
        return "Seed(hidden)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a seed is not to be pickled")


def _fresh() -> Seed:
    return Seed(_nkeys.encode_seed(secrets.token_bytes(_SEED_BYTES), _nkeys.PREFIX_BYTE_USER).decode())


class KeyFolder:
    """The keys of one node: `<folder>/<user>.nk`, files 0600 in a folder 0700."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, user: str) -> Path:
        """The seed file of `user`: what `nats-py` (`nkeys_seed`) and the `nats` command line (`--nkey`) take."""
        if not _USER.match(user):
            raise ValueError(f"user {user!r} must be lower snake case, at most 64 characters")
        return self.folder / f"{user}{_SUFFIX}"

    def ensure(self, users: Iterable[str]) -> dict[str, str]:
        """Public keys by user; makes those that are missing. Idempotent, also with another process doing the same."""
        self._ensure_folder()
        for user in users:
            if not self.path(user).exists():
                write_private(self.path(user), _fresh().reveal() + "\n", replace=False)
        return {user: self.public(user) for user in users}

    def public(self, user: str) -> str:
        return self._checked(user)[1]

    def seed(self, user: str) -> Seed:
        return self._checked(user)[0]

    def rotate(self, user: str) -> str:
        """Give `user` a new key; returns its public key.

        The server takes it with the next reload of the configuration, which also ends connections made with the old one.
        """
        self._ensure_folder()
        write_private(self.path(user), _fresh().reveal() + "\n")
        return self.public(user)

    def _ensure_folder(self) -> None:
        private_folder(self.folder)
        if os.name == "posix" and self.folder.stat().st_mode & _OTHERS:
            raise UnusableKey(self.folder, "others can enter the folder", f"run: chmod 700 {self.folder}")

    def _checked(self, user: str) -> tuple[Seed, str]:
        path = self.path(user)
        try:
            mode = path.stat().st_mode
            seed = Seed(path.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            raise UnusableKey(path, "there is none", "run: overseer provision") from None
        except UnicodeDecodeError:
            raise UnusableKey(path, "not an nkey seed", "remove it; a new one is made at the next start") from None
        if os.name == "posix" and mode & _OTHERS:
            raise UnusableKey(path, "others can read it", f"run: chmod 600 {path}, and rotate the key")
        try:
            return seed, seed.public()
        except ValueError as error:
            raise UnusableKey(path, str(error), "remove it; a new one is made at the next start") from None
