"""Where the five copies of an election are: a pure function of the recorded topology (point 4 of the runtime, B22).

Rendezvous hashing over sites: the one with the highest score is the election's home, and writes. The others are
followers: one in another zone of the home data centre, one in each other data centre, in order of their scores. Nobody's health plays
a part but what the topology records: while a site is recorded as away, the member with the next best score writes instead, and nothing is
moved. So while a site that was added is away, each election is still written by the one that wrote it before, and has it.
"""

from collections.abc import Iterable

import msgspec
from blake3 import blake3

from messages.election_pairs import SiteRow, TopologyRecord

__all__ = ["ACKNOWLEDGEMENTS", "COPIES", "ImpossibleTopology", "Placement", "changed", "check", "placed"]

# The writer and four followers.
COPIES = 5
# Followers that must have stored a batch before it enters the log: three of five copies (point 5).
ACKNOWLEDGEMENTS = 2
# In one data centre; so that any three copies, and any two followers, include another data centre.
_IN_ONE_DATA_CENTRE = 2


class ImpossibleTopology(ValueError):
    """These sites cannot hold five copies with at most two of them in one data centre, nor are they one site alone."""


class Placement(msgspec.Struct, frozen=True):
    """The sites that hold one election. The first is its home; `writer` is the best one that is not `away`."""

    sites: tuple[str, ...]
    writer: str
    away: tuple[str, ...] = ()

    @property
    def followers(self) -> tuple[str, ...]:
        return tuple(site for site in self.sites if site != self.writer)

    @property
    def acknowledgements(self) -> int:
        """How many followers must store a batch before it is committed. None with one site (the commit policy `local`)."""
        return ACKNOWLEDGEMENTS if len(self.sites) == COPIES else 0


def check(topology: TopologyRecord) -> None:
    """Raises ImpossibleTopology."""
    names = [row.name for row in topology.sites]
    if len(set(names)) != len(names):
        raise ImpossibleTopology(f"two sites have the same name: {sorted(names)}")
    if len(names) == 1:
        return
    room = 0
    for data_centre in {row.data_centre for row in topology.sites}:
        zones = {row.zone for row in topology.sites if row.data_centre == data_centre}
        room += min(len(zones), _IN_ONE_DATA_CENTRE)
    if room < COPIES:
        raise ImpossibleTopology(
            f"{len(names)} sites have room for {room} of {COPIES} copies, as a data centre holds one in each zone and two at most: "
            f"add sites in other data centres or zones, or use one site alone"
        )


def changed(topology: TopologyRecord, sites: Iterable[SiteRow]) -> TopologyRecord:
    """The next version, with these sites. Raises ImpossibleTopology."""
    after = TopologyRecord(version=topology.version + 1, sites=sorted(sites, key=lambda row: row.name))
    check(after)
    return after


def placed(topology: TopologyRecord, key: str) -> Placement:
    """Where election `key` is, for a topology that was checked."""
    ranked = sorted(topology.sites, key=lambda row: (_score(key, row.name), row.name), reverse=True)
    chosen = [ranked[0]]
    home = ranked[0].data_centre
    _take(chosen, (row for row in ranked if row.data_centre == home))
    _take_remote(chosen, ranked, at_most=1)
    _take_remote(chosen, ranked, at_most=_IN_ONE_DATA_CENTRE)
    present = next((row for row in ranked if row in chosen and not row.away), chosen[0])
    away = tuple(row.name for row in chosen if row.away)
    return Placement(tuple(row.name for row in chosen), present.name, away)


def _take(chosen: list[SiteRow], candidates: Iterable[SiteRow]) -> None:
    """The first of `candidates` in a zone that is not taken."""
    zones = {(row.data_centre, row.zone) for row in chosen}
    chosen.extend([row for row in candidates if (row.data_centre, row.zone) not in zones][:1])


def _take_remote(chosen: list[SiteRow], ranked: list[SiteRow], *, at_most: int) -> None:
    """Of each data centre but the home, in order of its best site, one more while it holds fewer than `at_most`."""
    home = chosen[0].data_centre
    for data_centre in dict.fromkeys(row.data_centre for row in ranked if row.data_centre != home):
        held = sum(row.data_centre == data_centre for row in chosen)
        if len(chosen) < COPIES and held < at_most:
            _take(chosen, (row for row in ranked if row.data_centre == data_centre))


def _score(key: str, site: str) -> bytes:
    # 0 cannot stand in either, so no two pairs make the same text.
    return blake3(f"{key}\0{site}".encode()).digest()
