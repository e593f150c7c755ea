"""`overseer repair`: another store in the place of a damaged one."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, UserError, load_settings, print_json, run_async, say
from overseer.node.catalogue import CATALOGUE
from overseer.node.folder import NodeFolder
from overseer.node.repair import NATS, Refusal, Report, set_stream_aside
from overseer.node.repair import repair as repair_store
from overseer.node.site_repair import repair_site
from overseer.sites.layout import site_stores

__all__ = ["repair"]


def repair(
    subsystem: Annotated[
        str,
        typer.Argument(help=f"Whose store: {', '.join(CATALOGUE)}, or elections_<site>; or {NATS}, the embedded server's streams."),
    ],
    source: Annotated[
        Path | None, typer.Option("--from", help="A copy: of the store, of one of its checkpoints, or of a whole node's folder.")
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Rebuild it from the intact part of its journal, and the stream.")] = False,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="Also when the stream no longer holds all that is missing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Put a store in the place of a damaged one, of a stopped node: a copy of it, or what can be rebuilt. One of a site of the
    elections is set aside, and filled again from the elections' log and the other sites.

    A copy is verified first; by replay, the journal's hash chain tells what is intact, and all tables are made from that. The old
    store is kept beside the new one. At the next start the subsystem takes from the stream what its store has not.
    """
    loaded = load_settings(config, data_dir)
    if subsystem == NATS:
        _show(set_stream_aside(loaded, dry_run=dry_run), json)
        return
    sites = site_stores(NodeFolder(loaded.config.data_dir).path / "stores")
    if subsystem == "elections" and sites:
        common.fail(f"This node's elections are on {len(sites)} sites.", f"Name the one whose store is damaged: {', '.join(sites)}.")
    if subsystem not in CATALOGUE and subsystem not in sites:
        common.fail(f"There is no subsystem {subsystem!r}.", common.near(subsystem, [*CATALOGUE, *sites, NATS]))
    if (source is None) != replay:
        common.fail("Say how: --from COPY or --replay, one of the two.", "Is there a copy? Then --from loses least.")
    if subsystem in sites:
        if source is not None:
            common.fail("A site of the elections needs no copy: the log and the other sites have everything.", "Take --replay.")
        _show(repair_site(loaded, subsystem, dry_run=dry_run), json)
        return
    try:
        report = run_async(lambda: repair_store(loaded, subsystem, source=source, accept_loss=accept_loss, dry_run=dry_run))
    except Refusal as refusal:
        raise UserError(refusal.problem, refusal.remedy) from None
    _show(report, json)


def _show(report: Report, json: bool) -> None:
    if json:
        print_json(msgspec.to_builtins(report))
        return
    done = "would be repaired" if report.dry_run else "repaired"
    say(f"[bold]{report.subsystem}[/]: {done} by {report.method} from {escape(report.source)}")
    if report.damage:
        say(f"  damage: {escape(report.damage)}")
    for text in report.rebuilt:
        say(f"  [green]restored[/] {escape(text)}")
    if report.position:
        say(f"  at the next start it goes on behind message {report.position} of the stream, which ends at {report.stream.last}")
    for text in report.lost:
        say(f"  [red]lost[/] {escape(text)}")
    if report.aside:
        say(f"  the old one is kept as {escape(report.aside)}; remove it when all is well")
