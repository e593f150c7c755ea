"""`overseer bench`: how fast it is on this machine, each figure beside a limit measured in the same run."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from overseer.cli import common
from overseer.cli.common import Json, UserError, print_json, run_async

__all__ = ["bench"]

NAMES = (
    "commands_durable",
    "votes_bundled",
    "votes_single",
    "cascade",
    "growth",
    "idle",
    "ballots_one_site",
    "ballots_five_sites",
    "ballots_failover",
    "ballots_recovery",
    "gateway_votes",
    "gateway_close",
    "dkg_4",
    "dkg_16",
    "dkg_43",
    "block_signing",
    "election_testnet",
    "peer_proofs",
    "peer_verify",
    "peer_network",
)


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Some of: {', '.join(NAMES)} (default: all).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds for each, less exact.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a target is missed.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where temporary folders are made: which disk is measured (default: the system's).", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how fast it is here: the real runner, server and store, each figure as a ratio to a limit of the same run.

    Everything runs in temporary folders and on free ports. Other work on the machine makes figures worse, ratios less so.
    """
    unknown = [name for name in names or () if name not in NAMES]
    if unknown:
        raise UserError(f"there is no bench {unknown[0]!r}", f"there are: {', '.join(NAMES)}")
    # Pulls in everything there is; the other commands start without it.
    from overseer.bench.catalogue import QUICK, run_benches
    from overseer.bench.measure import Measure, Sizes

    def report(text: str) -> None:
        if not json:
            typer.echo(text, err=True)

    async def main() -> list[Measure]:
        return [m async for m in run_benches(names or NAMES, QUICK if quick else Sizes(), report, folder=folder)]

    measures = run_async(main)
    if json:
        print_json([msgspec.to_builtins(measure) for measure in measures])
    else:
        table = Table("bench", "measured", "limit", "ratio", "target", "", box=None, pad_edge=False)
        for m in measures:
            bound = "at most" if m.at_most else "at least"
            verdict = "[green]ok[/]" if m.ok else "[bold red]missed[/]"
            table.add_row(m.name, _figure(m.value, m.unit), _figure(m.limit, m.unit), f"{m.ratio:.3f}", f"{bound} {m.target:g}", verdict)
        common.console.print(table)
        for m in measures:
            common.say(f"[dim]{m.name}: {m.what}; limit: {m.limited_by}[/]")
    if check and not all(m.ok for m in measures):
        raise typer.Exit(1)


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2g} {unit}"
