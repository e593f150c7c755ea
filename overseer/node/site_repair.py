"""A damaged store of one site of the elections: set aside, and filled again from the elections' log and from the other sites.

A site has no journal and needs no copy: what was acknowledged is in the log and at two more sites at least.
"""

from datetime import UTC, datetime
from pathlib import Path

from overseer.node.folder import NodeFolder
from overseer.node.repair import Report
from overseer.ports.store import StoreCorrupted, StoreMissing
from overseer.rocks.reader import RocksReader
from overseer.rocks.repair import aside_path, unowned
from overseer.rocks.seal import sync_folder
from overseer.settings import Loaded

__all__ = ["repair_site"]


def repair_site(loaded: Loaded, user: str, *, dry_run: bool) -> Report:
    """Set the store of a site aside if it is damaged: at the next start it is filled anew.

    Raises FolderInUse, StoreMissing, StoreLocked.
    """
    folder = NodeFolder(loaded.config.data_dir)
    report = Report(subsystem=user, dry_run=dry_run)
    with folder.locked():
        store = folder.store(user)
        if not store.is_dir():
            raise StoreMissing("there is no store", where=str(store), advice="At the next start it is made, and filled.")
        report.damage = _damage(store)
        if not report.damage:
            report.source = "the store, of which every row can be read"
            return report
        report.method, report.source = "replay", "the elections' log and the other sites"
        report.rebuilt.append("every election of which it holds a copy, at the next start")
        if not loaded.config.nats.url and not (folder.nats / "jetstream").exists():
            report.lost.append("what no other site holds: the elections' log is gone as well")
        if not dry_run:
            # Whoever has the store must not have it taken away.
            with unowned(store):
                aside = aside_path(store, datetime.now(UTC))
                store.rename(aside)
            sync_folder(store.parent)
            report.aside = str(aside)
    return report


def _damage(store: Path) -> str:
    """Why the store cannot be used; "" when every row of it can be read."""
    try:
        reader = RocksReader.open_read_only(store)
    except (StoreCorrupted, StoreMissing) as error:
        return error.what
    try:
        for table in reader.tables():
            for _ in reader.scan(table, b"", None):
                pass
    except StoreCorrupted as error:
        return error.what
    finally:
        reader.close()
    return ""
