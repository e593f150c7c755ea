"""`overseer status` and `overseer top`: what runs, how it gets on, and what is wrong, the worst first."""

import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say
from overseer.cli.node_view import PLAIN_SPARKS, SPARKS, fitted, node_lines
from overseer.cli.terminal import keys_pressed, raw_keys
from overseer.nats.connection import Connection
from overseer.nats.sites import site_user
from overseer.node.bus import connect_as
from overseer.node.domains import domains_of
from overseer.node.folder import NodeFolder, NotRunning, NotTold, RunInfo
from overseer.node.report import NodeReport, NodeWatch
from overseer.ports.bus import BusDenied, BusError
from overseer.settings import Loaded

__all__ = ["status", "top"]

USER = "operator"
# A server that is away is waited for so long: what the overseer tells is shown without it.
CONNECT_MS = 2_000
# Rates are of so many seconds, at most.
HISTORY = 120


def status(
    interval: Annotated[float, typer.Option(min=0, max=60, help="Seconds over which rates are taken; 0: none.")] = 1.0,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What runs, how it gets on, what it does; the first thing that is wrong on top, with what to do. Exit code 1 if something is."""
    loaded = load_settings(config, data_dir)
    info = common.running_node(loaded)
    report = run_async(lambda: _report(loaded, info, interval))
    if json:
        print_json(msgspec.to_builtins(report))
    else:
        _show(report, loaded.config.data_dir)
    if report.wrong:
        raise typer.Exit(1)


def top(
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end; exit code 1 if something is wrong.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """The same, live, on the whole terminal; it goes on when the node is restarted. Ends at Ctrl-C, or q."""
    loaded = load_settings(config, data_dir)
    if once:
        info = common.running_node(loaded)
        report = run_async(lambda: _report(loaded, info, interval))
        _print(fitted(report, str(loaded.config.data_dir), common.console.width, sys.maxsize, {}, _sparks()))
        if report.wrong:
            raise typer.Exit(1)
        return
    if not common.console.is_terminal:
        common.fail("`overseer top` needs a terminal.", "Give --once for one frame, or use `overseer status --json`.")
    # Outside the event loop: however that ends, the terminal becomes what it was.
    with raw_keys() as keys, Live(Text("..."), console=common.console, screen=True, auto_refresh=False) as live:

        def show(lines: list[Text]) -> None:
            live.update(Group(*lines), refresh=True)

        run_async(lambda: _live(loaded, interval, show, keys))


async def _report(loaded: Loaded, info: RunInfo, interval_s: float) -> NodeReport:
    """Two looks, so that there are rates. Raises UnusableKey, UnusableCertificate, BusDenied."""
    watch = _watch(loaded, info)
    async with _reached(loaded, info) as (connection, why):
        if interval_s:
            await watch.look(connection, why=why)
            await anyio.sleep(interval_s)
        return await watch.look(connection, why=why)


def _watch(loaded: Loaded, info: RunInfo) -> NodeWatch:
    names = [name for name in loaded.config.subsystems if name != "elections" or not info.sites]
    return NodeWatch(loaded.config, info, [*names, *map(site_user, info.sites)], domains_of(loaded.config.subsystems, info.sites))


@asynccontextmanager
async def _reached(loaded: Loaded, info: RunInfo) -> AsyncGenerator[tuple[Connection | None, str], None]:
    """A connection, or why there is none. Raises UnusableKey, UnusableCertificate, BusDenied."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(await connect_as(loaded.config, info.url, USER, wait_ms=CONNECT_MS))
        except BusDenied:
            raise
        except BusError as error:
            yield None, str(error) or "nobody is there"
            return
        yield connection, ""


def _show(report: NodeReport, folder: Path) -> None:
    for finding in report.wrong:
        style = "bold yellow" if finding.severity == "warning" else "bold red"
        say(f"[{style}]{finding.severity.value}:[/] {escape(finding.what)}. {escape(finding.remedy)}")
    _print(node_lines(report, str(folder), common.console.width))
    for row in report.subsystems:
        if row.last_failure:
            say(f"{row.name} was last restarted because: {escape(row.last_failure)}")
        if row.dead_letters:
            say(f"what {row.name} could not take, and why:  overseer journal {row.name} --event rejected")


def _print(lines: list[Text]) -> None:
    for line in lines:
        common.console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _sparks() -> str:
    return SPARKS if common.console.encoding.lower().startswith("utf") else PLAIN_SPARKS


# ------------------------------------------------------------------------------------------------ live


async def _live(loaded: Loaded, interval_s: float, show: Callable[[list[Text]], None], keys: int | None) -> None:
    """Until q is pressed, for ever without keys. Of one run of the node after another."""
    async with anyio.create_task_group() as tasks:

        async def end_at_q() -> None:
            async for key in keys_pressed(keys):
                if key in ("q", "Q"):
                    tasks.cancel_scope.cancel()

        tasks.start_soon(end_at_q)
        gone_s = time.monotonic()
        while True:
            try:
                await _one_run(loaded, common.running_node(loaded), interval_s, show)
                gone_s = time.monotonic()
            except NotTold as held:
                show([Text(f"{held}.")])
            except NotRunning:
                since = f"for {time.monotonic() - gone_s:.0f} s"
                told = Text.assemble(("gone:", "bold white on red"), f" no node runs on {loaded.config.data_dir}, {since}.")
                show([told, Text("  Start it with `overseer run`; this goes on when it is there. Ctrl-C ends it.", style="dim")])
            await anyio.sleep(interval_s)


def _is_over(folder: NodeFolder, info: RunInfo) -> bool:
    try:
        return folder.running().run_id != info.run_id
    except NotRunning:
        return True


async def _one_run(loaded: Loaded, info: RunInfo, interval_s: float, show: Callable[[list[Text]], None]) -> None:
    """Look at one run until it is over."""
    folder, watch = NodeFolder(loaded.config.data_dir), _watch(loaded, info)
    history: dict[str, deque[float]] = {}
    while True:
        # A server that was away is looked for again.
        async with _reached(loaded, info) as (connection, why):
            while True:
                began_s = time.monotonic()
                report = await watch.look(connection, why=why)
                for row in report.subsystems:
                    history.setdefault(row.name, deque(maxlen=HISTORY)).append(row.per_s or 0.0)
                size = common.console.size
                show(fitted(report, str(loaded.config.data_dir), size.width, size.height, history, _sparks()))
                await anyio.sleep(max(0.0, interval_s - (time.monotonic() - began_s)))
                if _is_over(folder, info):
                    return
                if connection is None:
                    break
