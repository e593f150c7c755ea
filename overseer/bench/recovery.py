"""`ballots_recovery`: an election with a long history whose writer is killed, and whose store is lost or not.

Voters come one after another all the time. The new process of the writer finds nothing in its store: another site, which has a copy, is to
write meanwhile, and it is to fetch its copy (the log has nothing to replay) and to write again then. Killed once more, it has the copy.
"""

import os
import shutil
import signal
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import anyio

from messages.ballots import CastBallot
from messages.election_pairs import SnapshotAsked
from overseer.bench.failover import written_at
from overseer.bench.grown import grow_election, voter
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.polls import NODE, OPERATOR, Polls, open_server, running_polls
from overseer.nats.connection import Connection
from overseer.nats.site_mail import NatsSiteMail
from overseer.nats.sites import site_user
from overseer.node.bus import connected_as
from overseer.node.folder import NodeFolder
from overseer.ports.bus import Request, Response
from overseer.ports.store import StoreIdentity
from overseer.rocks.reader import RocksReader
from overseer.rocks.store import RocksStore
from overseer.sites.client import SitesClient
from overseer.sites.tables import SITE_SCHEMA, election_tables, table_names
from overseer.tables import WriteSet
from subsystems.elections.rows import key_hash
from subsystems.elections.subsystem import Elections

__all__ = ["ballots_recovery"]

_SITES = 5
_WRITER, _SOURCE = "dc1", "dc2"
_ALLOWED_MS = 2_000
# Of a voter who comes at any time while the store is lost: the writer's lease has to run out, or its new process to step aside.
_LONGEST_MS = 5_000
# Bare copying takes nothing from a running site, checks nothing, and has both cores.
_COPYING_AT_MOST = 4.0
_MEMORY_MB = 192
_PATIENCE_S = 600.0
_LOOK_S = 0.005
_VOTERS_EVERY_S = 0.05
_PAGE_BYTES = 384 * 1024
# The store is gone before the process is back.
_ENV = {"OVERSEER_SUPERVISE_BACKOFF_FIRST_MS": "1500"}


class _Lost(NamedTuple):
    """Times in seconds. `first`: to the first ballot through the new process; `copied`: until it has its copy; `longest`: of any voter."""

    first: float
    copied: float
    longest: float
    memory_mb: float


