"""One look at a running node from outside: its page of health, its metrics, the bus, /proc. What does not answer is named, never raised."""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from messages.subjects import node_stream
from overseer.config import Config
from overseer.nats.connection import Connection
from overseer.nats.keys import KeyFolder, UnusableKey
from overseer.nats.provision import ApiError, call
from overseer.nats.sites import site_user
from overseer.nats.stored import stored_message, time_ms
from overseer.node.bus import FEED
from overseer.node.client import Client
from overseer.node.figures import Domain, Look, NodeAsk, look_at_domains
from overseer.node.findings import ChildFacts, Facts, Finding, found
from overseer.node.folder import RunInfo
from overseer.node.writing import SERVER
from overseer.observe import processes
from overseer.observe.http import fetch
from overseer.observe.scrape import EMPTY, Histogram, PageError, Scrape, quantile_s, read_page, since
from overseer.ports.bus import BusError
from overseer.supervise.lag import Lag

__all__ = ["Rates", "Seen", "look_at_node", "rates_between"]

# How long the overseer may take for a page: its metrics wait for every child's.
PAGE_MS = 3_000
# How long the bus may take for all questions together.
BUS_MS = 4_000


class _Child(msgspec.Struct, frozen=True):
    """As /readyz tells it."""

    state: str
    restarts: int
    note: str
    last_failure: str = ""
    lag: Lag = Lag()
    pid: int | None = None


class StreamSeen(msgspec.Struct, frozen=True, kw_only=True):
    """`commands`: held by the stream now."""

    name: str
    first: int
    last: int
    messages: int
    bytes: int
    bytes_max: int
    commands: int
    parked: Mapping[str, int]


