"""`ballots_one_site`, `ballots_five_sites`: ballots committed by a whole node, against merely storing them in a stream.

The limit is what the server does by itself: compare-and-set publishes, one under way for each of as many subjects, each of as many
bytes as a message of the measured run had, times the ballots that such a message held. On one site that is one: every ballot is a
message of the node's stream. On several it is a batch of the elections' log: nothing that goes through that log could be faster than
this limit, whereas single ballots published one by one are no limit to whoever batches. What they would do is told beside it
(`ballots_five_sites_unbatched`), as what somebody gets who stores each ballot by itself.

Server, node, sites and voters are processes of one machine and share its cores; what is measured begins when ballots have
been flowing for a while, and ends before they stop.
"""

from pathlib import Path
from statistics import median
from typing import NamedTuple

import anyio

from overseer.bench.bare_append import bare_append
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.polls import OPERATOR, Load, Polls, Voters, open_polls, voters_of
from overseer.node.bus import connected_as
from overseer.observe import processes

__all__ = ["ballots_five_sites", "ballots_one_site"]

_WARM_UP_S = 1.0
_TARGET = 0.50
# Ballots of each election under way at a time. Commands of one person that one process takes at once are bounded (limits).
_EACH_ON_ONE_SITE = 4
_EACH_ON_FIVE_SITES = 8
# An entry of the log with one ballot.
_ENTRY_BYTES = 600


class _Taken(NamedTuple):
    """Ballots in a second, ballots in a stored message, and the bytes of one; processor time for a ballot, of node and server."""

    rate: float
    each: float
    message_bytes: int
    node_ms: float
    server_ms: float


class _Round(NamedTuple):
    """With bare publishes in a second, of messages as large and of single ballots."""

    taken: _Taken
    batches_limit: float
    singles_limit: float


async def ballots_one_site(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    rounds = await _rounds(folder, 1, Load(sizes.polls, _EACH_ON_ONE_SITE), sizes, report)
    return [
        judged(
            "ballots_one_site",
            _what(f"ballots of {sizes.polls} elections committed on one site", rounds),
            [(each.taken.rate, each.batches_limit) for each in rounds],
            unit="ballots/s",
            limited_by="bare compare-and-set publishes of messages as large",
            target=_TARGET,
        )
    ]


async def ballots_five_sites(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    rounds = await _rounds(folder, 5, Load(sizes.polls, _EACH_ON_FIVE_SITES), sizes, report)
    what = _what(f"ballots of {sizes.polls} elections committed on five sites", rounds)
    return [
        judged(
            "ballots_five_sites",
            what,
            [(each.taken.rate, each.batches_limit * each.taken.each) for each in rounds],
            unit="ballots/s",
            limited_by="bare compare-and-set publishes of batches as large, as many ballots in each",
            target=_TARGET,
        ),
        judged(
            "ballots_five_sites_unbatched",
            what,
            [(each.taken.rate, each.singles_limit) for each in rounds],
            unit="ballots/s",
            limited_by="bare compare-and-set publishes of single ballots",
            target=_TARGET,
        ),
    ]


def _what(counted: str, rounds: list[_Round]) -> str:
    """With what a ballot costs, which other work on the machine hardly changes."""
    taken = [each.taken for each in rounds]
    node_ms, server_ms = median(each.node_ms for each in taken), median(each.server_ms for each in taken)
    held = median(each.each for each in taken)
    return f"{counted}, {held:.1f} to a message; processor time for one: {node_ms:.2f} ms in the node, {server_ms:.2f} ms in the server"


async def _rounds(folder: Path, sites: int, load: Load, sizes: Sizes, report: Report) -> list[_Round]:
    rounds: list[_Round] = []
    report("starting a node")
    async with open_polls(folder, sites) as polls, voters_of(polls, load) as voters:
        await voters.open()
        for number in range(sizes.rounds):
            report(f"round {number + 1} of {sizes.rounds}")
            taken = await _vote(polls, voters, sizes.ballots_s)
            batches = await bare_append(polls, load.elections, taken.message_bytes, sizes.bare_appends_s)
            singles = await bare_append(polls, load.elections, _ENTRY_BYTES, sizes.bare_appends_s) if sites > 1 else batches
            rounds.append(_Round(taken, batches, singles))
    return rounds


async def _vote(polls: Polls, voters: Voters, seconds: float) -> _Taken:
    async with connected_as(polls.config, polls.url, OPERATOR) as operator, voters.voting():
        await anyio.sleep(_WARM_UP_S)
        node = processes.tree(polls.node.pid) if processes.known() else []
        accepted, before, began = voters.accepted, await polls.stored(operator), anyio.current_time()
        node_s, server_s = processes.cpu_s(node), processes.cpu_s([polls.server])
        await anyio.sleep(seconds)
        node_s, server_s = processes.cpu_s(node) - node_s, processes.cpu_s([polls.server]) - server_s
        ballots, after, took = voters.accepted - accepted, await polls.stored(operator), anyio.current_time() - began
        messages, counted = max(1, after.messages - before.messages), max(1, ballots)
        return _Taken(
            rate=ballots / took,
            each=ballots / messages,
            message_bytes=max(1, (after.bytes - before.bytes) // messages),
            node_ms=1_000 * node_s / counted,
            server_ms=1_000 * server_s / counted,
        )
