"""Repairing one store of a stopped node: from a copy, or from what is intact of it and the stream.

Nothing takes the place of the damaged store before it was checked and is on disk; the damaged one is kept beside it. What the new
store has not, the runner takes from the stream at the next start, under a new incarnation if its subsystem had told more.
"""

import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from messages.subjects import node_stream
from overseer.nats.accounts import PROVISIONER
from overseer.nats.keys import UnusableKey
from overseer.nats.provision import Api, ApiError, call, metadata_of
from overseer.nats.server import ServerError
from overseer.nats.trimming import TRIMMED_BELOW
from overseer.node.bus import connected_as, embedded_server
from overseer.node.catalogue import build_sites, build_subsystem, build_subsystems
from overseer.node.folder import NodeFolder
from overseer.node.hosting import store_identity, table_names
from overseer.ports.bus import BusError
from overseer.ports.store import StoreCorrupted, StoreError, StoreMissing
from overseer.rocks.identity import check_identity
from overseer.rocks.reader import RocksReader
from overseer.rocks.repair import aside_path, copied_store, found_copy, looks, put_in_place, unowned
from overseer.rocks.seal import sync_folder
from overseer.rocks.store import RocksStore
from overseer.runner import journal
from overseer.runner.checkpoints import checkpoint_name
from overseer.runner.errors import EvolveFailed, JournalBroken
from overseer.runner.salvage import Intact, Salvaged, intact_part, keep_base, note_repair, salvage
from overseer.runner.verify import verify
from overseer.settings import Loaded
from overseer.subsystem import Subsystem
from overseer.system.entropy import SystemEntropy

__all__ = ["NATS", "Refusal", "Report", "StreamSpan", "repair", "set_stream_aside"]

Opening = Callable[[], RocksReader]

# In the place of a subsystem: the embedded server's streams.
NATS = "nats"
_ELSE = "Choose another copy, or `--replay`."