class _Taken(msgspec.Struct, frozen=True):
    """What a process took so far."""

    cpu_s: float
    memory_mb: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look. `at_s`: a clock that never goes back. `pids`: of the children that are processes here; `own_pids`: of the rest."""

    at_s: float
    facts: Facts
    stream: StreamSeen | None
    scrapes: Mapping[str, Scrape]
    pids: Mapping[str, int]
    own_pids: Mapping[str, int]
    processes: Mapping[int, _Taken]
    looks: Sequence[Look]
    bus_error: Exception | None

    def wrong(self) -> list[Finding]:
        return found(self.facts)


class _Bus:
    """What the bus told."""

    def __init__(self) -> None:
        self.stream: StreamSeen | None = None
        self.consumers: dict[str, dict[str, Any]] = {}
        self.parked_ms: dict[str, int] = {}
        self.skew_s: float | None = None
        self.error: Exception | None = None


async def look_at_node(
    config: Config,
    info: RunInfo,
    names: Sequence[str],
    connection: Connection | None,
    *,
    why: str = "",
    domains: Sequence[Domain] = (),
    known_looks: Sequence[Look] = (),
) -> Seen:
    """All at once, bounded in time.

    `names`: the children; `why` there is no connection, if there is none; `known_looks`: of an earlier look, while no `domains` are asked.
    """
    told: dict[str, _Child] | None = None
    scrapes: dict[str, Scrape] = {}
    looks: Sequence[Look] = known_looks
    bus = _Bus()

    async def pages() -> None:
        nonlocal told, scrapes
        told = await _readiness(info)
        scrapes = await _scrapes(info) if told is not None else {}

    async def ask(connection: Connection) -> None:
        nonlocal looks
        looks = await look_at_domains(domains, NodeAsk(Client(connection, config.node, ""), info.sites))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pages)
        if connection is not None:
            tasks.start_soon(_ask_bus, bus, connection, config.node, names)
            if domains:
                tasks.start_soon(ask, connection)
    known: Mapping[str, _Child] = told if told is not None else {}
    children = [_facts_of(name, known, bus) for name in names]
    pids = {name: child.pid for name, child in known.items() if child.pid}
    own_pids = _own_pids(info, pids)
    return Seen(
        at_s=time.monotonic(),
        facts=_facts(config, info, told, bus, children, looks, why=why),
        stream=bus.stream,
        scrapes=scrapes,
        pids=pids,
        own_pids=own_pids,
        processes=_taken([*pids.values(), *own_pids.values()]),
        looks=looks,
        bus_error=bus.error,
    )


async def _readiness(info: RunInfo) -> dict[str, _Child] | None:
    try:
        page = await fetch(info.http_port, "/readyz", timeout_ms=PAGE_MS)
        return msgspec.json.decode(page.body, type=dict[str, _Child])
    except (OSError, msgspec.DecodeError):
        return None


async def _scrapes(info: RunInfo) -> dict[str, Scrape]:
    try:
        return read_page((await fetch(info.http_port, "/metrics", timeout_ms=PAGE_MS)).body.decode())
    except (OSError, PageError, UnicodeDecodeError):
        return {}


async def _ask_bus(bus: _Bus, connection: Connection, node: str, names: Sequence[str]) -> None:
    bus.error = BusError(f"no answer within {BUS_MS / 1000:g} s")
    with anyio.move_on_after(BUS_MS / 1000):
        try:
            bus.stream, bus.skew_s = await _stream(connection, node)
            for name in names:
                bus.consumers[name] = await call(connection, f"CONSUMER.INFO.{bus.stream.name}.{name}")
                if bus.stream.parked.get(name):
                    last = await stored_message(connection, bus.stream.name, {"last_by_subj": f"overseer.{node}.{name}.rejected"})
                    if last is not None:
                        bus.parked_ms[name] = last.time_ms
            bus.error = None
        except (BusError, ApiError) as error:
            bus.error = error


async def _stream(connection: Connection, node: str) -> tuple[StreamSeen, float | None]:
    name = node_stream(node)
    answer = await call(connection, f"STREAM.INFO.{name}", {"subjects_filter": f"overseer.{node}.>"})
    state = answer["state"]
    counts: dict[str, int] = state.get("subjects") or {}
    stream = StreamSeen(
        name=name,
        first=state["first_seq"],
        last=state["last_seq"],
        messages=state["messages"],
        bytes=state["bytes"],
        bytes_max=answer["config"]["max_bytes"],
        commands=sum(count for subject, count in counts.items() if subject.split(".")[3] == "cmd"),
        parked={subject.split(".")[2]: count for subject, count in counts.items() if subject.split(".")[3] == "rejected"},
    )
    return stream, time_ms(answer["ts"]) / 1000 - time.time() if "ts" in answer else None


def _facts_of(name: str, told: Mapping[str, _Child], bus: _Bus) -> ChildFacts:
    child = told.get(name, _Child("unknown", 0, ""))
    consumer = bus.consumers.get(name)
    parked_ms = bus.parked_ms.get(name)
    return ChildFacts(
        name=name,
        state=child.state,
        restarts=child.restarts,
        note=child.note,
        last_failure=child.last_failure,
        lag=child.lag,
        position=consumer["ack_floor"]["stream_seq"] if consumer is not None else 0,
        pending=consumer["num_pending"] + consumer["num_ack_pending"] if consumer is not None else child.lag.pending,
        dead_letters=bus.stream.parked.get(name, 0) if bus.stream is not None else 0,
        dead_letter_age_s=None if parked_ms is None else max(0.0, time.time() - parked_ms / 1000),
    )


def _facts(
    config: Config,
    info: RunInfo,
    told: Mapping[str, _Child] | None,
    bus: _Bus,
    children: Sequence[ChildFacts],
    looks: Sequence[Look],
    *,
    why: str,
) -> Facts:
    none = _Child("", 0, "")
    return Facts(
        pid=info.pid,
        page=told is not None,
        bus=why or (str(bus.error) if bus.error is not None else ""),
        server=(told or {}).get(SERVER, none).note,
        feed=(told or {}).get(FEED, none).note,
        children=children,
        sites=tuple(map(site_user, info.sites)),
        stream_bytes=bus.stream.bytes if bus.stream is not None else 0,
        stream_bytes_max=bus.stream.bytes_max if bus.stream is not None else 0,
        disk_free=_free(config.data_dir),
        disk=str(config.data_dir),
        skew_s=bus.skew_s,
        # As it was started, whatever the configuration says here and now.
        feed_ms=info.feed_ms or None,
        networked=info.networked,
        figures={name: value for look in looks for name, value in look.figures.items()},
        silent={look.subsystem: look.problem for look in looks if look.problem},
        keys=_key_problems(config),
    )


def _free(folder: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def _key_problems(config: Config) -> list[tuple[str, str]]:
    """Keys that are there and cannot be used; what is wrong and what to do."""
    folder, wrong = KeyFolder(config.keys_dir), list[tuple[str, str]]()
    try:
        folder.check_folder()
        for path in sorted(folder.folder.glob("*.nk")):
            try:
                folder.public(path.stem)
            except UnusableKey as error:
                wrong.append((f"{error.path}: {error.problem}", error.remedy))
    except UnusableKey as error:
        wrong.append((f"{error.path}: {error.problem}", error.remedy))
    except OSError as error:
        wrong.append((f"{config.keys_dir}: {error.strerror}", "Give the user that runs the node this folder"))
    return wrong


# ------------------------------------------------------------------------------------------------ processes


def _own_pids(info: RunInfo, children: Mapping[str, int]) -> dict[str, int]:
    """The overseer, and the server that it started, where their machine is this one."""
    if not processes.known() or not processes.alive(info.pid):
        return {}
    server = [pid for pid in processes.children(info.pid) if pid not in children.values() and processes.program(pid) == SERVER]
    return {"overseer": info.pid, **({SERVER: server[0]} if server else {})}


def _taken(pids: Sequence[int]) -> dict[int, _Taken]:
    taken: dict[int, _Taken] = {}
    for pid in pids if processes.known() else ():
        # Gone between the overseer's word and the look, or another machine's.
        with suppress(OSError, IndexError, ValueError):
            taken[pid] = _Taken(processes.cpu_s([pid]), processes.resident_mb(pid))
    return taken


# ------------------------------------------------------------------------------------------------ rates


class SubsystemRates(msgspec.Struct, frozen=True, kw_only=True):
    """`flight_ms`, `commit_ms`: the median and 99 of 100; since the look before if `of_late`, else since the process began."""

    per_s: float | None
    published_per_s: float | None
    flight_ms: tuple[float, float] | None
    commit_ms: tuple[float, float] | None
    of_late: bool


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What went on between two looks; None where there was none before."""

    subsystems: Mapping[str, SubsystemRates]
    cpu_percent: Mapping[int, float]
    stream_per_s: float | None = None
    commands_per_s: float | None = None


