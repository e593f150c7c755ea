"""Commands that look into a node's stores: `journal`, `verify`; and at the declarations: `graph`."""

import json as json_module
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from messages.text import to_json
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say
from overseer.graph import Graph
from overseer.node.catalogue import CATALOGUE, build_elections, build_subsystem, build_subsystems
from overseer.node.folder import NodeFolder
from overseer.ports.store import StoreCorrupted, StoreMissing
from overseer.rocks.reader import RocksReader
from overseer.runner import journal as journal_module
from overseer.runner.schema import Record
from overseer.runner.verify import Verdict, base_of
from overseer.runner.verify import verify as verify_store
from overseer.settings import Loaded
from overseer.sites.layout import site_stores
from overseer.sites.verifying import verify_site

__all__ = ["graph", "journal", "verify"]

# A follower looks for new records this often; each look opens the store beside its owner.
FOLLOW_S = 0.5
BODY_CHARACTERS = 160


def journal(
    subsystem: Annotated[str, typer.Argument(help="Whose journal: " + ", ".join(CATALOGUE))],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    after: Annotated[int, typer.Option(help="Only records behind this index.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many (the newest, unless --after is given).")] = 50,
    event: Annotated[str, typer.Option(help="Only records with an event or input of this name.")] = "",
    cause: Annotated[int, typer.Option(min=0, help="Only what this sequence of the stream caused (0: any).")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    json: Json = False,
) -> None:
    """Show what a subsystem recorded, and why: input, cause, sender, events, outcome. Works while the node runs, and after."""
    loaded = load_settings(config, data_dir)
    _known(subsystem)
    shown = after
    if not after and not follow:
        # The newest alone: without a filter their number is known.
        shown = 0 if event or cause else max(0, _last_index(loaded, subsystem) - limit)
    newest = deque[tuple[Record, list[Any]]](maxlen=limit)
    left = limit
    while True:
        for record, events in _records(loaded, subsystem, shown):
            shown = record.index
            if not _wanted(record, event, cause):
                continue
            if not after and not follow:
                newest.append((record, events))
                continue
            _show_record(record, events, json)
            left -= 1
            if left == 0 and not follow:
                return
        for record, events in newest:
            _show_record(record, events, json)
        if not follow:
            return
        time.sleep(FOLLOW_S)


def _known(subsystem: str) -> None:
    if subsystem not in CATALOGUE:
        common.fail(f"There is no subsystem {subsystem!r}.", common.near(subsystem, CATALOGUE))


def _open(loaded: Loaded, subsystem: str) -> RocksReader:
    try:
        return RocksReader.open_read_only(NodeFolder(loaded.config.data_dir).path / "stores" / subsystem)
    except StoreMissing as error:
        common.fail(str(error), "Name the node's folder with --data-dir; a store is made when the node first runs (`overseer run`).")


def _last_index(loaded: Loaded, subsystem: str) -> int:
    reader = _open(loaded, subsystem)
    try:
        head = journal_module.read_head(reader)
        return 0 if head is None else head.index
    finally:
        reader.close()


def _records(loaded: Loaded, subsystem: str, after: int) -> Iterator[tuple[Record, list[Any]]]:
    """Records behind `after` with their events as plain data, as far as the journal still reaches back."""
    reader = _open(loaded, subsystem)
    try:
        first = journal_module.first_index(reader)
        for record, _ in journal_module.records(reader, after=max(after, first - 1)):
            events = [(row.key, journal_module.event_of(reader, row, record.index)) for row in record.events]
            yield record, [{"event": key, **json_module.loads(to_json(event))} for key, event in events]
    finally:
        reader.close()


def _wanted(record: Record, event: str, cause: int) -> bool:
    if cause and record.cause.sequence != cause:
        return False
    names = [record.input, *(row.key for row in record.events)]
    return not event or any(event in (name, name.rpartition(".")[2]) for name in names)


def _show_record(record: Record, events: list[Any], as_json: bool) -> None:
    cause = record.cause
    if as_json:
        typer.echo(
            json_module.dumps(
                {
                    "index": record.index,
                    "time_ms": record.time_ms,
                    "input": record.input,
                    "cause": {"stream": cause.stream, "sequence": cause.sequence, "sender": cause.sender, "id": cause.id},
                    "correlation": cause.correlation,
                    "result": record.result.status,
                    "code": record.result.code,
                    "events": events,
                    "timers": [{"key": t.key, "at_ms": t.at_ms, "message": t.message} for t in record.timers],
                }
            )
        )
        return
    at = datetime.fromtimestamp(record.time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    where = f"{cause.stream} {cause.sequence} from {cause.sender}" if cause.stream else (cause.id or "own")
    style = {"accepted": "green", "rejected": "yellow", "parked": "red"}.get(record.result.status, "dim")
    code = f" {record.result.code}" if record.result.code else ""
    say(
        f"[bold]{record.index:>6}[/] {at}  {escape(record.input or '-')}  [dim]{escape(where)}[/]  [{style}]{record.result.status}{code}[/]"
    )
    for event in events:
        name = event.pop("event")
        body = json_module.dumps(event)
        shown = body if len(body) <= BODY_CHARACTERS else body[:BODY_CHARACTERS] + "…"
        say(f"         [cyan]{name}[/] {escape(shown)}")


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
    try:
        if site:
            return _verified_site(loaded, name)
        _known(name)
        return _verified(loaded, name)
    except StoreCorrupted as error:
        return Verdict(subsystem=name, faults=[str(error)])


def _verified(loaded: Loaded, name: str) -> Verdict:
    reader = _open(loaded, name)
    try:
        with base_of(reader) as base:
            subsystem = build_subsystem(name, loaded)
            kept_ms = loaded.config.limits.command_outcomes_kept_ms
            return run_async(lambda: verify_store(subsystem, loaded.config.node, reader, base, outcomes_kept_ms=kept_ms))
    finally:
        reader.close()


def _verified_site(loaded: Loaded, name: str) -> Verdict:
    """A site has no journal: its elections are compared with their own events."""
    reader = _open(loaded, name)
    try:
        return run_async(lambda: verify_site(name, reader, build_elections(loaded)))
    finally:
        reader.close()


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
