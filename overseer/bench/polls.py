"""A node with ballot elections, on one site or several, as processes on a server of the bench; and who casts ballots."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import anyio

from messages.ballots import CastBallot, OpenElection
from messages.codec import encode
from messages.election_pairs import SiteRow, TopologyRecord
from messages.elections import OfElection
from messages.subjects import HEADER_COMMAND_ID, headers_of, node_stream, request_subject
from overseer.bench.running import RunningNode, running_node
from overseer.bench.votes import chain_of_bench
from overseer.config import Config
from overseer.nats.accounts import PROVISIONER, accounts_config
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.nats.provision import call
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.nats.sites import log_stream, site_user
from overseer.node.bus import FEED, connected_as, own_users, provisioned
from overseer.node.catalogue import CATALOGUE
from overseer.sites.layout import Sites, sites_of
from overseer.subsystem import Subsystem
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.elections.config import ElectionsConfig
from subsystems.votes_db.subsystem import VotesDb

__all__ = [
    "BARE",
    "BARE_SITE",
    "NODE",
    "OPERATOR",
    "Load",
    "Polls",
    "Stored",
    "Voters",
    "open_polls",
    "open_server",
    "running_polls",
    "voters_of",
]

NODE = "bench"
OPERATOR = "operator"
# A second node on the same server, without any process: its log takes the bare appends, which nobody reads.
BARE = "bare"
BARE_SITE = "dc1"
_BARE_SITES = Sites(TopologyRecord(version=1, sites=[SiteRow(BARE_SITE, BARE_SITE, "z1")]))
# Both nodes may fill their streams.
_STORE_BYTES_MAX = 64 * 1024**3
_CHOICES = ("Ada", "Grace", "Edsger")
_REQUEST_MS = 30_000
_ATTEMPTS = 40
_PAUSE_S = 0.25
_CLIENTS_EACH = 3


class Stored(NamedTuple):
    """What the stream that ballots go through holds."""

    messages: int
    bytes: int


class Polls:
    """A node that runs. Made by `open_polls`. `sites`: of its elections, none where the node itself is the only one."""

    def __init__(self, config: Config, bare: Config, url: str, server: int, sites: Sites) -> None:
        """`server`: the number of the server's process."""
        self.config = config
        self.bare = bare
        self.url = url
        self.server = server
        self.sites = sites
        self.node: RunningNode

    @property
    def stream(self) -> str:
        """The node's stream with one site, where every ballot is a message; else the elections' log, where every batch is one."""
        return log_stream(NODE) if self.sites.names else node_stream(NODE)

    async def stored(self, connection: Connection) -> Stored:
        """As an operator sees it."""
        state = (await call(connection, f"STREAM.INFO.{self.stream}"))["state"]
        return Stored(int(state["messages"]), int(state["bytes"]))

    def addresses(self, command: OfElection) -> list[str]:
        """Where a command may be sent: to the node, or to the mailroom of any site."""
        if not self.sites.names:
            return [request_subject(NODE, command.spec)]
        return [f"overseer.{NODE}.{site_user(site)}.mail.{command.election}.{command.spec.name}" for site in self.sites.names]


@asynccontextmanager
async def open_polls(folder: Path, sites: int) -> AsyncGenerator[Polls, None]:
    """Start a server in `folder`, and a node on it. Raises RuntimeError when the node does not come up."""
    async with open_server(folder, sites) as polls, running_polls(polls):
        yield polls


@asynccontextmanager
async def open_server(folder: Path, sites: int) -> AsyncGenerator[Polls, None]:
    """Without the node."""
    config = Config(node=NODE, data_dir=folder / "node")
    bare = Config(node=BARE, data_dir=folder / "bare")
    layout = sites_of(ElectionsConfig(sites=sites))
    declarations = [] if layout.names else [subsystem.declaration for subsystem in _subsystems(config)]

    def accounts() -> str:
        return accounts_config([own_users(config, declarations, layout), own_users(bare, [], _BARE_SITES)])

    settings = ServerSettings(name="overseer-bench", store_bytes_max=_STORE_BYTES_MAX)
    async with EmbeddedServer(folder / "nats", accounts, settings=settings) as server:
        async with connected_as(bare, server.url, PROVISIONER) as manage:
            await provisioned(bare, manage, [], server, _BARE_SITES)
        assert server.pid is not None
        yield Polls(config, bare, server.url, server.pid, layout)


