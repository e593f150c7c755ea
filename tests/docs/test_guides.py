"""The tutorial and the how-to guides: what they show is typed in their order on nodes of their own, and compared."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio
import pytest

from overseer.nats.server import find_server
from overseer.node.catalogue import CATALOGUE
from tests.docs.generated import ROOT
from tests.docs.nested import nested_pytest
from tests.docs.terminal import environment, terminal
from tests.docs.transcripts import Block, Session, Step, replay, transcripts
from tests.node.nodes import Node, Place, eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("jq") is None, reason="no jq here, which the guides use"),
]

TUTORIAL = ROOT / "docs" / "tutorial.md"
GUIDES = ROOT / "docs" / "how-to"
# Ports that pages name, and no two tests can share.
FIXED_PORTS = ("4222", "9464")
NO_CLIENT = shutil.which("nats") is None


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with terminal(tmp_path) as made:
        # What a virtual environment has besides.
        for name, words in {
            "pytest": nested_pytest(tmp_path),
            "python3": [sys.executable],
            "nats-server": [str(find_server())],
        }.items():
            program = tmp_path / "bin" / name
            program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            program.chmod(0o755)
        # The folder that is taken without settings, which guides name.
        made.data = tmp_path / "overseer-data"
        yield made


def text_of(page: Path) -> str:
    """The page, with free ports in the place of those it names: others may run here."""
    text = page.read_text()
    for port in FIXED_PORTS:
        if port in text:
            with closing(socket.create_server(("127.0.0.1", 0))) as free:
                text = text.replace(port, str(free.getsockname()[1]))
    return text


def files(text: str) -> dict[str, str]:
    """By name: blocks of any language whose first line is a comment with a file's name."""
    found = re.findall(r"^```\w+\n(# ([\w.]+\.\w+)\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    return {name: example for example, name in found}


def background(text: str) -> list[str]:
    """What the page leaves running in other terminals."""
    return [block.strip() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def typed_here(page: Path, text: str) -> list[Block]:
    """The page's transcripts, without what needs a `nats` client where there is none."""
    found = transcripts(page, text)
    assert found, f"{page} shows nothing"
    if NO_CLIENT:
        found = [Block(block.page, tuple(step for step in block.steps if not _needs_client(step)), block.patient) for block in found]
    return found


def _needs_client(step: Step) -> bool:
    return bool(re.search(r"\bnats (--context|server|context)", step.command))


@contextmanager
def typing(here: Place) -> Iterator[Session]:
    """A terminal that tables believe to be wide: a dumb one is taken for narrow, whatever it says."""
    with Session(here.folder, environment(here)) as session:
        session.type("export TERM=xterm NO_COLOR=1")
        yield session


@asynccontextmanager
async def running(here: Place, command: str) -> AsyncIterator[None]:
    """What the page leaves running in another terminal: `overseer run` or `overseer testnet`, with variables and options."""
    words = shlex.split(command)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        here.settings[name.removeprefix("OVERSEER_").lower()] = value
    assert words[0] == "overseer", command
    with (here.folder / "run.log").open("wb") as log:
        process = here.start(*words[1:], "--json", stdout=subprocess.DEVNULL, stderr=log)
    node = Node(here, process, here.folder / "run.log")
    try:
        await node.logged("ready", subsystem="testnet" if words[1] == "testnet" else "overseer")
        yield
    finally:
        await node.stop()


@contextmanager
def watching(here: Place, command: str) -> Iterator[Path]:
    """A terminal in which this goes on; what it has said, as a file."""
    seen = here.folder / "seen"
    with seen.open("wb") as file:
        process = subprocess.Popen(shlex.split(command), cwd=here.folder, env=environment(here), stdout=file, stderr=file)
        try:
            yield seen
        finally:
            process.terminate()
            process.wait()


PAGES = sorted(page for page in GUIDES.glob("*.md") if page.name != "index.md")


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
async def test_each_guide_shows_what_happens(page: Path, here: Place) -> None:
    text = text_of(page)
    for name, example in files(text).items():
        (here.folder / name).write_text(example)
    starts = background(text)
    assert len(starts) < 2, "one thing runs beside a guide, and the rest is shown as a transcript"
    async with AsyncExitStack() as stack:
        for command in starts:
            await stack.enter_async_context(running(here, command))
        session = stack.enter_context(typing(here))
        await anyio.to_thread.run_sync(replay, typed_here(page, text), session)


async def test_the_tutorial_shows_what_happens(here: Place) -> None:
    text = TUTORIAL.read_text()
    for name, example in files(text).items():
        (here.folder / name).write_text(example)
    _, start, watch = background(text)
    before, after = _around(typed_here(TUTORIAL, text), "overseer nats-context")
    async with running(here, start):
        with typing(here) as session:
            await anyio.to_thread.run_sync(replay, before, session)
            if NO_CLIENT:
                await anyio.to_thread.run_sync(replay, after, session)
                return
            with watching(here, watch) as seen:
                await eventually(lambda: b"Subscribing" in seen.read_bytes(), "it listens", log=seen.read_text)
                await anyio.to_thread.run_sync(replay, after, session)
                # What the page says that the third terminal shows, in that order.
                told = cascade(text)
                await eventually(lambda: told.search(seen.read_text()) is not None, f"{told.pattern} is shown", log=seen.read_text)


def cascade(text: str) -> re.Pattern[str]:
    """The messages that the page names of the third terminal, one behind the other."""
    (paragraph,) = re.findall(r"^The third terminal shows .*?\n\n", text, re.DOTALL | re.MULTILINE)
    names = [name for name in re.findall(r"`(\w+)`", paragraph) if name not in CATALOGUE]
    assert names == ["challenged", "resolution", "revert", "descendants", "blacklist", "blocks_blacklisted"]
    return re.compile(r".*?".join(rf"overseer\.node\.\S+\.{name}\b" for name in names), re.DOTALL)


def _around(found: list[Block], command: str) -> tuple[list[Block], list[Block]]:
    """Up to the block in which this is typed, and what comes after it."""
    place = next(number for number, block in enumerate(found) if any(step.command == command for step in block.steps))
    return found[: place + 1], found[place + 1 :]
