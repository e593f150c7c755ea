"""A bus of two nodes for every test that attacks it; a place for commands."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import command
from tests.node.nodes import Place, place
from tests.security.shared_bus import SharedBus

__all__ = ["bus", "command", "here"]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SharedBus]:
    made = SharedBus(tmp_path)
    async with made.server:
        await made.provision()
        yield made
        await made.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made
