"""The configuration of a node: what may be set, with its meaning. `overseer.settings` reads it.

The comment above a field is its description, shown by `overseer config` and in the example file. A key is `section.field`
(`nats.port`), its environment variable `OVERSEER_NATS_PORT`. No field holds a secret: keys stay in files under `data_dir`.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from messages.primitives import Hash32, Name
from overseer.limits import Limits
from overseer.supervise.policy import SupervisePolicy

__all__ = [
    "FEEDS",
    "SUBSYSTEMS",
    "Config",
    "FeedConfig",
    "GovernanceConfig",
    "HttpConfig",
    "LogConfig",
    "NatsConfig",
    "NetworkConfig",
    "TlsConfig",
    "TraceConfig",
    "VerificationConfig",
    "servers_of",
]

SUBSYSTEMS = ("votes_db", "dispute_conclusion", "chain_api", "elections", "consensus_manager")

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
# What a feed may be; anything else is a path, which is taken relative to the file that names it.
FEEDS = ("none", "dev", "net", "substrate")
FeedSource = Annotated[str, msgspec.Meta(extra={"path_unless": FEEDS})]


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    # PEM file of the authority that signs the certificates of the server and of its clients. Set: TLS 1.3 and nothing else.
    ca: Path | None = None
    # PEM file of this machine's certificate: the embedded server's, and that which clients show.
    cert: Path | None = None
    # PEM file of its private key, readable by its owner alone.
    key: Path | None = None
    # Whether the embedded server demands a certificate of its clients. Clients always verify the server.
    verify: bool = True


class NatsConfig(msgspec.Struct, frozen=True, kw_only=True):
    # Existing server or cluster: nats://host:port or tls://host:port, several separated by commas. Empty: start an embedded one.
    url: str = ""
    # Address the embedded server listens on.
    host: str = "127.0.0.1"
    # Port of the embedded server; 0 takes a free one.
    port: Port = 0
    # Speak in clear beyond this machine, without TLS. Only where the network itself is closed and encrypted.
    insecure: bool = False
    # Folder of the nkey seeds of this node's accounts. Empty: the folder `keys` in data_dir.
    keys_dir: Path | None = None
    # Copies of each stream and bucket kept by a cluster.
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    # Bytes a stream may hold before it refuses more. Keep it below the free disk space.
    stream_bytes_max: Positive = 4 * 1024**3
    # Messages a stream may hold before it refuses more.
    stream_messages_max: Positive = 10_000_000
    # Messages kept when trimming, below what every subsystem has durably processed.
    history_messages: Annotated[int, msgspec.Meta(ge=0)] = 100_000
    # Milliseconds between two trims of the stream.
    trim_ms: Positive = 60_000
    tls: TlsConfig = TlsConfig()


class FeedConfig(msgspec.Struct, frozen=True, kw_only=True):
    # Where blocks come from: none, dev (the development chain), net (the chain that the nodes of network.nodes make together), substrate
    # (a Substrate node, feed.url), or the path of a file of blocks.
    source: FeedSource = "dev"
    # JSON-RPC of the Substrate node that is followed: ws://host:port or wss://host:port, several separated by commas, tried in turn.
    url: str = ""
    # Follow a node in clear beyond this machine (ws://). Only where the network itself is closed: whoever is in between can make up blocks.
    insecure: bool = False
    # Milliseconds between two blocks.
    interval_ms: Positive = 6_000
    # Seed of the development chain: the same seed makes the same blocks and validators.
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    # Address of /metrics, /healthz and /readyz, of the overseer or of a subsystem started by itself. They are not
    # authenticated: keep them on loopback, or on a network of their own.
    host: str = "127.0.0.1"
    # Port of /metrics, /healthz and /readyz; 0 takes a free one.
    port: Port = 0


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    # auto: human on a terminal, JSON lines otherwise.
    format: Literal["auto", "human", "json"] = "auto"
    # The least severe level that is written.
    level: Literal["debug", "info", "warning", "error"] = "info"


class GovernanceConfig(msgspec.Struct, frozen=True, kw_only=True):
    # Ed25519 public key (hex) that alone may end governance mode. Empty: nobody can; with `genesis` empty as well, that of the
    # development chain of feed.seed, whose key anybody can make.
    authority: Hash32 | None = None


class TraceConfig(msgspec.Struct, frozen=True, kw_only=True):
    # OTLP/HTTP collector that spans go to, as http://127.0.0.1:4318. Empty: none are made. Needs the extra `trace`.
    endpoint: str = ""
    # Of a hundred traces so many are kept, in all processes the same.
    sample_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 100
    # Milliseconds the collector may take for one request.
    timeout_ms: Positive = 5_000
    # Spans that wait for it in a process; more are dropped.
    queue_spans_max: Positive = 8_192
    # Milliseconds a process waits at its end for the last spans to go.
    flush_ms: Positive = 2_000


class VerificationConfig(msgspec.Struct, frozen=True, kw_only=True):
    # Worker processes that check signatures ahead; 0 checks them in the subsystem's own process.
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    # Folder of the public files of the network's nodes (<node>.json, by `overseer provision --describe`). Empty: this node is alone.
    nodes: Path | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, except the subsystems' own sections."""

    # Name of this node: a token of its subjects.
    node: Name = "node"
    # Folder of everything the node keeps.
    data_dir: Path = Path("overseer-data")
    # Subsystems that this node runs.
    subsystems: tuple[Literal["votes_db", "dispute_conclusion", "chain_api", "elections", "consensus_manager"], ...] = SUBSYSTEMS
    # Run all subsystems in one process (small machines) instead of one process each.
    in_process: bool = False
    # Start no subsystem: containers or a service manager do, each with `overseer subsystem NAME`; only watch them over the bus.
    external_subsystems: bool = False
    # Hash (hex) of the genesis block. Empty: that of the development chain. With feed.source = substrate: of the block of that chain where
    # this node begins, and counts from.
    genesis: Hash32 | None = None
    nats: NatsConfig = NatsConfig()
    feed: FeedConfig = FeedConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()
    trace: TraceConfig = TraceConfig()
    supervise: SupervisePolicy = SupervisePolicy()
    governance: GovernanceConfig = GovernanceConfig()
    verification: VerificationConfig = VerificationConfig()
    network: NetworkConfig = NetworkConfig()
    # The runner's bounds.
    limits: Limits = Limits()

    @property
    def keys_dir(self) -> Path:
        """Where the nkey seeds are."""
        return self.nats.keys_dir or self.data_dir / "keys"

    @property
    def identity_dir(self) -> Path:
        """Where the node's identity is: with the keys, as all processes of the node need it."""
        return self.keys_dir / "identity"


def servers_of(url: str) -> list[str]:
    """The servers that `nats.url` or `feed.url` names; none when it is empty."""
    return [each.strip() for each in url.split(",") if each.strip()]
