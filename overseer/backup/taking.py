"""Taking a backup: every store as of one moment, then the streams. So a stream is never behind a store, as after a kill.

What a node is after all its processes were killed at once, the runner goes on from: it takes from the stream what a store
has not, under a new incarnation where the stream holds later messages of that store's subsystem (docs/adr/0005, 0029).
"""

import fcntl
import os
import shutil
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread

from messages.subjects import net_stream, node_stream
from overseer.backup.manifest import MANIFEST, SEAL, BackupRefused, Manifest, Reached, StoreEntry, StreamEntry, seal_text
from overseer.backup.writing import Draft, sync_folders
from overseer.history.stored import StoredNode
from overseer.nats.accounts import PROVISIONER, pov_bucket
from overseer.nats.connection import Connection
from overseer.nats.holding import untrimmed
from overseer.nats.provision import metadata_of
from overseer.nats.resources import STREAM_ID
from overseer.nats.sites import bucket_stream, log_stream, topology_bucket
from overseer.nats.snapshot import Snapshot, snapshot_of
from overseer.node.bus import connected_as, embedded_server
from overseer.node.catalogue import build_sites, build_subsystems, kept_settings
from overseer.node.folder import NodeFolder
from overseer.rocks.pinned import PinnedStore, more_open_files
from overseer.rocks.reader import RocksReader
from overseer.rocks.seal import sync_folder
from overseer.runner import journal
from overseer.settings import Loaded, settings_toml
from overseer.sites.layout import site_stores
from overseer.sites.tables import PLACES, log_place, signal_place
from overseer.tables import View

__all__ = ["take_backup"]

_UNFINISHED = ".unfinished"
# Beside what is known to be copied.
_SPARE_BYTES = 64 * 1024**2


async def take_backup(loaded: Loaded, target: Path) -> Manifest:
    """Back the node up into the new folder `target`, running or not. It gets that name when all is on disk.

    Raises BackupRefused, StoreError, BrokenSnapshot, HeldNoLonger, ApiError, BusError, ServerError, OSError; some in a group.
    """
    target = NodeFolder(target).path
    folder = NodeFolder(loaded.config.data_dir)
    ran = kept_settings(loaded)
    names, sites = _stores(folder, ran), site_stores(folder.path / "stores")
    started_s = time.monotonic()
    more_open_files()
    with _drafted(target) as draft:
        async with _bus(folder, ran) as (connection, running):
            taking = _Taking(folder, ran, draft)
            await taking.stores_and_streams(names, connection)
        taking.rest()
        manifest = Manifest(
            node=ran.config.node,
            made_ms=int(time.time() * 1000),
            took_ms=int((time.monotonic() - started_s) * 1000),
            running=running,
            stores=[_store_entry(draft.folder / "stores" / name, site=name in sites) for name in names],
            streams=taking.streams,
            files=draft.files,
            left_out=taking.left_out,
        )
        _check_order(manifest)
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        draft.write(MANIFEST, [data])
        draft.write(SEAL, [seal_text(data).encode()])
        sync_folders(draft.folder)
        draft.folder.rename(target)
        sync_folder(target.parent)
    return manifest


def _stores(folder: NodeFolder, ran: Loaded) -> list[str]:
    """All there are. Raises BackupRefused where one is missing that the node runs."""
    there = StoredNode(folder.path).subsystems()
    sites = build_sites(ran).users
    wanted = [*(name for name in ran.config.subsystems if name != "elections" or not sites), *sites]
    missing = [name for name in wanted if name not in there]
    if not there:
        raise BackupRefused(f"There are no stores in {folder.path / 'stores'}.", "Name the node's folder with --data-dir.")
    if missing:
        raise BackupRefused(
            f"The stores of {', '.join(missing)} are not in {folder.path / 'stores'}.",
            "A backup needs all stores in one folder: give the command where they are, or name those that run (setting `subsystems`).",
        )
    return there


