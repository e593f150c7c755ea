"""`ballots_recovery`: how long an election with a long history takes to be served again by a site that lost its copy, or has it.

The other four sites hold the copy. The writer's process is killed and its store removed; the time runs from when its new process
answers anything at all to the first ballot that it records. It has to fetch the best reader's copy before: the log has nothing to replay.
Killed once more, it has the copy itself.
"""

import os
import shutil
import signal
from pathlib import Path

import anyio

from messages.ballots import CastBallot
from overseer.bench.failover import written_at
from overseer.bench.grown import grow_election, voter
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.polls import NODE, OPERATOR, Polls, open_server, running_polls
from overseer.nats.connection import Connection
from overseer.nats.sites import site_user
from overseer.node.bus import connected_as
from overseer.node.folder import NodeFolder
from overseer.sites.client import SitesClient

__all__ = ["ballots_recovery"]

_SITES = 5
_WRITER = "dc1"
# For a copy of a million events; fetching a shorter one may not take as long, having it is to cost the same whatever its length.
_ALLOWED_MS = 2_000
_ALLOWED_EVENTS = 1_000_000
_PATIENCE_S = 600.0
_LOOK_S = 0.005
# Nobody takes over meanwhile, and the store is gone before the process is back.
_ENV = {"OVERSEER_ELECTIONS_LEASE_MS": "600000", "OVERSEER_SUPERVISE_BACKOFF_FIRST_MS": "1500"}


async def ballots_recovery(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    events = sizes.recovered_events
    async with open_server(folder, _SITES) as polls:
        key = written_at(polls, _WRITER)
        report(f"writing an election of {events} events")
        await grow_election(polls, key, events, empty=_WRITER)
        report("starting a node")
        async with running_polls(polls, _ENV), connected_as(polls.config, polls.url, OPERATOR) as connection:
            report("recovering from the best reader")
            cold = await _recovery(polls, connection, key, events + 1, lose=True)
            report("recovering with the own copy")
            warm = await _recovery(polls, connection, key, events + 2, lose=False)
    shown = f"from a new process to the first ballot recorded, {events} events"
    return [
        _measure(
            "ballots_recovery",
            f"{shown}; the store is lost, the best reader's copy is fetched",
            cold,
            _ALLOWED_MS * events / _ALLOWED_EVENTS,
        ),
        _measure("ballots_recovery_warm", f"{shown}; the store is there", warm, _ALLOWED_MS),
    ]


def _measure(name: str, what: str, took_s: float, allowed_ms: float) -> Measure:
    pairs = [(1_000 * took_s, allowed_ms)]
    return judged(name, what, pairs, unit="ms", limited_by="what is allowed, 2 s for a million events", target=1.0, at_most=True)


async def _recovery(polls: Polls, connection: Connection, key: str, number: int, *, lose: bool) -> float:
    """Kill the writer; seconds from its new process's first answer to its first ballot, which is event `number`."""
    client = SitesClient(connection, NODE, (_WRITER,), patience_s=_PATIENCE_S)
    user = site_user(_WRITER)
    os.kill(polls.node.child(user), signal.SIGKILL)
    await _answers(client, key, expected=False)
    if lose:
        shutil.rmtree(NodeFolder(polls.config.data_dir).store(user))
    await _answers(client, key, expected=True)
    began = anyio.current_time()
    await client.request(CastBallot(election=key, voter=voter(number), choice="Ada"))
    took = anyio.current_time() - began
    reports = await client.copies(key)
    report = reports[_WRITER]
    if report is None or report.head.sequence != number:
        raise RuntimeError(f"event {number} was expected at {_WRITER}, which is at {report}")
    return took


async def _answers(client: SitesClient, key: str, *, expected: bool) -> None:
    """Wait until the site answers, or does not."""
    with anyio.fail_after(_PATIENCE_S):
        while ((await client.copies(key))[_WRITER] is not None) is not expected:
            await anyio.sleep(_LOOK_S)
