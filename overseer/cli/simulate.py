"""`overseer simulate`: whole networks in one thread, everything that can go wrong, from seeds."""

import random
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from overseer.cli import common
from overseer.cli.common import Json, UserError, print_json

if TYPE_CHECKING:
    from overseer.simulation.campaign import Report
    from overseer.simulation.plan import Case
    from overseer.simulation.run import Outcome

__all__ = ["simulate"]


def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to play.")] = 100,
    from_: Annotated[int | None, typer.Option("--from", help="The first seed (default: drawn at random, new ones each time).")] = None,
    seed: Annotated[int | None, typer.Option(help="Play this one alone, and show the end of what happened.", show_default=False)] = None,
    scenario: Annotated[
        str, typer.Option(help="What is played: disputes, gateways, elections, consensus, peers, or `module:name`.")
    ] = "disputes",
    nodes: Annotated[int | None, typer.Option(min=1, max=16, help="Nodes of every network (default: by the seed).")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Virtual hours of each seed in which things go wrong (default: the scenario's).")
    ] = None,
    faults: Annotated[
        int | None, typer.Option(min=0, help="Faults planned for each seed; about three in four have something to hit.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seconds: Annotated[float | None, typer.Option(help="Begin no seed after so long.", show_default=False)] = None,
    shrink: Annotated[float, typer.Option(min=0, help="Seconds for shrinking each of the first failing seeds; 0: none.")] = 60.0,
    keep_faults: Annotated[
        str | None, typer.Option(help="With --seed: only these of the planned faults (3,7-9).", show_default=False)
    ] = None,
    keep_inputs: Annotated[str | None, typer.Option(help="With --seed: only these of the inputs.", show_default=False)] = None,
    trace: Annotated[int, typer.Option(min=0, help="With --seed: how many lines to show; 0: all.")] = 60,
    json: Json = False,
) -> None:
    """Play whole networks in virtual time: the real runner and subsystems, with crashes, losses and delays, all from a seed.

    Checkers watch every promise meanwhile. A seed that breaks one is shrunk, and told with the command that replays it exactly.
    Exit code 1 when a promise was broken.
    """
    # Pulls in everything there is; the other commands start without it.
    from overseer.simulation.campaign import Report, WrongSize, campaign, cases
    from overseer.simulation.registry import UnknownScenario

    first = random.SystemRandom().randrange(10**9) if from_ is None else from_
    try:
        played = cases(scenario, range(first, first + seeds) if seed is None else [seed], nodes=nodes, hours=hours, faults=faults)
    except (UnknownScenario, WrongSize, ImportError, AttributeError) as error:
        raise UserError(str(error), "see `overseer simulate --help`") from error
    if seed is not None:
        case = next(played)
        raise typer.Exit(_one(_only(case, keep_faults, keep_inputs), trace or None, shrink, json=json))
    if keep_faults is not None or keep_inputs is not None:
        raise UserError("--keep-faults and --keep-inputs are for a single seed", "give it with --seed")
    report = campaign(
        played, Report(scenario=scenario, first_seed=first), jobs=jobs, seconds=seconds, shrink_s=shrink, tell=None if json else _tell
    )
    if json:
        print_json(msgspec.to_builtins(report))
    else:
        _show(report)
    if report.violations:
        raise typer.Exit(1)


def _only(case: "Case", keep_faults: str | None, keep_inputs: str | None) -> "Case":
    from overseer.simulation.shrink import kept

    try:
        return msgspec.structs.replace(
            case,
            keep_faults=None if keep_faults is None else kept(keep_faults),
            keep_inputs=None if keep_inputs is None else kept(keep_inputs),
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def _one(case: "Case", lines: int | None, shrink_s: float, *, json: bool) -> int:
    """Play one case and show it. Returns the exit code."""
    from overseer.simulation.run import play
    from overseer.simulation.shrink import command, shrink

    outcome = play(case, keep_lines=lines)
    # A case that is given in parts is the outcome of shrinking already.
    whole = case.keep_faults is None and case.keep_inputs is None
    smallest = shrink(outcome, seconds=shrink_s) if outcome.violation is not None and whole and shrink_s else outcome
    if json:
        print_json({**msgspec.to_builtins(outcome), "command": command(case), "shrunk": command(smallest.case)})
        return int(outcome.violation is not None)
    for line in outcome.trace:
        common.console.print(escape(line), soft_wrap=True)
    common.say(f"[dim]{outcome.virtual_s:.0f} s of virtual time in {outcome.real_s:.2f} s; trace {outcome.trace_hash}[/]")
    if outcome.violation is None:
        common.say("[green]every promise was kept[/]")
        return 0
    common.say(f"[bold red]broken[/] {escape(outcome.violation)}")
    common.say(f"again: {command(case)}")
    if smallest is not outcome:
        common.say(f"smaller: {command(smallest.case)}")
    return 1


def _tell(outcome: "Outcome") -> None:
    if outcome.violation is not None:
        common.say(f"[bold red]seed {outcome.case.seed}[/]: {escape(outcome.violation[:500])}")


def _show(report: "Report") -> None:
    table = Table("fault", "times", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for kind, times in report.faults.items():
        table.add_row(kind, f"{times:,}")
    table.add_row("[bold]all[/]", f"[bold]{report.faults_total:,}[/]")
    common.console.print(table)
    common.say(
        f"{report.seeds:,} seeds of {report.scenario} from {report.first_seed}: {report.virtual_hours:,.1f} virtual hours in "
        f"{report.real_s:,.0f} s, {report.speed:,.0f} x real time in each process; {report.inputs:,} inputs, {report.records:,} records, "
        f"at least {report.faults_per_seed_min} faults in each seed"
    )
    for broken in report.violations:
        common.say(f"[bold red]broken[/] {escape(broken.violation[:2000])}")
        common.say("\n".join(f"[dim]{escape(line)}[/]" for line in broken.trace))
        common.say(f"again:   {broken.command}")
        if broken.shrunk:
            common.say(f"smaller: {broken.shrunk}")
    if not report.violations:
        common.say("[green]every promise was kept[/]")
