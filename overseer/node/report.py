"""What a node looks like from outside: processes, stream, positions, dead letters, and what is wrong."""

import time
from collections.abc import Mapping, Sequence

import msgspec

from messages.subjects import node_stream
from overseer.config import Config
from overseer.nats.connection import Connection
from overseer.nats.provision import call
from overseer.node.bus import FEED
from overseer.node.folder import RunInfo
from overseer.node.writing import SERVER
from overseer.observe.http import fetch
from overseer.supervise.lag import Lag, LagState

__all__ = ["NodeReport", "StreamReport", "SubsystemReport", "node_report"]

# More waiting than this is called wrong: at ordinary rates it is seconds of work.
PENDING_WARN = 10_000
FULL_WARN = 0.9


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    first: int
    last: int
    messages: int
    bytes: int
    bytes_max: int


class SubsystemReport(msgspec.Struct, frozen=True, kw_only=True):
    """`position`: the last sequence acknowledged; `pending`: messages for it that it has not acknowledged.

    `last_failure`: why it was last restarted, "" if it never was. `consumer` (level, slow, stuck), how long the oldest message
    waits and how long nothing was done are as the overseer sees them, every two seconds.
    """

    name: str
    state: str
    restarts: int
    note: str
    position: int
    pending: int
    dead_letters: int
    last_failure: str = ""
    consumer: str = LagState.LEVEL.value
    oldest_ms: int = 0
    still_ms: int = 0


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """`wrong`: sentences, the most important first; empty when all is well."""

    node: str
    run_id: str
    pid: int
    url: str
    http_port: int
    up_s: int
    stream: StreamReport
    subsystems: list[SubsystemReport]
    wrong: list[str]


class _Child(msgspec.Struct, frozen=True):
    state: str
    restarts: int
    note: str
    last_failure: str = ""
    lag: Lag = Lag()


async def node_report(config: Config, info: RunInfo, connection: Connection, names: Sequence[str] | None = None) -> NodeReport:
    """Ask the bus and the overseer about the children (`names`; the subsystems of the configuration). Raises BusError."""
    stream_name = node_stream(config.node)
    answer = await call(connection, f"STREAM.INFO.{stream_name}", {"subjects_filter": f"overseer.{config.node}.*.rejected"})
    state = answer["state"]
    parked: dict[str, int] = state.get("subjects") or {}
    stream = StreamReport(
        name=stream_name,
        first=state["first_seq"],
        last=state["last_seq"],
        messages=state["messages"],
        bytes=state["bytes"],
        bytes_max=answer["config"]["max_bytes"],
    )
    children = await _children(info)
    rows: list[SubsystemReport] = []
    for name in names or config.subsystems:
        consumer = await call(connection, f"CONSUMER.INFO.{stream_name}.{name}")
        child = children.get(name, _Child("unknown", 0, ""))
        rows.append(
            SubsystemReport(
                name=name,
                state=child.state,
                restarts=child.restarts,
                note=child.note,
                position=consumer["ack_floor"]["stream_seq"],
                pending=consumer["num_pending"] + consumer["num_ack_pending"],
                dead_letters=parked.get(f"overseer.{config.node}.{name}.rejected", 0),
                last_failure=child.last_failure,
                consumer=child.lag.state.value,
                oldest_ms=child.lag.oldest_ms,
                still_ms=child.lag.still_ms,
            )
        )
    return NodeReport(
        node=config.node,
        run_id=info.run_id,
        pid=info.pid,
        url=info.url,
        http_port=info.http_port,
        up_s=int(time.time() - info.started_ms / 1000),
        stream=stream,
        subsystems=rows,
        wrong=_wrong(rows, children, stream),
    )


async def _children(info: RunInfo) -> dict[str, _Child]:
    try:
        page = await fetch(info.http_port, "/readyz", timeout_ms=2_000)
        return msgspec.json.decode(page.body, type=dict[str, _Child])
    except (OSError, msgspec.DecodeError):
        return {}


def _wrong(rows: list[SubsystemReport], children: Mapping[str, _Child], stream: StreamReport) -> list[str]:
    found: list[str] = []
    if SERVER in children:
        found.append(f"{SERVER}: {children[SERVER].note}")
    if FEED in children:
        found.append(f"{FEED}: {children[FEED].note}")
    for row in rows:
        if row.state != "ready":
            found.append(f"{row.name} is {row.state}{': ' + row.note if row.note else ''}; see the overseer's log")
        elif row.note:
            found.append(f"{row.name}: {row.note}")
    if stream.bytes_max > 0 and stream.bytes > FULL_WARN * stream.bytes_max:
        slowest = min(rows, key=lambda row: row.position)
        found.append(
            f"the stream is {100 * stream.bytes // stream.bytes_max} % full; {slowest.name} is furthest behind (at {slowest.position})"
        )
    found += [f"{row.name} is {children[row.name].lag.text()}" for row in rows if row.consumer != LagState.LEVEL.value]
    # Too short a time for the overseer to call it slow, or nobody there to ask.
    level = [row for row in rows if row.consumer == LagState.LEVEL.value]
    found += [f"{row.name} has {row.pending} messages waiting" for row in level if row.pending > PENDING_WARN]
    return found
