"""One fixture, two worlds."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from bus_worlds import MemoryWorld, NatsWorld, Server, World, connected_to

from overseer.memory.bus import MemoryBroker
from overseer.system.clock import SystemClock


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.kill()


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def memory(closing: AsyncExitStack) -> MemoryWorld:
    return MemoryWorld(await closing.enter_async_context(MemoryBroker(SystemClock())), closing)


@pytest.fixture
async def nats(shared_server: Server, closing: AsyncExitStack) -> NatsWorld:
    return NatsWorld(await connected_to(shared_server, closing), closing)


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.real)])
async def world(request: pytest.FixtureRequest, closing: AsyncExitStack) -> World:
    if request.param == "memory":
        return MemoryWorld(await closing.enter_async_context(MemoryBroker(SystemClock())), closing)
    server: Server = request.getfixturevalue("shared_server")
    return NatsWorld(await connected_to(server, closing), closing)


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that kill it."""
    server = Server(tmp_path_factory.mktemp("own")).start()
    yield server
    server.kill()
