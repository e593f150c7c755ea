"""`overseer peers ...` of a running node: the tokens that it holds, the peers that it elected, and its elections."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import typer
from rich.table import Table

from messages.message import Message
from messages.peer_queries import TOKENS_MAX, ChallengePeers, HoldTokens, PeerHistory, PeerHistoryReport, Peers, PeersReport
from messages.peers import RING, TokenMapping
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, plain_message, print_json, run_async, say
from overseer.cli.ring_view import ring_view
from overseer.feeds.tokens import TokenFileError, development_tokens, read_tokens
from overseer.runner.endpoints import outcome_plain
from overseer.settings import Loaded

__all__ = ["challenge", "history", "hold", "status"]


def hold(
    file: Annotated[Path | None, typer.Option("--file", help="Lines of `token,block`.", show_default=False)] = None,
    development: Annotated[
        int | None, typer.Option("--development", help="So many development tokens instead.", show_default=False, min=1, max=1_000_000)
    ] = None,
    density: Annotated[int, typer.Option("--density", help="Of those, the percentage that this node holds.", min=1, max=100)] = 100,
    seed: Annotated[str, typer.Option("--seed", help="Of development tokens: the same for all nodes of a network.")] = "dev",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Tell the node which tokens it holds: it proves them to others, and challenges others with them."""
    loaded = load_settings(config, data_dir)
    if (file is None) == (development is None):
        common.fail("Tokens come from --file or are --development ones.", "overseer peers hold --development 20000 --density 95")
    if file is not None:
        try:
            tokens = read_tokens(file)
        except (TokenFileError, OSError) as error:
            common.fail(f"{file} is no file of tokens: {error}", "A line is `token,block`: two whole numbers, as 17,0x2a")
    else:
        tokens = list(development_tokens(seed, development or 0, holder=loaded.config.node, density_percent=density))

    async def main() -> int:
        async with common.running_client(loaded) as client:
            changed = 0
            for page in _pages(tokens):
                outcome: dict[str, Any] = outcome_plain(HoldTokens.spec, await client.request(page, command_id=token_hex(16)))
                changed += outcome["reply"]["changed"]
            return changed

    changed = run_async(main)
    if json:
        print_json({"tokens": len(tokens), "changed": changed})
    else:
        say(f"{len(tokens)} tokens, {changed} of them new or mapped to another block")


def _pages(tokens: Sequence[TokenMapping]) -> Iterator[HoldTokens]:
    rest = iter(tokens)
    while page := list(islice(rest, TOKENS_MAX)):
        yield HoldTokens(tokens=page)


def challenge(
    token: Annotated[str | None, typer.Argument(help="The token (default: one is chosen, as for a discovery).", show_default=False)] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Hold an election now. Its outcome is in `overseer peers history`."""
    loaded = load_settings(config, data_dir)
    command = ChallengePeers(token=None if token is None else _id(token))

    async def main() -> dict[str, Any]:
        async with common.running_client(loaded) as client:
            return outcome_plain(command.spec, await client.request(command, command_id=token_hex(16)))

    outcome = run_async(main)
    if json:
        print_json(outcome)
    else:
        already = "runs already" if outcome["reply"]["already"] else "has begun"
        say(f"an election about token {outcome['reply']['token']} {already}")


def status(config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """The peers that the node elected, where on the ring they are, and how its elections go."""
    report = _asked(load_settings(config, data_dir), Peers())
    assert isinstance(report, PeersReport)
    if json:
        print_json(plain_message(report))
        return
    counted = report.measures
    state = "held: governance mode" if report.held else "" if report.tokens else "no tokens: overseer peers hold"
    say(f"peer 0x{report.self_id:016x}, mode {report.mode}{', ' + state if state else ''}")
    if report.alert:
        say("[bold red]too many elections were split of late[/]")
    say(
        f"{len(report.peers)} of at most {report.list_max} listed, {report.known} known; "
        f"{counted.elected} of {counted.elected + counted.split + counted.no_consensus + counted.abandoned} elections elected "
        f"({counted.success_percent} %), within {counted.p50_ms / 1000:.1f} s (p99 {counted.p99_ms / 1000:.1f} s), "
        f"{counted.split_percent} % split; threshold {report.threshold} of 10, one each {report.interval_ms / 1000:.0f} s"
    )
    common.console.print(ring_view(report.self_id, [(peer.id, peer.state) for peer in report.peers], report.coverage))
    table = Table("peer", "node", "state", "wins", "verified", "reputation", box=None, pad_edge=False)
    for peer in sorted(report.peers, key=lambda peer: (peer.id - report.self_id) % RING):
        table.add_row(f"0x{peer.id:016x}", peer.node, peer.state, str(peer.wins), _time(peer.verified_ms), f"{peer.reputation / 10:.0f} %")
    if report.peers:
        common.console.print(table)
    for each in report.running:
        say(f"running: token {each.token}, {each.purpose.value}, {each.responses} of {each.channels} answered")
    for refused in counted.refusals:
        say(f"refused: {refused.code} {refused.count}")


def history(
    limit: Annotated[int, typer.Option("--limit", help="So many, the latest first.", min=1, max=500)] = 20,
    before: Annotated[int | None, typer.Option("--before", help="Those before this number.", show_default=False)] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """The node's last elections: token, outcome, winner, and who agreed."""
    report = _asked(load_settings(config, data_dir), PeerHistory(limit=limit, before=before))
    assert isinstance(report, PeerHistoryReport)
    if json:
        print_json(plain_message(report))
        return
    table = Table("#", "at", "token", "outcome", "winner", "agreed", "asked", "seconds", box=None, pad_edge=False)
    for row in report.elections:
        each = row.outcome
        winner = f"0x{each.winner:016x}" if each.winner else ""
        agreed = f"{len(each.cluster)} of {each.responses}"
        took = f"{each.took_ms / 1000:.1f}"
        table.add_row(str(row.number), _time(each.at_ms), str(each.token), each.end.value, winner, agreed, str(each.channels), took)
    common.console.print(table)
    if report.more:
        say(f"older ones: --before {report.elections[-1].number}")


def _asked(loaded: Loaded, query: Message) -> Message:
    async def main() -> Message:
        async with common.running_client(loaded) as client:
            return await client.query(query)

    return run_async(main)


def _id(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number < RING:
        common.fail(f"{text!r} is no token.", "A whole number below 2^64, decimal or 0x-hexadecimal.")
    return number


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S") if at_ms else ""
