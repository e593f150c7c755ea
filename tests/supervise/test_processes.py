"""Supervision of real processes: whatever a child does, it is restarted or named; whatever happens to us, it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from overseer.supervise.policy import EXIT_FATAL, SupervisePolicy
from overseer.supervise.process import ChildSpec
from overseer.supervise.status import ChildState
from tests.supervise.supervision import DEADLINE_S, QUICK, WATCHFUL, gone, process, supervising, wait_until

SUPERVISING = Path(__file__).with_name("supervising_program.py")
pytestmark = pytest.mark.anyio


async def test_a_killed_child_is_restarted_and_the_cause_is_known(tmp_path: Path) -> None:
    async with supervising(process("steady", tmp_path)) as s:
        first = await s.until(lambda c: c.state is ChildState.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        second = await s.until(lambda c: c.state is ChildState.READY and c.pid != first.pid)
        assert second.restarts == 1
        assert second.last_failure is not None
        assert second.last_failure.cause == "killed by SIGKILL"
        assert second.last_failure.pid == first.pid
    assert s.gave_up is None
    assert s.supervisor.statuses()[0].state is ChildState.ENDED


async def test_a_child_that_fails_at_first_comes_up_after_growing_pauses(tmp_path: Path) -> None:
    async with supervising(process("fail_twice", tmp_path)) as s:
        status = await s.until(lambda c: c.state is ChildState.READY)
        assert status.restarts == 2
        assert status.last_failure is not None
        assert status.last_failure.exit_code == 1


async def test_too_many_failures_end_it_naming_the_first_and_its_last_words(tmp_path: Path) -> None:
    async with supervising(process("fail", tmp_path)) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert s.gave_up is not None
    assert s.gave_up.failures == QUICK.restarts_max + 1
    assert s.gave_up.first.exit_code == 3
    assert s.gave_up.first.last_lines == ("it is broken, run 1",)
    assert s.gave_up.last.exit_code == 3 + QUICK.restarts_max
    assert "votes_db failed 4 times" in str(s.gave_up)
    assert "it is broken, run 1" in str(s.gave_up)
    assert s.supervisor.statuses()[0].state is ChildState.GAVE_UP
    assert s.stop.reason == "votes_db was given up"


async def test_a_child_that_says_a_restart_cannot_help_is_not_restarted(tmp_path: Path) -> None:
    async with supervising(process("fatal", tmp_path)) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert s.gave_up is not None
    assert s.gave_up.failures == 1
    assert s.gave_up.first.exit_code == EXIT_FATAL
    assert s.gave_up.first.final


async def test_a_program_that_does_not_exist_is_named() -> None:
    async with supervising(ChildSpec(name="votes_db", argv=("/no/such/program",))) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert s.gave_up is not None
    assert "could not be started" in s.gave_up.first.cause
    assert "/no/such/program" in s.gave_up.first.cause


async def test_a_stopped_child_is_noticed_named_and_restarted(tmp_path: Path) -> None:
    async with supervising(process("steady", tmp_path), WATCHFUL) as s:
        first = await s.until(lambda c: c.state is ChildState.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        second = await s.until(lambda c: c.state is ChildState.READY and c.pid != first.pid)
        assert second.stalls == 1
        assert second.last_failure is not None
        assert second.last_failure.stalled
        assert "no heartbeat" in second.last_failure.cause
        assert gone(first.pid)


async def test_a_child_that_beats_without_getting_on_is_restarted(tmp_path: Path) -> None:
    async with supervising(process("stuck_once", tmp_path), WATCHFUL) as s:
        status = await s.until(lambda c: c.state is ChildState.READY and c.restarts == 1)
        assert status.last_failure is not None
        assert "work pending but no progress" in status.last_failure.cause


async def test_a_child_that_never_shows_life_is_given_up(tmp_path: Path) -> None:
    policy = SupervisePolicy(backoff_first_ms=1, restarts_max=1, start_ms=150, stall_ms=100)
    async with supervising(process("silent", tmp_path), policy) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert s.gave_up is not None
    assert "no sign of life within 150 ms" in s.gave_up.first.cause


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with supervising(process("deaf", tmp_path)) as s:
        status = await s.until(lambda c: c.state is ChildState.READY)
        assert status.pid is not None
        began = time.monotonic()
        s.stop.request("test")
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert time.monotonic() - began < 3
    assert gone(status.pid)


async def test_a_second_request_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    patient = SupervisePolicy(terminate_ms=600_000, conclude_ms=600_000)
    async with supervising(process("deaf", tmp_path), patient, conclude=lambda _reason: anyio.sleep_forever()) as s:
        await s.until(lambda c: c.state is ChildState.READY)
        s.stop.request("SIGINT")
        s.stop.request("SIGINT")
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()


async def test_the_end_is_announced_once_before_anyone_is_told_and_may_hang_or_fail(tmp_path: Path) -> None:
    told: list[tuple[str, ChildState]] = []

    async def conclude(reason: str) -> None:
        told.append((reason, s.supervisor.statuses()[0].state))
        if len(told) == 1:
            raise ConnectionError("no bus")

    async with supervising(process("steady", tmp_path), conclude=conclude) as s:
        await s.until(lambda c: c.state is ChildState.READY)
        s.stop.request("SIGTERM")
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    assert told == [("SIGTERM", ChildState.READY)]


async def test_an_end_that_a_second_request_cut_short_is_not_said_to_be_out_of_time(tmp_path: Path) -> None:
    begun = anyio.Event()

    async def conclude(_: str) -> None:
        begun.set()
        await anyio.sleep_forever()

    patient = msgspec.structs.replace(QUICK, conclude_ms=600_000)
    with capture_logs() as said:
        async with supervising(process("steady", tmp_path), patient, conclude=conclude) as s:
            await s.until(lambda c: c.state is ChildState.READY)
            s.stop.request("SIGTERM")
            with anyio.fail_after(DEADLINE_S):
                await begun.wait()
                s.stop.request("SIGTERM")
                await s.ended.wait()
    assert [line for line in said if line["event"] == "conclude_failed"] == []


def test_without_a_stderr_of_ours_what_a_child_says_is_dropped() -> None:
    code = (
        "import sys; from overseer.supervise.process import to_our_stderr\n"
        "assert sys.stderr is None\n"
        "to_our_stderr('a', b'b'); print('went on')"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n")


async def test_an_end_that_could_not_be_announced_in_time_is_said(tmp_path: Path) -> None:
    hasty = msgspec.structs.replace(QUICK, conclude_ms=50)
    with capture_logs() as said:
        async with supervising(process("steady", tmp_path), hasty, conclude=lambda _reason: anyio.sleep_forever()) as s:
            await s.until(lambda c: c.state is ChildState.READY)
            s.stop.request("SIGTERM")
            with anyio.fail_after(DEADLINE_S):
                await s.ended.wait()
    assert [line["cause"] for line in said if line["event"] == "conclude_failed"] == ["not said within 50 ms"]


async def test_what_a_child_started_ends_with_it_and_nothing_stays_a_zombie(tmp_path: Path) -> None:
    async with supervising(process("parent", tmp_path)) as s:
        status = await s.until(lambda c: c.beat is not None and bool(c.beat.note))
        assert status.beat is not None
        assert status.pid is not None
        sleeper = int(status.beat.note)
        os.kill(status.pid, signal.SIGKILL)
        await s.until(lambda c: c.restarts == 1 and c.state is ChildState.READY)
        wait_until(lambda: gone(sleeper))
    # Every child was waited for: the system knows none of them any more, not even as a zombie.
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_cancelling_the_supervisor_kills_its_children(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with supervising(process("deaf", tmp_path)) as s:
            status = await s.until(lambda c: c.state is ChildState.READY)
            scope.cancel()
            await anyio.sleep_forever()
    assert status.pid is not None
    assert gone(status.pid)
    assert s.supervisor.statuses()[0].state is ChildState.ENDED


async def test_restarts_leave_no_open_files_behind(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    async with supervising(process("fail", tmp_path)) as s:
        with anyio.fail_after(DEADLINE_S):
            await s.ended.wait()
    # The selector of this test's event loop is in both.
    assert len(os.listdir("/proc/self/fd")) <= len(before)


class Supervising:
    """A supervisor in its own process, the pid it tells (its child's, or its own), and the note."""

    def __init__(self, mode: str, folder: Path) -> None:
        self.process = subprocess.Popen([sys.executable, str(SUPERVISING), mode, str(folder)], stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Supervising":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        try:
            self.pid, self.note = map(int, line.split())
        except ValueError:
            self.__exit__()
            raise AssertionError(f"the supervisor said {line!r}") from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_children_and_their_children_are_gone_when_the_supervisor_is_killed(tmp_path: Path, stopped: bool) -> None:
    with Supervising("parent", tmp_path) as s:
        if stopped:
            os.kill(s.pid, signal.SIGSTOP)
        s.process.kill()
        wait_until(lambda: gone(s.pid) and gone(s.note))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_while_children_are_starting_ends_everything_in_time(tmp_path: Path, number: signal.Signals) -> None:
    with Supervising("deaf", tmp_path) as s:
        began = time.monotonic()
        s.process.send_signal(number)
        assert s.process.wait(DEADLINE_S) == 0
        assert time.monotonic() - began < 5
    pids = tmp_path / "pids"
    wait_until(lambda: not pids.exists() or all(gone(int(pid)) for pid in pids.read_text().split()))
