"""The vault of a node on disk: its identity, and a key for each session of a DKG, outside of journal and store (ADR 0023).

What the journal holds of a session is sealed under the session's key. The key is on disk before anything is sealed with it, and is
erased when the store has forgotten the session: then what is sealed is lost for good.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from overseer.consensus.identity import KEY_BYTES, Identity, IdentityFolder, read_key
from overseer.nats.keys import UnusableKey
from overseer.nats.private_files import private_folder, sync_folder, write_private
from overseer.tables import View
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.tables import ATTEMPTS
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["DiskVault"]

_SUFFIX = ".key"


class DiskVault:
    """The secrets of one node (`subsystems.consensus_manager.config.Vault`). Nothing is read before it is needed.

    Whoever serves with it loads the identity beforehand, so that a key that cannot be used is named there (UnusableKey).
    """

    def __init__(self, identity: Path, sessions: Path) -> None:
        """`identity`: the folder of the node's identity; `sessions`: that of the sessions' keys."""
        self._folder = IdentityFolder(identity)
        self._sessions = sessions.absolute()
        self._identity: Identity | None = None
        self._keys: dict[bytes, Secret[bytes]] = {}
        # Sessions that the store knew when it was last looked at.
        self._known: set[bytes] | None = None

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            self._identity = self._folder.load()
        return self._identity

    @property
    def signing(self) -> bytes:
        return self.identity.public

    def wallet(self, session: bytes) -> Wallet:
        return Wallet(signing=self.identity.signing, box=self.identity.box, sealing=self._sealing(session))

    def erase_forgotten(self, view: View) -> list[bytes]:
        """Erase the keys of sessions that the committed store no longer has; which. At the first call also what nobody knew.

        A key whose session is not committed yet stays: only what was there and is gone is erased.
        """
        now = {session for (session,), _ in view.scan(ATTEMPTS)}
        if self._known is None:
            self._known = self._stored() - set(self._keys) | now
        gone = sorted(self._known - now)
        for session in gone:
            self._erase(session)
        self._known = now
        return gone

    # -------------------------------------------------------------------------------------------- keys of sessions

    def _sealing(self, session: bytes) -> Secret[bytes] | None:
        """The session's key, made when first asked for; None where it cannot be had: the node then says nothing in that session."""
        key = self._keys.get(session)
        if key is None:
            try:
                key = self._kept(session)
            except (OSError, UnusableKey):
                return None
            self._keys[session] = key
        return key

    def _kept(self, session: bytes) -> Secret[bytes]:
        path = self._path(session)
        if not path.exists():
            private_folder(self._sessions)
            write_private(path, secrets.token_hex(KEY_BYTES) + "\n", replace=False)
        return read_key(path)

    def _stored(self) -> set[bytes]:
        folder = self._sessions
        found: set[bytes] = set()
        for path in folder.iterdir() if folder.is_dir() else ():
            with suppress(ValueError):
                found.add(bytes.fromhex(path.name.removesuffix(_SUFFIX)))
        return found

    def _erase(self, session: bytes) -> None:
        """Overwritten first: what a file system keeps beside is beyond us."""
        self._keys.pop(session, None)
        path = self._path(session)
        with suppress(FileNotFoundError):
            with path.open("r+b") as file:
                file.write(b"0" * (2 * KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            sync_folder(path.parent)

    def _path(self, session: bytes) -> Path:
        return self._sessions / f"{session.hex()}{_SUFFIX}"
