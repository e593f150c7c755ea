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

from overseer.nats.private_files import private_folder, sync_folder, write_private

__all__ = ["KeyFolder", "Seed", "UnusableKey"]

# Comes without types.
_nkeys = cast(Any, nkeys)
# The raw size of an Ed25519 seed.
_SEED_BYTES = 32
_SUFFIX = ".nk"
# A seed is 58 characters; what is longer is none.
_FILE_BYTES_MAX = 256
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
        return _read(self.path(user))[1]

    def seed(self, user: str) -> Seed:
        return _read(self.path(user))[0]

    def rotate(self, user: str) -> str:
        """Give `user` a new key at once; returns its public key. For a server that does not run.

        The server takes it with the next reload of the configuration, which also ends connections made with the old one.
        Where one runs: `prepare`, reload, `adopt`, reload. At no moment is the key in the file one that the server refuses.
        """
        self.prepare(user)
        self.adopt(user)
        return self.public(user)

    # --- in two steps ----------------------------------------------------------------------------------------------------

    def prepare(self, user: str) -> str:
        """Make the next key of `user` beside the present one, if there is none yet; returns its public key."""
        self._ensure_folder()
        write_private(self._next_path(user), _fresh().reveal() + "\n", replace=False)
        return _read(self._next_path(user))[1]

    def adopt(self, user: str) -> None:
        """Put the prepared key in the place of the present one; a kill leaves either. Raises UnusableKey without one."""
        self.coming_seed(user)
        self._next_path(user).replace(self.path(user))
        sync_folder(self.folder)

    def discard(self, user: str) -> None:
        """Forget a prepared key."""
        self._next_path(user).unlink(missing_ok=True)

    def coming(self, users: Iterable[str]) -> dict[str, str]:
        """The public keys that are prepared, by user."""
        return {user: _read(self._next_path(user))[1] for user in users if self._next_path(user).exists()}

    def coming_seed(self, user: str) -> Seed:
        """The prepared key. Raises UnusableKey."""
        return _read(self._next_path(user))[0]

    def strangers(self, users: Iterable[str]) -> list[Path]:
        """What lies in the folder and is no key of `users`, drafts of a killed process among it. The node's identity is none of ours."""
        known = {path for user in users for path in (self.path(user), self._next_path(user))} | {self.folder / "identity"}
        return sorted(path for path in self.folder.iterdir() if path not in known) if self.folder.is_dir() else []

    def check_folder(self) -> None:
        """Raises UnusableKey when others can enter the folder."""
        if os.name == "posix" and self.folder.stat().st_mode & _OTHERS:
            raise UnusableKey(self.folder, "others can enter the folder", f"run: chmod 700 {self.folder}")

    def _next_path(self, user: str) -> Path:
        return self.path(user).with_suffix(f"{_SUFFIX}.next")

    def _ensure_folder(self) -> None:
        private_folder(self.folder)
        self.check_folder()


def _read(path: Path) -> tuple[Seed, str]:
    """The seed in a file and its public key. Raises UnusableKey."""
    try:
        with path.open("rb") as file:
            # Of the open file, not of whatever has the name by then.
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise UnusableKey(path, "there is none", "run: overseer provision") from None
    if os.name == "posix" and mode & _OTHERS:
        user = path.name.partition(".")[0]
        raise UnusableKey(path, "others can read it", f"run: chmod 600 {path}, then overseer keys rotate {user}")
    try:
        seed = Seed(raw.decode("ascii").strip())
        return seed, seed.public()
    except ValueError as error:
        why = "not an nkey seed" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UnusableKey(path, why, "remove it; a new one is made at the next start") from None
