"""Commands that hold a node to what it recorded: `verify`; and that look at the declarations: `graph`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say
from overseer.graph import Graph
from overseer.node.catalogue import CATALOGUE, build_subsystems
from overseer.node.folder import NodeFolder
from overseer.node.verifying import verified
from overseer.ports.store import StoreCorrupted
from overseer.runner.verify import Verdict
from overseer.settings import Loaded
from overseer.sites.layout import site_stores

__all__ = ["graph", "verify"]


def verify(
    subsystems: Annotated[list[str] | None, typer.Argument(help="Which (default: all that have a store).", show_default=False)] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Rebuild every table from its journal, and every outgoing message, and compare; of a site of the elections (elections_<site>),
    every election from its events. Exit code 1 when anything differs.

    Works on a running node too: each store is looked at as of one moment.
    """
    loaded = load_settings(config, data_dir)
    stores = NodeFolder(loaded.config.data_dir).path / "stores"
    sites = site_stores(stores)
    names = subsystems or [*(name for name in CATALOGUE if (stores / name).is_dir()), *sites]
    if not names:
        common.fail(
            f"There are no stores in {stores}.",
            "Name the node's folder with --data-dir; they are made when it first runs (`overseer run`).",
        )
    verdicts = [_verify_one(loaded, name, site=name in sites) for name in names]
    if json:
        print_json([{**msgspec.to_builtins(verdict), "ok": verdict.ok} for verdict in verdicts])
    else:
        for verdict in verdicts:
            _show_verdict(verdict)
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


def _verify_one(loaded: Loaded, name: str, *, site: bool) -> Verdict:
    if not site and name not in CATALOGUE:
        common.fail(f"There is no subsystem {name!r}.", common.near(name, CATALOGUE))
    try:
        return run_async(lambda: verified(loaded, name, site=site))
    except StoreCorrupted as error:
        return Verdict(subsystem=name, faults=[str(error)])


def _show_verdict(verdict: Verdict) -> None:
    sign = "[bold green]equal[/]" if verdict.ok else "[bold red]differs[/]"
    span = f"records {verdict.from_index + 1} to {verdict.to_index}"
    say(f"{verdict.subsystem}: {sign}  ({span}, {verdict.rows} rows, {verdict.messages} outgoing messages)")
    for fault in verdict.faults:
        say(f"  {escape(fault)}")
    if verdict.more_faults:
        say(f"  and {verdict.more_faults} more")


def graph(
    dot: Annotated[bool, typer.Option("--dot", help="Graphviz DOT instead of Mermaid.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only what is wrong with it; exit code 1 if anything is.")] = False,
    config: ConfigFile = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", hidden=True)] = None,
    json: Json = False,
) -> None:
    """The message graph, drawn from the subsystems' declarations: who sends what to whom."""
    loaded = load_settings(config, data_dir)
    drawn = Graph.of(s.declaration for s in build_subsystems(loaded).values())
    findings = drawn.findings()
    if json:
        edges = [{"sender": e.sender, "receiver": e.receiver, "message": e.message.spec.key} for e in drawn.edges]
        print_json({"edges": edges, "findings": [msgspec.to_builtins(finding) for finding in findings]})
    elif check:
        for finding in findings:
            say(f"{'[red]error[/]' if finding.fatal else '[dim]note[/]'} {finding.subsystem}: {finding.kind.value}: {escape(finding.text)}")
    else:
        typer.echo(drawn.dot() if dot else drawn.mermaid())
    if check and any(finding.fatal for finding in findings):
        raise typer.Exit(1)