def rates_between(before: Seen | None, now: Seen) -> Rates:
    """Without a look before there are times since the processes began, and no rates."""
    passed_s = now.at_s - before.at_s if before is not None else 0.0
    known: Mapping[str, Scrape] = before.scrapes if before is not None else {}
    cpu: dict[int, float] = {}
    if before is not None and passed_s > 0:
        for pid, taken in now.processes.items():
            if pid in before.processes:
                cpu[pid] = round(max(0.0, 100 * (taken.cpu_s - before.processes[pid].cpu_s) / passed_s), 1)
    per_s = commands_per_s = None
    if before is not None and before.stream is not None and now.stream is not None and passed_s > 0:
        per_s = max(0, now.stream.last - before.stream.last) / passed_s
        # What was trimmed in between is missing: never less than none.
        commands_per_s = max(0, now.stream.commands - before.stream.commands) / passed_s
    return Rates(
        subsystems={name: _rates_of(known.get(name), scrape, passed_s) for name, scrape in now.scrapes.items() if name},
        cpu_percent=cpu,
        stream_per_s=per_s,
        commands_per_s=commands_per_s,
    )


def _rates_of(before: Scrape | None, now: Scrape, passed_s: float) -> SubsystemRates:
    done = since(before, now) if before is not None else EMPTY
    of_late = quantile_s(done.flight, 0.5) is not None
    times = done if of_late else now
    known = before is not None and passed_s > 0
    return SubsystemRates(
        per_s=done.processed / passed_s if known else None,
        published_per_s=done.published / passed_s if known else None,
        flight_ms=_quantiles_ms(times.flight),
        commit_ms=_quantiles_ms(times.commit),
        of_late=of_late,
    )


def _quantiles_ms(histogram: Histogram) -> tuple[float, float] | None:
    median, late = quantile_s(histogram, 0.5), quantile_s(histogram, 0.99)
    return None if median is None or late is None else (1000 * median, 1000 * late)
