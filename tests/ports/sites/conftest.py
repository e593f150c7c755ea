"""One fixture, two worlds."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from overseer.memory.clock import MemoryClock
from overseer.memory.sites import MemoryLogServer
from overseer.nats.keys import KeyFolder
from overseer.system.clock import SystemClock
from tests.ports.bus.bus_worlds import Server
from tests.ports.sites.sites_worlds import LEASE_MS, MemoryWorld, NatsWorld, World, nats_server


@pytest.fixture(scope="session")
def sites_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, KeyFolder]]:
    server, keys = nats_server(tmp_path_factory.mktemp("sites"))
    server.start()
    yield server, keys
    server.kill()


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def nats(sites_server: tuple[Server, KeyFolder], closing: AsyncExitStack) -> NatsWorld:
    return await NatsWorld(*sites_server, closing).fresh()


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock(automatic=True)


@pytest.fixture
def memory(clock: MemoryClock) -> MemoryLogServer:
    """In virtual time."""
    return MemoryLogServer(clock, lease_ms=LEASE_MS)


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.real)])
async def world(request: pytest.FixtureRequest, closing: AsyncExitStack) -> World:
    if request.param == "memory":
        return MemoryWorld(MemoryLogServer(SystemClock(), lease_ms=LEASE_MS))
    return await NatsWorld(*request.getfixturevalue("sites_server"), closing).fresh()


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.real)])
async def mortal(request: pytest.FixtureRequest, closing: AsyncExitStack, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose server may be killed."""
    if request.param == "memory":
        yield MemoryWorld(MemoryLogServer(SystemClock(), lease_ms=LEASE_MS))
        return
    server, keys = nats_server(tmp_path)
    try:
        yield await NatsWorld(server.start(), keys, closing).fresh()
    finally:
        server.kill()
