"""Commands around a network of nodes: `testnet`, `verify-epochs`."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say
from overseer.consensus.epochs import BrokenChain, EpochsReport
from overseer.node.folder import NodeFolder
from overseer.node.testnet import Testnet, TestnetInfo, chain_settings, epochs_of
from overseer.observe.logs import configure_logs
from overseer.supervise.stopping import StopRequest, watch_signals

__all__ = ["run_testnet", "verify_epochs"]


def run_testnet(
    nodes: Annotated[int, typer.Option("--nodes", help="How many nodes; four make one group.", min=4, max=43)] = 4,
    config: ConfigFile = None,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The network's folder; each node has one in it.")] = Path("overseer-testnet"),
    interval_ms: Annotated[int, typer.Option("--interval-ms", help="Milliseconds between two blocks.", min=50)] = 1_000,
    epoch_blocks: Annotated[
        int | None,
        typer.Option("--epoch-blocks", help="Blocks that a group serves at least.", show_default=False),
    ] = None,
    processes: Annotated[bool, typer.Option("--processes", help="A process for each subsystem, not only for each node.")] = False,
    json: Json = False,
) -> None:
    """Run a network on this machine: nodes that make one chain together, elect groups, and sign its blocks. Ctrl-C ends it."""
    settings: dict[str, object] = {"feed.interval_ms": interval_ms, "in_process": not processes}
    if epoch_blocks is not None:
        settings["consensus_manager.interval"] = epoch_blocks
    made = Testnet(data_dir, nodes, settings, environ=os.environ, file=config)

    def started(info: TestnetInfo) -> None:
        if json:
            print_json(msgspec.to_builtins(info))
            return
        say(f"[bold green]{len(info.nodes)} nodes are up[/] on {info.url}: {', '.join(info.nodes)}, each in a folder of {made.folder}")
        first = next(iter(info.nodes.values()))
        say(
            f"In another terminal:  overseer query consensus_manager.epoch --data-dir {first}  ·  overseer verify-epochs --data-dir {first}"
        )

    async def main() -> None:
        stop = StopRequest()
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, stop)
            configure_logs(load_settings(config).config.log, run_id="", node="testnet")
            await made.run(stop, started=started)
            tasks.cancel_scope.cancel()

    run_async(main)


def verify_epochs(config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Check the handovers of a network's chain from genesis, as a light client: by the blocks alone, one key for each epoch.

    The blocks are those in the journal of the node's chain_api; the network's nodes are the validators. Works on a running node too.
    Of a testnet's node it is known what the chain was started with; elsewhere the configuration must be the network's.
    """
    loaded = load_settings(config, data_dir)
    folder = NodeFolder(loaded.config.data_dir)
    given = {setting.key for setting in loaded.settings if setting.source != "default"}
    chosen = {key.replace(".", "__"): value for key, value in chain_settings(folder.path).items() if key not in given}
    loaded = load_settings(config, data_dir, **chosen)
    try:
        report = epochs_of(loaded)
    except BrokenChain as error:
        common.fail(str(error), "Is this the network's configuration (consensus_manager, feed.seed, network.nodes)?")
    if json:
        print_json(msgspec.to_builtins(report))
    else:
        _show(report)
    if report.broken:
        raise typer.Exit(1)


def _show(report: EpochsReport) -> None:
    for epoch in report.epochs:
        say(f"epoch {epoch.epoch}: accepted in block {epoch.block}, key {epoch.key[:16]}…, members {', '.join(map(str, epoch.members))}")
    say(f"{report.blocks} blocks from genesis, {report.signed} of them signed by their groups")
    if report.broken:
        say(f"[bold red]wrong:[/] {report.broken}")
