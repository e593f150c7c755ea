"""Transcripts: what a page shows of a terminal, typed again and compared.

A fenced block of language `console` is a transcript:

    ```console
    $ HASH=$(overseer query best --json | jq -r .hash)
    $ overseer query block "{\"hash\": \"$HASH\"}"
    {
    ...
      "number": ...,
    ...
    $ nats --context overseer-node server check consumer ... --ack-outstanding-critical 1
    CRITICAL ...
    $ echo $?
    2
    ```

- `$ ` begins a command, `> ` continues it on a further line. All blocks of a page share one shell on one terminal, in order, so that
  variables, the working directory and files last.
- What follows up to the next `$ ` is all the command says on that terminal, errors too; nothing there means that it says nothing.
- `...` alone on a line stands for any number of lines, also none; within a line for any text within that line.
- Blank lines, colours, the width of gaps and the length of ruled lines do not count.
- A command must succeed, unless the next one in the block is `echo $?`.
- After ```` ```console unordered ```` the lines may come in any order: tables and headers that have none.
- After ```` ```console eventually ```` each command is typed again until it says what is shown: for what a running node comes to
  by itself. Only commands that change nothing belong there.

Use it with a page of your own and a running node:

    with Session(here.folder, environment(here)) as session:
        await anyio.to_thread.run_sync(replay, transcripts(ROOT / "docs" / "operating.md"), session)
"""

import os
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple, Self

from tests.node.nodes import die_with_the_tests

__all__ = ["Block", "Mismatch", "Said", "Session", "Step", "difference", "replay", "transcripts"]

LANGUAGE = "console"
PATIENT, UNORDERED = "eventually", "unordered"
COMMAND_S = 60.0
EVENTUALLY_S = 30.0
# As wide as no table of a page needs to be folded.
ROWS, COLUMNS = 50, 180


class Step(NamedTuple):
    """One command and what it says."""

    command: str
    said: tuple[str, ...]
    line: int


class Block(NamedTuple):
    """One fenced block of a page."""

    page: Path
    steps: tuple[Step, ...]
    patient: bool = False
    unordered: bool = False


class Said(NamedTuple):
    """What a command really said."""

    text: str
    code: int


class Mismatch(AssertionError):
    """A page shows something that is not so."""


# ------------------------------------------------------------------------------------------------ reading pages


def transcripts(page: Path, text: str | None = None) -> list[Block]:
    """The page's transcripts in order. Raises ValueError for a block that does not begin with a command."""
    lines = (page.read_text() if text is None else text).splitlines()
    blocks: list[Block] = []
    begun: int | None = None
    language = ""
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if begun is None:
            begun, language = number, line[3:].strip()
        else:
            words = language.split()
            if words[:1] == [LANGUAGE]:
                if unknown := set(words[1:]) - {PATIENT, UNORDERED}:
                    raise ValueError(f"{page}:{begun + 1}: {LANGUAGE} {' '.join(unknown)}: only {PATIENT} and {UNORDERED} may follow")
                steps = _steps(page, begun + 1, lines[begun + 1 : number])
                blocks.append(Block(page, steps, PATIENT in words, UNORDERED in words))
            begun = None
    return blocks


def _steps(page: Path, above: int, lines: list[str]) -> tuple[Step, ...]:
    commands: list[tuple[list[str], list[str], int]] = []
    for number, line in enumerate(lines, start=above + 1):
        if line.startswith("$ "):
            commands.append(([line[2:]], [], number))
        elif not commands:
            raise ValueError(f"{page}:{number}: a transcript begins with a command, `$ ...`")
        elif line.startswith("> ") and not commands[-1][1]:
            commands[-1][0].append(line[2:])
        else:
            commands[-1][1].append(line)
    return tuple(Step("\n".join(command), tuple(said), number) for command, said, number in commands)


# ------------------------------------------------------------------------------------------------ comparing


def difference(said: Iterable[str], text: str, *, unordered: bool = False) -> str:
    """What is amiss with `text`, of which a page shows `said`; "" when nothing is."""
    shown = [plain for line in said if (plain := _plain(line))]
    got = [plain for line in text.splitlines() if (plain := _plain(line))]
    return _of_the_set(shown, got) if unordered else _of_the_order(shown, got)


def _of_the_set(shown: list[str], got: list[str]) -> str:
    """Every line that is shown is there, and unless `...` is shown no other."""
    lines = {line: re.compile(_pattern(line)) for line in shown if line != "..."}
    for line, pattern in lines.items():
        if not any(pattern.fullmatch(f"{each}\n") for each in got):
            return f"nothing like this line:\n  {line}"
    if "..." not in shown:
        for each in got:
            if not any(pattern.fullmatch(f"{each}\n") for pattern in lines.values()):
                return f"nothing that is shown is like this line:\n  {each}"
    return ""


