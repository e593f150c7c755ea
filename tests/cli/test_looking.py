"""`overseer status` and `overseer top` of a real node: in pipes, on a terminal, over a restart of the node, and at the end."""

import os
import pty
import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

import anyio
import pytest

from overseer.observe.http import fetch
from tests.node.nodes import SUBSYSTEMS, Node, Place, eventually, place

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

LEAVE_SCREEN = b"\x1b[?1049l"


class Screen:
    """A process on a terminal of its own: what it has written there."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, before: list[object]) -> None:
        self.process = process
        self.before = before
        self._terminal = terminal
        self._seen = b""

    def text(self) -> str:
        """All so far, without colours."""
        with suppress(BlockingIOError, OSError):
            while data := os.read(self._terminal, 65_536):
                self._seen += data
        return re.sub(r"\x1b\[[0-9;]*m", "", self._seen.decode(errors="replace"))

    def forget(self) -> None:
        self.text()
        self._seen = b""

    def left(self) -> bool:
        """Whether the terminal's own screen is shown again."""
        self.text()
        return LEAVE_SCREEN in self._seen

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def modes(self) -> list[object]:
        return termios.tcgetattr(self._terminal)

    async def shows(self, text: str) -> None:
        await eventually(lambda: text in self.text(), f"{text!r} is shown", log=self.text)

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, "it ends", log=self.text)
        return self.process.returncode


@contextmanager
def top(here: Place, *argv: str, columns: int = 80, rows: int = 24) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    os.set_blocking(ours, False)
    before = termios.tcgetattr(ours)
    process = here.start(
        "top",
        "--interval",
        "0.2",
        *argv,
        env={"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        yield Screen(process, ours, before)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


async def test_status_and_top_of_a_node_that_is_killed_comes_back_and_hangs(here: Place) -> None:
    here.settings |= {"feed.source": "dev", "feed.interval_ms": 200}
    async with Node.up(here) as node:
        page = b""
        while b"overseer_best_block{" not in page:
            page = (await fetch(node.info.http_port, "/metrics", timeout_ms=10_000)).body
        await look_in_pipes(here, node)
        with top(here) as screen:
            await screen.shows("node node well")
            await node.stop(signal.SIGKILL)
            await screen.shows("gone: no node runs on")
            screen.forget()
            async with Node.up(here) as again:
                await screen.shows("node node well")
                os.kill(again.pid("votes_db"), signal.SIGSTOP)
                await screen.shows("no answer of votes_db")
                # Ctrl-C.
                screen.press(b"\x03")
                assert await screen.ended() == 130
                assert screen.left()
                assert screen.modes() == screen.before
                assert "Traceback" not in screen.text()
                os.kill(again.pid("votes_db"), signal.SIGCONT)


async def look_in_pipes(here: Place, node: Node) -> None:
    done = await anyio.to_thread.run_sync(lambda: here.run("status", "--json"))
    assert done.code == 0, done
    told = done.json
    rows = {row["name"]: row for row in told["subsystems"]}
    assert set(rows) == set(SUBSYSTEMS)
    for name, row in rows.items():
        assert row["pid"] == node.pid(name)
        assert row["memory_mb"] > 10
        assert row["cpu_percent"] >= 0
        assert 0 < row["flight"]["p50_ms"] <= row["flight"]["p99_ms"]
        assert row["commit"]["p50_ms"] > 0
    # Blocks come five times a second.
    assert rows["chain_api"]["per_s"] > 0
    assert told["stream"]["commands_per_s"] > 0
    assert {process["name"]: process["pid"] for process in told["processes"]} == {
        "overseer": node.pid("overseer"),
        "nats-server": node.pid("nats-server"),
    }
    domain = {look["title"]: look for look in told["domain"]}
    assert [look["problem"] for look in told["domain"]] == [""] * 6
    assert domain["chain"]["figures"]["best_block"] > 0
    assert domain["chain"]["figures"]["best_block_age_seconds"] < 30
    assert domain["groups"]["figures"]["epoch"] == 0
    assert domain["elections"]["figures"] == {"elections_open": 0, "gateway_queues": 0, "gateway_items_open": 0, "gateways": 0}
    once = await anyio.to_thread.run_sync(lambda: here.run("top", "--once", "--interval", "0.2"))
    assert once.code == 0, once
    assert once.out.startswith("node node well")
    assert "\x1b" not in once.out
    assert (await anyio.to_thread.run_sync(lambda: here.run("status", "--interval", "0"))).code == 0
    piped = await anyio.to_thread.run_sync(lambda: here.run("top"))
    assert piped.code == 2
    assert "--once" in piped.error


async def test_top_waits_for_a_node_and_ends_at_q_and_sigterm(here: Place) -> None:
    with top(here) as screen:
        await screen.shows("gone: no node runs on")
        screen.press(b"q")
        assert await screen.ended() == 0
        assert screen.left()
        assert screen.modes() == screen.before
    with top(here) as screen:
        await screen.shows("gone: no node runs on")
        screen.process.send_signal(signal.SIGTERM)
        assert await screen.ended() == 130
        assert screen.left()
        assert screen.modes() == screen.before
        assert "Traceback" not in screen.text()
    assert here.run("top", "--once").code == 2


async def test_without_nats_and_with_a_silent_overseer_there_is_a_report_all_the_same(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        async with Node.up(here) as node:
            (here.data / "keys/feed.nk").chmod(0o644)
            done = await anyio.to_thread.run_sync(lambda: here.run("status", "--json"))
            assert [(finding["code"], finding["severity"]) for finding in done.json["wrong"]] == [("keys", "wrong")]
            assert "chmod 600" in done.json["wrong"][0]["remedy"]
            (here.data / "keys/feed.nk").chmod(0o600)
            os.kill(node.pid("nats-server"), signal.SIGSTOP)
            try:
                done = await anyio.to_thread.run_sync(lambda: here.run("status", "--json"))
            finally:
                os.kill(node.pid("nats-server"), signal.SIGCONT)
            assert done.code == 1, done
            assert done.json["wrong"][0]["code"] == "nats_away"
            assert done.json["stream"] is None
            assert len(done.json["subsystems"]) == 5
            os.kill(node.pid("overseer"), signal.SIGSTOP)
            try:
                done = await anyio.to_thread.run_sync(lambda: here.run("status"))
            finally:
                os.kill(node.pid("overseer"), signal.SIGCONT)
            assert done.code == 1, done
            assert done.out.startswith("critical: the overseer (pid ")
