"""Which sites a node's elections have: the count of the configuration as a topology."""

from pathlib import Path

import msgspec

from messages.election_pairs import SiteRow, TopologyRecord
from overseer.nats.sites import site_user
from overseer.rocks.reader import RocksReader
from overseer.sites.declaration import declaration
from overseer.subsystem import Declaration
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.rows import ELECTIONS
from subsystems.elections.runtime.placement import check

__all__ = ["ONE_SITE", "ElectionsElsewhere", "Sites", "UnknownLayout", "check_stores", "site_stores", "sites_of"]


class UnknownLayout(Exception):
    """There is no topology for this number of sites."""


class ElectionsElsewhere(Exception):
    """This node has elections already, on another number of sites: they would be gone. Nothing may be started."""


class Sites(msgspec.Struct, frozen=True):
    """`topology`: what is recorded at the first start; None with one site, which is the subsystem itself."""

    topology: TopologyRecord | None = None
    lease_ms: int = 3_000

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.topology is None else tuple(row.name for row in self.topology.sites)

    @property
    def users(self) -> tuple[str, ...]:
        """What their processes are called, on the bus as well."""
        return tuple(map(site_user, self.names))

    @property
    def declarations(self) -> list[Declaration]:
        """What they take from the node's stream."""
        return [declaration(user) for user in self.users]

    def named(self, user: str) -> str | None:
        """The site of that process."""
        return next((name for name in self.names if site_user(name) == user), None)


ONE_SITE = Sites()


def sites_of(config: ElectionsConfig) -> Sites:
    """Five data centres of one zone, or four of two. Raises UnknownLayout."""
    match config.sites:
        case 1:
            return ONE_SITE
        case 5:
            rows = [SiteRow(f"dc{number}", f"dc{number}", "z1") for number in range(1, 6)]
        case 8:
            rows = [SiteRow(f"dc{number}_z{zone}", f"dc{number}", f"z{zone}") for number in range(1, 5) for zone in (1, 2)]
        case other:
            raise UnknownLayout(f"elections.sites is {other}: it must be 1, 5 (five data centres) or 8 (four data centres of two zones)")
    topology = TopologyRecord(version=1, sites=rows)
    check(topology)
    return Sites(topology, config.lease_ms)


def site_stores(stores: Path) -> list[str]:
    """The sites whose stores are there, by their processes; without those that a repair set aside."""
    return sorted(path.name for path in stores.glob(site_user("*")) if path.is_dir() and "." not in path.name)


def check_stores(stores: Path, sites: Sites) -> None:
    """Elections do not move by themselves between one site and several. `stores`: the node's. Raises ElectionsElsewhere."""
    held = site_stores(stores)
    if held and not sites.names:
        raise ElectionsElsewhere(f"this node's elections are on {len(held)} sites ({', '.join(held)}): set elections.sites to {len(held)}")
    one = stores / "elections"
    if sites.names and (one / "CURRENT").exists() and _any(one):
        raise ElectionsElsewhere(f"this node has elections on one site, in {one}: set elections.sites to 1, or take a new node")


def _any(store: Path) -> bool:
    reader = RocksReader.open_read_only(store)
    try:
        return ELECTIONS.name in reader.tables() and next(reader.scan(ELECTIONS.name, b"", None), None) is not None
    finally:
        reader.close()