def _of_the_order(shown: list[str], got: list[str]) -> str:
    body = "".join(f"{line}\n" for line in got)
    if re.fullmatch("".join(map(_pattern, shown)), body):
        return ""
    for count in range(1, len(shown) + 1):
        if not re.match("".join(map(_pattern, shown[:count])), body):
            return f"nothing like this line in its place:\n  {shown[count - 1]}"
    return "it says more than is shown"


def _plain(line: str) -> str:
    """Without what does not count."""
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
    line = re.sub(r"([─━═=-])\1{2,}", r"\1\1\1", line)
    return re.sub(r"\s+", " ", line).strip()


def _pattern(line: str) -> str:
    if line == "...":
        return r"(?:[^\n]*\n)*?"
    # Between blanks it may stand for nothing; then there is one of them.
    parts = re.split(r"( \.\.\. |\.\.\.(?!\.))", line)
    return "".join({" ... ": "(?: [^\n]*?)? ", "...": "[^\n]*?"}.get(part) or re.escape(part) for part in parts) + "\n"


# ------------------------------------------------------------------------------------------------ typing


class Session:
    """One shell on a terminal of its own, into which commands are typed one after the other. A context manager.

    It ends what was left running in the background.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        # A terminal without colours, and no program of the user's that shows long texts page by page.
        self._environment = {**environment, "TERM": "dumb", "PAGER": "cat"}
        self._code = 0

    def __enter__(self) -> Self:
        self._screen, keyboard = os.openpty()
        self._keyboard = os.ttyname(keyboard)
        _set_up(keyboard)
        try:
            self._shell = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=keyboard,
                stderr=keyboard,
                start_new_session=True,
                preexec_fn=die_with_the_tests,
            )
        finally:
            os.close(keyboard)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()
        os.close(self._screen)

    def type(self, command: str, *, seconds: float = COMMAND_S) -> Said:
        """What it says, and its exit code. Raises TimeoutError, with what it said so far."""
        assert self._shell.stdin is not None
        mark = token_hex(8)
        # The exit code of the last one is still there, as at any prompt; standard input is the terminal, not this pipe.
        line = f"(exit {self._code}); eval {shlex.quote(command)} <{self._keyboard}; printf '\\n%s %d\\n' {mark} $?\n"
        self._shell.stdin.write(line.encode())
        self._shell.stdin.flush()
        text, code = self._until(mark, time.monotonic() + seconds, command)
        self._code = code
        return Said(text, code)

    def _until(self, mark: str, deadline: float, command: str) -> tuple[str, int]:
        said = b""
        end = re.compile(rb"\n%s (\d+)\n" % mark.encode())
        while not (found := end.search(said)):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._screen], [], [], left)[0]:
                raise TimeoutError(f"it does not end: {command}\n{said.decode(errors='replace')}")
            try:
                more = os.read(self._screen, 65536)
            except OSError:
                more = b""
            if not more:
                raise EOFError(f"the shell has ended: {command}\n{said.decode(errors='replace')}")
            said += more
        return said[: found.start()].decode(errors="replace"), int(found[1])


def _set_up(terminal: int) -> None:
    """Nothing is echoed, a line's end is one character, and there is room."""
    flags = termios.tcgetattr(terminal)
    flags[1] &= ~termios.ONLCR
    flags[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, flags)
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))


def replay(blocks: Iterable[Block], session: Session) -> None:
    """Type everything and compare. Raises Mismatch at the first thing that is not as shown."""
    for block in blocks:
        for place, step in enumerate(block.steps):
            asked_for = block.steps[place + 1].command.strip() if place + 1 < len(block.steps) else ""
            _replay_step(block, step, session, may_fail=asked_for == "echo $?")


def _replay_step(block: Block, step: Step, session: Session, *, may_fail: bool) -> None:
    deadline = time.monotonic() + EVENTUALLY_S
    while True:
        said = session.type(step.command)
        amiss = difference(step.said, said.text, unordered=block.unordered)
        if said.code and not may_fail:
            amiss = f"it fails with exit code {said.code}, and no `echo $?` follows"
        if not amiss:
            return
        if not block.patient or time.monotonic() > deadline:
            shown = "\n".join(step.said)
            raise Mismatch(
                f"{block.page.name}:{step.line}: {amiss}\n"
                f"$ {step.command}\n--- shown\n{shown}\n--- said (exit code {said.code})\n{said.text.strip()}\n---"
            )
