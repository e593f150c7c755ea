"""The TopologyBoard contract: the topology changes by compare-and-set; a lease that is not renewed ends."""

import anyio
import pytest

from messages.election_pairs import SiteRow, TopologyRecord
from overseer.ports.bus import WrongLastSequence
from overseer.ports.sites import VersionedTopology
from tests.ports.bus.bus_worlds import until
from tests.ports.sites.sites_worlds import LEASE_MS, World

pytestmark = pytest.mark.anyio


def topology(version: int) -> TopologyRecord:
    sites = [SiteRow(f"s{number}", f"dc{number}", "z1", away=number == version) for number in range(1, 6)]
    return TopologyRecord(version=version, sites=sites)


async def test_nothing_is_recorded_at_first(world: World) -> None:
    assert await world.board("a").topology() == VersionedTopology(None, 0)


async def test_what_is_recorded_is_what_every_site_reads(world: World) -> None:
    revision = await world.board("a").record(topology(1), revision=0)
    assert await world.board("b").topology() == VersionedTopology(topology(1), revision)
    second = await world.board("b").record(topology(2), revision=revision)
    assert second > revision
    assert await world.board("a").topology() == VersionedTopology(topology(2), second)


async def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused(world: World) -> None:
    first = await world.board("a").record(topology(1), revision=0)
    second = await world.board("b").record(topology(2), revision=first)
    for stale in (0, first, second + 1):
        with pytest.raises(WrongLastSequence):
            await world.board("a").record(topology(3), revision=stale)
    assert await world.board("a").topology() == VersionedTopology(topology(2), second)


async def test_who_records_at_once_with_others_wins_alone(world: World) -> None:
    won: list[int] = []

    async def record(site: str, version: int) -> None:
        try:
            await world.board(site).record(topology(version), revision=0)
            won.append(version)
        except WrongLastSequence:
            pass

    async with anyio.create_task_group() as tasks:
        for version, site in enumerate(("a", "b", "c"), start=1):
            tasks.start_soon(record, site, version)
    assert len(won) == 1
    assert (await world.board("a").topology()).record == topology(won[0])


async def test_a_site_is_alive_as_long_as_it_renews_its_lease(world: World) -> None:
    board = world.board("c")
    assert await board.alive() == frozenset()
    await world.board("a").renew("a")
    await world.board("b").renew("b")
    assert await board.alive() == {"a", "b"}

    async def one_left() -> bool:
        await world.board("a").renew("a")
        alive = await board.alive()
        assert "a" in alive
        return alive == {"a"}

    await until(one_left, 5 * LEASE_MS / 1000)

    async def nobody() -> bool:
        return not await board.alive()

    await until(nobody, 5 * LEASE_MS / 1000)


async def test_what_is_recorded_stays_when_the_log_is_replaced(world: World) -> None:
    revision = await world.board("a").record(topology(1), revision=0)
    await world.replace()
    assert await world.board("a").topology() == VersionedTopology(topology(1), revision)
