"""Commands in the field's own words: `dispute list|show|watch`, `governance status|resume`."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
import typer
from rich.live import Live
from rich.table import Column, Table

from messages.chain_api import GovernanceReport, GovernanceStatus, ResumeMode
from messages.dispute_conclusion import Conclusion, GetConclusion
from messages.message import Message
from messages.votes_db import ActiveDisputes, DisputeSummaries, DisputeSummary, QueryVotes, RecentDisputes, VotesSnapshot
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, examples, load_settings, plain_message, print_json, run_async, say
from overseer.feeds.keyring import Key, KeyFileError, Keyring
from overseer.feeds.make import make_authority, make_resume
from overseer.node.client import Client, Refused
from overseer.settings import Loaded

__all__ = ["dispute", "governance"]

OPTIONS: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": "rich",
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
dispute = typer.Typer(help="Disputes: which there are, who voted how, what followed.", **OPTIONS)
governance = typer.Typer(help="Governance mode: whether it is on, and the authority's way out.", **OPTIONS)

WATCH_S = 0.5
_STYLES = {"concluded_for": "green", "concluded_against": "bold red", "confirmed": "bold yellow", "active": "yellow", "none": "dim"}


@dispute.command("list", epilog=examples("overseer dispute list", "overseer dispute list --active --json"))
def list_disputes(
    active: Annotated[bool, typer.Option("--active", help="Only those not concluded, or concluded at most 180 s ago.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """All disputes of the session window."""
    loaded = load_settings(config, data_dir)

    async def main() -> list[DisputeSummary]:
        async with common.running_client(loaded) as client:
            return await _all(client, active)

    found = run_async(main)
    if json:
        print_json([_summary(row) for row in found])
    else:
        common.console.print(_table(found))


@dispute.command("show", epilog=examples("overseer dispute show 0x67b5", "overseer dispute show 67b5 --json"))
def show_dispute(
    candidate: Annotated[str, typer.Argument(help="The candidate's hash, or the beginning of it (0x may be left out).")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """One dispute: every voter, its state, and the process that followed."""
    loaded = load_settings(config, data_dir)
    wanted = candidate.lower().removeprefix("0x")

    async def main() -> tuple[VotesSnapshot, Conclusion | None]:
        async with common.running_client(loaded) as client:
            rows = [row for row in await _all(client, active=False) if row.candidate.hex().startswith(wanted)]
            if len(rows) != 1:
                what = "No dispute begins" if not rows else f"{len(rows)} disputes begin"
                common.fail(f"{what} with {candidate!r}.", "See `overseer dispute list`, and give as many digits as it takes.")
            return await _details(client, rows[0])

    votes, conclusion = run_async(main)
    if json:
        print_json({"votes": plain_message(votes), "conclusion": plain_message(conclusion) if conclusion else None})
        return
    _show(votes, conclusion)


@dispute.command("watch", epilog=examples("overseer dispute watch", "overseer dispute watch --seconds 10 --json"))
def watch_disputes(
    seconds: Annotated[float, typer.Option(help="End after so long (default: at Ctrl-C).")] = 0,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """The disputes, live; without a terminal (or with --json) a line for each change."""
    loaded = load_settings(config, data_dir)

    async def main() -> None:
        until = time.monotonic() + seconds if seconds else float("inf")
        async with common.running_client(loaded) as client, AsyncExitStack() as stack:
            show = _each_change(json)
            if common.console.is_terminal and not json:
                live = stack.enter_context(Live(_table([]), console=common.console, auto_refresh=False))
                show = partial(_refresh, live)
            while time.monotonic() < until:
                show(await _all(client, active=False))
                await anyio.sleep(WATCH_S)

    run_async(main)


def _refresh(live: Live, rows: list[DisputeSummary]) -> None:
    live.update(_table(rows), refresh=True)


def _each_change(as_json: bool) -> Callable[[list[DisputeSummary]], None]:
    seen: set[str] = set()

    def show(rows: list[DisputeSummary]) -> None:
        for row in rows:
            summary = _summary(row)
            text = msgspec.json.encode(summary).decode()
            if text in seen:
                continue
            seen.add(text)
            if as_json:
                print_json(summary)
            else:
                say(f"{row.session}  {summary['candidate']}  {row.status.value}  valid {row.valid_votes}  invalid {row.invalid_votes}")

    return show


async def _all(client: Client, active: bool) -> list[DisputeSummary]:
    """Every page."""
    found: list[DisputeSummary] = []
    session, candidate = None, None
    while True:
        kind = ActiveDisputes if active else RecentDisputes
        page = await client.query(kind(after_session=session, after_candidate=candidate))
        assert isinstance(page, DisputeSummaries)
        found += page.disputes
        session, candidate = page.next_session, page.next_candidate
        if candidate is None:
            return found


async def _details(client: Client, row: DisputeSummary) -> tuple[VotesSnapshot, Conclusion | None]:
    votes = await client.query(QueryVotes(session=row.session, candidate=row.candidate))
    assert isinstance(votes, VotesSnapshot)
    try:
        conclusion = await client.query(GetConclusion(session=row.session, candidate=row.candidate))
    except Refused:
        return votes, None
    assert isinstance(conclusion, Conclusion)
    return votes, conclusion


def _summary(row: DisputeSummary) -> dict[str, Any]:
    return {
        "session": row.session,
        "candidate": f"0x{row.candidate.hex()}",
        "status": row.status.value,
        "valid_votes": row.valid_votes,
        "invalid_votes": row.invalid_votes,
        "concluded_at_ms": row.concluded_at_ms,
    }


def _table(rows: list[DisputeSummary]) -> Table:
    table = Table("session", Column("candidate", no_wrap=True, min_width=66), "status", "valid", "invalid", box=None, pad_edge=False)
    for row in rows:
        style = _STYLES.get(row.status.value, "")
        table.add_row(
            str(row.session), f"0x{row.candidate.hex()}", row.status.value, str(row.valid_votes), str(row.invalid_votes), style=style
        )
    return table


def _show(votes: VotesSnapshot, conclusion: Conclusion | None) -> None:
    say(f"candidate 0x{votes.candidate.hex()} in session {votes.session}: [bold]{votes.status.value}[/]")
    say(f"for: {len(votes.pro)} of {votes.validators}, against: {len(votes.cons)}; both: {len(set(votes.pro) & set(votes.cons))}")
    table = Table("validator", "vote", "signature", box=None, pad_edge=False)
    for vote in votes.votes:
        table.add_row(str(vote.validator), vote.kind.value, f"0x{vote.signature.hex()[:16]}…")
    common.console.print(table)
    if conclusion is None:
        return
    say(f"process: [bold]{conclusion.state.value}[/]")
    for what, hashes in (
        ("included in", conclusion.including_blocks),
        ("reverted", conclusion.reverted),
        ("roots", conclusion.blacklisted_roots),
    ):
        for each in hashes:
            say(f"  {what} 0x{each.hex()}")
    for step in conclusion.steps:
        say(f"  {step.at_ms} ms, message {step.position}: {step.what}")


@governance.command("status", epilog=examples("overseer governance status", "overseer governance status --json"))
def governance_status(config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Whether governance mode is on, since which block, and what a pardon must name."""
    report = _ask(load_settings(config, data_dir))
    if json:
        print_json(plain_message(report))
        return
    if report.state.value == "left":
        say(f"governance mode is off (entered {report.entry} times)")
        return
    say(f"[bold red]governance mode is on[/] (entry {report.entry}), frozen at block {report.frozen_at}")
    for root in report.roots:
        say(f"  final and blacklisted: 0x{root.hex()}")
    say("end it with: overseer governance resume pardon|abandon --key-file FILE")


