"""The vault of a node on disk: its identity, and a key for each session of a DKG, outside of journal and store (ADR 0023).

What the journal holds of a session is sealed under the session's key. The key is on disk before anything is sealed with it, and is
erased when the store has forgotten the session: then what is sealed is lost for good. Which ones were erased is remembered: a node whose
store was lost meets its old sessions again, and must not make another key, and another deal, for one of them (R5).
"""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from overseer.consensus.identity import KEY_BYTES, Identity, IdentityOnDisk, read_key
from overseer.nats.keys import UnusableKey
from overseer.nats.private_files import private_folder, sync_folder, write_private
from overseer.tables import View
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.tables import ATTEMPTS
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["DiskVault"]

_SUFFIX = ".key"
# The ids of sessions whose keys were erased, one behind the other.
_ERASED = "erased"
_SESSION_BYTES = 32
# A key that the store does not know may be of a session that it has yet to meet again; after so long nobody waits for that.
_STRAY_S = 24 * 3_600


class DiskVault:
    """The secrets of one node (`subsystems.consensus_manager.config.Vault`). Nothing is read before it is needed.

    Whoever serves with it loads the identity beforehand, so that a key that cannot be used is named there (UnusableKey).
    """

    def __init__(self, identity: Path, sessions: Path) -> None:
        """`identity`: the folder of the node's identity; `sessions`: that of the sessions' keys."""
        self._identity = IdentityOnDisk(identity)
        self._sessions = sessions.absolute()
        self._keys: dict[bytes, Secret[bytes]] = {}
        # Sessions that the store knew when it was last looked at.
        self._known: set[bytes] = set()
        self._erased: set[bytes] | None = None

    @property
    def identity(self) -> Identity:
        return self._identity.identity

    @property
    def signing(self) -> bytes:
        return self.identity.public

    def wallet(self, session: bytes) -> Wallet:
        return Wallet(signing=self.identity.signing, box=self.identity.box, sealing=self._sealing(session))

    def knows(self, session: bytes) -> bool:
        """Whether there is or was a key of the session; where that cannot be looked at, there may have been."""
        try:
            return session in self._keys or self._path(session).exists() or session in self._erased_ones()
        except OSError:
            return True

    def erase_forgotten(self, view: View) -> list[bytes]:
        """Erase the keys of sessions that the committed store no longer has; which. Also old ones that it never had. Raises OSError.

        A key whose session is not committed yet stays: only what was there and is gone is erased, or what lay there for long.
        """
        now = {session for (session,), _ in view.scan(ATTEMPTS)}
        gone = sorted((self._known | self._strays()) - now)
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
        if session in self._erased_ones():
            raise UnusableKey(path, "it was erased", "the session is over")
        if not path.exists():
            private_folder(self._sessions)
            write_private(path, secrets.token_hex(KEY_BYTES) + "\n", replace=False)
        return read_key(path)

    def _strays(self) -> set[bytes]:
        """Sessions of keys that lie there for long."""
        folder = self._sessions
        found: set[bytes] = set()
        for path in folder.iterdir() if folder.is_dir() else ():
            with suppress(ValueError, FileNotFoundError):
                session = bytes.fromhex(path.name.removesuffix(_SUFFIX))
                if time.time() - path.stat().st_mtime > _STRAY_S:
                    found.add(session)
        return found

    def _erased_ones(self) -> set[bytes]:
        if self._erased is None:
            path = self._sessions / _ERASED
            data = path.read_bytes() if path.exists() else b""
            # A torn end is of a key that is still there.
            whole = range(0, len(data) - len(data) % _SESSION_BYTES, _SESSION_BYTES)
            self._erased = {data[at : at + _SESSION_BYTES] for at in whole}
        return self._erased

    def _remember(self, session: bytes) -> None:
        """On disk before the key is gone."""
        self._erased_ones().add(session)
        private_folder(self._sessions)
        handle = os.open(self._sessions / _ERASED, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            os.pwrite(handle, session, size - size % _SESSION_BYTES)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _erase(self, session: bytes) -> None:
        """Overwritten first: what a file system keeps beside is beyond us."""
        self._keys.pop(session, None)
        self._remember(session)
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
