"""What is looked at after damage: stores verified in this process, votes counted, rows of a store as one value."""

import time

import anyio
from blake3 import blake3

from messages.chain_api import PendingTransactions, TransactionPool
from overseer.node.catalogue import CATALOGUE
from overseer.node.client import Client
from overseer.node.folder import NodeFolder
from overseer.node.verifying import verified
from overseer.ports.store import StoreError
from overseer.settings import Loaded
from overseer.sites.layout import site_stores
from overseer.tables import Rows
from tests.node.nodes import answered

__all__ = ["paid", "rows_hash", "verdicts"]

PAID_S = 20.0


async def verdicts(loaded: Loaded) -> dict[str, list[str]]:
    """What `overseer verify` finds wrong with each store; also beside a running node."""
    sites = site_stores(NodeFolder(loaded.config.data_dir).path / "stores")
    names = [name for name in CATALOGUE if name != "elections" or not sites]
    return {name: await _faults(loaded, name, site=name in sites) for name in (*names, *sites)}


async def _faults(loaded: Loaded, name: str, *, site: bool) -> list[str]:
    try:
        return (await verified(loaded, name, site=site)).faults
    except StoreError as error:
        return [str(error)]


async def paid(client: Client, wanted: int) -> int:
    """How many votes have their transaction in the pool, once there are `wanted` of them, or after PAID_S."""
    deadline = time.monotonic() + PAID_S
    while True:
        pool = await answered(client, PendingTransactions(limit=1))
        assert isinstance(pool, TransactionPool)
        if pool.total >= wanted or time.monotonic() > deadline:
            return pool.total
        await anyio.sleep(0.02)


def rows_hash(rows: Rows, tables: list[str]) -> bytes:
    """All rows of these tables as one value. Raises StoreError where something cannot be read."""
    digest = blake3()
    for table in sorted(tables):
        digest.update(f"\n{table}\n".encode())
        for key, value in rows.scan(table, b"", None):
            digest.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return digest.digest()
