"""The stores of all sites, looked at when the node has ended: each election is a replay of its events, and all copies are one."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from messages.election_pairs import Head
from overseer.node.folder import NodeFolder
from overseer.ports.store import StoreError
from overseer.rocks.reader import RocksReader
from overseer.sites.tables import election_tables
from overseer.sites.verifying import verify_site
from overseer.tables import View
from subsystems.elections.rows import ELECTIONS, EVENTS, key_hash
from subsystems.elections.runtime.entry import BEGIN
from subsystems.elections.runtime.rows import COMMANDS, COPIES
from subsystems.elections.subsystem import Elections

__all__ = ["store_problems"]


class Copied(NamedTuple):
    """One election at one site."""

    head: Head
    rows: list[tuple[str, bytes, bytes]]


NOTHING = Copied(BEGIN, [])
Found = dict[str, Copied]


async def store_problems(data: Path, users: Iterable[str]) -> list[str]:
    """What is wrong with the sites' stores in a node's folder. `users`: the sites' processes. Each election is at all of them."""
    problems: list[str] = []
    copies: dict[str, Found] = {}
    for user in users:
        try:
            reader = RocksReader.open_read_only(NodeFolder(data).store(user))
        except StoreError as error:
            problems.append(f"{user}: {error}")
            continue
        try:
            verdict = await verify_site(user, reader, Elections())
            problems += [f"{user}: {fault}" for fault in verdict.faults]
            copies[user] = _copies(reader)
        finally:
            reader.close()
    first, *others = copies
    for other in others:
        for key in sorted(copies[first].keys() | copies[other].keys()):
            pair = [copies[user].get(key, NOTHING) for user in (first, other)]
            problems += [f"{key} is not the same at {first} and {other}: {text}" for text in _unlike(*sorted(pair, key=_events))]
    return problems


def _events(copy: Copied) -> int:
    return copy.head.sequence


def _unlike(shorter: Copied, longer: Copied) -> list[str]:
    """A site that was ended may lack what it had applied last: it need not be durable, the log has it. Else all rows are the same."""
    if shorter.head.sequence == longer.head.sequence:
        return [] if shorter == longer else [f"{shorter.head} and {longer.head}, {len(shorter.rows)} and {len(longer.rows)} rows"]
    kept = [row for row in longer.rows if row[0] in (EVENTS.name, COMMANDS.name)]
    return [f"{row[0]} {row[1].hex()}" for row in shorter.rows if row[0] in (EVENTS.name, COMMANDS.name) and row not in kept]


def _copies(reader: RocksReader) -> Found:
    """All rows of each election, by its key."""
    tables = sorted(table.name for table in election_tables(Elections()))
    found = Found()
    for (key,), copy in View(reader).scan(COPIES):
        rows = [(ELECTIONS.name, b"", reader.get(ELECTIONS.name, ELECTIONS.pack((key,))) or b"")]
        for table in tables:
            for place, value in reader.scan(table, key_hash(key), None):
                if not place.startswith(key_hash(key)):
                    break
                rows.append((table, place, value))
        found[key] = Copied(copy.applied, rows)
    return found
