"""Checking a backup where it lies: every file against the manifest, every store against its journal."""

from pathlib import Path

import msgspec

from overseer.backup.manifest import Manifest, damaged_files, read_manifest
from overseer.node.catalogue import CATALOGUE, SECTIONS
from overseer.node.verifying import verified
from overseer.ports.store import StoreError
from overseer.runner.verify import Verdict
from overseer.settings import Loaded, load_config
from overseer.sites.layout import site_stores

__all__ = ["CheckReport", "backed_up_settings", "check_backup"]


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """`damaged`: a sentence for each file that is not as it was written. `verdicts`: of the stores, if no file is damaged."""

    manifest: Manifest
    damaged: list[str]
    verdicts: list[Verdict] = []

    @property
    def ok(self) -> bool:
        return not self.damaged and all(verdict.ok for verdict in self.verdicts)


def backed_up_settings(backup: Path, manifest: Manifest) -> Loaded:
    """What the node was told, with the backup in the place of its folder. Raises ConfigError."""
    flags = {"data_dir": backup, "node": manifest.node}
    return load_config(backup / "settings.toml", environ={}, flags=flags, sections=SECTIONS)


async def check_backup(backup: Path) -> CheckReport:
    """Raises BackupRefused, ConfigError."""
    manifest = read_manifest(backup)
    damaged = list(damaged_files(backup, manifest))
    if damaged:
        return CheckReport(manifest=manifest, damaged=damaged)
    loaded = backed_up_settings(backup, manifest)
    sites = site_stores(backup / "stores")
    verdicts = [await _verified(loaded, store.name, site=store.name in sites) for store in manifest.stores]
    return CheckReport(manifest=manifest, damaged=[], verdicts=verdicts)


async def _verified(loaded: Loaded, name: str, *, site: bool) -> Verdict:
    if not site and name not in CATALOGUE:
        return Verdict(subsystem=name, faults=["this release has no such subsystem"])
    try:
        return await verified(loaded, name, site=site)
    except StoreError as error:
        return Verdict(subsystem=name, faults=[str(error)])
