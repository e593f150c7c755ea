"""What a site makes of a bus that fails it: an answer that is lost while it starts, and outages again and again."""

import pytest
from site_world import World, five, living

from messages.codec import encode
from messages.election_pairs import TopologyRecord
from messages.signals import GovernanceMode, GovernanceState
from messages.subjects import HEADER_ID
from overseer.memory.sites import MemoryLogServer, MemoryTopologyBoard
from overseer.ports.bus import OutcomeUnknown, Outgoing
from overseer.sites.tables import PLACES, signal_place


class Unanswered(MemoryTopologyBoard):
    """The answer to the first record is lost; what was to be recorded is, or is lost as well."""

    def __init__(self, server: MemoryLogServer, site: str, *, stored: bool) -> None:
        super().__init__(server, site)
        self._stored = stored
        self._lost = False

    async def record(self, topology: TopologyRecord, *, revision: int) -> int:
        if self._lost:
            return await super().record(topology, revision=revision)
        self._lost = True
        if self._stored:
            await super().record(topology, revision=revision)
        raise OutcomeUnknown("no answer")


@pytest.mark.parametrize("stored", [True, False])
def test_sites_whose_first_topology_was_recorded_without_an_answer_look_again_and_start(
    stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def board(server: MemoryLogServer, site: str) -> MemoryTopologyBoard:
        return Unanswered(server, site, stored=stored)

    monkeypatch.setattr(MemoryLogServer, "board", board)

    async def story(world: World) -> None:
        assert (world.server.recorded.record, world.server.recorded.revision) == (five(), 1)

    living(story)


def test_a_site_that_read_signals_since_a_long_outage_does_not_wait_long_behind_a_short_one() -> None:
    async def signal_known(world: World, entry: int) -> int:
        """Milliseconds until every site has read one more signal."""
        began_ms = world.clock.now_ms()
        signal = GovernanceMode(state=GovernanceState.ENTERED, entry=entry, frozen_at=7)
        headers = {HEADER_ID: f"chain_api {'0' * 32} {entry} 0"}
        sequence = world.broker.publish(Outgoing("overseer.n1.chain_api.sig.governance_mode", headers, encode(signal)))
        places = [(here.site.view, PLACES, signal_place) for here in world.sites.values()]

        def known() -> bool:
            found = [view.get(table, key) for view, table, key in places]
            return all(place is not None and place.sequence == sequence for place in found)

        await world.until(known, "the signal is known")
        return world.clock.now_ms() - began_ms

    async def story(world: World) -> None:
        world.broker.stop()
        await world.sleep(10 * world.limits.retry_ms_max)
        world.broker.start()
        assert await signal_known(world, 1) <= world.limits.retry_ms_max + 100
        world.broker.stop()
        await world.sleep(10)
        world.broker.start()
        assert await signal_known(world, 2) <= world.limits.retry_ms + 100

    living(story)