@contextmanager
def _drafted(target: Path) -> Generator[Draft, None, None]:
    """The folder that becomes `target`. One that a killed backup left is begun anew; no error leaves any. Raises BackupRefused."""
    if target.exists():
        raise BackupRefused(f"{target} is already there.", "Name a new folder: a backup never writes over another.")
    folder = target.with_name(target.name + _UNFINISHED)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupRefused(f"Another backup is being taken into {target}.", "Wait for it, or name another folder.") from None
        for left in list(folder.iterdir()):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield Draft(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _bus(folder: NodeFolder, ran: Loaded) -> AsyncGenerator[tuple[Connection | None, bool], None]:
    """The provisioner's connection, and whether the node runs; of one that does not its folder is held meanwhile, its server started."""
    config = ran.config
    if folder.is_locked():
        info = folder.running()
        async with connected_as(config, config.nats.url or info.url, PROVISIONER) as connection:
            yield connection, True
        return
    async with AsyncExitStack() as stack:
        stack.enter_context(folder.locked())
        url = config.nats.url
        if not url:
            if not (folder.nats / "jetstream").exists():
                yield None, False
                return
            declarations = [subsystem.declaration for subsystem in build_subsystems(ran).values()]
            url = (await stack.enter_async_context(embedded_server(config, declarations, build_sites(ran)))).url
        yield await stack.enter_async_context(connected_as(config, url, PROVISIONER)), False


class _Taking:
    """One backup. `streams` and `left_out` are for its manifest."""

    def __init__(self, folder: NodeFolder, ran: Loaded, draft: Draft) -> None:
        self._folder = folder
        self._ran = ran
        self._node = ran.config.node
        self._draft = draft
        self.streams: list[StreamEntry] = []
        self.left_out: list[str] = ["sessions/: what is erased there is to be lost"]

    async def stores_and_streams(self, names: list[str], connection: Connection | None) -> None:
        """Raises BackupRefused, StoreError, BrokenSnapshot, HeldNoLonger, ApiError, BusError, OSError."""
        wanted = self._wanted_streams(connection)
        async with AsyncExitStack() as stack:
            if connection is not None:
                for stream in (node_stream(self._node), net_stream()):
                    if stream in wanted:
                        await stack.enter_async_context(untrimmed(connection, stream, self._node, "backup"))
            stores = {name: stack.enter_context(PinnedStore.open(self._folder.path / "stores" / name)) for name in names}
            snapshots: dict[str, Snapshot] = {}
            for stream in wanted if connection is not None else []:
                assert connection is not None
                snapshot = await snapshot_of(connection, self._node, stream)
                if snapshot is not None:
                    stack.push_async_callback(snapshot.end)
                    snapshots[stream] = snapshot
            self._check_room(stores, snapshots)
            async with anyio.create_task_group() as tasks:
                for stream, snapshot in snapshots.items():
                    tasks.start_soon(self._keep_stream, stream, snapshot)
            for name, store in stores.items():
                await to_thread.run_sync(self._draft.copy_store, store, f"stores/{name}")

    def _wanted_streams(self, connection: Connection | None) -> list[str]:
        """Those of the embedded server, which is on this disk, all; of another server the node's own."""
        node = self._node
        if connection is None:
            self.left_out.append("streams: the node's NATS server has none")
            return []
        wanted = [node_stream(node), f"OBJ_{pov_bucket(node)}"]
        if build_sites(self._ran).names:
            wanted += [log_stream(node), bucket_stream(topology_bucket(node))]
        if self._ran.config.nats.url:
            self.left_out.append(f"the stream {net_stream()}: it is on an existing server, and other nodes' as well")
        else:
            wanted.append(net_stream())
        return wanted

    def _check_room(self, stores: Mapping[str, PinnedStore], snapshots: Mapping[str, Snapshot]) -> None:
        needed = sum(store.bytes for store in stores.values()) + sum(int(each.state["bytes"]) for each in snapshots.values())
        free = shutil.disk_usage(self._draft.folder).free
        if free < needed + _SPARE_BYTES:
            raise BackupRefused(
                f"The backup needs up to {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free beside {self._draft.folder}.",
                "Free space, or name a folder on another disk.",
            )

    async def _keep_stream(self, name: str, snapshot: Snapshot) -> None:
        state = snapshot.state
        told = {"config": snapshot.config, "state": state}
        self._draft.write(f"streams/{name}/backup.json", [msgspec.json.format(msgspec.json.encode(told), indent=1)])
        with self._draft.open(f"streams/{name}/stream.tar.s2") as file:
            async for piece in snapshot.pieces():
                file.write(piece)
        self.streams.append(
            StreamEntry(
                name=name,
                id=metadata_of(snapshot.config).get(STREAM_ID, ""),
                first=int(state["first_seq"]),
                last=int(state["last_seq"]),
                messages=int(state["messages"]),
                bytes=int(state["bytes"]),
            )
        )

    def rest(self) -> None:
        """Keys, settings, the network's nodes."""
        draft, config = self._draft, self._ran.config
        draft.copy_tree(config.keys_dir, "keys")
        if self._folder.run_file.exists():
            draft.write("run.json", [self._folder.run_file.read_bytes()])
        instead: dict[str, object] = {}
        if config.network.nodes is not None and config.network.nodes.is_dir():
            draft.copy_tree(config.network.nodes, "network")
            instead["network.nodes"] = "network"
        if config.nats.tls.ca is not None:
            self.left_out.append("the certificates of nats.tls: they belong to the machine")
        without = ("data_dir", "nats.keys_dir")
        draft.write("settings.toml", [settings_toml(self._ran, without=without, instead=instead).encode()])


def _store_entry(store: Path, *, site: bool) -> StoreEntry:
    """Of a copy: it must open. Raises StoreError."""
    reader = RocksReader.open_read_only(store)
    try:
        identity = reader.identity()
        entry = StoreEntry(name=store.name, schema=identity.schema, release=identity.release)
        if site:
            return msgspec.structs.replace(entry, positions=_places(reader))
        head = journal.read_head(reader)
        if head is None:
            return entry
        positions = {name: Reached(stream=at.stream, sequence=at.sequence) for name, at in head.positions.items()}
        return msgspec.structs.replace(entry, evolve_version=head.evolve_version, index=head.index, positions=positions)
    finally:
        reader.close()


def _places(reader: RocksReader) -> dict[str, Reached]:
    """How far a site of the elections is, in its log and in the node's stream."""
    view = View(reader)
    found = {name: view.get(PLACES, place) for name, place in (("log", log_place), ("node", signal_place))}
    return {name: Reached(stream=place.stream, sequence=place.sequence) for name, place in found.items() if place is not None}


def _check_order(manifest: Manifest) -> None:
    """Raise BackupRefused if a stream is behind a store: the way it was taken does not allow it."""
    ends = {stream.id: stream.last for stream in manifest.streams if stream.id}
    for store in manifest.stores:
        for reached in store.positions.values():
            if reached.sequence > ends.get(reached.stream, reached.sequence):
                raise BackupRefused(
                    f"The store of {store.name} had taken {reached.sequence} of a stream that ends at {ends[reached.stream]}.",
                    "The stream lost messages: restart the node, which repairs that, then take the backup again.",
                )
