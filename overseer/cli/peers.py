"""`overseer peers ...`: peer elections of the running node (`peer_commands`), and what simulated networks tell of them."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from overseer.cli import common
from overseer.cli.common import Json, examples, fail, near, print_json, say
from overseer.cli.peer_commands import challenge, history, hold, status

if TYPE_CHECKING:
    from overseer.simulation.peers.plan import NetworkReport
    from overseer.simulation.peers.tables import Row

__all__ = ["peers"]

peers = typer.Typer(
    help="Peer elections: who holds what this node holds (docs/peers.md).",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


peers.command(epilog=examples("overseer peers status", "overseer peers status --json"))(status)
peers.command(epilog=examples("overseer peers history", "overseer peers history --limit 100 --before 500"))(history)
peers.command(epilog=examples("overseer peers challenge", "overseer peers challenge 0x1f2e3d4c5b6a7988"))(challenge)
peers.command(epilog=examples("overseer peers hold --file tokens.csv", "overseer peers hold --development 20000 --density 95"))(hold)


@peers.command(
    epilog=examples(
        "overseer peers compare",
        "overseer peers compare --peers 500 --contacts 50 --reach 60",
        "overseer peers compare --density 99 --json",
    )
)
def compare(
    count: Annotated[int, typer.Option("--peers", min=2, max=5_000, help="Peers of the network.")] = 96,
    density: Annotated[int, typer.Option(min=1, max=100, help="Share of the tokens in its reach that each peer holds, in percent.")] = 95,
    reach: Annotated[int, typer.Option(min=1, max=100, help="Share of the ring, around itself, that a peer holds, in percent.")] = 100,
    contacts: Annotated[int, typer.Option(min=0, help="Others that a peer knows at the beginning (0: all).")] = 24,
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="Virtual minutes, with an election of every peer in each.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 1,
    json: Json = False,
) -> None:
    """Compare the four forwarding strategies on the same simulated network: diversity, latency, messages, success.

    Diversity: how many different peers answer an election, and win one. The default strategy was chosen from such a table (docs/peers.md).
    """
    # Pulls in the elections; the other commands start without them.
    from overseer.simulation.peers.plan import NetworkPlan
    from overseer.simulation.peers.tables import compared

    plan = NetworkPlan(seed=seed, peers=count, density_percent=density, reach_percent=reach, contacts=contacts, minutes=minutes)
    reports = compared(plan)
    if json:
        return print_json({str(strategy): msgspec.to_builtins(report) for strategy, report in reports.items()})
    table = Table("strategy", "success", "messages", "responders", "winners", "p50", "p95", "p99", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for strategy, report in reports.items():
        name = f"[bold]{strategy}[/]" if strategy == plan.config.strategy else str(strategy)
        times = (f"{ms / 1000:.1f} s" for ms in (report.p50_ms, report.p95_ms, report.p99_ms))
        figures = (f"{report.success_percent:.1f} %", f"{report.messages_per_election:.2f}", f"{report.responders:.2f}")
        table.add_row(name, *figures, f"{report.winners_percent:.0f} %", *times)
    common.console.print(table)
    say(
        f"[dim]{count} peers, {reports[plan.config.strategy].elections} elections each way; messages and responders of one election; "
        "winners: of all peers, those elected by somebody[/]"
    )
    return None


@peers.command(
    epilog=examples(
        "overseer peers tables                           (all of docs/peers.md, a quarter of an hour)",
        "overseer peers tables --only densities,strategies",
        "overseer peers tables --out docs/pictures       (their pictures as well)",
    )
)
def tables(
    out: Annotated[Path | None, typer.Option(help="Write pictures (PNG) into this folder.", show_default=False)] = None,
    only: Annotated[str, typer.Option(help="Some of the tables, separated by commas (default: all).", show_default=False)] = "",
    json: Json = False,
) -> None:
    """The tables of simulated networks in docs/peers.md, as Markdown, each row as soon as its network has run; and their pictures."""
    from overseer.simulation.peers.tables import TABLES, agreements, markdown, pairs, results

    known = ("pairs", *TABLES)
    if out is not None:
        _require_plots()
    names = [name.strip() for name in only.split(",")] if only else [*known]
    for name in names:
        if name not in known:
            fail(f"There is no table {name!r}.", near(name, known))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    told: dict[str, object] = {}
    for name in names:
        if not json:
            typer.echo(f"\n{name}\n")
        if name == "pairs":
            shares = agreements()
            told[name] = shares
            _print(pairs(shares), quiet=json)
        else:
            rows: list[tuple[Row, NetworkReport]] = []
            _print(markdown(TABLES[name].columns, _noted(results(TABLES[name]), rows)), quiet=json)
            told[name] = {row.name: msgspec.to_builtins(report) for row, report in rows}
            _draw(name, rows, out, quiet=json)
    if json:
        print_json(told)


def _require_plots() -> None:
    """Before anything is computed."""
    if importlib.util.find_spec("matplotlib") is None:
        fail("Pictures need matplotlib, which is not installed.", "Install it: pip install -e '.[plots]'   (or leave --out away)")


def _noted(
    results: "Iterator[tuple[Row, NetworkReport]]", rows: "list[tuple[Row, NetworkReport]]"
) -> "Iterator[tuple[Row, NetworkReport]]":
    for result in results:
        rows.append(result)
        yield result


def _print(lines: Iterator[str], *, quiet: bool) -> None:
    for line in lines:
        if not quiet:
            typer.echo(line)


def _draw(name: str, rows: "list[tuple[Row, NetworkReport]]", out: Path | None, *, quiet: bool) -> None:
    """The pictures of a table, where there is a folder for them."""
    if out is None:
        return
    from overseer.simulation.peers.figures import drawn

    for path in drawn(name, rows, out):
        if not quiet:
            typer.echo(f"\n{path}")
