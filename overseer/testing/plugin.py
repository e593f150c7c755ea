"""The pytest plug-in (entry point `pytest11`): fixtures that put a subsystem under a virtual overseer.

    @pytest.mark.anyio
    async def test_votes_are_kept(virtual_overseer):
        votes = await virtual_overseer(VotesDb())
        ...

Each test runs in memory, and again, marked `real`, on a nats-server and RocksDB: `pytest -m "not real"` leaves that out.
pytest loads this file in every run of every project that has this package installed, so it imports nothing beyond pytest
until a fixture is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from overseer.nats.server import EmbeddedServer
    from overseer.subsystem import Subsystem
    from overseer.testing.virtual import VirtualOverseer
    from overseer.testing.worlds import MemoryWorld, RealWorld, World

__all__ = ["memory_world", "overseer_server", "overseer_world", "real_world", "virtual_overseer"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that --strict-markers takes it."""
    config.addinivalue_line("markers", "real: runs on a real NATS server and RocksDB (starts its own, on free ports)")


@pytest.fixture(scope="session")
def overseer_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A nats-server for all tests of the session, started when one first needs it."""
    import anyio

    from overseer.testing.worlds import server_for_tests

    server = server_for_tests(tmp_path_factory.mktemp("nats"))
    anyio.run(server.start)
    yield server
    anyio.run(server.stop)


@pytest.fixture
async def memory_world() -> AsyncIterator[MemoryWorld]:
    """A world in memory, in virtual time."""
    from overseer.testing.worlds import MemoryWorld

    async with MemoryWorld() as world:
        yield world


@pytest.fixture
async def real_world(overseer_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealWorld]:
    """A world of real bytes and real time. Mark the test `real`."""
    from overseer.testing.worlds import RealWorld

    async with RealWorld(tmp_path_factory.mktemp("world"), server=overseer_server) as world:
        yield world


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.real)])
def overseer_world(request: pytest.FixtureRequest) -> World:
    """A world: the test runs once in each kind."""
    return request.getfixturevalue("memory_world" if request.param == "memory" else "real_world")


@pytest.fixture
async def virtual_overseer(overseer_world: World) -> AsyncIterator[Callable[..., Awaitable[VirtualOverseer]]]:
    """`await virtual_overseer(subsystem, node=..., limits=..., start=True)`: a started VirtualOverseer, ended after the test.

    Several of one test share the world, and with the same `node` the stream.
    """
    from contextlib import AsyncExitStack

    from overseer.testing.virtual import VirtualOverseer

    async with AsyncExitStack() as stack:

        async def make(subsystem: Subsystem, *, start: bool = True, **options: Any) -> VirtualOverseer:
            overseer = await stack.enter_async_context(VirtualOverseer(subsystem, overseer_world, **options))
            if start:
                await overseer.start()
            return overseer

        yield make