def _authority(path: Path) -> Key:
    """The first key of a key file."""
    try:
        return Keyring.from_json(path.read_bytes())[0]
    except (OSError, KeyFileError, IndexError) as error:
        common.fail(f"{path} has no usable key: {error}.", "Make one with `overseer make validator --ed25519 > key.json`.")


def _ask(loaded: Loaded) -> GovernanceReport:
    async def main() -> Message:
        async with common.running_client(loaded) as client:
            return await client.query(GovernanceStatus())

    report = run_async(main)
    assert isinstance(report, GovernanceReport)
    return report


@governance.command(
    "resume",
    epilog=examples("overseer governance resume pardon --key-file authority.json", "overseer governance resume abandon --seed 0"),
)
def governance_resume(
    mode: Annotated[ResumeMode, typer.Argument(help="pardon: the final blocks stand; abandon: finality goes back to before them.")],
    key_file: Annotated[Path | None, typer.Option(help="The authority's key file.", show_default=False)] = None,
    seed: Annotated[str | None, typer.Option(help="The development authority of this seed.", show_default=False)] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Sign and send the end of the present governance mode, as its authority."""
    loaded = load_settings(config, data_dir)
    if (key_file is None) == (seed is None):
        common.fail("Whose signature?", "Give --key-file FILE, or --seed SEED for a development chain")
    authority: Key = make_authority(seed) if seed is not None else _authority(key_file or Path())
    report = _ask(loaded)
    if report.frozen_at is None:
        common.fail("Governance mode is not on.", "There is nothing to resume; see `overseer governance status`")
    resume = make_resume(authority, mode, chain=report.chain, entry=report.entry, frozen_at=report.frozen_at, roots=report.roots)

    async def main() -> int:
        async with common.running_client(loaded) as client:
            return (await client.request(resume)).sequence

    sequence = run_async(main)
    if json:
        print_json({"status": "accepted", "sequence": sequence})
    else:
        say(f"governance mode {report.entry} is left by {mode.value} (message {sequence})")