def _subsystems(config: Config) -> list[Subsystem]:
    """On one site the elections are a subsystem, which needs the others."""
    return [chain_of_bench(), VotesDb(), DisputeConclusion(), CATALOGUE["elections"].build(config, ElectionsConfig())]


@asynccontextmanager
async def running_polls(polls: Polls, settings: Mapping[str, str] | None = None) -> AsyncGenerator[None, None]:
    """Its node. `settings`: environment variables of it, besides what any needs."""
    env = {
        "OVERSEER_NODE": NODE,
        "OVERSEER_NATS_URL": polls.url,
        "OVERSEER_SUBSYSTEMS": "elections" if polls.sites.names else ",".join(each.declaration.name for each in _subsystems(polls.config)),
        "OVERSEER_ELECTIONS_SITES": str(len(polls.sites.names) or 1),
        "OVERSEER_VERIFICATION_WORKERS": "0",
        # The bench kills its processes more often than they would fail.
        "OVERSEER_SUPERVISE_RESTARTS_MAX": "1000",
        **(settings or {}),
    }
    async with running_node(polls.config.data_dir, env=env) as polls.node:
        yield


# ------------------------------------------------------------------------------------------------ who votes


class Load(NamedTuple):
    """So many elections, and so many ballots of each under way at a time."""

    elections: int
    ballots_each: int


class Voters:
    """Cast ballots without pause, each as soon as the one before is recorded; never the same voter twice. Made by `voters_of`."""

    def __init__(self, polls: Polls, clients: Sequence[NatsExchange], load: Load) -> None:
        self.accepted = 0
        self._polls = polls
        self._clients = clients
        self._load = load
        self._numbers = count(1)

    async def open(self) -> None:
        """Open the elections. Raises RuntimeError, BusError."""
        async with anyio.create_task_group() as tasks:
            for number in range(self._load.elections):
                key = f"poll-{number}"
                tasks.start_soon(self._tell, OpenElection(election=key, title=key, choices=list(_CHOICES)), next(self._numbers))

    @asynccontextmanager
    async def voting(self) -> AsyncGenerator[None, None]:
        """Vote meanwhile. Raises RuntimeError when a ballot is refused."""
        async with anyio.create_task_group() as tasks:
            for place in range(self._load.elections * self._load.ballots_each):
                tasks.start_soon(self._voter, f"poll-{place % self._load.elections}")
            yield
            tasks.cancel_scope.cancel()

    async def _voter(self, key: str) -> None:
        while True:
            number = next(self._numbers)
            ballot = CastBallot(election=key, voter=number.to_bytes(32, "big"), choice=_CHOICES[number % len(_CHOICES)])
            await self._tell(ballot, number)
            self.accepted += 1

    async def _tell(self, command: OfElection, number: int) -> None:
        """Until it is accepted: by another connection and another site each time, as everybody has some."""
        addresses = self._polls.addresses(command)
        headers = {**headers_of(command.spec), HEADER_COMMAND_ID: f"{command.election} {number}"}
        body, code = encode(command), ""
        for attempt in range(_ATTEMPTS):
            exchange = self._clients[(number + attempt) % len(self._clients)]
            address = addresses[(number + attempt) % len(addresses)]
            response = await exchange.request(address, body, headers, _REQUEST_MS)
            if response.error is None:
                return
            # Busy, or too few copies for now.
            code = response.error[1]
            await anyio.sleep(_PAUSE_S)
        raise RuntimeError(f"{command.spec.name} was not accepted: {code}")


@asynccontextmanager
async def voters_of(polls: Polls, load: Load) -> AsyncGenerator[Voters, None]:
    """Several clients, of two people: of one person's commands only so many are taken at a time."""
    async with AsyncExitStack() as stack:
        clients = [
            NatsExchange(await stack.enter_async_context(connected_as(polls.config, polls.url, user)))
            for _ in range(_CLIENTS_EACH)
            for user in (OPERATOR, FEED)
        ]
        yield Voters(polls, clients, load)
