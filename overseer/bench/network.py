"""`election_testnet`: four nodes as processes on this machine, with one server, that elect groups and sign blocks.

How long an election takes from the block that makes it due to the one that accepts its group, and how many blocks are signed in a second.
The times are those of the network's own record: when the stream had each block for the first node.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

from messages.consensus_blocks import NextBlock, NextBlockReport
from messages.consensus_journal import GroupAccepted, HeadMoved
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.running import running_network
from overseer.config import Config
from overseer.node.client import Client, Refused
from overseer.node.folder import NodeFolder
from overseer.node.testnet import TestnetInfo
from overseer.ports.bus import BusError
from overseer.rocks.reader import RocksReader
from overseer.runner import journal
from subsystems.consensus_manager.parameters import ELECTION_TIMEOUT_MIN

__all__ = ["election_testnet"]

_NODES = 4
_FIRST = "n1"
_SETTINGS = {
    "OVERSEER_SUBSYSTEMS": "votes_db,dispute_conclusion,chain_api,consensus_manager",
    "OVERSEER_VERIFICATION_WORKERS": "0",
    "OVERSEER_CONSENSUS_MANAGER_INTERVAL": "5",
    "OVERSEER_CONSENSUS_MANAGER_MIN_CONFIRMATIONS": "3",
}
# Elections are waited for so long at most.
_DEADLINE_S = 120.0
_LOOK_S = 0.2
# Blocks that the last group signs before the end.
_SIGNED_MIN = 3


class _Election(NamedTuple):
    blocks: int
    seconds: float


class _Told(NamedTuple):
    """What the journal tells: the elections, and how many blocks a second came once they were signed."""

    elections: list[_Election]
    blocks_per_s: float


async def election_testnet(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Raises RuntimeError: the network does not come up, or its epochs do not follow one another."""
    folder.mkdir(parents=True)
    interval_s = sizes.network_interval_ms / 1_000
    report(f"starting {_NODES} nodes, a block every {sizes.network_interval_ms} ms")
    network = folder / "network"
    async with running_network(network, "--nodes", str(_NODES), "--interval-ms", str(sizes.network_interval_ms), env=_SETTINGS):
        await _until_epoch(network, sizes.network_epochs, report)
    told = _told(network / _FIRST)
    cores = len(os.sched_getaffinity(0))
    where = f"{_NODES} nodes on {cores} cores"
    return [
        judged(
            "election_testnet_blocks",
            f"from the block that makes an election due to the one that accepts its group, {where}",
            [(one.blocks, ELECTION_TIMEOUT_MIN) for one in told.elections],
            unit="blocks",
            limited_by="the timeout, when a second attempt would begin",
            target=1,
            at_most=True,
        ),
        judged(
            "election_testnet",
            "the same in seconds",
            [(one.seconds, ELECTION_TIMEOUT_MIN * interval_s) for one in told.elections],
            unit="s",
            limited_by=f"the timeout, were there a block every {sizes.network_interval_ms} ms",
            target=1.3,
            at_most=True,
        ),
        judged(
            "election_testnet_rate",
            f"blocks signed by their group and imported, {where}",
            [(told.blocks_per_s, 1 / interval_s)],
            unit="blocks/s",
            limited_by="the interval that was asked for",
            target=0.5,
        ),
    ]


async def _until_epoch(network: Path, epoch: int, report: Report) -> None:
    """Until the group of that epoch, or a later one, has signed some blocks."""
    info = msgspec.json.decode((network / "testnet.json").read_bytes(), type=TestnetInfo)
    config = Config(node=_FIRST, data_dir=network / _FIRST)
    deadline, seen = time.monotonic() + _DEADLINE_S, 0
    async with Client.connected(config, info.url, "operator") as client:
        signed = 0
        while seen < epoch or signed < _SIGNED_MIN:
            if time.monotonic() > deadline:
                raise RuntimeError(f"in {_DEADLINE_S:g} s the network came to epoch {seen}, not {epoch}")
            await anyio.sleep(_LOOK_S)
            try:
                told = await client.query(NextBlock())
            except (BusError, Refused):
                continue
            if not isinstance(told, NextBlockReport):
                continue
            signed = told.number - 1 - told.epoch_start
            if told.epoch > seen:
                seen = told.epoch
                report(f"epoch {seen} of {epoch}")


def _told(node: Path) -> _Told:
    """What a node's `consensus_manager` has recorded."""
    reader = RocksReader.open_read_only(NodeFolder(node).store("consensus_manager"))
    times: dict[int, int] = {}
    accepted: list[GroupAccepted] = []
    try:
        for record, _ in journal.records(reader):
            for row in record.events:
                if row.key not in (HeadMoved.spec.key, GroupAccepted.spec.key):
                    continue
                event = journal.event_of(reader, row, record.index)
                if isinstance(event, GroupAccepted):
                    accepted.append(event)
                elif isinstance(event, HeadMoved):
                    times |= {block.number: record.time_ms for block in event.applied}
    finally:
        reader.close()
    elections = [
        _Election(group.number - group.attempt.due, (times[group.number] - times[group.attempt.due]) / 1_000) for group in accepted
    ]
    # The accepting block of the first group is not signed yet.
    first, last = accepted[0].number, max(times)
    return _Told(elections, (last - first) * 1_000 / (times[last] - times[first]))