class Refusal(Exception):
    """A repair that would lose, or is not possible: why, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class StreamSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What the node's stream holds whole: `first` to `last`, but for `missing`. `unknown` says why it could not be asked."""

    first: int = 0
    last: int = 0
    missing: tuple[int, ...] = ()
    unknown: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What a repair did, or with `dry_run` would do."""

    subsystem: str
    dry_run: bool
    # copy | replay | nothing
    method: str = "nothing"
    source: str = ""
    # Why the store is not used as it is.
    damage: str = ""
    # Journal records that the new store has, and the position in the stream behind which it goes on.
    first: int = 0
    last: int = 0
    position: int = 0
    stream: StreamSpan = StreamSpan()
    rebuilt: list[str] = []
    lost: list[str] = []
    aside: str = ""


async def repair(loaded: Loaded, name: str, *, source: Path | None, accept_loss: bool, dry_run: bool) -> Report:
    """Repair the store of `name`: from the copy `source`, else by replay. Raises Refusal, StoreError, FolderInUse."""
    folder = NodeFolder(loaded.config.data_dir)
    report = Report(subsystem=name, dry_run=dry_run)
    subsystem = build_subsystem(name, loaded)
    with folder.locked():
        parent = folder.store(name).parent
        with tempfile.TemporaryDirectory(prefix=f".repair-{name}-", dir=parent) as scratch:
            work = _Repair(loaded, folder, subsystem, Path(scratch), report)
            if source is not None:
                await work.from_copy(source)
            else:
                await work.by_replay()
            if report.method == "nothing":
                # A store that stays as it is misses nothing, whatever the stream holds.
                return report
            report.stream = await _stream_span(loaded)
            _check_stream(report, accept_loss)
            if not dry_run:
                await work.put_in_place()
    return report


class _Repair:
    """One repair: makes a new store in `scratch`/new."""

    def __init__(self, loaded: Loaded, folder: NodeFolder, subsystem: Subsystem, scratch: Path, report: Report) -> None:
        self.subsystem = subsystem
        self.name = subsystem.declaration.name
        self.node = loaded.config.node
        self.place = folder.store(self.name)
        self.scratch = scratch
        self.new = scratch / "new"
        self.report = report
        self.outcomes_kept_ms = loaded.config.limits.command_outcomes_kept_ms
        self.now = datetime.now(UTC)
        self.identity = store_identity(self.node, self.name)
        # Whether the new store's journal begins behind its first record, and no checkpoint is before it.
        self._unbased = False

    # -------------------------------------------------------------------------------------------- from a copy

    async def from_copy(self, source: Path) -> None:
        """Check a copy, and take it. Raises StoreError, Refusal."""
        report, path = self.report, found_copy(source, self.identity)
        reader = RocksReader.open_read_only(path)
        base: RocksReader | None = None
        try:
            check_identity(reader.identity(), self.identity, str(path))
            intact = intact_part(reader)
            if intact.damage:
                raise StoreCorrupted(intact.damage, where=str(path), advice=_ELSE)
            base = _base(reader, intact.first)
            faults = await self._faults(reader, base, intact)
            if faults:
                raise StoreCorrupted(f"the copy does not verify: {faults[0]}", where=str(path), advice=_ELSE)
        finally:
            if base is not None:
                base.close()
            reader.close()
        report.first, report.last = intact.first, intact.last
        report.method, report.source = "copy", str(path)
        report.rebuilt.append("everything, as it is in the copy")
        copied_store(path, self.new)
        await self._finished(needs_base=intact.first > 1 and base is None, detail=f"restored from the copy {path}")

    async def _faults(self, reader: RocksReader, base: RocksReader | None, intact: Intact) -> list[str]:
        """What is wrong with a store that is to be taken as it is; where nothing tells its tables, that all rows can be read."""
        if intact.first == 1 or base is not None:
            return (await verify(self.subsystem, self.node, reader, base, outcomes_kept_ms=self.outcomes_kept_ms)).faults
        self.report.rebuilt.append(
            f"tables were taken without a comparison: the journal begins at {intact.first}, no checkpoint is before it"
        )
        for table in reader.tables():
            for _ in reader.scan(table, b"", None):
                pass
        return []

    # -------------------------------------------------------------------------------------------- by replay

    async def by_replay(self) -> None:
        """Make a store of the longest part of the journal that is intact, from the store itself or one of its checkpoints."""
        report, damages = self.report, list[str]()
        for what, opened in looks(self.place, self.scratch) if self.place.exists() else ():
            found = await self._looked_at(what, opened, damages)
            if found is not None and not found.damage and not damages:
                report.source = "the store, which is as its journal says"
                return
            if found is not None and found.last > report.last and await self._taken(opened, found, damages):
                report.source = f"the store {what}"
            if found is not None and not found.damage:
                break
        for path in sorted((self.place / "checkpoints").glob("[0-9]*"), reverse=True):
            if report.last >= int(path.name) or await self._checkpoint_taken(path, damages):
                break
        report.method = "replay"
        report.damage = damages[0] if damages else ""
        if not report.last:
            report.source = "the stream alone"
            self._empty().close()
            report.lost.append("the journal: nothing of it is intact. The store begins anew")
            return
        detail = f"rebuilt by repair: records {report.first} to {report.last} were intact ({report.source}); {report.damage}"[:1000]
        await self._finished(needs_base=self._unbased, detail=detail)

    async def _looked_at(self, what: str, opened: Opening, damages: list[str]) -> Intact | None:
        """How much of the journal one way of looking shows; None when nothing, or when its tables cannot be made from it."""
        try:
            reader = opened()
        except StoreError as error:
            damages.append(f"{what}: {error.what}")
            return None
        try:
            found = intact_part(reader)
            if found.damage:
                damages.append(f"{what}: {found.damage}")
                return found if found.last else None
            return await self._whole(found, opened, damages)
        finally:
            reader.close()

    async def _whole(self, found: Intact, opened: Opening, damages: list[str]) -> Intact:
        """The journal is intact to its end; are the tables? A store without any fault is not replaced."""
        reader = opened()
        base = None
        try:
            base = _base(reader, found.first)
            faults = (await verify(self.subsystem, self.node, reader, base)).faults
        except StoreError as error:
            faults = [error.what]
        except KeyError as error:
            faults = [f"the table {error} is gone"]
        finally:
            if base is not None:
                base.close()
            reader.close()
        if faults:
            damages.append(faults[0])
        return found

    async def _taken(self, opened: Opening, found: Intact, damages: list[str]) -> bool:
        """Make the new store of what `opened` shows, in the place of one made before; False when that cannot be done."""
        made = self.scratch / "made"
        shutil.rmtree(made, ignore_errors=True)
        base_path = _base_path(self.place, found)
        if found.first > 1 and base_path is None:
            damages.append(f"the journal begins at {found.first}, and no checkpoint is before it")
            return False
        reader = base = None
        store = RocksStore.open(made, tables=table_names(self.subsystem.declaration), identity=self.identity)
        try:
            reader = opened()
            if found.first > 1 and base_path is not None:
                copied_store(base_path, made / "checkpoints" / base_path.name)
                base = store.open_checkpoint(base_path.name)
            self._told(await salvage(self.subsystem, self.node, reader, base, found, store), found)
        except (StoreError, JournalBroken, EvolveFailed, KeyError) as error:
            damages.append(f"the table {error} is gone" if isinstance(error, KeyError) else str(error))
            return False
        finally:
            for each in (base, store, reader):
                if each is not None:
                    each.close()
        shutil.rmtree(self.new, ignore_errors=True)
        made.rename(self.new)
        return True

    def _told(self, made: Salvaged, found: Intact) -> None:
        report = self.report
        report.first, report.last = found.first, found.last
        report.rebuilt = [
            f"{made.records} journal records, {found.first} to {found.last}",
            f"{made.rows} rows of the subsystem's tables, {made.messages} outgoing messages, timers and watermarks, from these records",
            f"{made.outcomes} outcomes of commands, as they were",
        ]
        report.lost = list(made.lost)

    async def _checkpoint_taken(self, path: Path, damages: list[str]) -> bool:
        """Take a checkpoint as it is."""
        try:
            reader = RocksReader.open_read_only(path)
            try:
                intact = intact_part(reader)
                if intact.damage:
                    raise StoreCorrupted(intact.damage)
                if faults := await self._faults(reader, None, intact):
                    raise StoreCorrupted(faults[0])
            finally:
                reader.close()
        except StoreError as error:
            damages.append(f"checkpoint {path.name}: {error.what}")
            return False
        self.report.first, self.report.last, self._unbased = intact.first, intact.last, intact.first > 1
        self.report.source = f"the checkpoint {path.name}"
        shutil.rmtree(self.new, ignore_errors=True)
        copied_store(path, self.new)
        self.report.rebuilt = [f"everything as of journal record {self.report.last}, from the checkpoint"]
        return True

    # -------------------------------------------------------------------------------------------- in any case

    def _empty(self) -> RocksStore:
        return RocksStore.open(self.new, tables=table_names(self.subsystem.declaration), identity=self.identity)

    async def _finished(self, *, needs_base: bool, detail: str) -> None:
        """Record the repair in the new store; look at it once more as a whole."""
        store = self._empty()
        now_ms, entropy = int(self.now.timestamp() * 1000), SystemEntropy()
        try:
            if needs_base:
                await keep_base(self.subsystem, self.node, store, now_ms, entropy)
            await note_repair(self.subsystem, self.node, store, detail, now_ms, entropy)
            head = journal.read_head(store)
            assert head is not None
            self.report.position = head.positions["node"].sequence if "node" in head.positions else 0
        finally:
            store.close()
        reader = RocksReader.open_read_only(self.new)
        base = None
        try:
            base = _base(reader, journal.first_index(reader))
            faults = (await verify(self.subsystem, self.node, reader, base)).faults
        finally:
            if base is not None:
                base.close()
            reader.close()
        if faults:
            raise Refusal(
                f"The store that was made does not verify: {faults[0]}", "The damaged one was left as it is; use a copy (--from)."
            )

    async def put_in_place(self) -> None:
        if not self.new.exists():
            self._empty().close()
        # Whoever has the store must not have it taken away.
        with unowned(self.place):
            aside = put_in_place(self.new, self.place, self.now)
        self.report.aside = "" if aside is None else str(aside)


def _base(reader: RocksReader, first: int) -> RocksReader | None:
    """The checkpoint from which the journal goes on, where it does not begin at its first record."""
    names = [name for name in reader.checkpoints() if int(name) >= first - 1]
    return reader.open_checkpoint(names[0]) if first > 1 and names else None


def _base_path(store: Path, found: Intact) -> Path | None:
    """The oldest checkpoint that the intact part of the journal goes on from and reaches."""
    names = sorted(path.name for path in (store / "checkpoints").glob("[0-9]*"))
    fitting = [name for name in names if checkpoint_name(found.first - 1) <= name <= checkpoint_name(found.last)]
    return store / "checkpoints" / fitting[0] if fitting else None


# ------------------------------------------------------------------------------------------------ the stream


def _check_stream(report: Report, accept_loss: bool) -> None:
    """Refuse when what the store misses is not in the stream any more."""
    span, needed = report.stream, report.position + 1
    if span.unknown:
        problem = f"whether the stream holds what the store misses is not known: {span.unknown}"
    elif span.first > needed:
        problem = f"the stream begins at {span.first}, and {needed} is needed: messages {needed} to {span.first - 1} are gone"
    elif any(missing >= needed for missing in span.missing):
        gone = [missing for missing in span.missing if missing >= needed]
        problem = f"{len(gone)} messages that are needed are missing in the stream, the first at {gone[0]}"
    else:
        return
    report.lost.append(problem)
    if not accept_loss:
        raise Refusal(f"This would lose: {problem}.", "Use a newer copy (--from), or take the loss (--accept-loss).")


async def _stream_span(loaded: Loaded) -> StreamSpan:
    """What the node's stream holds; the embedded server is started for the question."""
    try:
        async with _bus(loaded) as api:
            info = await call(api, f"STREAM.INFO.{node_stream(loaded.config.node)}", {"deleted_details": True})
    except ApiError as error:
        return StreamSpan(first=1, last=0) if error.code == 404 else StreamSpan(unknown=str(error))
    except (BusError, ServerError, UnusableKey, OSError) as error:
        return StreamSpan(unknown=str(error).splitlines()[0])
    state = cast(dict[str, Any], info["state"])
    last = int(state["last_seq"])
    first = int(state["first_seq"]) if state["messages"] else last + 1
    trimmed = int(metadata_of(info["config"]).get(TRIMMED_BELOW, "0"))
    deleted = cast(list[int], state.get("deleted") or [])
    return StreamSpan(first=max(first, min(trimmed, last + 1)), last=last, missing=tuple(each for each in deleted if each >= trimmed))


