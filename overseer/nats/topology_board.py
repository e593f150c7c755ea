"""The recorded topology and the sites' leases, in two key-value buckets as every official client reads them.

    nats kv get overseer_<node>_topology current --raw
    nats kv ls overseer_<node>_lease

The topology is JSON, as the overseer's command line shows messages: it is small, rarely written, and read by people whose `nats kv`
translates nothing. A lease is a key that the server drops by itself when it is not written for `lease_ms` (the bucket's TTL).
"""

from messages.election_pairs import TopologyRecord
from messages.text import from_json, to_json
from overseer.nats.append import append_one, compare_and_set
from overseer.nats.connection import Connection
from overseer.nats.line import NatsLine
from overseer.nats.provision import ApiError, call
from overseer.nats.sites import TOPOLOGY_KEY, bucket_stream, bucket_subject, lease_bucket, topology_bucket
from overseer.ports.bus import BusUnavailable, Outgoing
from overseer.ports.sites import VersionedTopology

__all__ = ["NatsTopologyBoard"]

# How key-value clients mark a deleted key.
_OPERATION = "KV-Operation"
# Something: over an import an empty message ends a watch.
_ALIVE = b"alive"
_REQUEST_TIMEOUT_MS = 5_000


class NatsTopologyBoard:
    """Implements `overseer.ports.sites.TopologyBoard`."""

    def __init__(self, connection: Connection, *, node: str) -> None:
        """`connection` is the site's own; the overseer's does for the topology."""
        self._connection = connection
        self._subject = bucket_subject(topology_bucket(node), TOPOLOGY_KEY)
        self._leases = lease_bucket(node)
        self._line = NatsLine(
            connection,
            stream=bucket_stream(topology_bucket(node)),
            sender="",
            own_filter=self._subject,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )

    async def topology(self) -> VersionedTopology:
        """See `TopologyBoard.topology`. Raises CodecError when somebody recorded something else."""
        stored = await self._line.last_own()
        if stored is None:
            return VersionedTopology(None, 0)
        if _OPERATION in stored.headers:
            return VersionedTopology(None, stored.sequence)
        record = from_json(TopologyRecord.spec, stored.body)
        assert isinstance(record, TopologyRecord)
        return VersionedTopology(record, stored.sequence)

    async def record(self, topology: TopologyRecord, *, revision: int) -> int:
        """See `TopologyBoard.record`. Raises OutcomeUnknown as well: look at `topology` then."""
        condition = compare_and_set(self._subject, revision)
        return await append_one(self._connection, Outgoing(self._subject, {}, to_json(topology)), condition, _REQUEST_TIMEOUT_MS)

    async def renew(self, site: str) -> None:
        """See `TopologyBoard.renew`. Raises OutcomeUnknown as well: then the lease was renewed or not."""
        await append_one(self._connection, Outgoing(bucket_subject(self._leases, site), {}, _ALIVE), {}, _REQUEST_TIMEOUT_MS)

    async def alive(self) -> frozenset[str]:
        prefix = bucket_subject(self._leases, "")
        try:
            info = await call(self._connection, f"STREAM.INFO.{bucket_stream(self._leases)}", {"subjects_filter": f"{prefix}>"})
        except ApiError as error:
            raise BusUnavailable(str(error)) from error
        subjects: dict[str, int] = info["state"].get("subjects") or {}
        return frozenset(subject.removeprefix(prefix) for subject in subjects)
