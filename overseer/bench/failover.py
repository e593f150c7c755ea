"""`ballots_failover`: how long nobody can vote in an election whose writer is killed.

Every site writes one election. A site is killed while all five are there; then a new voter comes every 50 ms, each asking site after site
until somebody records the ballot, as the command line does. What counts is the first ballot recorded of a voter who came after the kill.
Whether another site takes over or the killed one is back first is not looked at: the overseer starts it again at once.
"""

import os
import signal
from itertools import count
from math import ceil
from pathlib import Path
from statistics import median

import anyio

from messages.ballots import CastBallot, OpenElection
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.polls import NODE, OPERATOR, Polls, open_polls
from overseer.nats.sites import site_user
from overseer.node.bus import connected_as
from overseer.node.client import Refused
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient
from subsystems.elections.runtime.placement import placed

__all__ = ["ballots_failover", "written_at"]

_SITES = 5
_ALLOWED_MS = 3_000
_VOTERS_EVERY_S = 0.05
_PATIENCE_S = 60.0
_LOOK_S = 0.1
# Behind the moment at which all see each other again.
_SETTLE_S = 1.0


async def ballots_failover(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Raises RuntimeError when nobody records a ballot for a minute."""
    took: list[float] = []
    report("starting a node")
    async with open_polls(folder, _SITES) as polls, connected_as(polls.config, polls.url, OPERATOR) as connection:
        client = SitesClient(connection, NODE, polls.sites.names, patience_s=_PATIENCE_S)
        elections = _Elections(polls, client)
        await elections.open()
        for number in range(sizes.kills):
            report(f"kill {number + 1} of {sizes.kills}")
            took.append(1_000 * await elections.kill(polls.sites.names[number % _SITES]))
    took.sort()
    shown = f"from SIGKILL of the writer's process to the next recorded ballot, of {len(took)} kills"
    return [
        _measure("ballots_failover", f"99th percentile {shown}", took[ceil(0.99 * len(took)) - 1]),
        _measure("ballots_failover_median", f"median {shown}", median(took)),
    ]


def _measure(name: str, what: str, took_ms: float) -> Measure:
    return judged(name, what, [(took_ms, _ALLOWED_MS)], unit="ms", limited_by="what is allowed", target=1.0, at_most=True)


def written_at(polls: Polls, site: str) -> str:
    """The key of an election that this site writes while all are there."""
    topology = polls.sites.topology
    assert topology is not None
    return next(key for key in (f"poll-{number}" for number in count()) if placed(topology, key).writer == site)


class _Elections:
    """One election for each site, and who votes in them."""

    def __init__(self, polls: Polls, client: SitesClient) -> None:
        self._polls = polls
        self._client = client
        self._keys = {site: written_at(polls, site) for site in polls.sites.names}
        self._voters = count(1)

    async def open(self) -> None:
        for key in self._keys.values():
            await self._client.request(OpenElection(election=key, title=key, choices=["Ada", "Grace"]))

    async def kill(self, site: str) -> float:
        """Kill it; seconds until a ballot in its election is recorded."""
        key = self._keys[site]
        await self._settled(key, site)
        await self._cast(key)
        os.kill(self._polls.node.child(site_user(site)), signal.SIGKILL)
        began = anyio.current_time()
        recorded = anyio.Event()

        async def vote() -> None:
            try:
                await self._cast(key)
            except (BusError, Refused):
                # Others go on trying.
                return
            recorded.set()

        with anyio.move_on_after(_PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                while not recorded.is_set():
                    tasks.start_soon(vote)
                    with anyio.move_on_after(_VOTERS_EVERY_S):
                        await recorded.wait()
                took = anyio.current_time() - began
                tasks.cancel_scope.cancel()
                return took
        raise RuntimeError(f"nobody recorded a ballot for {_PATIENCE_S:g} s after site {site} was killed")

    async def _cast(self, key: str) -> None:
        await self._client.request(CastBallot(election=key, voter=next(self._voters).to_bytes(32, "big"), choice="Ada"))

    async def _settled(self, key: str, site: str) -> None:
        """Wait until all sites are there, know it, and `site` writes."""
        with anyio.move_on_after(_PATIENCE_S):
            while True:
                reports = [report for report in (await self._client.copies(key)).values() if report is not None]
                if len(reports) == _SITES and all(report.writer == site and not report.away for report in reports):
                    await anyio.sleep(_SETTLE_S)
                    return
                await anyio.sleep(_LOOK_S)
        raise RuntimeError(f"site {site} did not come back within {_PATIENCE_S:g} s")
