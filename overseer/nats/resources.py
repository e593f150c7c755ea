"""What a node needs on the bus besides its accounts: streams, consumers and a bucket, as data. Pure.

One stream holds the node's commands, facts and signals in one order; one is shared by the network's nodes. Both keep everything
until the overseer trims them (limits retention), refuse more when they are full (`discard: new`: a full stream says so, it
never drops), and republish what they stored for the live view. Each subsystem has a durable consumer of its own on what it
consumes; a bucket holds PoVs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from messages.message import Kind
from messages.subjects import live_prefix, net_stream, node_stream
from overseer.nats.accounts import durable_name, pov_bucket
from overseer.nats.sites import (
    LOG_KINDS,
    bucket_stream,
    bucket_subject,
    lease_bucket,
    log_durable,
    log_filter,
    log_stream,
    site_user,
    topology_bucket,
)
from overseer.subsystem import Declaration

__all__ = [
    "STREAM_ID",
    "SUBSYSTEM",
    "BusLimits",
    "Filters",
    "NetFilters",
    "WantedConsumer",
    "WantedStream",
    "log_consumers",
    "log_streams",
    "node_consumers",
    "node_streams",
]

# Keys of metadata. The stream's random id tells a stream from another of the same name; the consumer's owner counts in trimming.
STREAM_ID = "overseer_id"
STREAM_NODE = "overseer_node"
SUBSYSTEM = "overseer_subsystem"

_NS_PER_MS = 1_000_000
# Redelivery is never needed (every connect and gap sets the consumer to the store's position): only late, only once in a while.
_ACK_WAIT_MS = 60_000
# Acknowledgements are a courtesy and may be lost; deliveries must not stop for it.
_ACKS_PENDING_MAX = 200_000
# Pulls waiting at one consumer: the runner has a few.
_PULLS_WAITING_MAX = 64

# A bucket of a few small keys.
_KEYS_BYTES_MAX = 8 * 1024**2
# The server looks for doubles of a message within its window, which is at most its age.
_DUPLICATES_MS = 120_000

# A declaration's filters on the stream of a node, and on the network's (`overseer.graph`).
Filters = Callable[[Declaration, str], Sequence[str]]
NetFilters = Callable[[Declaration], Sequence[str]]


class BusLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept. A stream at its limit refuses, and the overseer trims; their sum is the server's file store."""

    node_bytes_max: int = 4 * 1024**3
    node_messages_max: int = 10_000_000
    net_bytes_max: int = 1024**3
    net_messages_max: int = 2_000_000
    pov_bytes_max: int = 1024**3
    message_bytes_max: int = 1024**2
    # Subsystems have one each; the rest are short-lived ones of operators.
    consumers_max: int = 64
    replicas: int = 1
    # Of the elections' log, where they have several sites: a log at its limit refuses every ballot.
    log_bytes_max: int = 4 * 1024**3
    log_messages_max: int = 50_000_000
    # A site whose lease was not renewed for so long is not alive. The server takes no less than 100 ms.
    lease_ms: int = 3_000

    @property
    def store_bytes(self) -> int:
        """What the server must be allowed to store."""
        return self.node_bytes_max + self.net_bytes_max + self.pov_bytes_max

    @property
    def log_store_bytes(self) -> int:
        """What it must be allowed besides, where elections have several sites."""
        return self.log_bytes_max + 2 * _KEYS_BYTES_MAX


class WantedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's configuration as far as we care. `dangerous`: fields whose drift may lose or forge messages."""

    name: str
    config: Mapping[str, Any]
    dangerous: frozenset[str]
    # Whether the stream gets a random id.
    identified: bool
    # Whether it takes only subjects that end in this id: what is sent to another stream of this name is not stored.
    subjects_end_in_id: bool = False

    def named(self, stream_id: str) -> "WantedStream":
        """With the id where the configuration has a place for it."""
        if not self.subjects_end_in_id:
            return self
        subjects = [f"{subject.rpartition('.')[0]}.{stream_id}" for subject in self.config["subjects"]]
        return msgspec.structs.replace(self, config={**self.config, "subjects": subjects})


