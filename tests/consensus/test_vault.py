"""The vault on disk: keys that are made once, kept privately, and erased when the store has forgotten their session."""

import errno
import os
from collections import Counter
from pathlib import Path

import anyio
import pytest
from nacl.bindings import crypto_sign_open

from messages.consensus_manager import Attempt
from overseer.consensus.identity import IdentityFolder
from overseer.consensus.vault import DiskVault
from overseer.nats.keys import UnusableKey
from overseer.node import hosting
from overseer.observe.logs import Waits, logger
from overseer.tables import View
from overseer.testing.given import Given
from subsystems.consensus_manager.config import ConsensusConfig
from subsystems.consensus_manager.crypto.boxes import box_public
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.subsystem import ConsensusManager
from subsystems.consensus_manager.tables import ATTEMPTS, AttemptRow

CONFIG, NOWHERE = ConsensusConfig(chain=bytes(32)), DiskVault(Path("nowhere"), Path("nowhere"))
SESSION, OTHER = bytes([1]) * 32, bytes([2]) * 32


@pytest.fixture
def vault(tmp_path: Path) -> DiskVault:
    IdentityFolder(tmp_path / "identity").ensure()
    return DiskVault(tmp_path / "identity", tmp_path / "sessions")


def knowing(*sessions: bytes) -> View:
    """Committed tables with these attempts."""
    view = Given(ConsensusManager(CONFIG, NOWHERE)).view.scratch()
    for session in sessions:
        view.put(ATTEMPTS, (session,), AttemptRow(attempt=Attempt(0, 30, 0, 0), epoch=1, block=bytes(32), members=(), validators=()))
    return view


def key_file(folder: Path, session: bytes) -> Path:
    return folder / "sessions" / f"{session.hex()}.key"


def test_an_identity_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    folder = IdentityFolder(tmp_path / "identity")
    made = folder.ensure()
    assert (folder.ensure().public, folder.ensure().box_public) == (made.public, made.box_public)
    assert made.box_public == box_public(made.box)
    assert crypto_sign_open(made.sign(b"said") + b"said", made.public) == b"said"
    for path in folder.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0
    (folder.folder / "signing.key").chmod(0o644)
    with pytest.raises(UnusableKey, match="others can read it"):
        folder.load()


def test_without_an_identity_nothing_is_made_and_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="there is none"):
        _ = DiskVault(tmp_path / "identity", tmp_path / "sessions").signing
    assert list(tmp_path.iterdir()) == []


def test_a_sessions_key_is_the_same_after_a_restart_and_opens_what_was_sealed(vault: DiskVault, tmp_path: Path) -> None:
    sealed = vault.wallet(SESSION).seal(Secret(b"a share"), b"label")
    again = DiskVault(tmp_path / "identity", tmp_path / "sessions").wallet(SESSION)
    opened = again.unseal(sealed, b"label")
    assert opened is not None
    assert opened.reveal() == b"a share"
    assert DiskVault(tmp_path / "identity", tmp_path / "sessions").wallet(OTHER).unseal(sealed, b"label") is None
    assert key_file(tmp_path, SESSION).stat().st_mode & 0o077 == 0


def test_a_session_is_known_from_when_its_key_is_first_asked_for_and_after_it_is_erased(vault: DiskVault, tmp_path: Path) -> None:
    assert not vault.knows(SESSION)
    vault.wallet(SESSION)
    assert DiskVault(tmp_path / "identity", tmp_path / "sessions").knows(SESSION)
    assert not vault.knows(OTHER)
    vault.erase_forgotten(knowing(SESSION))
    assert vault.erase_forgotten(knowing()) == [SESSION]
    assert DiskVault(tmp_path / "identity", tmp_path / "sessions").knows(SESSION)


def test_R5_a_node_whose_store_was_lost_has_no_other_deal_for_a_session(vault: DiskVault, tmp_path: Path) -> None:
    def seed(vault: DiskVault, session: bytes) -> bytes:
        found = vault.wallet(session).deal_seed(session)
        assert found is not None
        return found.reveal()

    assert seed(vault, SESSION) == seed(DiskVault(tmp_path / "identity", tmp_path / "sessions"), SESSION)
    assert seed(vault, SESSION) != seed(vault, OTHER)


