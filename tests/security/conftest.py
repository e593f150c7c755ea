"""A bus of two nodes for every test that attacks it; a place for commands."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.conftest import command
from tests.node.nodes import here
from tests.security.shared_bus import SharedBus

__all__ = ["bus", "command", "here"]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SharedBus]:
    made = SharedBus(tmp_path)
    async with made.server:
        await made.provision()
        yield made
        await made.close()