class WantedConsumer(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    name: str
    config: Mapping[str, Any]
    dangerous: frozenset[str]


# Those that must be off are named as well: what is not there counts as off.
_KEEPS_EVERYTHING: dict[str, Any] = {
    "retention": "limits",
    "discard": "new",
    "storage": "file",
    "deny_delete": True,
    # The overseer trims by purging; nobody else is given the call.
    "deny_purge": False,
    "allow_direct": False,
    "mirror_direct": False,
    "allow_rollup_hdrs": False,
    "allow_msg_ttl": False,
    "allow_msg_schedules": False,
    "allow_msg_counter": False,
    "no_ack": False,
    "sealed": False,
    "discard_new_per_subject": False,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "persist_mode": None,
    "mirror": None,
    "sources": None,
    "subject_transform": None,
}


def node_streams(node: str, limits: BusLimits) -> list[WantedStream]:
    """The node's stream, the network's, and that of the PoV bucket."""
    own = [f"overseer.{node}.*.{kind.value}.>" for kind in (Kind.COMMAND, Kind.FACT, Kind.SIGNAL)] + [f"overseer.{node}.*.rejected"]
    return [
        _stream(
            node_stream(node),
            f"Commands, facts and signals of node {node}, in one order",
            own,
            f"overseer.{node}.>",
            (limits.node_bytes_max, limits.node_messages_max),
            {STREAM_NODE: node},
            limits,
        ),
        _stream(
            net_stream(),
            "Signed messages between nodes",
            ["overseer.net.>"],
            "overseer.net.>",
            (limits.net_bytes_max, limits.net_messages_max),
            {},
            limits,
        ),
        _bucket(node, limits),
    ]


def _stream(
    name: str,
    description: str,
    subjects: list[str],
    republished: str,
    sizes: tuple[int, int],
    metadata: dict[str, str],
    limits: BusLimits,
) -> WantedStream:
    guarded: dict[str, Any] = {
        **_KEEPS_EVERYTHING,
        "subjects": subjects,
        "allow_atomic": True,
        "num_replicas": limits.replicas,
        "republish": {"src": republished, "dest": f"{live_prefix()}{republished}"},
    }
    bounds: dict[str, Any] = {
        "description": description,
        "max_bytes": sizes[0],
        "max_msgs": sizes[1],
        "max_msg_size": limits.message_bytes_max,
        "max_consumers": limits.consumers_max,
        "metadata": metadata,
    }
    return WantedStream(name=name, config={"name": name, **guarded, **bounds}, dangerous=frozenset(guarded), identified=True)


def _bucket(node: str, limits: BusLimits) -> WantedStream:
    """An object store as the stock tools read it: chunks and metadata under `$O.<bucket>`.

    Without rollups, by which whoever may put one object could wipe all: objects are named by their hash and put once.
    """
    bucket = pov_bucket(node)
    name = f"OBJ_{bucket}"
    guarded: dict[str, Any] = {
        **_KEEPS_EVERYTHING,
        "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        "num_replicas": limits.replicas,
    }
    config: dict[str, Any] = {
        "name": name,
        **guarded,
        "description": f"PoVs of node {node}, by their hash",
        "max_bytes": limits.pov_bytes_max,
        "metadata": {STREAM_NODE: node},
    }
    return WantedStream(name=name, config=config, dangerous=frozenset(guarded), identified=False)


def log_streams(node: str, limits: BusLimits) -> list[WantedStream]:
    """Where elections have several sites: their log, and the buckets of the topology and of the leases."""
    guarded: dict[str, Any] = {
        **_KEEPS_EVERYTHING,
        "subjects": [log_filter(kind, node) for kind in LOG_KINDS],
        "num_replicas": limits.replicas,
    }
    bounds: dict[str, Any] = {
        "description": f"Log of the elections of node {node}, a subject for each",
        "max_bytes": limits.log_bytes_max,
        "max_msgs": limits.log_messages_max,
        "max_msg_size": limits.message_bytes_max,
        "max_consumers": limits.consumers_max,
        "metadata": {STREAM_NODE: node},
    }
    name = log_stream(node)
    return [
        WantedStream(
            name=name,
            config={"name": name, **guarded, **bounds},
            dangerous=frozenset(guarded),
            identified=True,
            subjects_end_in_id=True,
        ),
        _keys(node, topology_bucket(node), f"Recorded topology of the elections of node {node}", 0, limits),
        _keys(node, lease_bucket(node), f"Sites of the elections of node {node} that are alive", limits.lease_ms, limits),
    ]


def _keys(node: str, bucket: str, description: str, ttl_ms: int, limits: BusLimits) -> WantedStream:
    """A key-value bucket as the stock tools read it: the last value of each key, for `ttl_ms` (0: for ever).

    Without rollups, by which whoever may write one key could wipe all.
    """
    name = bucket_stream(bucket)
    guarded: dict[str, Any] = {
        **_KEEPS_EVERYTHING,
        "subjects": [bucket_subject(bucket, ">")],
        "num_replicas": limits.replicas,
        "max_msgs_per_subject": 1,
        "max_age": ttl_ms * _NS_PER_MS,
    }
    config: dict[str, Any] = {
        "name": name,
        **guarded,
        "description": description,
        "duplicate_window": min(ttl_ms or _DUPLICATES_MS, _DUPLICATES_MS) * _NS_PER_MS,
        "max_bytes": _KEYS_BYTES_MAX,
        "metadata": {STREAM_NODE: node},
    }
    return WantedStream(name=name, config=config, dangerous=frozenset(guarded), identified=False)


def node_consumers(node: str, declarations: Sequence[Declaration], filters: Filters, net_filters: NetFilters) -> list[WantedConsumer]:
    """One consumer for each subsystem on each stream that it consumes from."""
    consumers: list[WantedConsumer] = []
    for declaration in declarations:
        for stream, wanted in ((node_stream(node), filters(declaration, node)), (net_stream(), net_filters(declaration))):
            if wanted:
                consumers.append(_consumer(node, declaration, stream, sorted(wanted)))
    return consumers


def log_consumers(node: str, sites: Sequence[str]) -> list[WantedConsumer]:
    """One consumer of the log for each site and each kind of elections."""
    return [
        _durable(
            node,
            log_stream(node),
            log_durable(site, kind),
            site_user(site),
            f"Log of {kind}, as site {site} follows it",
            [log_filter(kind, node)],
        )
        for site in sites
        for kind in LOG_KINDS
    ]


def _consumer(node: str, declaration: Declaration, stream: str, filters: list[str]) -> WantedConsumer:
    name = durable_name(node, declaration.name, stream)
    return _durable(node, stream, name, declaration.name, declaration.description, filters)


def _durable(node: str, stream: str, name: str, owner: str, description: str, filters: list[str]) -> WantedConsumer:
    guarded: dict[str, Any] = {
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "all",
        "max_deliver": -1,
        "filter_subjects": filters,
        "replay_policy": "instant",
        "inactive_threshold": 0,
        "mem_storage": False,
        "headers_only": False,
        "deliver_subject": None,
        "pause_until": None,
    }
    bounds: dict[str, Any] = {
        "name": name,
        "description": description,
        "ack_wait": _ACK_WAIT_MS * _NS_PER_MS,
        "max_ack_pending": _ACKS_PENDING_MAX,
        "max_waiting": _PULLS_WAITING_MAX,
        "metadata": {SUBSYSTEM: owner, STREAM_NODE: node},
    }
    return WantedConsumer(stream=stream, name=name, config={**guarded, **bounds}, dangerous=frozenset(guarded))
