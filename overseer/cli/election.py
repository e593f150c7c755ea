"""`overseer election ...`: open, cast, close, judge, and see what comes of it."""

import time
from contextlib import AsyncExitStack
from typing import Annotated, Any

import anyio
import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from messages.ballots import (
    CastBallot,
    CloseElection,
    GetBallotElection,
    InvalidateBallot,
    InvalidateElection,
    OpenElection,
    ValidateBallot,
    ValidateElection,
)
from messages.codec import decode
from messages.election_pairs import CopyReport, GetCopy
from messages.elections import (
    ArchiveElection,
    ElectionHistory,
    ElectionReport,
    Elections,
    ElectionSummary,
    GetElection,
    HistoryRow,
    ListElections,
    QueryHistory,
)
from messages.message import CATALOG, Kind, Message
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, examples, load_settings, plain_message, print_json, run_async, say
from overseer.cli.election_view import copies_of, copies_table, is_behind, picture, results_of
from overseer.cli.elections_client import checked, elections_client, request
from overseer.sites.client import SitesClient

__all__ = ["election"]

election = typer.Typer(
    help="Elections: open, cast, close, judge; who leads, how many came.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

WATCH_S = 0.5
_PAGE = 1_000

Key = Annotated[str, typer.Argument(help="The election's key: lower case letters, digits, - and _.")]
Voter = Annotated[str, typer.Argument(help="The voter's signature or token: text, or 0x-hex.")]
VoterOption = Annotated[str | None, typer.Option("--voter", help="Judge this voter's ballot instead of the election.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Recorded with the verdict.")]
CommandId = Annotated[str, typer.Option("--id", help="Command id: a retry with the same id has one effect.")]


def _voter(text: str) -> bytes:
    if not text.startswith("0x"):
        return text.encode()
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        common.fail(f"{text!r} is not hexadecimal.", "A signature is text, or 0x and an even number of hexadecimal digits.")


# ------------------------------------------------------------------------------------------------ commands


@election.command(
    "open",
    epilog=examples(
        "overseer election open mayor-2026 --title 'Mayor' --choice Ada --choice Grace",
        "overseer election open poll --title 'Lunch?' --choice yes --choice no --electorate 12 --closes-in 3600",
    ),
)
def open_election(
    key: Key,
    title: Annotated[str, typer.Option(help="What is voted on.")],
    choice: Annotated[list[str], typer.Option(help="A choice; may be repeated.")],
    electorate: Annotated[int | None, typer.Option(min=0, help="How many may vote.", show_default=False)] = None,
    closes_in: Annotated[
        float | None, typer.Option(min=0, help="The polls close by themselves after so many seconds.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    id: CommandId = "",
    json: Json = False,
) -> None:
    """Open a new election, or an invalid one again as its next round."""
    closes_at = None if closes_in is None else int((time.time() + closes_in) * 1000)
    command = OpenElection(election=key, title=title, choices=choice, electorate=electorate, closes_at=closes_at)
    request(command, config, data_dir, id, json)


@election.command(
    epilog=examples("overseer election cast mayor-2026 voter-17 Ada", "overseer election cast mayor-2026 0x51f3 Grace --id c1")
)
def cast(
    key: Key,
    voter: Voter,
    choice: Annotated[str, typer.Argument(help="One of the election's choices.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    id: CommandId = "",
    json: Json = False,
) -> None:
    """Cast one ballot: a signature casts once in a round."""
    command = CastBallot(election=key, voter=_voter(voter), choice=choice, at=int(time.time() * 1000))
    request(command, config, data_dir, id, json)


@election.command(epilog=examples("overseer election close mayor-2026"))
def close(key: Key, config: ConfigFile = None, data_dir: DataDir = None, id: CommandId = "", json: Json = False) -> None:
    """Close the polls: no ballots any more, verdicts begin."""
    request(CloseElection(election=key), config, data_dir, id, json)


@election.command(epilog=examples("overseer election validate mayor-2026 --voter voter-17", "overseer election validate mayor-2026"))
def validate(
    key: Key,
    voter: VoterOption = None,
    reason: Reason = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    id: CommandId = "",
    json: Json = False,
) -> None:
    """Judge a ballot valid (--voter), or declare the result of a closed election valid."""
    ballot = None if voter is None else ValidateBallot(election=key, voter=_voter(voter), reason=reason)
    request(ballot or ValidateElection(election=key), config, data_dir, id, json)


@election.command(
    epilog=examples("overseer election invalidate mayor-2026 --voter voter-3 --reason blank", "overseer election invalidate mayor-2026")
)
def invalidate(
    key: Key,
    voter: VoterOption = None,
    reason: Reason = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    id: CommandId = "",
    json: Json = False,
) -> None:
    """Judge a ballot invalid (--voter), or declare a closed election invalid: it can be opened again as the next round."""
    ballot = None if voter is None else InvalidateBallot(election=key, voter=_voter(voter), reason=reason)
    request(ballot or InvalidateElection(election=key, reason=reason), config, data_dir, id, json)


@election.command(epilog=examples("overseer election archive mayor-2026"))
def archive(key: Key, config: ConfigFile = None, data_dir: DataDir = None, id: CommandId = "", json: Json = False) -> None:
    """End an election's retention; refused before 21 days have passed and its results were kept long enough."""
    request(ArchiveElection(election=key), config, data_dir, id, json)


# ------------------------------------------------------------------------------------------------ looking


@election.command("list", epilog=examples("overseer election list", "overseer election list --json"))
def list_elections(config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """All elections, by key."""
    loaded = load_settings(config, data_dir)

    async def main() -> list[ElectionSummary]:
        found: list[ElectionSummary] = []
        async with elections_client(loaded) as client:
            while True:
                page = await client.query(ListElections(after=found[-1].election if found else "", limit=_PAGE))
                assert isinstance(page, Elections)
                found += page.elections
                if not page.more:
                    return found

    found = run_async(main)
    if json:
        print_json([_summary(row) for row in found])
        return
    table = Table("election", "kind", "events", "state", box=None, pad_edge=False)
    for row in found:
        state = "archived" if row.archived else "ended" if row.terminal_ms else "going on"
        table.add_row(row.election, row.kind, str(row.sequence), state)
    common.console.print(table)


def _summary(row: ElectionSummary) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


@election.command(epilog=examples("overseer election show mayor-2026", "overseer election show mayor-2026 --json"))
def show(key: Key, config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """One election: its head, its retention, its projections."""
    loaded = load_settings(config, data_dir)
    query = checked(GetElection(election=key))

    async def main() -> tuple[Message, bool]:
        async with elections_client(loaded) as client:
            return await client.query(query), is_behind(client)

    report, behind = run_async(main)
    assert isinstance(report, ElectionReport)
    if json:
        print_json({**plain_message(report), "summary": _summary(report.summary)})
        return
    row = report.summary
    _say_behind(behind)
    say(f"{key} ({row.kind}): {row.sequence} events, head 0x{report.head.hex()}")
    until = "not before it has ended" if report.retain_until_ms is None else f"from {_moment(report.retain_until_ms)} on"
    say("archived: its rows are gone" if row.archived else f"may be archived {until}")
    for state in report.projections:
        trouble = f"[bold red]stale: {escape(state.stale)}[/]" if state.stale else "up to date"
        say(f"  {state.name} (version {state.version}), counted up to event {state.applied}: {trouble}")


def _say_behind(behind: bool) -> None:
    if behind:
        say("[bold yellow]this copy may be behind:[/] see `overseer election where`")


def _moment(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


@election.command(epilog=examples("overseer election where mayor-2026", "overseer election where mayor-2026 --json"))
def where(key: Key, config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Where an election is: the sites that hold it, which one writes, how far and how fresh each copy is."""
    loaded = load_settings(config, data_dir)
    checked(GetCopy(election=key))

    async def main() -> dict[str, CopyReport | None]:
        async with elections_client(loaded) as client:
            return await client.copies(key) if isinstance(client, SitesClient) else {}

    found = run_async(main)
    known = [report for report in found.values() if report is not None]
    if not found:
        common.fail("This node's elections are on one site: the node itself.", "Several sites: `overseer run --sites 5`, with a new node.")
    if not known:
        common.fail("No site of the elections answers.", "See `overseer status`.")
    newest = max(known, key=lambda report: report.topology)
    rows = copies_of(found, newest)
    if json:
        print_json({"election": key, "topology": newest.topology, "writer": newest.writer, "copies": rows})
        return
    say(f"{key}: written at [bold]{newest.writer}[/], home {newest.sites[0]}, by topology {newest.topology}")
    common.console.print(copies_table(rows))


@election.command(epilog=examples("overseer election history mayor-2026", "overseer election history mayor-2026 --json"))
def history(key: Key, config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Every event of an election, in order."""
    loaded = load_settings(config, data_dir)
    checked(QueryHistory(election=key))

    async def main() -> None:
        start = 1
        async with elections_client(loaded) as client:
            while True:
                page = await client.query(QueryHistory(election=key, start=start))
                assert isinstance(page, ElectionHistory)
                for row in page.events:
                    _tell(row, json)
                    start = row.sequence + 1
                if not page.more:
                    return

    run_async(main)


def _tell(row: HistoryRow, as_json: bool) -> None:
    owner, kind, name = row.message.split(".")
    spec = CATALOG.find(Kind(kind), owner, name)
    body = plain_message(decode(spec, row.body, version=row.version)) if spec is not None else {"body": f"0x{row.body.hex()}"}
    if as_json:
        print_json({"sequence": row.sequence, "event": name, **body})
    else:
        rest = "  ".join(f"{field} {value}" for field, value in body.items() if field not in ("election", "sequence", "at_ms"))
        say(f"{row.sequence:>6}  {name:<20} {escape(rest)}")


@election.command(epilog=examples("overseer election results mayor-2026", "overseer election results mayor-2026 --json"))
def results(key: Key, config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """The present round: turnout and tally."""
    loaded = load_settings(config, data_dir)
    checked(GetBallotElection(election=key))

    async def main() -> dict[str, Any]:
        async with elections_client(loaded) as client:
            return await results_of(client, key)

    found = run_async(main)
    if json:
        print_json(found)
    else:
        _say_behind(bool(found["behind"]))
        common.console.print(picture(found))


@election.command(epilog=examples("overseer election watch mayor-2026", "overseer election watch mayor-2026 --seconds 10 --json"))
def watch(
    key: Key,
    seconds: Annotated[float, typer.Option(help="End after so long (default: at Ctrl-C).")] = 0,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Turnout and tally, live; without a terminal (or with --json) a line for each change."""
    loaded = load_settings(config, data_dir)
    checked(GetBallotElection(election=key))

    async def main() -> None:
        until = time.monotonic() + seconds if seconds else float("inf")
        shown: dict[str, Any] | None = None
        async with elections_client(loaded) as client, AsyncExitStack() as stack:
            live = None
            if common.console.is_terminal and not json:
                live = stack.enter_context(Live(console=common.console, auto_refresh=False))
            while time.monotonic() < until:
                found = await results_of(client, key)
                if found != shown:
                    shown = found
                    if live is not None:
                        live.update(picture(found), refresh=True)
                    else:
                        print_json(found)
                await anyio.sleep(WATCH_S)

    run_async(main)
