"""What is shown of an election: turnout, the tally as bars, its copies."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from messages.ballots import BallotElection, GetBallotElection
from messages.election_pairs import CopyReport
from messages.elections import ProjectionPage, QueryProjection
from overseer.node.client import Client
from overseer.sites.client import SitesClient

__all__ = ["BAR_CELLS", "copies_of", "copies_table", "is_behind", "picture", "results_of"]

BAR_CELLS = 40
# Choices of an election are fewer.
_COUNTS_MAX = 1_000


def is_behind(client: Client | SitesClient) -> bool:
    """Whether its last answer may be behind what is committed."""
    return isinstance(client, SitesClient) and client.stale


async def results_of(client: Client | SitesClient, key: str) -> dict[str, Any]:
    """The present round as its projections count it: choices in the election's order. Raises Refused, BusError."""
    ballots = await client.query(GetBallotElection(election=key))
    assert isinstance(ballots, BallotElection)
    page = await client.query(QueryProjection(election=key, projection="tally", limit=_COUNTS_MAX))
    assert isinstance(page, ProjectionPage)
    counts = {row.key: row.count for row in page.counts}
    present = ballots.rounds[-1]

    def of(what: str, choice: str) -> int:
        return counts.get(f"{present.round} {what} {choice}", 0)

    return {
        "election": key,
        "title": ballots.title,
        "phase": ballots.phase.value,
        "round": present.round,
        "electorate": ballots.electorate,
        "cast": present.cast,
        "valid": present.valid,
        "invalid": present.invalid,
        "stale": page.state.stale,
        "behind": is_behind(client),
        "tally": [
            {"choice": choice, "cast": of("cast", choice), "valid": of("valid", choice), "invalid": of("invalid", choice)}
            for choice in ballots.choices
        ],
    }


def picture(found: Mapping[str, Any]) -> RenderableType:
    """Bars: of each choice its share of the ballots cast."""
    of_all = f" of {found['electorate']}" if found["electorate"] is not None else ""
    share = f" ({found['cast'] / found['electorate']:.1%})" if found["electorate"] else ""
    head = f"[bold]{escape(found['title'])}[/]  {found['phase']}, round {found['round']}"
    turnout = f"{found['cast']} ballots{of_all}{share}, {found['valid']} valid, {found['invalid']} invalid"
    lines: list[RenderableType] = [Text.from_markup(head), Text(turnout)]
    if found["stale"]:
        lines.append(Text.from_markup(f"[bold red]the tally is stale: {escape(found['stale'])}[/]"))
    table = Table(box=None, show_header=False, pad_edge=False)
    most = max((row["cast"] for row in found["tally"]), default=0)
    for row in found["tally"]:
        cells = round(BAR_CELLS * row["cast"] / found["cast"]) if found["cast"] else 0
        style = "bold green" if row["cast"] == most and most else ""
        part = f"{row['cast'] / found['cast']:.1%}" if found["cast"] else ""
        table.add_row(row["choice"], Text("\u2588" * cells, style=style), str(row["cast"]), part)
    return Group(*lines, table)


def copies_of(found: Mapping[str, CopyReport | None], newest: CopyReport) -> list[dict[str, Any]]:
    """A row for each site that holds a copy, the home first. `newest`: of the site that knows the latest topology."""
    return [_copy(site, found.get(site), newest) for site in newest.sites]


def _copy(site: str, report: CopyReport | None, newest: CopyReport) -> dict[str, Any]:
    role = "writer" if site == newest.writer else "follower"
    if report is None:
        state, fresh, head = "away" if site in newest.away else "no answer", None, None
    else:
        fresh, head = report.freshness, report.head
        state = "stale" if fresh.stale else "serving" if report.serving else "up to date"
    return {
        "site": site,
        "role": role,
        "epoch": head.epoch if head is not None else None,
        "events": fresh.applied if fresh is not None else None,
        "committed": fresh.committed if fresh is not None else None,
        "age_ms": fresh.age_ms if fresh is not None else None,
        "state": state,
    }


def copies_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("site", "role", "epoch", "events", "committed", "behind the log", "state", box=None, pad_edge=False)
    for row in rows:
        age = "" if row["age_ms"] is None else f"{row['age_ms'] / 1000:.1f} s"
        table.add_row(row["site"], row["role"], *(_cell(row[name]) for name in ("epoch", "events", "committed")), age, row["state"])
    return table


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)
