"""The feed of a network of one node, on a real server with the real subsystems: what becomes of it when its stream is not as it was."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from messages.codec import encode
from messages.consensus_blocks import BlockProposed, SignBlock
from messages.message import Message
from messages.subjects import build, headers_of, net_stream, node_stream
from overseer.consensus import feed as feeding
from overseer.consensus.chain import NetworkChain, hash_of
from overseer.consensus.feed import NetworkFeed
from overseer.consensus.roster import read_network
from overseer.consensus.trust import NodeTrust
from overseer.nats.accounts import PROVISIONER
from overseer.nats.append import append_one
from overseer.nats.connection import Connection
from overseer.nats.provision import call
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.nats.trimming import trim
from overseer.node.bus import FEED, bus_limits, connected_as, describe, node_accounts, provisioned
from overseer.node.catalogue import SECTIONS, build_subsystems, genesis_of_chain
from overseer.node.client import Client
from overseer.node.folder import RunInfo
from overseer.node.overseer import Node
from overseer.ports.bus import BusError, Outgoing
from overseer.runner.trust import signed
from overseer.settings import Loaded, load_config
from overseer.supervise.stopping import StopRequest
from subsystems.consensus_manager.parameters import Parameters
from tests.crash.traffic import until

pytestmark = [pytest.mark.anyio, pytest.mark.real]

DEADLINE_S = 60.0
NODE = "n1"
SETTINGS: dict[str, object] = {
    "node": NODE,
    "in_process": True,
    "feed.source": "none",
    "http.port": 0,
    "verification.workers": 0,
    "nats.stream_bytes_max": 64 * 1024**2,
    "subsystems": "votes_db,dispute_conclusion,chain_api,consensus_manager",
}
INTERVAL_MS = 20


class Signed(NetworkChain):
    """As if a group served from the first block on."""

    @property
    def is_signed(self) -> bool:
        return True


class Lone:
    """A node that is a network by itself, but for its feed."""

    def __init__(self, loaded: Loaded, server: EmbeddedServer, client: Client, manage: Connection) -> None:
        self.config = loaded.config
        self.server = server
        self.client = client
        self.manage = manage
        self.declarations = [subsystem.declaration for subsystem in build_subsystems(loaded).values()]
        self.nodes = list(read_network(self.config.network.nodes).values())
        self.trust = NodeTrust.of(self.config)

    def chain(self, kind: type[NetworkChain] = NetworkChain) -> NetworkChain:
        return kind(genesis_of_chain(self.config), self.nodes, Parameters())

    @asynccontextmanager
    async def feeding(self, chain: NetworkChain) -> AsyncIterator[list[str]]:
        """A feed, started now; what it says it waits for."""
        heard: list[str] = []
        feed = NetworkFeed(self.client, chain, self.nodes, self.trust, interval_ms=INTERVAL_MS, heard=heard.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run)
            yield heard
            tasks.cancel_scope.cancel()

    async def fed(self, blocks: int) -> NetworkChain:
        """So many blocks, by a feed that ends then."""
        chain = self.chain()
        async with self.feeding(chain):
            await until(lambda: chain.number >= blocks, f"{blocks} blocks", DEADLINE_S)
        return chain

    async def say(self, message: Message) -> None:
        """As the feed."""
        out = Outgoing(build(NODE, FEED, message.spec), headers_of(message.spec), encode(message))
        await append_one(self.client.connection, signed(self.trust, out), {}, 5_000)

    async def limit_bytes(self, most: int) -> None:
        """How large the network's stream may become."""
        info = await call(self.manage, f"STREAM.INFO.{net_stream()}")
        await call(self.manage, f"STREAM.UPDATE.{net_stream()}", {**info["config"], "max_bytes": most})

    async def named(self) -> int:
        """How often the consensus manager was told of a block to sign."""
        subject = f"overseer.{NODE}.*.cmd.consensus_manager.{SignBlock.spec.name}"
        info = await call(self.manage, f"STREAM.INFO.{node_stream(NODE)}", {"subjects_filter": subject})
        return sum((info["state"].get("subjects") or {}).values())


def settled(folder: Path, **more: object) -> Loaded:
    flags = {**SETTINGS, "data_dir": str(folder / NODE), "network.nodes": str(folder / "nodes"), **more}
    return load_config(None, environ={}, flags=flags, sections=SECTIONS)


