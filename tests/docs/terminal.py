"""A terminal in a folder: what the documentation says, typed."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from tests.node.nodes import Place, place

__all__ = ["environment", "terminal", "typed"]


@contextmanager
def terminal(folder: Path) -> Iterator[Place]:
    """A place with `overseer` on its path, and a development chain that feeds it quickly."""
    with place(folder, feed__source="dev", feed__interval_ms=200) as made:
        program = folder / "bin" / "overseer"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m overseer.cli.entry "$@"\n')
        program.chmod(0o755)
        yield made


def environment(here: Place) -> dict[str, str]:
    """What commands find there: `overseer`, and a home of their own for the contexts of `nats`."""
    path = f"{here.folder / 'bin'}:{os.environ['PATH']}"
    # `nats` waits as long as a busy machine may need.
    return {**here.environment, "PATH": path, "XDG_CONFIG_HOME": str(here.folder / "config"), "NATS_TIMEOUT": "30s"}


async def typed(line: str, here: Place) -> str:
    """What the shell says to this line; it must succeed."""
    with anyio.fail_after(60):
        done = await anyio.run_process(["sh", "-c", line], env=environment(here), cwd=here.folder, check=False)
    assert done.returncode == 0, (line, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()