def test_the_key_of_a_forgotten_session_is_erased_and_no_other(vault: DiskVault, tmp_path: Path) -> None:
    sealed = vault.wallet(SESSION).seal(Secret(b"a share"), b"label")
    vault.wallet(OTHER)
    assert vault.erase_forgotten(knowing(SESSION)) == []
    # The other one is not committed yet.
    assert key_file(tmp_path, OTHER).exists()
    assert vault.erase_forgotten(knowing()) == [SESSION]
    assert not key_file(tmp_path, SESSION).exists()
    assert vault.wallet(SESSION).unseal(sealed, b"label") is None
    assert vault.erase_forgotten(knowing(OTHER)) == []


def test_R5_a_session_whose_key_was_erased_gets_no_other_one_whatever_is_lost(vault: DiskVault, tmp_path: Path) -> None:
    for session in (SESSION, OTHER):
        vault.wallet(session)
    vault.erase_forgotten(knowing(SESSION, OTHER))
    assert vault.erase_forgotten(knowing()) == [SESSION, OTHER]
    # Torn by a kill.
    with (tmp_path / "sessions" / "erased").open("ab") as file:
        file.write(b"torn")
    again = DiskVault(tmp_path / "identity", tmp_path / "sessions")
    third = bytes([3]) * 32
    assert again.wallet(third).sealing is not None
    again.erase_forgotten(knowing(third))
    again.erase_forgotten(knowing())
    for last in (again, DiskVault(tmp_path / "identity", tmp_path / "sessions")):
        assert [last.wallet(session).sealing for session in (SESSION, OTHER, third)] == [None] * 3


def test_R5_a_start_with_a_new_store_keeps_the_keys_of_sessions_that_it_has_yet_to_meet(vault: DiskVault, tmp_path: Path) -> None:
    vault.wallet(SESSION)
    again = DiskVault(tmp_path / "identity", tmp_path / "sessions")
    assert again.erase_forgotten(knowing()) == []
    assert again.erase_forgotten(knowing(SESSION)) == []
    assert again.erase_forgotten(knowing()) == [SESSION]


def test_a_start_erases_old_keys_that_the_store_does_not_know(vault: DiskVault, tmp_path: Path) -> None:
    for session in (SESSION, OTHER):
        vault.wallet(session)
        os.utime(key_file(tmp_path, session), (0, 0))
    assert DiskVault(tmp_path / "identity", tmp_path / "sessions").erase_forgotten(knowing(OTHER)) == [SESSION]
    assert key_file(tmp_path, OTHER).exists()


def test_a_key_that_cannot_be_had_leaves_the_node_silent_in_that_session(vault: DiskVault, tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("in the way")
    wallet = vault.wallet(SESSION)
    assert wallet.sealing is None
    assert wallet.deal_seed(SESSION) is None
    os.unlink(tmp_path / "sessions")
    assert vault.wallet(SESSION).sealing is not None


def test_a_key_that_the_store_never_knew_is_erased_once_it_is_a_day_old_also_by_a_process_that_runs_on(
    vault: DiskVault, tmp_path: Path
) -> None:
    vault.wallet(SESSION)
    again = DiskVault(tmp_path / "identity", tmp_path / "sessions")
    assert again.erase_forgotten(knowing(OTHER)) == []
    os.utime(key_file(tmp_path, SESSION), (0, 0))
    assert again.erase_forgotten(knowing(OTHER)) == [SESSION]
    assert not key_file(tmp_path, SESSION).exists()


@pytest.mark.anyio
async def test_a_disk_that_refuses_the_erasing_ends_nothing_and_it_is_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, done = Counter[str](), anyio.Event()

    def chore(_: View) -> None:
        tried["times"] += 1
        if tried["times"] == 1:
            raise OSError(errno.ENOSPC, "no space left")
        done.set()

    monkeypatch.setattr(hosting, "CHORE_MS", 1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                hosting.keep_doing, chore, Given(ConsensusManager(CONFIG, NOWHERE)).view, Waits(logger("test"), "chore_failed")
            )
            await done.wait()
            tasks.cancel_scope.cancel()
