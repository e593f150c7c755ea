"""`overseer feed ...`: what a node of another chain offers before this one follows it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from overseer.cli import common
from overseer.cli.common import Json, examples, print_json, run_async, say

if TYPE_CHECKING:
    from overseer.feeds.substrate.survey import Survey

__all__ = ["feed", "needs_substrate"]

feed = typer.Typer(
    help="Feeds from other chains: what a Substrate node offers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EXTRA = ("scalecodec", "websockets", "xxhash")


@feed.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    pass


@feed.command("check", epilog=examples("overseer feed check ws://127.0.0.1:9944", "overseer feed check wss://rpc.polkadot.io --json"))
def check(
    url: Annotated[str, typer.Argument(help="JSON-RPC of the Substrate node: ws://host:port or wss://host:port.")],
    json: Json = False,
) -> None:
    """Ask a Substrate node for its chain and runtime, and whether blocks, sessions and dispute votes can be read there.

    Exit code 1 when something cannot.
    """
    needs_substrate()
    # Their libraries are an extra.
    from overseer.feeds.substrate.survey import survey
    from overseer.feeds.substrate.troubles import RemoteError

    found: list[Survey] = []

    async def ask() -> None:
        try:
            found.append(await survey(url))
        except RemoteError as error:
            common.fail(f"{url} cannot be followed: {error}", "Does a Substrate node answer JSON-RPC by WebSocket there?")

    run_async(ask)
    (told,) = found
    if json:
        print_json(msgspec.to_builtins(told))
    else:
        _show(told)
    if not told.is_complete:
        raise typer.Exit(1)


def _show(told: "Survey") -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "chain": told.chain,
        "runtime": f"{told.runtime} {told.spec}",
        "best block": str(told.best),
        "final block": f"{told.final}  0x{told.genesis}",
        "session": "not read" if told.session is None else f"{told.session}, {told.validators} validators",
    }
    for name, value in {**rows, **{f"reads {part}": why for part, why in told.readable.items()}}.items():
        table.add_row(name, escape(value))
    common.console.print(table)
    say(f"To follow it from its final block:  OVERSEER_GENESIS={told.genesis} OVERSEER_FEED_URL={told.url} overseer run --feed substrate")


def needs_substrate() -> None:
    """Raises UserError where the libraries are missing that speak with a Substrate node."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        common.fail(
            f"A Substrate node cannot be spoken with: {', '.join(missing)} is not installed.",
            "Run `pip install -e '.[substrate]'`.",
        )
