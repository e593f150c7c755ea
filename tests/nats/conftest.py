"""A real bus, bare or provisioned."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats_bus import Bus

from messages.consensus_blocks import BlockProposed, BlockSealed


@pytest.fixture
async def bare_bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """Accounts, but nothing provisioned."""
    bus = Bus(tmp_path)
    async with bus.server:
        yield bus
        await bus.close()


@pytest.fixture
async def bus(bare_bus: Bus) -> Bus:
    await (await bare_bus.provisioner()).apply()
    return bare_bus


@pytest.fixture
async def sites_bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """As `bare_bus`, of a node whose elections have two sites."""
    bus = Bus(tmp_path, sites=("a", "b"))
    async with bus.server:
        yield bus
        await bus.close()


@pytest.fixture
async def fed_bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """As `bus`, with two more users that make a network's chain."""
    bus = Bus(tmp_path, speaks=dict.fromkeys(("feed", "other"), (BlockProposed, BlockSealed)))
    async with bus.server:
        await (await bus.provisioner()).apply()
        yield bus
        await bus.close()
