"""A network on one machine: one server, and a process for each node, which make one chain together (`overseer testnet`).

<folder>/
    testnet.json      the running (or last) network: nodes, the server's address, and what was chosen for its chain
    nats/             the server
    nodes/<n>.json    what the nodes tell each other of themselves
    <n>/              the folder of each node: n1, n2, ...
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
import msgspec

from messages.polkadot import Scheme
from overseer.consensus.epochs import EpochsReport, verified_epochs
from overseer.consensus.identity import IdentityFolder
from overseer.consensus.section import ConsensusSection
from overseer.feeds.keyring import Key, Keyring
from overseer.nats.private_files import private_folder, write_private
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.node.bus import bus_limits, describe, node_accounts
from overseer.node.catalogue import SECTIONS, build_sites, build_subsystems, genesis_of_chain
from overseer.node.folder import NodeFolder
from overseer.node.keeping import keep_server
from overseer.node.writing import keep_writing
from overseer.observe.logs import logger
from overseer.settings import Loaded, load_config
from overseer.supervise.process import ChildSpec
from overseer.supervise.status import ChildState
from overseer.supervise.stopping import StopRequest
from overseer.supervise.supervisor import Supervisor

__all__ = ["Testnet", "TestnetInfo", "chain_settings", "epochs_of", "keyring_of", "node_names"]

# Connections of one node, with some to spare.
_CONNECTIONS_PER_NODE = 64
# A network that is tried out is small; the setting still counts.
_STREAM_BYTES_MAX = 512 * 1024**2
_INFO = "testnet.json"
# Who looks at the chain of a network needs the same of these.
_OF_THE_CHAIN = ("genesis", "feed.seed", "consensus_manager.")


class TestnetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What others need to know of a network. `chain`: settings of its chain that are not the defaults, by key."""

    url: str
    server_pid: int
    nodes: dict[str, str]
    chain: dict[str, str] = {}


def chain_settings(node: Path) -> dict[str, str]:
    """The settings of the chain that the node with this folder made with others; {} where that is no network's folder."""
    try:
        return msgspec.json.decode((node.absolute().parent / _INFO).read_bytes(), type=TestnetInfo).chain
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def epochs_of(loaded: Loaded) -> EpochsReport:
    """What a light client says of the blocks that a node of a network has recorded. Raises BrokenChain, BadNetwork, StoreError."""
    section = loaded.sections["consensus_manager"]
    assert isinstance(section, ConsensusSection)
    folder = NodeFolder(loaded.config.data_dir).path
    nodes = loaded.config.network.nodes or folder.parent / "nodes"
    return verified_epochs(folder / "stores" / "chain_api", nodes, genesis=genesis_of_chain(loaded.config), parameters=section.parameters)


def keyring_of(nodes: Mapping[str, Loaded]) -> Keyring:
    """The keys of a network's validators, by index: its nodes', in the order of their names. Raises UnusableKey."""
    folders = [nodes[name].config.identity_dir for name in sorted(nodes)]
    return Keyring([Key(Scheme.ED25519, IdentityFolder(folder).load().signing.reveal()) for folder in folders])


def node_names(count: int) -> list[str]:
    width = len(str(count))
    return [f"n{number:0{width}}" for number in range(1, count + 1)]