@asynccontextmanager
async def lone_node(folder: Path) -> AsyncIterator[Lone]:
    """It runs, on a server beside it, which outlives what is done to its streams."""
    (folder / "nodes").mkdir()
    loaded = settled(folder)
    declarations = [subsystem.declaration for subsystem in build_subsystems(settled(folder, **{"network.nodes": ""})).values()]
    (folder / "nodes" / f"{NODE}.json").write_text(describe(loaded.config, declarations).to_json())
    settings = ServerSettings(store_bytes_max=2 * bus_limits(loaded.config).store_bytes)
    async with EmbeddedServer(folder / "nats", partial(node_accounts, loaded.config, declarations), settings=settings) as server:
        loaded = settled(folder, **{"nats.url": server.url})
        stop, up = StopRequest(), anyio.Event()

        def started(_: RunInfo) -> None:
            up.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Node(loaded, started=started).run, stop)
            with anyio.fail_after(DEADLINE_S):
                await up.wait()
            connected = Client.connected(loaded.config, server.url, FEED), connected_as(loaded.config, server.url, PROVISIONER)
            async with connected[0] as client, connected[1] as manage:
                yield Lone(loaded, server, client, manage)
            stop.request("done")


async def test_a_feed_that_sealed_a_block_and_is_next_proposes_without_waiting_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "_PATIENCE_MS_MIN", 10 * 60_000)
    async with lone_node(tmp_path) as lone:
        await lone.fed(3)


async def test_a_restarted_feed_finds_the_chain_in_a_stream_that_was_trimmed(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as lone:
        before = await lone.fed(5)
        assert (await trim(lone.manage, net_stream(), keep=0)).messages >= 4
        after = lone.chain()
        async with lone.feeding(after):
            await until(lambda: after.number > before.number, "the chain goes on", DEADLINE_S)
        assert after.hash_at(before.number) == before.tip


async def test_a_feed_says_that_the_stream_does_not_hold_the_chain(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as lone:
        await lone.fed(3)
        # Proposal and block, twice over; the third block is there.
        await call(lone.manage, f"STREAM.PURGE.{net_stream()}", {"seq": 5})
        chain = lone.chain()
        async with lone.feeding(chain) as heard:
            await until(lambda: bool(heard), "the feed says what it waits for", DEADLINE_S)
        assert heard == ["the network's stream does not hold the chain: block 1 is not there, later ones are"]
        assert chain.number == 0


async def test_a_proposal_that_a_full_stream_refused_is_told_and_made_again_when_there_is_room(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as lone:
        await lone.limit_bytes(64)
        chain = lone.chain()
        async with lone.feeding(chain) as heard:
            await until(lambda: any("takes nothing" in what for what in heard), "the feed says that the stream is full", DEADLINE_S)
            assert chain.number == 0
            await lone.limit_bytes(2**24)
            await until(lambda: chain.number >= 2, "the chain goes on", DEADLINE_S)
        assert heard[-1] == ""


async def test_a_running_feed_goes_on_in_a_stream_that_replaced_the_one_it_has_read(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as lone:
        chain = lone.chain()
        async with lone.feeding(chain):
            await until(lambda: chain.number >= 5, "some blocks", DEADLINE_S)
            await lone.server.stop()
            (stream,) = (tmp_path / "nats").rglob(f"streams/{net_stream()}")
            shutil.rmtree(stream)
            number = chain.number
            await lone.server.start()
            await again(lone)
            await until(lambda: chain.number >= number + 3, "the chain goes on", DEADLINE_S)


async def again(lone: Lone) -> None:
    """Make the streams that are not there, as soon as the server answers."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            try:
                await lone.manage.ready()
                await provisioned(lone.config, lone.manage, lone.declarations, lone.server)
                return
            except BusError:
                await anyio.sleep(0.05)


async def test_a_block_that_the_node_refuses_to_sign_is_named_ever_more_rarely_and_told(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as lone:
        chain = lone.chain(Signed)
        block = chain.propose([])
        fork = msgspec.structs.replace(block, included=[bytes(32)])
        await lone.client.request(msgspec.structs.replace(fork, hash=hash_of(fork)))
        # Its parent is not the node's best block: refused, for as long as that stays so.
        await lone.say(BlockProposed(block=block))
        async with lone.feeding(chain) as heard:
            await until(lambda: bool(heard), "the feed says what it waits for", DEADLINE_S)
            named = await lone.named()
        assert heard == ["waits for the group of epoch 0 to sign block 1: this node knows nothing of it"]
        # Pauses of 50 ms to 1 s, in three seconds; at first they are short, since right after an import it is refused as well.
        assert 3 <= named <= 10
