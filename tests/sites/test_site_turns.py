"""A site that has much to apply answers meanwhile: probes, other sites, its own lease."""

from itertools import pairwise

import anyio
import anyio.lowlevel
from site_world import KEY, OPEN, World, living

from subsystems.elections.runtime import steps


def test_inputs_of_an_election_that_come_by_the_hundred_leave_others_their_turn() -> None:
    async def story(world: World) -> None:
        await world.done(OPEN)
        hosted = world.sites[world.writer].site.hosting.there(KEY)
        assert hosted is not None
        given = [anyio.Event() for _ in range(200)]
        for done in given:
            hosted.give(steps.Told(0), done)
        handled = [0]
        while handled[-1] < len(given):
            await anyio.lowlevel.checkpoint()
            handled.append(sum(done.is_set() for done in given))
        assert max(after - before for before, after in pairwise(handled)) <= 20

    living(story)
