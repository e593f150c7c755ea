"""A full disk: intake stops aloud, nothing acknowledged is lost, and it goes on by itself when there is room."""

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from overseer.node.client import Client, Refused
from overseer.ports.bus import BusError
from tests.crash.damage_checks import paid
from tests.crash.power_image import SmallDisk, why_not
from tests.node.nodes import Ballots, Node, Place, ballots, eventually, history, readiness, said_once, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.skipif(bool(why_not()), reason=f"no small disk can be mounted: {why_not()}")]

QUICK: dict[str, object] = {"supervise.backoff_first_ms": 20, "supervise.backoff_max_ms": 100, "supervise.restarts_max": 3}
SENDERS = 4
PASSING = ("timeout", "busy")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk", 64) as made:
        yield made


class Importing:
    """Sends bundles for ever, as long as there are some; remembers what was acknowledged."""

    def __init__(self, made: Ballots) -> None:
        self.made = made
        self.left = list(range(len(made.bundles)))
        self.acknowledged: list[int] = []
        self.refused = 0
        self.errors: set[str] = set()

    async def run(self, client: Client) -> None:
        while self.left:
            number = self.left.pop(0)
            try:
                await client.request(self.made.bundles[number], command_id=f"bundle {number}", timeout_ms=2_000)
            except (BusError, Refused) as error:
                # Any other refusal is this id's outcome for good: to ask again would never end.
                if isinstance(error, Refused) and error.code not in PASSING:
                    raise
                self.refused += 1
                self.errors.add(str(error)[:200])
                self.left.append(number)
                await anyio.sleep(0.05)
            else:
                self.acknowledged.append(number)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["stores", "nats"])
async def test_a_full_disk_stops_intake_aloud_and_it_goes_on_when_there_is_room(tmp_path: Path, disk: SmallDisk, what: str) -> None:
    here = Place(tmp_path, **QUICK)
    here.data.mkdir()
    (disk.mount / what).mkdir(mode=0o700)
    os.symlink(disk.mount / what, here.data / what)
    made = ballots(60, 6)
    try:
        async with Node.up(here) as node, node.client() as client:
            await told(client, made.opening, "opening")
            # The session is known to votes_db from here on.
            await told(client, made.bundles[0], "the first")
            importing = Importing(made)
            async with anyio.create_task_group() as tasks:
                for _ in range(SENDERS):
                    tasks.start_soon(importing.run, client)
                await eventually(lambda: len(importing.acknowledged) >= 10, "some are acknowledged")
                filler = disk.fill()
                await readiness(node, False)
                before = importing.refused
                await eventually(lambda: importing.refused > before + 4, "callers are refused")
                told_so = here.run("status")
                assert told_so.code == 1, told_so
                filler.unlink()
                await readiness(node, True)
                await eventually(
                    lambda: len(importing.acknowledged) == len(made.bundles),
                    "all are acknowledged",
                    log=lambda: f"{importing.errors}\n{node.text()}",
                )
            for bundle in made.bundles:
                assert len((await votes_of(client, bundle)).votes) == len(bundle.explicit_votes)
            assert await paid(client, made.votes) == made.votes
            said_once(await history(client))
            assert await node.stop() == 0
        verified(here)
    finally:
        here.clean()
