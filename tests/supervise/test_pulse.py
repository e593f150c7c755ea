"""Heartbeat lines: what a child writes is what the supervisor reads, and nothing a child writes does harm."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.supervise.process import LastLines
from overseer.supervise.pulse import LINE_BYTES_MAX, BeatLines, NoPulse, PipePulse, own_pulse
from overseer.supervise.status import Beat


def pipe_pulse() -> tuple[PipePulse, int, int]:
    read, write = os.pipe()
    return PipePulse(write, 50), read, write


def test_a_beat_crosses_the_pipe_unchanged() -> None:
    pulse, read, write = pipe_pulse()
    beat = Beat(progress=2**60, pending=True, ready=True, note="replaying 17 of 40", http_port=4_711)
    pulse.beat(beat)
    assert BeatLines().feed(os.read(read, 4_096)) == [beat]
    os.close(read)
    os.close(write)


@given(note=st.text(max_size=300), progress=st.integers(0, 2**63))
def test_any_beat_fits_into_a_line_that_pipes_never_tear(note: str, progress: int) -> None:
    pulse, read, write = pipe_pulse()
    pulse.beat(Beat(progress=progress, pending=True, ready=True, note=note, http_port=65_535))
    line = os.read(read, 65_536)
    assert len(line) <= LINE_BYTES_MAX
    assert [beat.progress for beat in BeatLines().feed(line)] == [progress]
    os.close(read)
    os.close(write)


def test_a_supervisor_that_does_not_read_never_blocks_the_child() -> None:
    pulse, read, write = pipe_pulse()
    for progress in range(20_000):
        pulse.beat(Beat(progress=progress))
    os.close(read)
    pulse.beat(Beat(progress=1))
    os.close(write)


@given(st.lists(st.binary(max_size=700), max_size=20))
def test_nonsense_is_skipped_and_the_next_beat_is_heard(pieces: list[bytes]) -> None:
    lines = BeatLines()
    for piece in pieces:
        lines.feed(piece)
    assert lines.feed(b'\n{"progress":5}\n')[-1] == Beat(progress=5)


def test_a_beat_in_pieces_is_put_together() -> None:
    lines = BeatLines()
    assert lines.feed(b'{"progr') == []
    assert lines.feed(b'ess":3}\n{"progress":4}\n{') == [Beat(progress=3), Beat(progress=4)]


def test_the_environment_tells_of_the_pulse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setenv("OVERSEER_HEARTBEAT_FD", str(write))
    monkeypatch.setenv("OVERSEER_HEARTBEAT_MS", "70")
    pulse = own_pulse()
    assert isinstance(pulse, PipePulse)
    assert pulse.period_ms == 70
    assert isinstance(own_pulse(), NoPulse)
    os.close(read)
    os.close(write)


def test_the_last_lines_of_a_long_stream_are_bounded() -> None:
    last = LastLines()
    for number in range(10_000):
        last.feed(f"line {number}\n".encode())
    last.feed(b"x" * 1_000_000)
    last.feed(b"y" * 1_000_000)
    assert len(last.lines) == LastLines.LINES_MAX + 1
    assert last.lines[0] == "line 9980"
    assert last.lines[-1] == "x" * LastLines.LINE_BYTES_MAX
