"""The plug-in's fixtures, also where this package is not installed but run from its tree; and one in memory alone."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from overseer.subsystem import Subsystem
from overseer.testing.plugin import memory_world, overseer_server, overseer_world, real_world, virtual_overseer
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryWorld

__all__ = ["in_memory", "memory_world", "overseer_server", "overseer_world", "real_world", "virtual_overseer"]


@pytest.fixture
async def in_memory(memory_world: MemoryWorld) -> AsyncIterator[Callable[..., Awaitable[VirtualOverseer]]]:
    """As `virtual_overseer`, for what can be arranged in memory alone (faults of a line, time that steps back)."""
    async with AsyncExitStack() as stack:

        async def make(subsystem: Subsystem, *, start: bool = True, **options: Any) -> VirtualOverseer:
            overseer = await stack.enter_async_context(VirtualOverseer(subsystem, memory_world, **options))
            if start:
                await overseer.start()
            return overseer

        yield make
