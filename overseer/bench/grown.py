"""A ballot election of any length on all sites, as if it had been voted in there: rows in their stores, and a log that goes on.

The log begins with the entry that says from whose copy it goes on: there is nothing before it that could be replayed.
"""

from contextlib import ExitStack

from blake3 import blake3

from messages.ballots import BallotCast, ElectionOpened
from messages.codec import encode
from messages.election_pairs import Head, LogRestarted, Record
from messages.elections import Recorded
from overseer.bench.polls import NODE, Polls
from overseer.nats.accounts import PROVISIONER
from overseer.nats.election_log import NatsElectionLog
from overseer.nats.sites import site_user
from overseer.node.bus import connected_as, provisioner
from overseer.node.folder import NodeFolder
from overseer.ports.store import StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.sites.tables import SITE_SCHEMA, table_names
from overseer.tables import Overlay, Tables
from subsystems.elections.ballots.rows import BALLOTS, ROUNDS, Ballot, Round
from subsystems.elections.projection import COUNTS, PROJECTIONS, ProjectionRow
from subsystems.elections.rows import ELECTIONS, EVENTS, ElectionRow, dump_event, key_hash
from subsystems.elections.runtime.entry import behind, dump_entry, head_after
from subsystems.elections.runtime.rows import COMMANDS, COPIES, CopyRow
from subsystems.elections.subsystem import Elections

__all__ = ["grow_election", "voter"]

_EVENTS_PER_COMMIT = 20_000
_AT_MS = 1_750_000_000_000
_CHOICE = "Ada"
# Evolved by the rules; from then on only what differs from event to event is written.
_BY_THE_RULES = 4


def voter(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def grow_election(polls: Polls, key: str, events: int) -> None:
    """`events` events of the election `key`. The node does not run, and never ran."""
    assert events > _BY_THE_RULES
    elections = Elections()
    holding = polls.sites.names
    with ExitStack() as stack:
        stores: list[RocksStore] = []
        for site in holding:
            user = site_user(site)
            identity = StoreIdentity(node=NODE, subsystem=user, schema=SITE_SCHEMA)
            store = RocksStore.open(NodeFolder(polls.config.data_dir).store(user), tables=table_names(elections), identity=identity)
            stack.callback(store.close)
            stores.append(store)
        digest = await _write_events(stores, elections, key, events)
        entry = LogRestarted(
            **behind(Head(1, events, events, digest), election=key, epoch=1_000_000, site=holding[0], topology=1, told=events),
            best=holding[0],
            lost="bench",
        )
        stream, log_sequence = await _append(polls, holding[0], entry)
        for store in stores:
            tables = Tables(writes := Overlay(store))
            _count(tables, key, events, digest)
            tables.put(COPIES, (key,), CopyRow(stream, head_after(entry), log_sequence, events))
            await store.commit(writes)


async def _write_events(stores: list[RocksStore], elections: Elections, key: str, events: int) -> bytes:
    """Rows of the events, of the ballots, of the outcomes by command id; the hash that chains all events."""
    election, digest = key_hash(key), bytes(32)
    for first in range(1, events + 1, _EVENTS_PER_COMMIT):
        tables = Tables(writes := Overlay(stores[0]))
        for number in range(first, min(first + _EVENTS_PER_COMMIT, events + 1)):
            event = _event(key, number)
            data = dump_event(event)
            digest = blake3(digest + data).digest()
            if number <= _BY_THE_RULES:
                elections.evolve(tables, event)
            else:
                tables.put(EVENTS, (election, number), data)
                tables.put(BALLOTS, (election, 1, voter(number)), Ballot(_CHOICE))
            outcome = encode(Recorded(election=key, sequence=number, copies=3))
            name = f"bench {number}"
            tables.put(COMMANDS, (election, name), Record(name, blake3(name.encode()).digest(), "req_elections", _AT_MS, "", outcome, []))
        for store in stores:
            await store.commit(writes)
    return digest


def _event(key: str, number: int) -> ElectionOpened | BallotCast:
    if number == 1:
        return ElectionOpened(election=key, at_ms=_AT_MS, sequence=1, round=1, title=key, choices=[_CHOICE])
    return BallotCast(election=key, at_ms=_AT_MS, round=1, voter=voter(number), choice=_CHOICE, at=0)


def _count(tables: Tables, key: str, events: int, digest: bytes) -> None:
    """The rows that change with every event, as of the last one."""
    election, ballots = key_hash(key), events - 1
    tables.put(ELECTIONS, (key,), ElectionRow(kind="ballots", sequence=events, digest=digest, created_ms=_AT_MS, last_ms=_AT_MS))
    (((_, number), opened),) = list(tables.scan(ROUNDS, prefix=(election,)))
    tables.put(ROUNDS, (election, number), Round(phase=opened.phase, opened_ms=opened.opened_ms, cast=ballots))
    for place, row in list(tables.scan(PROJECTIONS, prefix=(election,))):
        tables.put(PROJECTIONS, place, ProjectionRow(row.version, events, ""))
    for place, count in list(tables.scan(COUNTS, prefix=(election,))):
        if count == _BY_THE_RULES - 1:
            tables.put(COUNTS, place, ballots)


async def _append(polls: Polls, site: str, entry: LogRestarted) -> tuple[str, int]:
    """The log's stream, and its sequence of the entry."""
    async with connected_as(polls.config, polls.url, PROVISIONER) as manage:
        await provisioner(polls.config, manage, [], polls.sites).apply()
    async with connected_as(polls.config, polls.url, site_user(site)) as connection:
        log = NatsElectionLog(connection, node=NODE, site=site)
        stream, _ = await log.last(entry.election)
        return stream, await log.append(entry.election, dump_entry(entry), stream=stream, expected=0)
