"""Bringing stores to this release: what each needs, tried out without a change, and done so that a kill leaves the old or the new.

A store has a schema (the runner's own tables), the newest release that opened it, and the version of `evolve` that its tables were made
with. Messages of older versions in its journal are brought up to date whenever they are read. `overseer run` does the same at
its start; here it can be seen beforehand, and the old store is kept.
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from messages.codec import CodecError
from messages.message import CATALOG, Message
from overseer.history.stored import StoredNode
from overseer.node.catalogue import CATALOGUE, build_subsystem, kept_settings
from overseer.node.folder import NodeFolder
from overseer.node.hosting import STORE_SCHEMA, store_identity, table_names
from overseer.ports.store import StoreError, WrongStore
from overseer.release import RELEASE
from overseer.rocks.identity import check_identity
from overseer.rocks.reader import RocksReader
from overseer.rocks.repair import copied_store, put_in_place, unowned
from overseer.rocks.store import RocksStore
from overseer.runner import journal
from overseer.runner.errors import EvolveFailed, JournalBroken
from overseer.runner.opening import rebuild_tables
from overseer.runner.schema import Record
from overseer.runner.verify import base_of, rebuild, verify
from overseer.settings import Loaded
from overseer.sites.layout import site_stores
from overseer.sites.tables import SITE_SCHEMA
from overseer.subsystem import Subsystem
from overseer.tables import Rows, View

__all__ = ["Migration", "known_stores", "migrate"]

_SCRATCH = ".migrate-"


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """`release` "": of before stores said which one wrote them. `evolve`: 0 where a store has none."""

    schema: int
    release: str
    evolve: int = 0


class Migration(msgspec.Struct, kw_only=True):
    """What one store needs, and what became of it.

    nothing   it is as this release makes it, or is brought up to date bit by bit while it is used
    mark      only the release and schema that it names are older: they are written at its next opening
    rebuild   its tables are made anew from the journal
    cannot    `problem` says why: a newer release wrote it, say
    """

    store: str
    found: Versions
    wanted: Versions
    action: Literal["nothing", "mark", "rebuild", "cannot"] = "nothing"
    problem: str = ""
    # Of a rebuild: records read, recorded messages of older versions among them, and rows that come, go, or become others.
    records: int = 0
    upcast: int = 0
    rows: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    took_ms: int = 0
    done: bool = False
    aside: str = ""


async def migrate(loaded: Loaded, names: Sequence[str], *, dry_run: bool) -> list[Migration]:
    """Of the stores of these names, or of all. Without `dry_run` of a stopped node. Raises FolderInUse, StoreError."""
    loaded = kept_settings(loaded)
    folder = NodeFolder(loaded.config.data_dir)
    found = StoredNode(folder.path)
    wanted = list(names) or known_stores(loaded)
    if dry_run:
        return [(await _look(loaded, found, name))[0] for name in wanted]
    with folder.locked():
        for left in found.stores.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left)
        done: list[Migration] = []
        for name in wanted:
            report, subsystem = await _look(loaded, found, name)
            done.append(report)
            if report.action in ("mark", "rebuild") and subsystem is not None:
                await _carry_out(loaded, found.stores / name, subsystem, report)
        return done


async def _look(loaded: Loaded, found: StoredNode, name: str) -> tuple[Migration, Subsystem | None]:
    """What a store needs; a rebuild is tried out, in memory."""
    with found.reader(name) as reader:
        identity = reader.identity()
        if name in site_stores(found.stores):
            report = Migration(
                store=name,
                found=Versions(schema=identity.schema, release=identity.release),
                wanted=Versions(schema=SITE_SCHEMA, release=RELEASE),
            )
            # Its projections are counted anew with each election's next event.
            wanted = msgspec.structs.replace(store_identity(loaded.config.node, name), schema=SITE_SCHEMA)
            return _refused(report, lambda: check_identity(identity, wanted, str(reader.path))), None
        subsystem = build_subsystem(name, loaded)
        head = journal.read_head(reader)
        evolve = subsystem.declaration.evolve_version
        report = Migration(
            store=name,
            found=Versions(schema=identity.schema, release=identity.release, evolve=head.evolve_version if head is not None else evolve),
            wanted=Versions(schema=STORE_SCHEMA, release=RELEASE, evolve=evolve),
        )
        _refused(report, lambda: check_identity(identity, store_identity(loaded.config.node, name), str(reader.path)))
        if report.action != "cannot" and report.found.evolve != evolve:
            await _try_out(subsystem, reader, report)
        elif report.action != "cannot" and report.found != report.wanted:
            report.action = "mark"
        return report, subsystem


def _refused(report: Migration, check: Callable[[], None]) -> Migration:
    try:
        check()
    except WrongStore as error:
        report.action, report.problem = "cannot", f"{error.what}. {error.advice}"
    return report


async def _try_out(subsystem: Subsystem, reader: RocksReader, report: Migration) -> None:
    """Make the tables anew in memory, and compare."""
    started_s = time.monotonic()

    def each(record: Record, _: list[Message]) -> None:
        report.records += 1
        for row in record.events:
            spec = CATALOG.by_key(row.key)
            report.upcast += spec is not None and row.version < spec.version

    report.action = "rebuild"
    try:
        with base_of(reader) as base:
            built = await rebuild(subsystem, reader, base, each=each)
        for table in subsystem.declaration.tables:
            for _ in View(built).scan(table):
                report.rows += 1
    except (JournalBroken, EvolveFailed) as error:
        report.action, report.problem = "cannot", str(error)
    except CodecError as error:
        # Where the journal no longer begins at its first record, the oldest checkpoint's rows are taken as they are.
        report.action, report.problem = "cannot", f"a row of the checkpoint that the tables are made from cannot be read: {error}"
    else:
        counted = _differences(subsystem, reader, built)
        report.added, report.removed, report.changed = counted["added"], counted["removed"], counted["changed"]
    report.took_ms = int((time.monotonic() - started_s) * 1000)


def _differences(subsystem: Subsystem, old: RocksReader, new: Rows) -> Counter[str]:
    found: Counter[str] = Counter()
    there = set(old.tables())
    for table in subsystem.declaration.tables:
        wanted = dict(new.scan(table.name, b"", None))
        for key, value in old.scan(table.name, b"", None) if table.name in there else ():
            made = wanted.pop(key, None)
            found["removed"] += made is None
            found["changed"] += made is not None and made != value
        found["added"] += len(wanted)
    return found


async def _carry_out(loaded: Loaded, place: Path, subsystem: Subsystem, report: Migration) -> None:
    """On a copy, whose tables on disk are links: nobody changes those. The copy takes the place when it was checked."""
    node, name = loaded.config.node, place.name
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{name}-", dir=place.parent) as scratch, unowned(place):
        new = Path(scratch) / "new"
        copied_store(place, new, links=True)
        store = RocksStore.open(new, tables=table_names(subsystem.declaration), identity=store_identity(node, name))
        try:
            head = journal.read_head(store)
            if head is not None and head.evolve_version != subsystem.declaration.evolve_version:
                await rebuild_tables(subsystem, store, head)
        finally:
            store.close()
        await _check(subsystem, node, new)
        aside = put_in_place(new, place, datetime.now(UTC))
    report.done, report.aside = True, "" if aside is None else str(aside)


async def _check(subsystem: Subsystem, node: str, new: Path) -> None:
    """Raise StoreError unless the new store is what its journal says."""
    reader = RocksReader.open_read_only(new)
    try:
        if journal.read_head(reader) is None:
            return
        with base_of(reader) as base:
            faults = (await verify(subsystem, node, reader, base)).faults
    finally:
        reader.close()
    if faults:
        raise StoreError(f"the store that was made does not verify: {faults[0]}", where=str(new), advice="The old one was left as it is.")


def known_stores(loaded: Loaded) -> list[str]:
    """Those that can be migrated: of subsystems that this release knows, and of sites."""
    stores = StoredNode(loaded.config.data_dir)
    known = {*CATALOGUE, *site_stores(stores.stores)}
    return [name for name in stores.subsystems() if name in known]
