"""Restoring a backup: its stores, keys and settings into an empty folder, its streams by a server that is started for it.

Everything is put together in a folder within the node's, and moved to its place at the end; while that folder is there nothing runs.
"""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from anyio import to_thread

from overseer.backup.manifest import BackupRefused, FileEntry, Manifest, hash_of, read_manifest
from overseer.backup.writing import Draft, pieces_of
from overseer.nats.account_text import BUS
from overseer.nats.connection import Connection, connect
from overseer.nats.keys import KeyFolder
from overseer.nats.server import EmbeddedServer, ServerSettings
from overseer.nats.snapshot import BrokenSnapshot, restored_stream
from overseer.node.folder import NodeFolder
from overseer.rocks.repair import sync_tree
from overseer.rocks.seal import sync_folder

__all__ = ["restore_backup"]

_RESTORER = "restorer"
_STREAMS = "streams/"
_ELSE = "Restore with --without-stream: the subsystems tell again what they have stored."
# Beside what is known to be copied; also what the server reserves beyond its streams' bounds.
_SPARE_BYTES = 64 * 1024**2
_LOCK = "node.lock"


class _Told(msgspec.Struct):
    """What `backup.json` of a stream says."""

    config: dict[str, Any]
    state: dict[str, Any]


async def restore_backup(backup: Path, data_dir: Path, *, with_streams: bool = True) -> Manifest:
    """Make a node's folder of a backup. `data_dir` must be empty, or not be there.

    Raises BackupRefused, FolderInUse, ServerError, ApiError, BusError, OSError. What it had begun is removed then.
    """
    manifest = read_manifest(backup)
    folder = NodeFolder(data_dir)
    _check_empty(folder.path)
    with folder.locked():
        _check_empty(folder.path)
        draft = folder.restoring
        draft.mkdir(mode=0o700)
        try:
            _check_room(folder.path, manifest, with_streams=with_streams)
            await to_thread.run_sync(_copy, backup, manifest, draft)
            if with_streams and manifest.streams:
                await _restore_streams(backup, manifest, draft / "nats")
            sync_tree(draft)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        # The stores last: with them it is a node.
        for name in sorted((path.name for path in draft.iterdir()), key=lambda name: name == "stores"):
            (draft / name).rename(folder.path / name)
        sync_folder(folder.path)
        draft.rmdir()
        sync_folder(folder.path)
    return manifest


def _check_empty(path: Path) -> None:
    there = sorted(each.name for each in path.iterdir() if each.name != _LOCK) if path.is_dir() else []
    if there:
        raise BackupRefused(
            f"{path} is not empty: {', '.join(there[:5])}{' and more' if len(there) > 5 else ''}.",
            "A backup is restored into a new folder: name one with --data-dir, or move what is there away.",
        )


def _check_room(path: Path, manifest: Manifest, *, with_streams: bool) -> None:
    needed = sum(file.bytes for file in manifest.files if not file.path.startswith(_STREAMS))
    needed += sum(stream.bytes for stream in manifest.streams) if with_streams else 0
    free = shutil.disk_usage(path).free
    if free < needed + _SPARE_BYTES:
        raise BackupRefused(f"The node needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free in {path}.", "Free space.")


def _copy(backup: Path, manifest: Manifest, folder: Path) -> None:
    """All files but the streams', each compared with its hash; those too are looked at. Raises BackupRefused with all that differ."""
    draft, damaged = Draft(folder), list[str]()
    tables: dict[str, FileEntry] = {}
    for entry in manifest.files:
        try:
            if entry.path.startswith(_STREAMS):
                found = hash_of(backup / entry.path)
            elif entry.path.endswith(".sst") and (same := tables.get(entry.blake3)) is not None:
                # A table that a store shares with its checkpoints, which nobody changes.
                found = hash_of(backup / entry.path)
                draft.link(same, entry.path)
            else:
                found = draft.write(entry.path, pieces_of(backup / entry.path))
                tables[entry.blake3] = entry
        except FileNotFoundError:
            damaged.append(f"{entry.path} is missing")
            continue
        if found != entry.blake3:
            damaged.append(f"{entry.path} is damaged")
    if damaged:
        more = f", and {len(damaged) - 10} more" if len(damaged) > 10 else ""
        raise BackupRefused(f"The backup {backup} is damaged: {', '.join(damaged[:10])}{more}.", "Take another backup.")


async def _restore_streams(backup: Path, manifest: Manifest, folder: Path) -> None:
    """Into the folder of an embedded server. Raises BackupRefused, ServerError, ApiError, BusError."""
    told = {s.name: msgspec.json.decode((backup / _STREAMS / s.name / "backup.json").read_bytes(), type=_Told) for s in manifest.streams}
    bytes_max = sum(max(0, int(each.config.get("max_bytes", 0))) for each in told.values())
    async with _private_server(folder, bytes_max + bytes_max // 8 + _SPARE_BYTES) as connection:
        for stream in manifest.streams:
            config, state = told[stream.name].config, told[stream.name].state
            archive = pieces_of(backup / _STREAMS / stream.name / "stream.tar.s2")
            try:
                restored = await restored_stream(connection, config, state, archive)
            except BrokenSnapshot as error:
                raise BackupRefused(f"{error}.", _ELSE) from None
            if int(restored["last_seq"]) < stream.last or int(restored["messages"]) < stream.messages:
                raise BackupRefused(
                    f"The stream {stream.name} came back with {restored['messages']} messages up to {restored['last_seq']}, "
                    f"and had {stream.messages} up to {stream.last}.",
                    _ELSE,
                )
    await to_thread.run_sync(_streams_alone, folder)


def _streams_alone(folder: Path) -> None:
    """The rest is made anew by the node's own server."""
    for path in folder.iterdir():
        if path.name != "jetstream":
            path.unlink()


@asynccontextmanager
async def _private_server(folder: Path, store_bytes_max: int) -> AsyncGenerator[Connection, None]:
    """A server on loopback that takes one key, made for this: on a node's server nobody may restore."""
    with TemporaryDirectory(prefix="overseer-restore-") as scratch:
        keys = KeyFolder(Path(scratch) / "keys")
        public = keys.ensure([_RESTORER])[_RESTORER]
        accounts = f'system_account: SYS\naccounts {{ SYS {{}}, {BUS} {{ jetstream: enabled, users: [{{ nkey: "{public}" }}] }} }}\n'
        settings = ServerSettings(name="overseer-restore", store_bytes_max=store_bytes_max)
        async with (
            EmbeddedServer(folder, accounts, settings=settings) as server,
            await connect(
                server.url, name=_RESTORER, inbox_prefix=f"_INBOX.{_RESTORER}", nkey_seed=keys.seed(_RESTORER).reveal()
            ) as connection,
        ):
            yield connection