@asynccontextmanager
async def _bus(loaded: Loaded) -> AsyncGenerator[Api, None]:
    config = loaded.config
    if config.nats.url:
        async with connected_as(config, config.nats.url, PROVISIONER) as connection:
            yield connection
        return
    if not NodeFolder(config.data_dir).nats.exists():
        raise ServerError("the node has no NATS data")
    declarations = [subsystem.declaration for subsystem in build_subsystems(loaded).values()]
    sites = build_sites(loaded)
    async with (
        embedded_server(config, declarations, sites) as server,
        connected_as(config, server.url, PROVISIONER) as connection,
    ):
        yield connection


def set_stream_aside(loaded: Loaded, *, dry_run: bool) -> Report:
    """Keep the embedded server's streams aside: at the next start they are new, and every subsystem publishes again what it has.

    Raises FolderInUse, StoreMissing.
    """
    folder = NodeFolder(loaded.config.data_dir)
    streams = folder.nats / "jetstream"
    report = Report(subsystem=NATS, dry_run=dry_run, method="replay", source="the subsystems' stores")
    with folder.locked():
        if not streams.exists():
            raise StoreMissing("there are no streams", where=str(streams), advice="Name the node's folder with --data-dir.")
        report.rebuilt.append("the streams, from what every subsystem has stored of what it told, at the next start")
        report.lost.append("what was in the stream alone: commands that nobody had processed, and history before the stores' own")
        if not dry_run:
            aside = aside_path(streams, datetime.now(UTC))
            streams.rename(aside)
            sync_folder(streams.parent)
            report.aside = str(aside)
    return report
