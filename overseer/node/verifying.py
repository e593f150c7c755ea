"""A stored node against itself: each store against its journal, a site's against its elections' events."""

from overseer.history.stored import StoredNode
from overseer.node.catalogue import build_elections, build_subsystem
from overseer.runner.verify import Verdict, base_of, verify
from overseer.settings import Loaded
from overseer.sites.verifying import verify_site

__all__ = ["verified"]


async def verified(loaded: Loaded, name: str, *, site: bool) -> Verdict:
    """The store of that name as of now, in the node's folder. `site`: of the elections, without a journal. Raises StoreError."""
    config = loaded.config
    with StoredNode(config.data_dir).reader(name) as reader:
        if site:
            return await verify_site(name, reader, build_elections(loaded))
        with base_of(reader) as base:
            kept_ms = config.limits.command_outcomes_kept_ms
            return await verify(build_subsystem(name, loaded), config.node, reader, base, outcomes_kept_ms=kept_ms)
