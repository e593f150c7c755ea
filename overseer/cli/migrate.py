"""`overseer migrate`: what the stores of an older release need, shown or done."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.markup import escape

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say

if TYPE_CHECKING:
    from overseer.node.migrate import Migration

__all__ = ["migrate"]


def migrate(
    stores: Annotated[list[str] | None, typer.Argument(help="Which (default: all there are).", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only try it out: what would change, and how long it takes.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Bring the stores of a stopped node to this release: tables are made anew from their journals where this release makes others.

    `overseer run` does so at its start as well. Here it can be tried out first, and the old store is kept beside the new one. A kill
    leaves the old store or the new. Exit code 1 when a store cannot be used by this release.
    """
    from overseer.node.migrate import known_stores
    from overseer.node.migrate import migrate as migrate_stores

    loaded = load_settings(config, data_dir)
    known = known_stores(loaded)
    if not known:
        common.fail(f"There are no stores in {loaded.config.data_dir / 'stores'}.", "Name the node's folder with --data-dir.")
    for name in stores or []:
        if name not in known:
            common.fail(f"There is no store {name!r} of a subsystem that this release knows.", common.near(name, known))

    found = run_async(lambda: migrate_stores(loaded, stores or [], dry_run=dry_run))
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        for each in found:
            _show(each, dry_run=dry_run)
    if any(each.action == "cannot" for each in found):
        raise typer.Exit(1)


def _show(found: "Migration", *, dry_run: bool) -> None:
    old, new = found.found, found.wanted
    versions = f"release {old.release or 'not known'}, schema {old.schema}" + (f", evolve version {old.evolve}" if old.evolve else "")
    match found.action:
        case "nothing":
            what = "[green]nothing to do[/]"
        case "mark":
            what = f"the same tables; {'would be' if dry_run else 'is'} marked as of release {new.release}, schema {new.schema}"
        case "rebuild":
            what = (
                f"tables {'would be' if dry_run else 'were'} made anew as evolve version {new.evolve}: {found.records} records read, "
                f"{found.rows} rows, of these {found.added} new and {found.changed} others; {found.removed} gone "
                f"({found.took_ms / 1000:.1f} s)"
            )
        case "cannot":
            what = f"[bold red]cannot be used[/] by release {new.release}: {escape(found.problem)}"
    say(f"[bold]{found.store}[/] ({versions}): {what}")
    if found.upcast:
        say(f"  {found.upcast} recorded messages are of older versions: they are brought up to date whenever they are read")
    if found.aside:
        say(f"  the old one is kept as {escape(found.aside)}; remove it when all is well")
