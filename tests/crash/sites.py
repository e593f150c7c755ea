"""The crash loop for elections on five sites: sites, server and overseer are killed at random under traffic; then everything is counted.

    python -m tests.crash.sites --kills 300 --seed 1 --json

In the end every site must show every event that was acknowledged, under its number, and no other; the stores must be one another's
copies, each a replay of its events; and the world must have been told of each election's course.
Exit code 1 when anything was lost, doubled, wrong or stuck; the folder is then kept and named.
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from random import Random

import anyio

from overseer.nats.sites import site_user
from overseer.node.client import Client
from overseer.sites.client import SitesClient
from tests.crash.living import KILLED_OFTEN, RECOVERY_S, Living, Stuck
from tests.crash.loop import Killer
from tests.crash.polls import Election, Polls
from tests.crash.polls_reckoning import Counted, counted, facts_told, told_problems
from tests.crash.report import SHOWN_MAX, Report, kill_command, leaves
from tests.crash.site_stores import store_problems
from tests.node.asking import outcome_of
from tests.node.nodes import Place, history

__all__ = ["FIVE_SITES", "crash_sites", "level", "reckoned", "sites_client"]

FIVE_SITES: dict[str, object] = {"subsystems": "elections", "elections.sites": 5}
LANES = 5
# How long any command may take to be acknowledged, whatever is killed meanwhile.
DEADLINE_S = 60.0
SETTLE_S = 60.0
# Elections that are counted at once.
AT_ONCE = 8


def sites_client(client: Client, sites: Sequence[str], first: int = 0) -> SitesClient:
    """Over this connection, asking another site first than its fellows do."""
    first %= len(sites)
    return SitesClient(client.connection, client.node, (*sites[first:], *sites[:first]), patience_s=2.0)


async def whole(living: Living, client: SitesClient, polls: Polls, *, within_s: float = RECOVERY_S) -> None:
    """Return when every site answers, and commands are acknowledged again. Raises Stuck."""
    before = polls.acknowledged
    missing: list[str] = []
    with anyio.move_on_after(within_s):
        while True:
            living.still_there()
            asked = polls.elections[-1].key if polls.elections else "none"
            missing = [site for site, copy in (await client.copies(asked)).items() if copy is None]
            if not missing and polls.acknowledged > before:
                return
            await anyio.sleep(0.02)
    living.still_there()
    raise Stuck(f"not whole again within {within_s:g} s: {polls.acknowledged - before} acknowledged, {missing}\n{living.last_words()}")


async def level(client: SitesClient, elections: Sequence[Election], *, within_s: float = SETTLE_S) -> list[str]:
    """Wait until all sites have the same head of each election, with all that was acknowledged; what is wrong else."""
    wrong: list[str] = []

    async def one(election: Election) -> None:
        found: set[object] = set()
        with anyio.move_on_after(within_s):
            while True:
                reports = await client.copies(election.key)
                found = {None if report is None else report.head for report in reports.values()}
                if len(found) == 1 and all(r is not None and r.head.sequence >= len(election.heard) for r in reports.values()):
                    return
                await anyio.sleep(0.05)
        wrong.append(f"{election.key}: {len(election.heard)} events are acknowledged, the copies are {found}")

    for first in range(0, len(elections), AT_ONCE):
        async with anyio.create_task_group() as tasks:
            for election in elections[first : first + AT_ONCE]:
                tasks.start_soon(one, election)
    return wrong


async def reckoned(
    client: Client, sites: Sequence[str], elections: Sequence[Election], report: Report, *, told: bool = True, settle_s: float = SETTLE_S
) -> None:
    """Count at every site: the ballots that are as acknowledged at all of them; and, with `told`, what the world was told."""
    report.problems += await level(sites_client(client, sites), elections, within_s=settle_s)
    counts: list[Counted] = []
    for site in sites:
        asked, count = sites_client(client, [site]), Counted()
        for first in range(0, len(elections), AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for election in elections[first : first + AT_ONCE]:
                    tasks.start_soon(counted, asked.query, election, count)
        counts.append(count)
        report.problems += [f"{site}: {text}" for text in count.problems[:SHOWN_MAX]]
    report.ballots_counted = min(count.ballots for count in counts)
    report.lost, report.doubled = sum(len(count.lost) for count in counts), sum(len(count.doubled) for count in counts)
    if not told:
        return
    problems: list[str] = []
    with anyio.move_on_after(settle_s):
        # Telling comes behind acknowledging.
        while problems := told_problems(messages := await history(client), elections):
            await anyio.sleep(0.5)
        report.messages = len(messages)
        report.told_again = facts_told(messages)[1]
    report.problems += problems


async def crash_sites(here: Place, *, kills: int, seed: int, seconds: float = 3_600) -> Report:
    """At least `kills` kills, or for so long; the elections are completed and everything counted. Never raises for what went wrong."""
    rng = Random(seed)
    here.settings |= {**KILLED_OFTEN, **FIVE_SITES}
    living, polls, report = Living(here), Polls("poll", rng, lanes=LANES), Report(seed=seed)
    try:
        async with living.up() as client:
            sites = living.node.info.sites
            watcher = sites_client(client, sites)
            killer = Killer(living, [site_user(site) for site in sites], lambda: whole(living, watcher, polls), rng)
            began = time.monotonic()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(polls.run, [partial(outcome_of, sites_client(client, sites, lane)) for lane in range(LANES)])
                    await killer.run(kills, began + seconds)
                    polls.end()
            finally:
                report.struck(dict(killer.kills), time.monotonic() - began)
                report.acknowledged = {"elections": polls.acknowledged}
                report.elections, report.ballots_acknowledged = len(polls.elections), polls.ballots
                killer.tell(report)
            await reckoned(client, sites, polls.elections, report)
        report.problems += await store_problems(here.data, [site_user(site) for site in sites])
    except Exception as error:
        report.problems += [f"{type(each).__name__}: {each}" for each in leaves(error)]
    report.problems += [trouble for log in living.logs for trouble in log.troubles]
    return report


if __name__ == "__main__":
    sys.exit(kill_command("sites", __doc__, crash_sites, kills=300))
