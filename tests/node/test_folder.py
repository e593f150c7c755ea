"""A node's folder: who holds it, and how others find the run that is on."""

import fcntl
import os
from pathlib import Path

import pytest

from overseer.node import folder as folder_module
from overseer.node.folder import FolderInUse, NodeFolder, NotRunning, NotTold, RunInfo


def a_run(run_id: str) -> RunInfo:
    return RunInfo(node="node", run_id=run_id, pid=os.getpid(), url="nats://127.0.0.1:1", http_port=1, started_ms=1)


def test_a_run_is_found_once_it_has_told_where_it_is_and_not_behind_its_end(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    with folder.locked():
        folder.tell(a_run("first"))
        assert folder.running().run_id == "first"
    with pytest.raises(NotRunning, match="no node is running"):
        folder.running()


def test_the_last_run_does_not_pass_for_whoever_holds_the_folder_now(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    with folder.locked():
        with pytest.raises(NotTold, match="just starting"):
            folder.running()
        folder.tell(a_run("first"))
    with folder.locked():
        with pytest.raises(NotTold, match="just starting"):
            folder.running()
        folder.tell(a_run("second"))
        assert folder.running().run_id == "second"


def test_two_do_not_hold_it(tmp_path: Path) -> None:
    with NodeFolder(tmp_path).locked(), pytest.raises(FolderInUse), NodeFolder(tmp_path).locked():
        pass


def test_two_that_look_at_once_do_not_take_each_other_for_a_node(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    with folder.locked():
        folder.tell(a_run("killed"))
    other = os.open(tmp_path / "node.lock", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    with pytest.raises(NotRunning, match="no node is running"):
        folder.running()
    os.close(other)


def test_who_only_looks_whether_it_is_held_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with NodeFolder(tmp_path).locked():
        pass
    looking = os.open(tmp_path / "node.lock", os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    # It has looked by the time the next try is made.
    monkeypatch.setattr(folder_module.time, "sleep", lambda _: os.close(looking))
    with NodeFolder(tmp_path).locked():
        assert NodeFolder(tmp_path).is_locked()
