"""Commands around a node: `run`, `config`."""

from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer
from rich.table import Table

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Insecure, Json, NatsUrl, NodeName, load_settings, print_json, run_async, say
from overseer.cli.feed import needs_substrate
from overseer.config import FEEDS
from overseer.feeds.files import read
from overseer.node.catalogue import SECTIONS
from overseer.node.folder import RunInfo
from overseer.node.overseer import Node
from overseer.observe.logs import configure_logs
from overseer.settings import example_toml
from overseer.supervise.parent import die_with_parent
from overseer.supervise.pulse import keep_beating, own_pulse
from overseer.supervise.status import Beat
from overseer.supervise.stopping import StopRequest, watch_signals

__all__ = ["config", "run"]


def run(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    feed: Annotated[
        str | None, typer.Option(help="Where blocks come from: dev, net, substrate, none, or a file.", show_default=False)
    ] = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="All subsystems in this one process (small machines).")] = False,
    external_subsystems: Annotated[
        bool, typer.Option("--external-subsystems", help="Start no subsystem, only watch them: containers run them (needs --nats).")
    ] = False,
    sites: Annotated[
        int | None, typer.Option("--sites", help="Sites that hold the elections: 1, 5 or 8 (elections.sites).", show_default=False)
    ] = None,
    insecure: Insecure = False,
    json: Json = False,
) -> None:
    """Run a node: an embedded NATS server (or --nats URL), one process per subsystem, a feed of blocks. Ctrl-C ends it."""
    loaded = load_settings(
        config,
        data_dir,
        node,
        nats,
        feed__source=feed,
        in_process=in_process or None,
        external_subsystems=external_subsystems or None,
        elections__sites=sites,
        nats__insecure=insecure or None,
    )
    _check_feed(loaded.config.feed.source)
    die_with_parent()
    pulse, up = own_pulse(), False

    def started(info: RunInfo) -> None:
        nonlocal up
        up = True
        if json:
            print_json(msgspec.to_builtins(info))
            return
        say(f"[bold green]node {info.node} is up[/] on {info.url}, metrics and health on http://127.0.0.1:{info.http_port}")
        say("In another terminal:  overseer status  ·  overseer query best  ·  overseer dispute list  ·  Ctrl-C here ends it")

    def beat() -> Beat:
        return Beat(progress=0, ready=up)

    async def main() -> None:
        stop = StopRequest()
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, stop)
            # Of a testnet, which keeps its nodes as a node keeps its subsystems.
            tasks.start_soon(keep_beating, pulse, beat)
            running = Node(loaded, started=started)
            configure_logs(loaded.config.log, run_id=running.run_id, node=loaded.config.node)
            await running.run(stop)
            tasks.cancel_scope.cancel()

    run_async(main)


def _check_feed(source: str) -> None:
    """A feed's file must be there, and begin as one: before anything is started. Raises UserError, FeedFileError."""
    if source == "substrate":
        needs_substrate()
    if source in FEEDS:
        return
    try:
        next(read(Path(source)), None)
    except OSError as error:
        common.fail(f"The feed {source} cannot be read: {error.strerror}.", "Name a file of commands, or use dev, net, substrate or none.")


def config(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    example: Annotated[bool, typer.Option("--example", help="Print an overseer.toml with every setting and its default.")] = False,
    json: Json = False,
) -> None:
    """Show the configuration in force, each value with its source (default, file, environment, flag)."""
    if example:
        typer.echo(example_toml(SECTIONS), nl=False)
        return
    loaded = load_settings(config, data_dir, node, nats)
    if json:
        print_json([msgspec.to_builtins(setting) for setting in loaded.settings])
        return
    table = Table("setting", "value", "source", "meaning", box=None, pad_edge=False)
    for setting in loaded.settings:
        style = "" if setting.source == "default" else "bold"
        table.add_row(setting.key, setting.value, setting.source, setting.description, style=style)
    common.console.print(table)
