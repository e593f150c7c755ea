"""The feed: where blocks come from. An outside sender like any other: `op_feed`, by command id."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from messages.chain_api import Finalized, Header
from messages.message import Message
from overseer.config import Config, servers_of
from overseer.consensus.chain import NetworkChain
from overseer.consensus.feed import NetworkFeed
from overseer.consensus.roster import BadNetwork, read_network
from overseer.consensus.section import ConsensusSection
from overseer.consensus.trust import NodeTrust
from overseer.feeds.endless import EndlessShape, ticks
from overseer.feeds.files import read
from overseer.node.bus import FEED
from overseer.node.catalogue import genesis_of_chain
from overseer.node.client import Client, Refused
from overseer.observe.export import exported
from overseer.observe.logs import Waits, logger
from overseer.ports.bus import BusError
from overseer.settings import Loaded
from overseer.supervise.stopping import StopRequest

if TYPE_CHECKING:
    from overseer.feeds.substrate.feed import SubstrateFeed

__all__ = ["feed"]

# A refusal that may pass, or a bus that is away, is tried again this often before the feed says so and goes on waiting.
RETRY_MS = 200


async def feed(loaded: Loaded, url: str, stop: StopRequest, heard: Callable[[str], None] = lambda _: None) -> None:
    """Send what the configured source gives until it ends or the node does. Never raises for what passes.

    `heard` is told what a network's chain waits for when no block comes, and "" when it goes on.
    """
    log = logger(FEED)
    waits = Waits(log)
    config = loaded.config
    async with exported(config, service=FEED) as spans, Client.connected(config, url, FEED, spans=spans) as client:
        if config.feed.source == "net":
            await _network_feed(loaded, client, heard).run()
        if config.feed.source == "substrate":
            await _substrate_feed(config, client, heard).run()
        async for message in _source(loaded, client):
            if stop.requested:
                return
            while True:
                try:
                    await client.request(message)
                    waits.tell("")
                    break
                except Refused as refused:
                    if not refused.retriable:
                        log.warning("refused", message=message.spec.key, code=refused.code)
                        break
                    waits.tell(str(refused), message=message.spec.key)
                except BusError as error:
                    waits.tell(str(error), message=message.spec.key)
                await anyio.sleep(RETRY_MS / 1000)
        log.info("ended")


def _network_feed(loaded: Loaded, client: Client, heard: Callable[[str], None]) -> NetworkFeed:
    """Raises BadNetwork, UnusableKey."""
    config, section = loaded.config, loaded.sections["consensus_manager"]
    assert isinstance(section, ConsensusSection)
    described = read_network(config.network.nodes)
    if config.node not in described and config.network.nodes is not None:
        raise BadNetwork(config.network.nodes, f"there is no file of this node, {config.node}")
    nodes = list(described.values())
    chain = NetworkChain(genesis_of_chain(config), nodes, section.parameters)
    return NetworkFeed(client, chain, nodes, NodeTrust.of(config), interval_ms=config.feed.interval_ms, heard=heard)


def _substrate_feed(config: Config, client: Client, heard: Callable[[str], None]) -> "SubstrateFeed":
    # Not before it is asked for: its libraries are an extra.
    from overseer.feeds.substrate.feed import SubstrateFeed

    return SubstrateFeed(client, genesis_of_chain(config), servers_of(config.feed.url), heard=heard)


async def _source(loaded: Loaded, client: Client) -> AsyncIterator[Message]:
    config = loaded.config.feed
    if config.source != "dev":
        for record in read(Path(config.source)):
            yield record.message
        return
    for tick in ticks(str(config.seed), EndlessShape(), first=await _next_height(client)):
        for message in tick.messages:
            yield message
        await anyio.sleep(config.interval_ms / 1000)


async def _next_height(client: Client) -> int:
    """Where a restarted feed goes on: behind the last final block."""
    while True:
        try:
            answer = await client.query(Finalized())
            return answer.number + 1 if isinstance(answer, Header) else 1
        except (BusError, Refused):
            await anyio.sleep(RETRY_MS / 1000)
