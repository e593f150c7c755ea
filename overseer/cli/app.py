"""The commands, put together. Each lives in a module of its own kind; this one only lists them."""

from collections.abc import Sequence

import typer

from overseer.cli import common
from overseer.cli.bus_commands import nats_context, provision
from overseer.cli.demo import demo
from overseer.cli.domain import dispute, governance
from overseer.cli.inspect import graph, journal, verify
from overseer.cli.making import make
from overseer.cli.node_commands import config, run, status
from overseer.cli.talk import query, send

__all__ = ["app", "run_app"]

app = typer.Typer(
    name="overseer",
    help="Event-sourced subsystems under an overseer: typed CBOR on NATS, persisted to RocksDB, replayable.\n\n"
    "Start with [bold]overseer demo[/], or run a node with [bold]overseer run[/] and talk to it from another terminal.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUNNING = "Running a node"
TALKING = "Talking to it"
LOOKING = "Looking into it"
MAKING = "Making things"

app.command(rich_help_panel=RUNNING)(demo)
app.command(rich_help_panel=RUNNING)(run)
app.command(rich_help_panel=RUNNING)(provision)
app.command(rich_help_panel=RUNNING)(config)
app.command(rich_help_panel=RUNNING)(nats_context)
app.command(rich_help_panel=LOOKING)(status)
app.command(rich_help_panel=LOOKING)(journal)
app.command(rich_help_panel=LOOKING)(verify)
app.command(rich_help_panel=LOOKING)(graph)
app.add_typer(dispute, name="dispute", rich_help_panel=LOOKING)
app.add_typer(governance, name="governance", rich_help_panel=TALKING)
app.add_typer(make, name="make", rich_help_panel=MAKING)
app.command(rich_help_panel=TALKING)(send)
app.command(rich_help_panel=TALKING)(query)


@app.command(rich_help_panel=RUNNING)
def subsystem(name: str) -> None:
    """Run one subsystem as this process (what `run` starts for each; containers start it directly)."""
    from overseer.cli.subsystem import subsystem_main

    raise typer.Exit(subsystem_main(name))


@app.command(rich_help_panel=TALKING)
def decode() -> None:
    """Filter: one CBOR body on stdin to JSON; made for `nats sub 'overseer.>' --translate 'overseer decode'`."""


@app.command(rich_help_panel=TALKING)
def encode(message: str, body: str = "-") -> None:
    """Filter: JSON to the canonical CBOR body of MESSAGE on stdout, to be piped into `nats pub`."""
    from overseer.cli.translate import encode_main

    raise typer.Exit(encode_main([message, body]))


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    try:
        code = app(args=list(arguments), standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _usage(error)
        return common.report(error)


def _usage(error: BaseException) -> int:
    """A wrong command line: click's own words."""
    error.show()  # pyright: ignore
    return int(getattr(error, "exit_code", common.USER_ERROR))
