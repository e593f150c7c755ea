"""Which stores of a node's folder a command looks into, and what is said where there are none."""

from typing import NoReturn

from overseer.cli import common
from overseer.history.stored import StoredNode
from overseer.node.catalogue import CATALOGUE
from overseer.settings import Loaded
from overseer.sites.layout import site_stores

__all__ = ["no_journal", "subsystems_with_journal"]


def subsystems_with_journal(loaded: Loaded) -> list[str]:
    """Those that have a store in the folder, sites of elections not among them. Raises UserError when there are none."""
    stored = StoredNode(loaded.config.data_dir)
    names = [name for name in stored.subsystems() if name in CATALOGUE]
    if not names:
        common.fail(
            f"There are no stores in {stored.stores}.",
            "Name the node's folder with --data-dir; they are made when it first runs (`overseer run`).",
        )
    return names


def no_journal(loaded: Loaded, name: str) -> NoReturn:
    """Say why there is no journal of that name. Raises UserError."""
    stores = loaded.config.data_dir / "stores"
    sites = site_stores(stores)
    if name in sites or (name == "elections" and sites):
        common.fail(
            f"The sites of the elections ({', '.join(sites)}) keep no journal: {name} has no records and no past to rebuild.",
            "Their elections are kept event by event: `overseer election history KEY`; `overseer verify` replays them.",
        )
    if name in CATALOGUE:
        common.fail(f"{name} has no journal in {stores}: it never ran there.", "Name the node's folder with --data-dir.")
    common.fail(f"There is no subsystem {name!r}.", common.near(name, CATALOGUE))