async def ballots_recovery(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    """Raises RuntimeError, TimeoutError."""
    events = sizes.recovered_events
    async with open_server(folder, _SITES) as polls:
        key = written_at(polls, _WRITER)
        report(f"writing an election of {events} events")
        await grow_election(polls, key, events)
        report("copying as many bytes")
        bare = await _bare_copy(polls, key, folder)
        report("starting a node")
        async with running_polls(polls, _ENV), connected_as(polls.config, polls.url, OPERATOR) as connection:
            killed = _Writer(polls, connection, key, events)
            await killed.written(_WRITER)
            report("recovering from the best reader")
            lost = await killed.lose_store()
            report("recovering with the own copy")
            await killed.written(_WRITER)
            warm = await killed.restart()
    shown = f"{events} events, from a new process"
    return [
        _allowed("ballots_recovery", f"{shown} that lost its store to the first ballot recorded through it", lost.first, _ALLOWED_MS),
        _allowed(
            "ballots_recovery_longest", f"{events} events, the store is lost: the longest that a voter waited", lost.longest, _LONGEST_MS
        ),
        judged(
            "ballots_recovery_copy",
            f"{shown} that lost its store until it has its copy",
            [(lost.copied, bare)],
            unit="s",
            limited_by="as many bytes by request and reply, and as many rows written",
            target=_COPYING_AT_MOST,
            at_most=True,
        ),
        judged(
            "ballots_recovery_memory",
            f"{events} events: the most memory that the fetching process had",
            [(lost.memory_mb, _MEMORY_MB)],
            unit="MB",
            limited_by="what is allowed",
            target=1.0,
            at_most=True,
        ),
        _allowed("ballots_recovery_warm", f"{shown} that has its store to the first ballot recorded through it", warm, _ALLOWED_MS),
    ]


def _allowed(name: str, what: str, took_s: float, allowed_ms: float) -> Measure:
    return judged(name, what, [(1_000 * took_s, allowed_ms)], unit="ms", limited_by="what is allowed", target=1.0, at_most=True)


class _Writer:
    """The writer of the election, which is killed."""

    def __init__(self, polls: Polls, connection: Connection, key: str, events: int) -> None:
        self._polls = polls
        self._connection = connection
        self._key = key
        self._voters = count(events + 1)
        self._user = site_user(_WRITER)
        self._client = self._asking(polls.sites.names)

    def _asking(self, sites: tuple[str, ...]) -> SitesClient:
        return SitesClient(self._connection, NODE, sites, patience_s=_PATIENCE_S)

    async def written(self, site: str) -> None:
        """Wait until all agree that this site writes."""
        with anyio.fail_after(_PATIENCE_S):
            while True:
                reports = [report for report in (await self._client.copies(self._key)).values() if report is not None]
                if len(reports) == _SITES and all(report.writer == site and not report.away for report in reports):
                    return
                await anyio.sleep(_VOTERS_EVERY_S)

    async def lose_store(self) -> _Lost:
        """Kill it and remove its store; returns when it writes again."""
        waited: list[float] = []
        has = (await self._client.copies(self._key))[_WRITER]
        assert has is not None
        async with self._voting(waited):
            await self._kill()
            shutil.rmtree(NodeFolder(self._polls.config.data_dir).store(self._user))
            await self._answers(expected=True)
            began = anyio.current_time()
            first = await self._cast(self._asking((_WRITER,)))
            with anyio.fail_after(_PATIENCE_S):
                while (found := (await self._client.copies(self._key))[_WRITER]) is None or found.head.sequence < has.head.sequence:
                    await anyio.sleep(_LOOK_S)
            copied = anyio.current_time() - began
            await self.written(_WRITER)
        return _Lost(first, copied, max(waited), self._memory_mb())

    async def restart(self) -> float:
        """Kill it; seconds from its new process's first answer to its first ballot."""
        await self._kill()
        await self._answers(expected=True)
        return await self._cast(self._asking((_WRITER,)))

    @asynccontextmanager
    async def _voting(self, waited: list[float]):
        """Voters come one after another meanwhile; how long each waited, the last one too: it is answered before this ends."""
        over = anyio.Event()

        async def vote() -> None:
            while not over.is_set():
                waited.append(await self._cast(self._client))
                await anyio.sleep(_VOTERS_EVERY_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(vote)
            yield
            over.set()

    async def _cast(self, client: SitesClient) -> float:
        began = anyio.current_time()
        await client.request(CastBallot(election=self._key, voter=voter(next(self._voters)), choice="Ada"))
        return anyio.current_time() - began

    async def _kill(self) -> None:
        os.kill(self._polls.node.child(self._user), signal.SIGKILL)
        await self._answers(expected=False)

    async def _answers(self, *, expected: bool) -> None:
        """Wait until the site answers, or does not."""
        with anyio.fail_after(_PATIENCE_S):
            while ((await self._asking((_WRITER,)).copies(self._key))[_WRITER] is not None) is not expected:
                await anyio.sleep(_LOOK_S)

    def _memory_mb(self) -> float:
        """The most that its process ever had in memory."""
        status = Path(f"/proc/{self._polls.node.child(self._user)}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024


# ------------------------------------------------------------------------------------------------ the bare copy


async def _bare_copy(polls: Polls, key: str, folder: Path) -> float:
    """Seconds for the bytes of a copy, page by page asked of another site, and for its rows in a new store. Nothing else runs."""
    elections, election = Elections(), key_hash(key)
    reader = RocksReader.open_read_only(NodeFolder(polls.config.data_dir).store(site_user(_SOURCE)))
    identity = StoreIdentity(node=NODE, subsystem="bare", schema=SITE_SCHEMA)
    store = RocksStore.open(folder / "bare-copy", tables=table_names(elections), identity=identity)
    page = b""

    async def answer(_: object) -> Response:
        return Response(page)

    async def handle(_: Request) -> Response:
        return Response(b"")

    took = 0.0
    try:
        async with (
            connected_as(polls.config, polls.url, site_user(_WRITER)) as mine,
            connected_as(polls.config, polls.url, site_user(_SOURCE)) as theirs,
        ):
            asking = NatsSiteMail(mine, node=NODE, site=_WRITER)
            answering = NatsSiteMail(theirs, node=NODE, site=_SOURCE)
            await answering.serve(lambda _: None, answer, handle)
            question = SnapshotAsked(election=key, site=_WRITER, topology=1)
            for table in election_tables(elections):
                scan = reader.scan(table.name, election, None)
                while True:
                    writes, size = WriteSet(), 0
                    for place, value in scan:
                        writes.put(table.name, place, value)
                        size += len(place) + len(value)
                        if size >= _PAGE_BYTES:
                            break
                    if not size:
                        break
                    page = bytes(size)
                    began = anyio.current_time()
                    await asking.ask(_SOURCE, question, 10_000)
                    await store.commit(writes)
                    took += anyio.current_time() - began
            await answering.close()
            await asking.close()
    finally:
        reader.close()
        store.close()
        shutil.rmtree(folder / "bare-copy")
    return took