class Testnet:
    """`settings`: by key, for all nodes; what they do not name is taken as for any node. Raises ConfigError."""

    def __init__(
        self, folder: Path, count: int, settings: Mapping[str, object], *, environ: Mapping[str, str], file: Path | None = None
    ) -> None:
        self.folder = folder.absolute()
        common: dict[str, object] = {
            "network.nodes": str(self.folder / "nodes"),
            "feed.source": "net",
            "nats.stream_bytes_max": _STREAM_BYTES_MAX,
            # Each node serves its pages; they must not meet.
            "http.port": 0,
            **settings,
        }
        self._loaded: dict[str, Loaded] = {}
        for name in node_names(count):
            flags = {**common, "data_dir": str(self.folder / name), "node": name}
            self._loaded[name] = load_config(file, environ=environ, flags=flags, sections=SECTIONS)
        self._log = logger("testnet")
        self.supervisor: Supervisor | None = None

    @property
    def nodes(self) -> Mapping[str, Loaded]:
        """The configuration of each node, by name."""
        return self._loaded

    def prepare(self) -> None:
        """Keys and identities, and the files by which the nodes know each other. Idempotent. Raises UnusableKey."""
        private_folder(self.folder)
        private_folder(self.folder / "nodes")
        for stray in (self.folder / "nodes").glob("*.json"):
            if stray.stem not in self._loaded:
                stray.unlink()
        for name, loaded in self._loaded.items():
            private_folder(self.folder / name)
            declarations = [subsystem.declaration for subsystem in build_subsystems(_alone(loaded)).values()]
            write_private(self.folder / "nodes" / f"{name}.json", describe(loaded.config, declarations, build_sites(loaded)).to_json())

    async def run(self, stop: StopRequest, *, started: Callable[[TestnetInfo], None]) -> None:
        """Until `stop`, or until a node is given up. Raises GaveUp, FolderInUse, ServerError, UnusableKey."""
        with NodeFolder(self.folder).locked():
            self.prepare()
            async with self._server() as server:
                self.supervisor = Supervisor(self._children(server.url), self._first.config.supervise, stop=stop)
                self._write_info(server)
                async with anyio.create_task_group() as tasks:
                    again = partial(self._write_info, server)
                    tasks.start_soon(partial(keep_server, server, self._first.config.supervise, self._log, stop, restarted=again))
                    tasks.start_soon(keep_writing, server, self._hear_server)
                    tasks.start_soon(self._tell_when_ready, server, started)
                    await self.supervisor.run()
                    tasks.cancel_scope.cancel()

    def _hear_server(self, trouble: str) -> None:
        """That it cannot write is logged already."""
        if not trouble:
            self._log.info("nats_writes_again")

    def _info(self, server: EmbeddedServer) -> TestnetInfo:
        folders = {name: str(self.folder / name) for name in self._loaded}
        chosen = {s.key: s.value for s in self._first.settings if s.source != "default" and s.key.startswith(_OF_THE_CHAIN)}
        return TestnetInfo(url=server.url, server_pid=server.pid or 0, nodes=folders, chain=chosen)

    def _write_info(self, server: EmbeddedServer) -> None:
        write_private(self.folder / _INFO, msgspec.json.encode(self._info(server)).decode() + "\n")

    @property
    def _first(self) -> Loaded:
        return next(iter(self._loaded.values()))

    def _server(self) -> EmbeddedServer:
        config, count = self._first.config, len(self._loaded)
        limits = bus_limits(config)
        store_bytes = limits.store_bytes * count
        settings = ServerSettings(
            name="overseer-testnet",
            host=config.nats.host,
            port=config.nats.port,
            store_bytes_max=store_bytes + store_bytes // 8,
            connections_max=_CONNECTIONS_PER_NODE * count,
        )
        declarations = [subsystem.declaration for subsystem in build_subsystems(self._first).values()]
        return EmbeddedServer(
            self.folder / "nats", lambda: node_accounts(config, declarations, build_sites(self._first)), settings=settings
        )

    def _children(self, url: str) -> Sequence[ChildSpec]:
        argv = (sys.executable, "-m", "overseer.cli.entry", "run", "--json")
        log = "human" if sys.stderr is not None and sys.stderr.isatty() else "json"  # pyright: ignore[reportUnnecessaryComparison]
        return [
            ChildSpec(
                name=name,
                argv=argv,
                env={"OVERSEER_LOG_FORMAT": log, **loaded.environment(), "OVERSEER_NATS_URL": url, "OVERSEER_NATS_PORT": "0"},
            )
            for name, loaded in self._loaded.items()
        ]

    async def _tell_when_ready(self, server: EmbeddedServer, started: Callable[[TestnetInfo], None]) -> None:
        assert self.supervisor is not None
        info = self._info(server)
        async for statuses in self.supervisor.changes():
            if all(status.state is ChildState.READY for status in statuses):
                self._log.info("ready", url=info.url, nodes=list(info.nodes), pid=os.getpid())
                started(info)
                return


def _alone(loaded: Loaded) -> Loaded:
    """Before the nodes have told each other who they are."""
    network = msgspec.structs.replace(loaded.config.network, nodes=None)
    return msgspec.structs.replace(loaded, config=msgspec.structs.replace(loaded.config, network=network))
