"""`overseer backup` and `overseer restore`: a node kept as of one moment, and put on another machine."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from overseer.backup.manifest import Manifest
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say

__all__ = ["backup", "restore"]


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the backup; with --check, that of a backup.", show_default=False)],
    check: Annotated[bool, typer.Option("--check", help="Take none: compare one with its hashes, and verify its stores.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take a backup of a node, running or not: its stores, streams, keys and settings, as after a kill of everything at once.

    The node goes on meanwhile. The folder has its name when all is on disk; before, it ends in .unfinished. It holds the node's keys:
    keep it as you keep those. Exit code 1 when --check finds damage.
    """
    if check:
        _check(folder, json)
        return
    from overseer.backup.taking import take_backup

    loaded = load_settings(config, data_dir)
    manifest = run_async(lambda: take_backup(loaded, folder))
    if json:
        print_json({**_summary(manifest), "folder": str(folder)})
        return
    _show(manifest)
    for text in manifest.left_out:
        say(f"[dim]not in it:[/] {escape(text)}")
    say(f"[bold green]backed up[/] {manifest.bytes / 1e6:.1f} MB in {manifest.took_ms / 1000:.1f} s: {escape(str(folder))}")


def _summary(manifest: Manifest) -> dict[str, object]:
    """Without the list of files, which may be long."""
    return {**msgspec.to_builtins(manifest), "files": len(manifest.files), "bytes": manifest.bytes}


def _show(manifest: Manifest) -> None:
    at = datetime.fromtimestamp(manifest.made_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    say(f"node [bold]{manifest.node}[/], {at}, release {manifest.release}")
    table = Table("store", "journal", "of the stream", box=None, pad_edge=False)
    for store in manifest.stores:
        reached = store.positions.get("node")
        table.add_row(store.name, str(store.index) if store.index else "", f"up to {reached.sequence}" if reached else "")
    common.console.print(table)
    for stream in manifest.streams:
        say(f"stream {stream.name}: messages {stream.first} to {stream.last}, {stream.bytes / 1e6:.1f} MB")


def _check(folder: Path, json: bool) -> None:
    from overseer.backup.checking import check_backup

    report = run_async(lambda: check_backup(folder))
    if json:
        verdicts = [{**msgspec.to_builtins(verdict), "ok": verdict.ok} for verdict in report.verdicts]
        print_json({"ok": report.ok, "damaged": report.damaged, "stores": verdicts, "backup": _summary(report.manifest)})
    else:
        _show(report.manifest)
        for text in report.damaged:
            say(f"[bold red]damaged:[/] {escape(text)}")
        for verdict in report.verdicts:
            sign = "[green]equal[/]" if verdict.ok else "[bold red]differs[/]"
            say(f"{verdict.subsystem}: {sign}  ({verdict.rows} rows)")
            for fault in verdict.faults:
                say(f"  {escape(fault)}")
        if report.ok:
            say(f"[bold green]whole[/]: {len(report.manifest.files)} files, {report.manifest.bytes / 1e6:.1f} MB")
    if not report.ok:
        raise typer.Exit(1)


def restore(
    backup: Annotated[Path, typer.Argument(help="The folder of a backup.", show_default=False)],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    without_stream: Annotated[
        bool, typer.Option("--without-stream", help="Leave the streams out: the node will run on an existing NATS server.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a node's folder of a backup; --data-dir must be empty or not be there. Then `overseer run` goes on.

    Every file is compared with its hash, and streams come back with their sequences. Never run the node twice: the one that was
    backed up must not run any more.
    """
    from overseer.backup.restoring import restore_backup

    place = load_settings(config, data_dir).config.data_dir
    manifest = run_async(lambda: restore_backup(backup, place, with_streams=not without_stream))
    if json:
        print_json({**_summary(manifest), "data_dir": str(place)})
        return
    _show(manifest)
    say(f"[bold green]restored[/] into {escape(str(place))}. Go on with:")
    say(f"  overseer run --data-dir {escape(str(place))} --config {escape(str(place / 'settings.toml'))}")
