"""What a backup copies of folders that others change meanwhile: each file once, as of one moment, or a refusal."""

import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from overseer.backup.manifest import BackupRefused
from overseer.backup.writing import Draft
from overseer.nats.keys import KeyFolder
from overseer.nats.private_files import write_private

USERS = ["alice", "bob"]


def drafted(folder: Path) -> Draft:
    folder.mkdir()
    return Draft(folder)


def once_before_opening(path: Path, change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process would do it at that moment."""
    left = [change]
    really: Callable[..., Any] = Path.open

    def watched(self: Path, *args: Any, **options: Any) -> Any:
        if self == path and left:
            left.pop()()
        return really(self, *args, **options)

    monkeypatch.setattr(Path, "open", watched)


def assert_copied(draft: Draft, keys: KeyFolder) -> None:
    """The keys as they are now, and nothing else."""
    copied = KeyFolder(draft.folder / "keys")
    assert {user: copied.public(user) for user in USERS} == {user: keys.public(user) for user in USERS}
    assert sorted(entry.path for entry in draft.files) == [f"keys/{user}.nk" for user in USERS]
    assert sorted(path.name for path in copied.folder.iterdir()) == [f"{user}.nk" for user in USERS]


def test_a_prepared_key_that_takes_its_place_before_it_is_copied_is_copied_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(USERS)
    keys.prepare("alice")
    once_before_opening(keys.folder / "alice.nk.next", lambda: keys.adopt("alice"), monkeypatch)
    draft = drafted(tmp_path / "draft")
    draft.copy_tree(keys.folder, "keys")
    assert_copied(draft, keys)


def test_keys_that_are_rotated_while_they_are_copied_are_copied_as_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(USERS)
    once_before_opening(keys.path("bob"), lambda: [keys.rotate(user) for user in USERS], monkeypatch)
    draft = drafted(tmp_path / "draft")
    draft.copy_tree(keys.folder, "keys")
    assert_copied(draft, keys)


def test_a_folder_that_does_not_rest_is_refused_and_nothing_of_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(USERS)
    ended = Event()

    def touch() -> None:
        for moment in count():
            if ended.is_set():
                return
            os.utime(keys.path(USERS[0]), ns=(moment, moment))

    monkeypatch.setattr("overseer.backup.writing._TRIES", 1)
    thread = Thread(target=touch)
    thread.start()
    try:
        draft, refusal = refused_draft(tmp_path, keys.folder)
    finally:
        ended.set()
        thread.join()
    assert f"{keys.folder} are being changed" in str(refusal)
    assert (draft.files, list(draft.folder.iterdir())) == ([], [])


def refused_draft(place: Path, source: Path) -> tuple[Draft, BackupRefused]:
    """The threads' turns decide whether one look meets a change: some look does."""
    deadline = time.monotonic() + 30
    for number in count():
        draft = drafted(place / f"draft{number}")
        try:
            draft.copy_tree(source, "keys")
        except BackupRefused as refusal:
            return draft, refusal
        assert time.monotonic() < deadline
    raise AssertionError


def test_what_a_kill_left_half_written_is_not_copied_and_all_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "keys"
    (folder / "identity").mkdir(parents=True, mode=0o700)
    write_private(folder / "identity" / "box.key", "0a")
    write_private(folder / "votes_db.nk", "S")
    write_private(folder / ".of_a_person", "mine")
    with monkeypatch.context() as killed:
        killed.setattr(os, "fsync", _killed)
        killed.setattr(Path, "unlink", _killed)
        for name in ("votes_db.nk", "identity/box.key"):
            with pytest.raises(KeyboardInterrupt):
                write_private(folder / name, "other")
    assert len(list(folder.rglob(".*"))) == 3
    draft = drafted(tmp_path / "draft")
    draft.copy_tree(folder, "keys")
    assert [entry.path for entry in draft.files] == ["keys/.of_a_person", "keys/identity/box.key", "keys/votes_db.nk"]
    assert (draft.folder / "keys/votes_db.nk").read_text() == "S"


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
